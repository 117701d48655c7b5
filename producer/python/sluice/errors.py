"""What can go wrong, as exceptions. Programs compare `code`; people read the text."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Mapping, Optional, Sequence, Union

from . import wire

RETRY_AFTER_MAX = 24 * 3600.0  # seconds


class Error(Exception):
    """The base of everything that this package raises. `ids`: of the jobs that were sent and whose
    answer did not come; the broker may have them. Under the same ids they are never taken twice."""

    ids: Sequence[str] = ()


class RequestFailed(Error):
    """The broker refused a request: `code` is one of the closed list of PROTOCOL.md."""

    def __init__(
        self,
        code: str,
        message: str = "",
        field: Optional[str] = None,
        retryable: bool = False,
        retry_after: Optional[float] = None,
    ) -> None:
        named = not field or message.startswith(field)
        super().__init__(f"{code}: {message}" + ("" if named else f" (field {field})"))
        self.code = code
        self.message = message
        self.field = field
        self.retryable = retryable
        self.retry_after = retry_after  # seconds

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> "RequestFailed":
        after = reply.get("retry_after_ms")
        return cls(
            str(reply.get("code", "internal")),
            str(reply.get("message", "")),
            reply.get("field"),
            bool(reply.get("retryable", False)),
            None if after is None else after / 1000,
        )


class SubmitFailed(RequestFailed):
    """One job of a submit was not taken; `id` names it."""

    id: str = ""


class NoBroker(Error):
    """Nobody answers at the address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"no broker answers at {address}; start one with `sluice-broker`, "
            "or name another address in SLUICE_BROKER"
        )
        self.address = address


class ClientClosed(Error):
    """The client was closed before the call."""

    def __init__(self) -> None:
        super().__init__("this client is closed; make another one with sluice.connect()")


class TimedOut(Error):
    """The time given was over before the answer came. Sending the request again is safe."""


class JobFailed(Error):
    """The job ended as `failed` or `cancelled` (or its result is gone)."""

    def __init__(self, id: str, state: str, code: str = "", message: str = "") -> None:
        super().__init__(f"job {id} is {state}" + (f": {code}: {message}" if code else ""))
        self.id = id
        self.state = state
        self.code = code
        self.message = message


class CannotStart(Error):
    """A worker cannot begin; the text says why."""


class Never(Error):
    """Raised by a handler: the attempt failed and the job must not be tried again."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code = wire.text_of(code)  # 404 is often meant as a code
        self.message = wire.text_of(message)
        super().__init__(f"{self.code}: {self.message}")


class RetryAfter(Error):
    """Raised by a handler: the attempt failed; try again after so many seconds, at most a day."""

    def __init__(
        self, seconds: Union[float, timedelta], message: str = "", code: str = "retry_after"
    ) -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"RetryAfter wants a number of seconds, not {seconds!r}")
        if math.isnan(seconds):
            raise ValueError("RetryAfter wants a number of seconds, not NaN")
        self.seconds: float = max(0, min(seconds, RETRY_AFTER_MAX))
        self.code = wire.text_of(code)
        self.message = wire.text_of(message) if message else f"again after {self.seconds:g} s"
        super().__init__(self.message)
