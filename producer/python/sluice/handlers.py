"""Runs handlers: on pool threads, or one child process per attempt. Never on the socket's thread."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import select
import signal
import socket
import threading
import time
import traceback
from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, Union

from . import core, logs, wire
from .core import Ended, Key
from .errors import RETRY_AFTER_MAX, Never, RetryAfter
from .spawner import (
    Child,
    Spawner,
    SpawnerGone,
    flush_output,
    is_shortage,
    kill_all,
    read_frame,
    write_frame,
)

Handler = Callable[["Task"], Any]
Middleware = Callable[["Task", Handler], Any]
_UNCONNECTED = 69  # the exit code of a child whose outcome cannot be told: EX_UNAVAILABLE
_STOPPED_WAIT = 1.0  # seconds that a handler that was asked to stop waits for its checkpoint
_END_WITHIN = 2.0  # seconds: a process that dies closes its socket a moment before it has ended


@dataclass(frozen=True)
class Offer:
    """A task that the worker offers."""

    handler: Handler
    processes: bool = False
    kill_grace: float = 2.0


class Fence(NamedTuple):
    """Which attempt of its job: later ones are greater. As a text `epoch.attempt`, as a program has
    it in SLUICE_FENCE."""

    epoch: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.attempt}"


class Task:
    """What a handler sees of its attempt. One thread uses it: the handler's."""

    def __init__(
        self,
        job: dict[str, Any],
        deadline: Optional[float],
        stop: Callable[[Optional[float]], bool],
        report: Callable[[dict[str, Any]], None],
        is_recorded: Callable[[int], bool],
        log: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        self.id: str = job["id"]
        self.task: str = job["task"]
        self.queue: str = job.get("queue", "default")
        self.attempt: int = job["attempt"]
        self.fence = Fence(job["epoch"], job["attempt"])
        self.retry_count: int = job.get("retry_count", 0)
        self.max_retries: int = job.get("max_retries", 0)
        self.headers: dict[str, str] = job.get("headers") or {}
        self.content_type: str = job.get("content_type", wire.MSGPACK)
        self.raw: bytes = job.get("payload", b"")
        self.payload: Any = wire.decode_value(self.raw, self.content_type)
        # time.monotonic() at which the attempt is stopped; None without a time-out.
        self.deadline = deadline
        # What an earlier attempt saved last, as it was given; None at first.
        self.checkpoint: Any = wire.decode_value(job.get("checkpoint", b""), wire.MSGPACK)
        self._stop = stop
        self._report = report
        self._is_recorded = is_recorded  # waits for it
        self._log = log
        self._checkpoint_n = 0

    @property
    def stop_requested(self) -> bool:
        """True when the job was cancelled, its time is over, or the node leaves: return soon."""
        return self._stop(0)

    def wait_for_stop(self, seconds: Optional[float] = None) -> bool:
        """Sleeps, but not past a stop; True when one was asked for."""
        return self._stop(seconds)

    def progress(self, percent: int, text: str = "", checkpoint: Any = None) -> bool:
        """Tells who watches. Below 0 is 0 percent and above 100 is 100. With a checkpoint (at most
        4 KiB) it returns when that is recorded: whatever happens from then on, the next attempt has
        it, or a newer one. False when it is not, for the attempt is no longer the job's, or it was
        not within a second of a stop."""
        clean = wire.clean_text(wire.text_of(text), core.MESSAGE_BYTES_MAX)
        report: dict[str, Any] = {"percent": _percent(percent), "text": clean}
        if checkpoint is not None:
            try:
                data = wire.encode_value(checkpoint, wire.MSGPACK)
            except Exception as error:  # msgpack raises half a dozen kinds
                raise ValueError(f"checkpoint cannot be kept: {wire.text_of(error)}") from error
            if len(data) > wire.CHECKPOINT_BYTES_MAX:
                raise ValueError(f"a checkpoint of {len(data)} bytes; allowed are 4096")
            self._checkpoint_n += 1
            report |= {"checkpoint": data, "awaited_n": self._checkpoint_n}
        self._report(report)
        return checkpoint is None or self._is_recorded(report["awaited_n"])


    def log(self, text: Any) -> None:
        """A line for the job's log, which `sluice logs` and `Client.logs` show; more lines are fine.
        Cheap, and never waits: of more than can be sent in time, 256 KiB at most, the oldest goes."""
        self._log(logs.line_of(text))


def _percent(percent: Any) -> int:
    try:
        return max(0, min(100, int(percent)))
    except OverflowError:  # an infinite one
        return 100 if percent > 0 else 0
    except (TypeError, ValueError):
        raise ValueError(f"percent must be a number from 0 to 100, not {percent!r}") from None


def within(handler: Handler, middlewares: Sequence[Middleware]) -> Handler:
    """The handler within all of them; the first is the outermost."""
    for middleware in reversed(middlewares):
        handler = functools.partial(_call_around, middleware, handler)
    return handler


def _call_around(middleware: Middleware, inner: Handler, task: Task) -> Any:
    return middleware(task, inner)


def call(handler: Handler, task: Task) -> Ended:
    """Runs the handler; every way to leave it is an outcome."""
    try:
        value = handler(task)
        kind = task.content_type if task.content_type in (wire.JSON, wire.MSGPACK) else wire.MSGPACK
        if isinstance(value, bytes) and task.content_type not in (wire.JSON, wire.MSGPACK):
            return Ended("completed", value)
        return Ended("completed", wire.encode_value(value, kind))
    except BaseException as error:  # SystemExit of a handler must not end the node
        return failure(error)


def failure(error: BaseException) -> Ended:
    """The failed attempt that an exception makes, even one that cannot be looked at."""
    name = type(error).__name__
    try:
        if isinstance(error, Never):
            return Ended("failed", code=error.code, message=error.message, retryable=False)
        if isinstance(error, RetryAfter):
            after_ms = round(max(0, min(error.seconds, RETRY_AFTER_MAX)) * 1000)
            return Ended("failed", code=error.code, message=error.message, retry_after_ms=after_ms)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-3))
        return Ended("failed", code=name, message=f"{name}: {wire.text_of(error)}\n{trace}")
    except BaseException as another:
        text = f"{name}, of which no more can be said: {type(another).__name__} when asked for it"
        return Ended("failed", code=name, message=text)


