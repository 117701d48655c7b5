"""Jobs: as they are made, as the broker takes them, and as it shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, Union

from . import wire
from .errors import JobFailed, SubmitFailed
from .settings import Seconds, is_count, is_text

Moment = Union[int, float, datetime]  # seconds since the epoch, or a datetime (naive = local time)

STATES = ("pending", "queued", "running", "completed", "failed", "cancelled")
_ENDED = ("completed", "failed", "cancelled")
_ID_BYTES_MAX = 64


def make_job(
    task: str,
    payload: Any = None,
    *,
    id: Optional[str] = None,
    queue: Optional[str] = None,
    priority: Optional[str] = None,
    delay: Optional[Seconds] = None,
    run_at: Optional[Moment] = None,
    expires_at: Optional[Moment] = None,
    timeout: Optional[Seconds] = None,
    max_retries: Optional[int] = None,
    retry: Union[str, Mapping[str, Any], None] = None,
    tags: Sequence[str] = (),
    headers: Optional[Mapping[str, str]] = None,
    keep_result: Optional[Seconds] = None,
    keep_payload: Optional[bool] = None,
    content_type: str = wire.MSGPACK,
) -> dict[str, Any]:
    """A job as it stands on the wire. `timeout=0` means none; `retry` is a preset's name (`none`,
    `standard`, `patient`) or {base_ms, factor, cap_ms, jitter}. SubmitFailed when a field is not of
    its kind; the bounds are the broker's to check."""
    optional = {
        "queue": queue,
        "priority": priority,
        "delay_ms": _duration_ms("delay", delay),
        "run_at_ms": _moment_ms("run_at", run_at),
        "expires_at_ms": _moment_ms("expires_at", expires_at),
        "timeout_ms": _duration_ms("timeout", timeout),
        "max_retries": max_retries,
        "retry": dict(retry) if isinstance(retry, Mapping) else retry,
        "keep_result_ms": _duration_ms("keep_result", keep_result),
        "keep_payload": keep_payload,
        "tags": _tags(tags) or None,
        "headers": (dict(headers) or None) if isinstance(headers, Mapping) else headers,
    }
    job: dict[str, Any] = {k: v for k, v in optional.items() if v is not None}
    job.update(id=wire.new_id() if id is None else id, task=task, content_type=content_type)
    for field, (is_right, rule) in _KINDS.items():
        if field in job and not is_right(job[field]):
            raise _bad_field(field, f"must be {rule}, not {job[field]!r}")
    job["payload"] = _payload(payload, content_type)
    if content_type == wire.MSGPACK:
        del job["content_type"]
    return job


def check_jobs(jobs: Any) -> Iterator[Mapping[str, Any]]:
    """Those that come to a submit, one after the other; the broker answers under their ids."""
    if isinstance(jobs, (str, bytes, Mapping)) or not isinstance(jobs, Iterable):
        raise ValueError(f"jobs must be a list of what make_job returns, not {jobs!r}")
    return map(_check_job, jobs)


def _check_job(job: Any) -> Mapping[str, Any]:
    if not isinstance(job, Mapping) or not _is_id(job.get("id")):
        raise ValueError(f"each of jobs must be what make_job returns, not {job!r}")
    return job


class JobView(dict[str, Any]):
    """A job as the broker shows it: the keys of PROTOCOL.md, and the usual ones as attributes."""

    @property
    def id(self) -> str:
        return str(self["id"])

    @property
    def state(self) -> str:
        """One of the six states, or `not_found`."""
        return "not_found" if self.get("not_found") else str(self["state"])

    @property
    def is_ended(self) -> bool:
        return self.state in _ENDED

    @property
    def payload(self) -> Any:
        return wire.decode_value(self.get("payload", b""), self._content_type)

    @property
    def result(self) -> Any:
        return wire.decode_value(self.get("result", b""), self._content_type)

    @property
    def _content_type(self) -> str:
        return str(self.get("content_type", wire.MSGPACK))

    def result_or_raise(self) -> Any:
        """The result of a completed job; JobFailed for every other end."""
        if self.state == "completed" and not self.get("result_gone"):
            return self.result
        if self.get("result_gone"):
            raise JobFailed(self.id, self.state, "result_gone", "it ended, its result is not kept")
        reason = str(self.get("error") or self.get("cancel_reason") or "")
        raise JobFailed(self.id, self.state, str(self.get("error_code", "")), reason)


@dataclass(frozen=True)
class LogChunk:
    """A piece of a job's log."""

    offset: int  # of its first byte, among all that the job ever logged
    attempt: int
    at_ms: int  # when the broker got it
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> "LogChunk":
        return cls(item["offset"], item["attempt"], item["at_ms"], item["bytes"])


