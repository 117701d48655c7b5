"""What may be said of a node and of a job, checked where it is written: the broker would refuse it
much later, message by message. The bounds are those of common/limits.h."""

from __future__ import annotations

import re
import socket
from typing import Iterable, Mapping, Optional

NAME_RULE = "1 to 64 of A-Z a-z 0-9 _ . -"
CONCURRENCY_MAX = 10_000
TASKS_MAX = 256
QUEUES_MAX = 256
LABELS_MAX = 32
LABEL_BYTES_MAX = 1024
DRAIN_GRACE_MAX = 24 * 3600.0
KILL_GRACE_MAX = 10 * 365 * 24 * 3600.0


def check_name(setting: str, name: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ValueError(f"{setting} must be {NAME_RULE}, not {name!r}")


def is_node_id(text: str) -> bool:
    """NAME@LIFE, as node ids are made."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,64}@[A-Za-z0-9_.-]{1,64}", text) is not None


def check_concurrency(concurrency: int) -> None:
    is_count = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if not (is_count and 1 <= concurrency <= CONCURRENCY_MAX):
        raise ValueError(f"concurrency must be 1 to {CONCURRENCY_MAX}, not {concurrency!r}")


def check_seconds(setting: str, seconds: float, seconds_max: float) -> None:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= seconds_max:  # so written, NaN is refused
        raise ValueError(f"{setting} must be 0 to {seconds_max:.0f} seconds, not {seconds!r}")


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
        if not isinstance(value, str) or len(value.encode()) > LABEL_BYTES_MAX:
            text = f"must be a text of at most {LABEL_BYTES_MAX} bytes, not {value!r}"
            raise ValueError(f"labels[{name!r}] {text}")
    return taken


def check_address(setting: str, address: str) -> None:
    text = address if isinstance(address, str) else ""
    if re.fullmatch(r"ipc://.+", text):
        return
    found = re.fullmatch(r"(?:tcp://)?[^\s/]+:(\d{1,5})", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= 65_535:
        raise ValueError(f"{setting} must be tcp://HOST:PORT, not {address!r}")


def host_name() -> str:
    """Of this machine, as the name of a node."""
    return re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname().split(".")[0])[:64] or "worker"