@dataclass(frozen=True)
class Done:
    key: Key
    ended: Ended


class Reported:
    """What an attempt has reported: the newest, with its newest checkpoint, until it is taken. So a
    handler that reports without end fills no queue."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self._lock = threading.Lock()
        self._newest: Optional[dict[str, Any]] = None

    def put(self, report: dict[str, Any]) -> bool:
        """True when the one before was taken, so that nobody knows yet that there is another."""
        with self._lock:
            before, self._newest = self._newest, report
            if before and "checkpoint" in before:
                report.setdefault("checkpoint", before["checkpoint"])
                report.setdefault("awaited_n", before["awaited_n"])
        return before is None

    def take(self) -> tuple[int, str, Optional[bytes], int]:
        with self._lock:
            report, self._newest = self._newest, None
        assert report is not None
        return report["percent"], report["text"], report.get("checkpoint"), report.get("awaited_n", 0)


class Logged:
    """What an attempt has logged, until it is taken."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self._buffer = logs.LogBuffer()

    def put(self, data: bytes) -> bool:
        """True when nobody knows yet that there is something."""
        return self._buffer.add(data)

    def take(self) -> bytes:
        return self._buffer.take(2 * logs.BYTES_MAX)


@dataclass(frozen=True)
class Broken:
    detail: str


Event = Union[Done, Reported, Logged, Broken]


class _Attempt:
    def __init__(self, key: Key, job: dict[str, Any], deadline: Optional[float], offer: Offer) -> None:
        self.key = key
        self.job = job
        self.deadline = deadline
        self.offer = offer
        self.stop = threading.Event()
        self.reason = ""
        self.kill_at_ms = core.NEVER
        self.reported = Reported(key)
        self.logged = Logged(key)
        self._answered = threading.Condition()
        self._answers = (0, False)  # the newest checkpoint that was answered, and how
        self._lock = threading.Lock()
        self._child: Optional[Child] = None
        self._pid = 0
        self._was_signalled = 0

    def ask_to_stop(self) -> None:
        with self._answered:
            self.stop.set()
            self._answered.notify_all()

    def answer(self, number: int, is_recorded: bool) -> None:
        with self._answered:
            self._answers = (number, is_recorded)
            self._answered.notify_all()
        with self._lock:
            if self._child:
                self._child.write({"number": number, "is_recorded": is_recorded})

    def is_recorded(self, number: int) -> bool:
        """Waits for the answer."""
        with self._answered:
            self._answered.wait_for(lambda: self._answers[0] >= number or self.stop.is_set())
            self._answered.wait_for(lambda: self._answers[0] >= number, _STOPPED_WAIT)
            return self._answers[0] >= number and self._answers[1]

    @contextlib.contextmanager
    def answering(self, child: Child) -> Iterator[None]:
        """Meanwhile answers go to this process; it has its job already."""
        with self._lock:
            self._child = child
        try:
            yield
        finally:
            with self._lock:
                self._child = None

    def set_pid(self, pid: int) -> None:
        """0 = gone. A signal that came before the pid is delivered now."""
        with self._lock:
            self._pid = pid
            if pid and self._was_signalled:
                self._kill(self._was_signalled)

    def signal(self, number: int) -> None:
        with self._lock:
            self._was_signalled = number
            if self._pid:
                self._kill(number)

    def _kill(self, number: int) -> None:
        if number == signal.SIGKILL:
            kill_all(self._pid)
            return
        try:
            os.kill(self._pid, number)  # the handler alone: it knows what it started
        except ProcessLookupError:
            pass


