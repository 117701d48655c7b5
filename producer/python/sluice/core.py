"""The worker's decisions, without clock, socket or thread: the same rules as the C++ worker's core.

- never more than `concurrency` attempts run; what comes beyond that waits here;
- a slot is free only when the attempt has ended, not when a stop was asked for;
- a result is kept, and repeated, until an `ack` or a `drop` names its fence;
- a message whose number (epoch, n) is not higher than the last one's is not taken.

One turn: the events at hand, then `settle(now)` once, then the output is carried out. Times are
milliseconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Sequence

from . import wire
from .logs import BYTES_MAX as LOG_BYTES_MAX
from .logs import LogBuffer

REPEAT_FIRST_MS = 5_000
REPEAT_MAX_MS = 60_000
PROGRESS_INTERVAL_MS = 250
MESSAGE_BYTES_MAX = 256  # of a progress
LAST_GRACE_MS = 10_000
SAY_AGAIN_MS = 60_000
IN_FLIGHT_BYTES_MAX = 4 << 20
RESULTS_PER_MESSAGE_MAX = 1000
# Of logs, as in the C++ worker: between two pieces of one attempt; bytes that wait here, of all, and of
# one beyond that; bytes sent since the last status that was answered, and with what attempts logged last.
LOG_INTERVAL_MS = 100
LOGS_BYTES_MAX = 32 << 20
LOG_BYTES_SHORT = 4096
LOG_IN_FLIGHT_BYTES = 128 << 10
LOG_IN_FLIGHT_BYTES_MAX = 1 << 20
LOG_STATUS_MS = 100
NEVER = math.inf

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
CANCEL, TIMED_OUT, DROPPED, HAND_BACK = "cancel", "timed_out", "dropped", "hand_back"


class Key(NamedTuple):
    """Which attempt: the job and its fence."""

    id: str
    epoch: int
    attempt: int


def key_of(item: dict[str, Any]) -> Key:
    return Key(str(item["id"]), int(item["epoch"]), int(item["attempt"]))


@dataclass
class Ended:
    """How an attempt ended. `outcome`: completed, failed, cancelled or handed_back."""

    outcome: str
    result: bytes = b""
    code: str = ""
    message: str = ""
    retryable: bool = True
    retry_after_ms: Optional[int] = None
    cpu_ms: int = 0
    rss_bytes_max: int = 0

    def __post_init__(self) -> None:
        self.code = wire.text_of(self.code)
        self.message = wire.text_of(self.message)


class Fact(NamedTuple):
    """What happened, for the log: `event key=value…` in sluice-worker's words, and its level there."""

    text: str
    level: int


@dataclass
class Output:
    sends: list[dict[str, Any]] = field(default_factory=list)
    starts: list[tuple[Key, dict[str, Any], float]] = field(default_factory=list)  # job, deadline
    stops: list[tuple[Key, str]] = field(default_factory=list)
    # What became of the checkpoints that handlers wait for: their number, whether it is recorded.
    answers: list[tuple[Key, int, bool]] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    exit: str = ""  # "drained" or "at_once"


@dataclass
class _Held:
    job: Optional[dict[str, Any]]
    timeout_ms: int
    phase: str = WAITING
    is_dropped: bool = False
    is_stopping: bool = False
    time_out_ms: float = NEVER
    result: dict[str, Any] = field(default_factory=dict)
    repeat_ms: float = NEVER
    repeat_delay_ms: int = REPEAT_FIRST_MS
    in_flight: int = 0  # bytes
    has_report: bool = False
    percent: int = 0
    message: str = ""
    checkpoint: Optional[bytes] = None
    checkpoint_n: int = 0
    awaited_n: int = 0  # of the newest checkpoint that its handler waits for
    is_checkpoint_due: bool = False
    report_allowed_ms: float = -NEVER
    repeat_checkpoint_ms: float = NEVER
    log: LogBuffer = field(default_factory=LogBuffer)
    log_allowed_ms: float = -NEVER


