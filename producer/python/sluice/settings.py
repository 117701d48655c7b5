"""What a call may be given, checked where it is written: the broker would refuse it much later,
message by message. The bounds are those of common/limits.h. A ValueError begins with the argument's
name. What is said of a job is checked in jobs.py."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
from datetime import timedelta
from typing import Any, Iterable, Mapping, Optional, TypeGuard, Union

Seconds = Union[int, float, timedelta]

NAME_RULE = "1 to 64 of A-Z a-z 0-9 _ . -"
CONCURRENCY_MAX = 10_000
TASKS_MAX = 256
QUEUES_MAX = 256
LABELS_MAX = 32
LABEL_BYTES_MAX = 1024
DRAIN_GRACE_MAX = 24 * 3600.0
KILL_GRACE_MAX = 10 * 365 * 24 * 3600.0
TIMEOUT_MAX = 10 * 365 * 24 * 3600.0


def is_text(value: object) -> TypeGuard[str]:
    """One that UTF-8 can carry: a message holds no other."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_count(value: object) -> bool:
    """A whole number that a message can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def is_given(value: object) -> bool:
    """Nothing and the empty text ask for the default; 0 and False are values, and wrong ones."""
    return value is not None and value != ""


def check_text(setting: str, text: object) -> str:
    if is_text(text):
        return text
    raise ValueError(f"{setting} must be a text, not {text!r}")


def check_count(setting: str, number: object) -> None:
    if not is_count(number):
        raise ValueError(f"{setting} must be a whole number, not {number!r}")


def check_bool(setting: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{setting} must be True or False, not {value!r}")


def check_ids(ids: Any) -> list[str]:
    """The ids of jobs, of which one may stand alone."""
    if isinstance(ids, str):
        return [check_text("ids", ids)]
    if isinstance(ids, Mapping):
        raise ValueError(f"ids must be no filter, which is given as state='failed': {ids!r}")
    try:
        taken = list(ids)
    except TypeError:
        raise ValueError(f"ids must be a job's id or a list of them, not {ids!r}") from None
    return [check_text("each of ids", id) for id in taken]


def check_name(setting: str, name: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(f"{setting} must be {NAME_RULE}, not {name!r}")


def is_node_id(text: str) -> bool:
    """NAME@LIFE, as node ids are made."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,64}@[A-Za-z0-9_.-]{1,64}", text) is not None


def check_concurrency(concurrency: int) -> None:
    if not (is_count(concurrency) and 1 <= concurrency <= CONCURRENCY_MAX):
        raise ValueError(f"concurrency must be 1 to {CONCURRENCY_MAX}, not {concurrency!r}")


def check_seconds(setting: str, duration: Seconds, seconds_max: float) -> float:
    """The duration in seconds."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= seconds_max:  # so written, NaN is refused
        raise ValueError(f"{setting} must be 0 to {seconds_max:.0f} seconds, not {duration!r}")
    return float(seconds)


def check_queues(queues: Iterable[str]) -> list[str]:
    if isinstance(queues, str):
        raise ValueError(f"queues must be a list of names, not the text {queues!r}")
    try:
        names = list(queues)
    except TypeError:
        raise ValueError(f"queues must be a list of names, not {queues!r}") from None
    if len(names) > QUEUES_MAX:
        raise ValueError(f"queues must be at most {QUEUES_MAX}, not {len(names)}")
    for name in names:
        check_name("each of queues", name)
    return names


def check_labels(labels: Optional[Mapping[str, str]]) -> dict[str, str]:
    if labels is not None and not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a dict of texts, not {labels!r}")
    taken = dict(labels or {})
    if len(taken) > LABELS_MAX:
        raise ValueError(f"labels must be at most {LABELS_MAX}, not {len(taken)}")
    for name, value in taken.items():
        check_name("the name of each of labels", name)
        if not is_text(value) or len(value.encode()) > LABEL_BYTES_MAX:
            text = f"must be a text of at most {LABEL_BYTES_MAX} bytes, not {value!r}"
            raise ValueError(f"labels[{name!r}] {text}")
    return taken


def find_address(setting: str, given: Any, variable: str) -> Optional[str]:
    """What was given, else what the environment has, else None."""
    name, address = setting, given
    if not is_given(given):
        name, address = variable, os.environ.get(variable)
    if not is_given(address):
        return None
    text: str = address if is_text(address) else ""
    if re.fullmatch(r"ipc://.+", text):
        return text
    found = re.fullmatch(r"(?:tcp://)?[^\s/]+:(\d{1,5})", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= 65_535:
        raise ValueError(f"{name} must be tcp://HOST:PORT, not {address!r}")
    return text


def check_state_dir(state_dir: Any) -> Optional[str]:
    if not is_given(state_dir):
        return None
    path = os.fspath(state_dir) if isinstance(state_dir, os.PathLike) else state_dir
    if not isinstance(path, str) or "\0" in path:  # a file's name need not be UTF-8
        raise ValueError(f"state_dir must be the path of a directory, not {state_dir!r}")
    return path


def check_handler(task: str, handler: object) -> None:
    if not callable(handler):
        raise ValueError(f"handler of task {task!r} must be a function, not {handler!r}")


def check_middleware(step: object) -> None:
    if not callable(step):
        raise ValueError(f"a middleware must be a function, not {step!r}")


def check_payload_class(task: str, payload: object) -> None:
    if payload is not None and not (isinstance(payload, type) and dataclasses.is_dataclass(payload)):
        raise ValueError(f"payload of task {task!r} must be a dataclass, not {payload!r}")


def host_name() -> str:
    """Of this machine, as the name of a node."""
    return re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname().split(".")[0])[:64] or "worker"