class Handlers:
    """The pool. start, stop, tick and close belong to the socket's thread; events come through
    `emit`, which any thread may call."""

    def __init__(
        self,
        offers: dict[str, Offer],
        emit: Callable[[Event], None],
        spawner: Optional[Spawner] = None,
    ) -> None:
        self._offers = offers
        self._emit = emit
        self._spawner = spawner
        self._attempts: dict[Key, _Attempt] = {}
        self._work: "queue.SimpleQueue[_Attempt]" = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    @property
    def running_count(self) -> int:
        return len(self._attempts)

    def start(self, key: Key, job: dict[str, Any], deadline: Optional[float]) -> None:
        offer = self._offers.get(str(job.get("task")))
        if offer is None:
            text = f"this worker has no task {job.get('task')!r}"
            self._emit(Done(key, Ended("failed", code="task_not_offered", message=text, retryable=False)))
            return
        attempt = self._attempts[key] = _Attempt(key, job, deadline, offer)
        with self._lock:
            is_new_needed = self._idle == 0
            self._idle += 0 if is_new_needed else -1
        if is_new_needed:
            try:
                threading.Thread(target=self._serve, name="sluice-handler", daemon=True).start()
            except (RuntimeError, OSError, MemoryError) as error:
                self._emit(Done(key, _cannot_start(error)))
                return
        self._work.put(attempt)

    def stop(self, key: Key, reason: str, now_ms: float) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        is_first = not attempt.reason
        if is_first or reason == core.DROPPED:
            attempt.reason = reason
        if is_first:
            attempt.ask_to_stop()
            if attempt.offer.processes:
                attempt.kill_at_ms = now_ms + attempt.offer.kill_grace * 1000
                attempt.signal(signal.SIGTERM)

    def answer(self, key: Key, number: int, is_recorded: bool) -> None:
        """What became of a checkpoint of it."""
        attempt = self._attempts.get(key)
        if attempt:
            attempt.answer(number, is_recorded)

    def ended(self, key: Key) -> None:
        """Its Done was taken."""
        self._attempts.pop(key, None)

    def next_deadline(self) -> float:
        return min((a.kill_at_ms for a in self._attempts.values()), default=core.NEVER)

    def tick(self, now_ms: float) -> None:
        for attempt in self._attempts.values():
            if attempt.kill_at_ms <= now_ms:
                attempt.kill_at_ms = core.NEVER
                attempt.signal(signal.SIGKILL)

    def close(self) -> bool:
        """Kills every process. False when handler threads still run: leave by os._exit."""
        if self._spawner:
            self._spawner.close()
        return not any(not a.offer.processes for a in self._attempts.values())

    # ------------------------------------------------------------ on pool threads

    def _serve(self) -> None:
        while True:
            attempt = self._work.get()
            run = self._run_process if attempt.offer.processes else self._run_thread
            try:
                ended = run(attempt)
            except SpawnerGone as error:
                self._emit(Broken(str(error)))
                ended = Ended("handed_back")
            except BaseException as error:  # this thread has its slot to give back
                ended = failure(error)
            with self._lock:
                self._idle += 1
            self._emit(Done(attempt.key, _by_reason(ended, attempt.reason)))

    def _run_thread(self, attempt: _Attempt) -> Ended:
        def stop(seconds: Optional[float]) -> bool:
            return attempt.stop.is_set() if seconds == 0 else attempt.stop.wait(seconds)

        begun = time.thread_time()
        task = Task(
            attempt.job, attempt.deadline, stop, lambda r: self._report(attempt, r),
            attempt.is_recorded, lambda data: self._log(attempt, data)
        )
        ended = call(attempt.offer.handler, task)
        ended.cpu_ms = round((time.thread_time() - begun) * 1000)
        return ended

    def _report(self, attempt: _Attempt, report: dict[str, Any]) -> None:
        if attempt.reported.put(report):
            self._emit(attempt.reported)

    def _log(self, attempt: _Attempt, data: bytes) -> None:
        if attempt.logged.put(data):
            self._emit(attempt.logged)

    def _run_process(self, attempt: _Attempt) -> Ended:
        assert self._spawner is not None
        try:
            child = self._spawner.fork()
        except (OSError, MemoryError) as error:
            return _cannot_start(error)
        attempt.set_pid(child.pid)
        child.on_output = lambda data: self._log(attempt, data)
        with child:
            try:
                last, has_ended = self._hear(attempt, child)
            finally:
                attempt.set_pid(0)
                end = self._spawner.reap(child.pid)
            while child.read_output():
                pass
        ended = Ended(**last) if last else _crashed(end.status, has_ended, child.tail)
        return replace(ended, cpu_ms=end.cpu_ms, rss_bytes_max=end.rss_bytes_max)

    def _hear(self, attempt: _Attempt, child: Child) -> tuple[Optional[dict[str, Any]], bool]:
        """Its last word, or whether it ended without one."""
        child.write({"job": attempt.job, "deadline": attempt.deadline})
        with attempt.answering(child):
            while (frame := child.read()) is not None:
                if "outcome" in frame:
                    return frame, True
                if "log" in frame:
                    self._log(attempt, frame["log"])
                else:
                    self._report(attempt, frame)
        return None, child.has_ended(within=_END_WITHIN)