@dataclass(frozen=True)
class SubmitResult:
    """What became of one job of a submit: accepted, duplicate, conflict or rejected."""

    id: str
    status: str
    state: Optional[str] = None
    code: Optional[str] = None
    field: Optional[str] = None
    message: Optional[str] = None

    @property
    def is_taken(self) -> bool:
        """The broker has the job, from now on or already."""
        return self.status in ("accepted", "duplicate")

    @classmethod
    def from_wire(cls, item: Mapping[str, Any]) -> "SubmitResult":
        keys = ("state", "code", "field", "message")
        return cls(item["id"], item["status"], *(item.get(key) for key in keys))

    def error(self) -> SubmitFailed:
        failed = SubmitFailed(self.code or self.status, self.message or "", self.field)
        failed.id = self.id
        return failed


def refuse_too_large(job: Mapping[str, Any]) -> Optional[SubmitResult]:
    """The result of one whose payload is over its bound, or that no message holds; else None."""
    field, bytes_max = "payload", wire.PAYLOAD_BYTES_MAX
    if len(job.get("payload", b"")) <= bytes_max:
        if len(wire.pack(job)) <= wire.MESSAGE_BYTES_MAX - 65536:
            return None
        field, bytes_max = wire.largest_field(job), wire.MESSAGE_BYTES_MAX
    text = f"{field} is too long: at most {bytes_max >> 20} MiB are taken"
    return SubmitResult(job["id"], "rejected", None, "too_large", field, text)


def check_analysis(ticker: str, trade_date: Union[str, date]) -> str:
    """As common/analysis.h, so that a wrong one is said here and not by a failed job. The date's
    text."""
    if not isinstance(ticker, str) or not re.fullmatch(r"[A-Z0-9][A-Z0-9.-]{0,11}", ticker):
        raise _bad_field("ticker", f"must be [A-Z0-9.-]{{1,12}}, such as BRK.B, not {ticker!r}")
    day: object = trade_date
    if isinstance(trade_date, date) and not isinstance(trade_date, datetime):
        day = trade_date.isoformat()
    try:
        if isinstance(day, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII):
            date.fromisoformat(day)
            return day
    except ValueError:
        pass
    raise _bad_field("trade_date", f"must be a date such as 2024-01-15, not {trade_date!r}")


def _bad_field(field: str, text: str) -> SubmitFailed:
    return SubmitFailed("bad_field", f"{field} {text}", field)


def _is_id(value: Any) -> bool:
    return is_text(value) and 1 <= len(value.encode()) <= _ID_BYTES_MAX


def _is_number(value: Any) -> bool:
    return is_count(value) or isinstance(value, float)


def _is_retry(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return is_text(value)
    return all(is_text(key) and _is_number(number) for key, number in value.items())


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(is_text(text) for pair in value.items() for text in pair)


# Of what kind a field is, with the rule in words; what it may be then is the broker's to check.
_TEXT = (is_text, "a text")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, f"a text of 1 to {_ID_BYTES_MAX} bytes"),
    "task": _TEXT,
    "queue": _TEXT,
    "priority": _TEXT,
    "content_type": _TEXT,
    "max_retries": (is_count, "a whole number"),
    "retry": (_is_retry, "the name of a preset or a dict of numbers"),
    "keep_payload": (lambda value: isinstance(value, bool), "True or False"),
    "headers": (_is_headers, "a dict of texts"),
}


def _payload(payload: Any, content_type: str) -> bytes:
    try:
        return wire.encode_value(payload, content_type)
    except Exception as error:  # msgpack and json raise half a dozen kinds
        text = f"cannot be sent as {content_type}: {wire.text_of(error)}"
        raise _bad_field("payload", text) from error


def _tags(tags: Sequence[str]) -> list[str]:
    if isinstance(tags, (str, bytes)):  # a sequence, too: of its letters
        raise _bad_field("tags", f"must be a list of texts, such as [{tags!r}], not the text {tags!r}")
    try:
        taken = list(tags)
    except TypeError:
        raise _bad_field("tags", f"must be a list of texts, not {tags!r}") from None
    for tag in taken:
        if not is_text(tag):
            raise _bad_field("tags", f"must be a list of texts, not of {tag!r}")
    return taken


def _duration_ms(name: str, duration: Optional[Seconds]) -> Optional[int]:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return _milliseconds(name, seconds, "a number of seconds or a timedelta")


def _moment_ms(name: str, moment: Optional[Moment]) -> Optional[int]:
    if moment is None:
        return None
    try:
        seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    except (OverflowError, ValueError, OSError) as error:  # a naive one near the end of the calendar
        raise _bad_field(name, f"must be a moment that can be reckoned with: {error}") from error
    return _milliseconds(name, seconds, "a datetime or a number of seconds since 1970")


def _milliseconds(name: str, seconds: float, rule: str) -> int:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not abs(seconds) < 1e15:  # so written, NaN is refused
        raise _bad_field(name, f"must be {rule}, not {seconds!r}")
    return round(seconds * 1000)