class WorkerCore:
    def __init__(
        self,
        node: str,
        concurrency: int,
        tasks: Sequence[str],
        queues: Sequence[str] = (),
        labels: Optional[dict[str, str]] = None,
        version: str = "",
        replaces: str = "",
        drain_grace_ms: int = 25_000,
    ) -> None:
        self.node = node
        self.concurrency = concurrency
        self.replaces = replaces
        self._offer = {
            "tasks": list(tasks),
            "queues": list(queues),
            "labels": dict(labels or {}),
            "version": version,
            "replaces": replaces,
        }
        self._drain_grace_ms = drain_grace_ms
        self._held: dict[Key, _Held] = {}
        self._waiting: deque[Key] = deque()
        self._outbox: deque[Key] = deque()
        self._running = 0
        self._in_flight_bytes = 0
        self._log_queue: deque[Key] = deque()  # have something to send, in turn
        self._log_bytes = 0  # that wait, of all
        self._log_in_flight_bytes = 0
        self._log_before_status = 0
        self._status_sent_ms: float = 0
        self._seen = (0, 0)
        self._seq = 0
        self._checkpoint_n = 0
        self._is_connected = False
        self._is_welcomed = False
        self._status_wanted = False
        self._heartbeat_ms = 3_000
        self._result_bytes_max = wire.RESULT_BYTES_MAX
        self._next_status_ms: float = 0
        self._drain_deadline_ms: float = NEVER
        self._say_nobody_ms = self._say_silent_ms = -NEVER
        self._is_grace_over = False
        self._has_left = False
        self._out = Output()

    # ------------------------------------------------------------ for figures and tests

    @property
    def running_count(self) -> int:
        return self._running

    @property
    def unacknowledged_count(self) -> int:
        return sum(held.phase == FINISHED for held in self._held.values())

    @property
    def is_draining(self) -> bool:
        return self._drain_deadline_ms != NEVER

    # ------------------------------------------------------------ the turn

    def settle(self, now: float) -> Output:
        """Fires timers, fills free slots, makes the messages; returns what is to be done."""
        if not self._has_left:
            self._fire_timers(now)
            if self.is_draining:
                self._drain(now)
        if not self._has_left:
            self._start_waiting(now)
            if self._is_connected:
                if self._status_wanted or now >= self._next_status_ms:
                    self._send_status(now)
                self._send_logs(now)
                self._send_results(now)
        out, self._out = self._out, Output()
        return out

    def next_deadline(self) -> float:
        """When settle wants to be called at the latest."""
        times: list[float] = [NEVER]
        if self._is_connected:
            times.append(self._next_status_ms)
        if self.is_draining:
            last = LAST_GRACE_MS if self._is_grace_over else 0
            times.append(self._drain_deadline_ms + last)
        for held in self._held.values():
            times += (held.time_out_ms, held.repeat_ms)
            if self._is_connected:
                times.append(held.repeat_checkpoint_ms)
                if not held.log.is_empty and self._log_in_flight_bytes < LOG_IN_FLIGHT_BYTES:
                    times.append(held.log_allowed_ms if held.phase == RUNNING else NEVER)
                if held.has_report:
                    times.append(held.report_allowed_ms)
        return min(times)

    # ------------------------------------------------------------ the connection

    def connected(self, now: float) -> None:
        self._is_connected = True
        self._is_welcomed = False
        self._log_in_flight_bytes = self._log_before_status = 0
        self._say_nobody_ms = self._say_silent_ms = -NEVER
        self._send_status(now)  # before anything else: it says who speaks
        self._repeat_everything()

    def disconnected(self) -> None:
        if self._is_connected:
            self._fact(
                "broker_lost",
                logging.WARNING,
                running=self._running,
                unacknowledged=self.unacknowledged_count,
                what_next="what runs goes on; results are kept until the broker is back",
            )
        self._is_connected = False

    def nobody_answers(self, address: str, now: float) -> None:
        """An attempt to connect failed: said at once, then once a minute."""
        if self._is_connected or now < self._say_nobody_ms:
            return
        self._say_nobody_ms = now + SAY_AGAIN_MS
        what_next = "nobody answers there; trying again until a sluice-broker does"
        self._fact("no_broker", logging.WARNING, broker=address, what_next=what_next)

    def broker_silent(self, address: str, now: float) -> None:
        """An attempt to connect was accepted, and no more: said at once, then once a minute."""
        if self._is_connected or now < self._say_silent_ms:
            return
        self._say_silent_ms = now + SAY_AGAIN_MS
        what_next = ("accepts the connection and says nothing, as a broker that is stopped or hangs; "
                     "trying again")
        self._fact("broker_silent", logging.WARNING, broker=address, what_next=what_next)

    def _repeat_everything(self) -> None:
        """Nothing sent before counts as delivered over a new connection or to a new broker."""
        self._outbox.clear()
        for key, held in self._held.items():
            if held.checkpoint is not None:
                held.has_report = held.is_checkpoint_due = True
                held.report_allowed_ms = -NEVER
            if held.phase == FINISHED:
                self._land(held)
                held.repeat_delay_ms = REPEAT_FIRST_MS
                self._outbox.append(key)

    # ------------------------------------------------------------ what the broker says

    def message(self, message: dict[str, Any], now: float) -> None:
        op = message.get("op")
        if op == "error":
            detail = f"{message.get('code')}: {message.get('message')}"
            field = message.get("field", "")
            self._fact("broker_refused", logging.ERROR, field=field, detail=detail)
            return
        number = (int(message.get("epoch", 0)), int(message.get("n", 0)))
        if self._has_left or number <= self._seen:
            return
        is_new_epoch = self._seen[0] != 0 and number[0] > self._seen[0]
        self._seen = number
        if is_new_epoch:
            self._is_welcomed = False
            self._repeat_everything()
        if op == "welcome":
            self._welcome(message, now)
        elif op == "run":
            self._run(message.get("jobs", ()))
        elif op == "cancel":
            self._cancel(message.get("attempts", ()))
        elif op == "drop":
            self._drop(message.get("attempts", ()))
        elif op == "ack":
            self._ack(message.get("results", ()))
        elif op == "drain":
            self.begin_drain("operator", now)
        elif op == "set_concurrency":
            self.concurrency = max(1, min(10_000, int(message.get("concurrency", 1))))
            self._status_wanted = True

    def _welcome(self, message: dict[str, Any], now: float) -> None:
        self._heartbeat_ms = max(1, int(message.get("heartbeat_ms", 3_000)))
        limit = int(message.get("result_bytes_max", wire.RESULT_BYTES_MAX))
        self._result_bytes_max = min(limit, wire.RESULT_BYTES_MAX)
        self._next_status_ms = min(self._next_status_ms, now + self._heartbeat_ms)
        if message.get("repeat") is True:  # for a while the broker took nothing
            self._status_wanted = True
            self._repeat_everything()
        else:
            self._log_in_flight_bytes -= self._log_before_status
            self._log_before_status = 0
        if not self._is_welcomed:
            self._is_welcomed = True
            self._status_wanted = True  # so that `seen` of this connection is known at once
            self._fact("broker_welcomed", epoch=self._seen[0])

    def _run(self, jobs: Sequence[dict[str, Any]]) -> None:
        for job in jobs:
            if len(self._held) >= wire.HELD_MAX:
                return  # what does not fit into a status is not taken: the broker repeats it
            key = key_of(job)
            if key in self._held:
                continue
            self._held[key] = _Held(job, int(job.get("timeout_ms", 0)))
            self._waiting.append(key)
        if self.is_draining:
            self._hand_back_waiting()

    def _cancel(self, attempts: Sequence[dict[str, Any]]) -> None:
        for key in map(key_of, attempts):
            held = self._held.get(key)
            if held and held.phase == WAITING:
                self._finish(key, held, Ended("cancelled"))
            elif held and held.phase == RUNNING:
                self._stop(key, held, CANCEL)

    def _drop(self, attempts: Sequence[dict[str, Any]]) -> None:
        for key in map(key_of, attempts):
            held = self._held.get(key)
            if held is None or held.is_dropped:
                continue
            self._fact("attempt_dropped", logging.WARNING, job=key.id, attempt=key.attempt)
            if held.phase == RUNNING:
                self._stop(key, held, DROPPED)
                held.is_dropped = True
                self._forget_log(held)
            else:
                self._forget(key)

    def _ack(self, results: Sequence[dict[str, Any]]) -> None:
        for acked in results:
            key = key_of(acked)
            held = self._held.get(key)
            if held is None:
                continue
            checkpoint_n = int(acked.get("checkpoint_n", 0))
            if checkpoint_n > 0:
                if checkpoint_n == held.checkpoint_n:
                    held.checkpoint = None
                    held.is_checkpoint_due = False
                    held.repeat_checkpoint_ms = NEVER
                    if held.awaited_n > 0:
                        self._out.answers.append((key, held.awaited_n, not acked.get("stale")))
                        held.awaited_n = 0
            elif held.phase == FINISHED:
                if acked.get("stale"):
                    self._fact("result_stale", logging.WARNING, job=key.id, attempt=key.attempt)
                self._forget(key)

    # ------------------------------------------------------------ attempts

    def _start_waiting(self, now: float) -> None:
        while self._running < self.concurrency and self._waiting:
            key = self._waiting.popleft()
            held = self._held.get(key)
            if held is None or held.phase != WAITING or held.job is None:
                continue
            held.phase = RUNNING
            self._running += 1
            held.time_out_ms = now + held.timeout_ms if held.timeout_ms > 0 else NEVER
            job, held.job = held.job, None
            self._out.starts.append((key, job, held.time_out_ms))

    def _stop(self, key: Key, held: _Held, reason: str) -> None:
        if held.is_stopping and reason != DROPPED:
            return
        held.is_stopping = True
        held.time_out_ms = NEVER
        self._out.stops.append((key, reason))

    def done(self, key: Key, ended: Ended, now: float) -> None:
        held = self._held.get(key)
        if held is None or held.phase != RUNNING:
            return
        self._running -= 1
        if held.is_dropped:
            self._forget(key)
            return
        if held.has_report and self._is_connected:
            self._report(key, held, now)  # ahead of the result: the next attempt wants it
        if ended.outcome == "handed_back" and ended.code:  # something is short here
            ref = {"job": key.id, "attempt": key.attempt, "error_code": ended.code}
            self._fact("attempt_handed_back", logging.WARNING, **ref, error=ended.message[:200])
        self._finish(key, held, ended)

    def progress(
        self,
        key: Key,
        percent: int,
        message: str,
        checkpoint: Optional[bytes],
        now: float,
        awaited_n: int = 0,
    ) -> None:
        """With `awaited_n`, which counts the checkpoints of an attempt, its handler waits until this
        one is recorded; it is sent at once."""
        held = self._held.get(key)
        if held is None or held.phase != RUNNING or held.is_dropped:
            return
        held.has_report = True
        held.percent = max(0, min(100, percent))
        held.message = wire.clean_text(message, MESSAGE_BYTES_MAX)
        if checkpoint is not None:
            self._checkpoint_n += 1
            held.checkpoint = checkpoint
            held.checkpoint_n = self._checkpoint_n
            held.is_checkpoint_due = True
            held.awaited_n = max(held.awaited_n, awaited_n)
            if awaited_n > 0:
                held.report_allowed_ms = now

    def _report(self, key: Key, held: _Held, now: float) -> None:
        message: dict[str, Any] = {
            "op": "progress",
            "node": self.node,
            **key._asdict(),
            "percent": held.percent,
            "message": held.message,
        }
        if held.is_checkpoint_due and held.checkpoint is not None:
            message["checkpoint"] = held.checkpoint
            message["checkpoint_n"] = held.checkpoint_n
            held.repeat_checkpoint_ms = now + REPEAT_FIRST_MS
        held.has_report = held.is_checkpoint_due = False
        held.report_allowed_ms = now + PROGRESS_INTERVAL_MS
        self._out.sends.append(message)

    def _finish(self, key: Key, held: _Held, ended: Ended) -> None:
        held.job = None
        held.phase = FINISHED
        held.time_out_ms = NEVER
        held.has_report = held.has_report and held.checkpoint is not None
        held.result = self._wire_result(key, ended)
        self._outbox.append(key)

    def _wire_result(self, key: Key, ended: Ended) -> dict[str, Any]:
        if ended.outcome == "completed" and len(ended.result) > self._result_bytes_max:
            ended = Ended(
                "failed",
                code="result_too_large",
                message=f"the result has {len(ended.result)} bytes, "
                f"allowed are {self._result_bytes_max}",
                retryable=False,
                cpu_ms=ended.cpu_ms,
                rss_bytes_max=ended.rss_bytes_max,
            )
        result: dict[str, Any] = {**key._asdict(), "outcome": ended.outcome}
        result["usage"] = {"cpu_ms": ended.cpu_ms, "rss_bytes_max": ended.rss_bytes_max}
        if ended.outcome == "completed":
            result["result"] = ended.result
        if ended.outcome == "failed":
            error: dict[str, Any] = {
                "code": wire.clean_code(ended.code),
                "message": wire.clean_text(ended.message, 4096),
                "retryable": ended.retryable,
            }
            if ended.retry_after_ms is not None:
                error["retry_after_ms"] = max(0, ended.retry_after_ms)
            result["error"] = error
        return result

    def _land(self, held: _Held) -> None:
        self._in_flight_bytes -= held.in_flight
        held.in_flight = 0
        held.repeat_ms = NEVER

    def _forget(self, key: Key) -> None:
        held = self._held.pop(key)
        self._forget_log(held)
        self._land(held)

    def _fact(self, event: str, level: int = logging.INFO, /, **values: Any) -> None:
        words = (f'{k}="{v}"' if " " in str(v) else f"{k}={v}" for k, v in values.items())
        self._out.facts.append(Fact(" ".join((event, *words)), level))

    # ------------------------------------------------------------ logs

    def log(self, key: Key, data: bytes) -> None:
        """What an attempt logged; sent as well as may be, and never repeated."""
        held = self._held.get(key)
        if held is None or held.phase != RUNNING or held.is_dropped:
            return
        before = len(held.log)
        was_empty = held.log.add(
            data, LOG_BYTES_MAX if self._log_bytes < LOGS_BYTES_MAX else LOG_BYTES_SHORT
        )
        self._log_bytes += len(held.log) - before
        if was_empty:
            self._log_queue.append(key)

    def _send_logs(self, now: float) -> None:
        """A piece of each in turn, while the line takes them."""
        later: list[Key] = []
        while self._log_queue:
            if self._log_in_flight_bytes >= LOG_IN_FLIGHT_BYTES:
                self._next_status_ms = min(self._next_status_ms, self._status_sent_ms + LOG_STATUS_MS)
                break
            key = self._log_queue.popleft()
            held = self._held.get(key)
            if held is None or held.phase != RUNNING or held.log.is_empty:
                continue
            if now < held.log_allowed_ms:
                later.append(key)
                continue
            self._send_log(key, held)
            if held.log.is_empty:
                held.log_allowed_ms = now + LOG_INTERVAL_MS
            else:
                self._log_queue.append(key)
        self._log_queue.extend(later)

    def _send_log(self, key: Key, held: _Held) -> None:
        before = len(held.log)
        data = held.log.take()
        self._log_bytes += len(held.log) - before
        self._log_in_flight_bytes += len(data)
        self._out.sends.append({"op": "log", "node": self.node, **key._asdict(), "bytes": data})

    def _send_last_log(self, key: Key, held: _Held) -> None:
        """Ahead of the result; of too much at once only the end."""
        if held.log.is_empty:
            return
        before = len(held.log)
        held.log.cut(max(0, LOG_IN_FLIGHT_BYTES_MAX - self._log_in_flight_bytes))
        self._log_bytes += len(held.log) - before
        while not held.log.is_empty:
            self._send_log(key, held)

    def _forget_log(self, held: _Held) -> None:
        self._log_bytes -= len(held.log)
        held.log = LogBuffer()

    # ------------------------------------------------------------ messages

    def _send_status(self, now: float) -> None:
        self._seq += 1
        self._status_wanted = False
        self._status_sent_ms = now
        self._log_before_status = self._log_before_status or self._log_in_flight_bytes
        self._next_status_ms = now + self._heartbeat_ms
        self._out.sends.append(
            {
                "op": "status",
                "node": self.node,
                "seq": self._seq,
                "protocol": wire.PROTOCOL_VERSION,
                "concurrency": self.concurrency,
                **self._offer,
                "draining": self.is_draining,
                "held": [{**k._asdict(), "phase": h.phase} for k, h in self._held.items()],
                "seen": {"epoch": self._seen[0], "n": self._seen[1]},
            }
        )

    def _send_results(self, now: float) -> None:
        results: list[dict[str, Any]] = []
        while self._outbox and len(results) < RESULTS_PER_MESSAGE_MAX:
            held = self._held.get(self._outbox[0])
            if held is None or held.phase != FINISHED or held.in_flight:
                self._outbox.popleft()
                continue
            size = len(held.result.get("result", b"")) + 4096 + 256
            if self._in_flight_bytes and self._in_flight_bytes + size > IN_FLIGHT_BYTES_MAX:
                break
            self._outbox.popleft()
            self._in_flight_bytes += size
            held.in_flight = size
            held.repeat_ms = now + held.repeat_delay_ms
            self._send_last_log(key_of(held.result), held)
            results.append(held.result)
        if results:
            self._out.sends.append({"op": "result", "node": self.node, "results": results})

    def _fire_timers(self, now: float) -> None:
        for key, held in list(self._held.items()):
            if held.time_out_ms <= now:
                self._stop(key, held, TIMED_OUT)
            if held.repeat_ms <= now:
                self._land(held)
                held.repeat_delay_ms = min(held.repeat_delay_ms * 2, REPEAT_MAX_MS)
                self._outbox.append(key)
            if held.repeat_checkpoint_ms <= now and held.checkpoint is not None:
                held.has_report = held.is_checkpoint_due = True
            if self._is_connected and held.has_report and held.report_allowed_ms <= now:
                self._report(key, held, now)

    # ------------------------------------------------------------ leaving

    def begin_drain(self, why: str, now: float, grace_ms: Optional[int] = None) -> None:
        if self.is_draining:
            return
        self._drain_deadline_ms = now + (self._drain_grace_ms if grace_ms is None else grace_ms)
        self._status_wanted = True
        self._fact("drain_begun", why=why, running=self._running)
        self._hand_back_waiting()

    def leave_at_once(self, now: float) -> None:
        if not self._has_left:
            self._leave("at_once", now)

    def _hand_back_waiting(self) -> None:
        while self._waiting:
            key = self._waiting.popleft()
            held = self._held.get(key)
            if held and held.phase == WAITING:
                self._finish(key, held, Ended("handed_back"))

    def _drain(self, now: float) -> None:
        if not self._held:
            self._leave("drained", now)
            return
        if now < self._drain_deadline_ms:
            return
        if not self._is_grace_over:
            self._is_grace_over = True
            for key, held in self._held.items():
                if held.phase == RUNNING:
                    self._stop(key, held, HAND_BACK)
        # A handler that does not stop, or a broker that does not answer.
        if now >= self._drain_deadline_ms + LAST_GRACE_MS:
            self._leave("at_once", now)

    def _leave(self, how: str, now: float) -> None:
        """Says what there is to say for the last time; the shell ends the processes first."""
        for key, held in self._held.items():
            if held.phase != FINISHED and not held.is_dropped:
                if held.has_report and self._is_connected:
                    self._report(key, held, now)  # its newest checkpoint
                self._finish(key, held, Ended("handed_back"))
            if self._is_connected:
                self._send_last_log(key, held)
        finished = [held.result for held in self._held.values() if held.phase == FINISHED]
        level = logging.WARNING if finished else logging.INFO
        self._fact("node_leaving", level, unacknowledged=len(finished))
        self._out.exit = how
        self._has_left = True
        if not self._is_connected:
            return
        for batch in _by_bytes(finished):
            self._out.sends.append({"op": "result", "node": self.node, "results": batch})
        self._out.sends.append({"op": "goodbye", "node": self.node})


def _by_bytes(results: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Messages of at most RESULTS_PER_MESSAGE_MAX results and IN_FLIGHT_BYTES_MAX bytes."""
    batches: list[list[dict[str, Any]]] = []
    size = 0
    for result in results:
        bytes_ = len(result.get("result", b"")) + 4096 + 256
        if not batches or size + bytes_ > IN_FLIGHT_BYTES_MAX or len(batches[-1]) >= 1000:
            batches.append([])
            size = 0
        batches[-1].append(result)
        size += bytes_
    return batches