_STOPPED = {
    core.CANCEL: Ended("cancelled"),
    core.TIMED_OUT: Ended("failed", code="timeout", message="stopped: its time was over"),
    core.HAND_BACK: Ended("handed_back"),
}


def _by_reason(ended: Ended, reason: str) -> Ended:
    """After a stop it is the reason that counts, not what a half-done handler returned."""
    if reason not in _STOPPED:
        return ended
    return replace(_STOPPED[reason], cpu_ms=ended.cpu_ms, rss_bytes_max=ended.rss_bytes_max)


def _cannot_start(error: BaseException) -> Ended:
    """Where something is short the job goes back, at no cost to it: another node may have it."""
    outcome = "handed_back" if is_shortage(error) else "failed"
    return Ended(outcome, code="cannot_start", message=f"cannot start: {wire.text_of(error)}")


def _crashed(status: int, has_ended: bool, tail: bytes) -> Ended:
    """By its own end, or by ours when it could tell us no more; with what it printed last. In
    sluice-worker's words for an isolate."""
    exit_code = os.waitstatus_to_exitcode(status)
    code, text = "isolate_crashed", _how(exit_code)
    if not has_ended or exit_code == _UNCONNECTED:
        code, text = "isolate_broken", "isolate killed: its handler closed or spoiled its socket"
    said = "\n" + tail.decode("utf-8", "replace") if tail else ""
    return Ended("failed", code=code, message=text + said)


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"isolate exited with code {exit_code}"
    from_outside = ", from outside or for want of memory" if -exit_code == signal.SIGKILL else ""
    return f"isolate crashed: {_signal_name(-exit_code)}{from_outside}"


def _signal_name(number: int) -> str:
    """Those of real time have no names in sluice-worker, and some have none here."""
    return signal.Signals(number).name if number <= signal.SIGSYS else f"SIG{number}"


# ---------------------------------------------------------------- in the child process


def child_main(offers: dict[str, Offer]) -> Callable[[socket.socket], None]:
    """What a forked child does with its socket: one job."""

    def run(sock: socket.socket) -> None:
        stop = threading.Event()
        stopped_r, stopped_w = os.pipe()

        def ask_to_stop(*_: Any) -> None:
            if not stop.is_set():
                stop.set()
                os.write(stopped_w, b"\0")

        signal.signal(signal.SIGTERM, ask_to_stop)
        order = read_frame(sock.recv)
        if order is None:
            return
        pid = os.getpid()
        job = order["job"]

        def wait(seconds: Optional[float]) -> bool:
            return stop.is_set() if seconds == 0 else stop.wait(seconds)

        def is_recorded(number: int) -> bool:
            select.select([sock, stopped_r], [], [])
            while select.select([sock], [], [], _STOPPED_WAIT if stop.is_set() else None)[0]:
                answer = read_frame(sock.recv)
                if answer is None:
                    return False
                if answer["number"] >= number:
                    return bool(answer["is_recorded"])
                select.select([sock, stopped_r], [], [])
            return False

        task = Task(
            job, order["deadline"], wait, lambda report: write_frame(sock, report), is_recorded,
            lambda data: write_frame(sock, {"log": data[-logs.BYTES_MAX:]})
        )
        ended = call(offers[job["task"]].handler, task)
        if os.getpid() != pid:  # a fork of the handler's that returned: it has no word in this
            return
        flush_output()
        try:
            write_frame(sock, vars(ended))
        except OSError:
            os._exit(_UNCONNECTED)

    return run
