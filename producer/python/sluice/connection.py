"""Requests and their answers over one socket, sent again whenever that may be needed."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional

import zmq

from . import wire
from .errors import Error, NoBroker, RequestFailed, TimedOut

RESEND_MS = 5_000
TRY_AGAIN = ("retry_later", "store_unavailable", "draining")
_WINDOW = 4


@dataclass
class _Pending:
    body: dict[str, Any]
    number: int
    frame: bytes = b""
    due: float = 0.0  # when to send (again)
    unanswered: int = 0  # copies sent that were not refused: the broker may have one
    until: Optional[float] = None  # when the time of a wait is over

    @classmethod
    def of(cls, body: dict[str, Any], number: int) -> "_Pending":
        is_wait = body["op"] == "wait"
        until = time.monotonic() + body["timeout_ms"] / 1000 if is_wait else None
        return cls(body, number, until=until)

    def frame_at(self, now: float) -> bytes:
        """A wait asks, whenever it is sent, for what is left of its time."""
        if not self.frame or self.until is not None:
            body = {**self.body, "req": self.number, "protocol": wire.PROTOCOL_VERSION}
            if self.until is not None:
                body["timeout_ms"] = max(0, round((self.until - now) * 1000))
            self.frame = wire.pack(body)
            if len(self.frame) > wire.MESSAGE_BYTES_MAX:  # whose answer would not say to what it is
                text = "the request has more than the 8 MiB of a message; it was not sent"
                raise RequestFailed("too_large", text, wire.largest_field(body))
        return self.frame

    def job_ids(self) -> list[str]:
        """Of the jobs that the broker may have."""
        return [job["id"] for job in self.body.get("jobs", ())] if self.unanswered else []


class Connection:
    """One DEALER of one thread."""

    _numbers = itertools.count(1)

    def __init__(self, context: "zmq.Context[Any]", address: str) -> None:
        self._dealer = wire.Dealer(context, address, 64)
        self._reopen_at: Optional[float] = None
        self._was_lost = False

    def close(self) -> None:
        self._dealer.close()

    def idle(self, seconds: float) -> None:
        """The pause before what the broker could not take is sent again."""
        self._dealer.monitor.poll(round(seconds * 1000))

    def talk(
        self,
        bodies: Iterator[dict[str, Any]],
        timeout: float,
        resend_ms: int = RESEND_MS,
        on_open: Optional[Callable[[dict[str, Any]], None]] = None,
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Requests with their closing answers, as those come; up to four are under way. `timeout`
        is how long nothing may be answered."""
        pending: dict[int, _Pending] = {}
        deadline = time.monotonic() + timeout
        refusal: Optional[RequestFailed] = None
        more = True
        while True:
            while more and len(pending) < _WINDOW:
                body = next(bodies, None)
                if body is None:
                    more = False
                    break
                number = next(self._numbers)
                pending[number] = _Pending.of(body, number)
            if not pending:
                return
            now = time.monotonic()
            if now >= deadline:
                failure = self._no_answer(timeout, refusal)
                failure.ids = [id for waiting in pending.values() for id in waiting.job_ids()]
                raise failure
            is_blocked = self._send_due(pending, now, resend_ms)
            due = [] if is_blocked else [waiting.due for waiting in pending.values()]
            self._wait(min([deadline, *due]), is_blocked)
            if self._look_at_connection():
                for waiting in pending.values():
                    waiting.due = 0.0
            for reply in list(self._dealer.messages()):
                number = reply.get("req", 0)
                waiting_for = pending.get(number) if isinstance(number, int) else None
                if waiting_for is None:
                    continue
                if reply.get("open"):
                    if on_open:
                        on_open(reply)
                    continue
                if reply.get("op") == "error" and reply.get("code") in TRY_AGAIN:
                    refusal = RequestFailed.from_reply(reply)
                    after = 0.5 if refusal.retry_after is None else refusal.retry_after
                    waiting_for.due = time.monotonic() + max(0.01, after)
                    waiting_for.unanswered = max(0, waiting_for.unanswered - 1)
                    continue
                del pending[number]
                yield waiting_for.body, reply
                deadline = time.monotonic() + timeout

    def _send_due(self, pending: dict[int, _Pending], now: float, resend_ms: int) -> bool:
        """True when something wants to go and cannot."""
        for waiting in pending.values():
            if waiting.due <= now:
                if not self._dealer.send(waiting.frame_at(now)):
                    return True
                waiting.unanswered += 1
                waiting.due = now + resend_ms / 1000
        return False

    def _wait(self, until: float, is_blocked: bool) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer.socket, zmq.POLLIN | (zmq.POLLOUT if is_blocked else 0))
        poller.register(self._dealer.monitor, zmq.POLLIN)
        until = min(until, self._reopen_at or until, self._dealer.reopen_at)
        poller.poll(max(0, round((until - time.monotonic()) * 1000) + 1))

    def _look_at_connection(self) -> bool:
        """True when it came up again: nothing sent before counts as delivered."""
        is_new = False
        for change in self._dealer.changes():
            if change == wire.Dealer.UP:
                is_new = is_new or self._was_lost
                self._was_lost = False
            elif change != wire.Dealer.NOBODY:
                self._was_lost = True
            if change == wire.Dealer.REFUSED and self._reopen_at is None:
                self._reopen_at = time.monotonic() + 0.5
        if time.monotonic() >= min(self._reopen_at or math.inf, self._dealer.reopen_at):
            self._reopen_at = None
            self._dealer.reopen()
            return True
        return is_new

    def _no_answer(self, timeout: float, refusal: Optional[RequestFailed]) -> Error:
        if refusal is not None:
            return refusal
        if self._dealer.is_silent:
            return TimedOut(
                f"what listens at {self._dealer.address} accepts the connection and says nothing; "
                "if it is the broker, it is stopped or hangs"
            )
        if not self._dealer.is_up:
            return NoBroker(self._dealer.address)
        return TimedOut(f"the broker at {self._dealer.address} did not answer in {timeout:g} s")
