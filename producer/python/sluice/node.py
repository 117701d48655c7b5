"""A worker node: `Worker`. One thread owns the socket and decides; handlers run elsewhere."""

from __future__ import annotations

import logging
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, TypeVar, Union

import zmq

from . import settings, wire
from .core import NEVER, Fact, Output, WorkerCore
from .handlers import (
    Broken,
    Done,
    Event,
    Handler,
    Handlers,
    Logged,
    Middleware,
    Offer,
    Reported,
    Task,
    child_main,
    within,
)
from .life import Life
from .spawner import Spawner
from .typed import typed

log = logging.getLogger("sluice")
H = TypeVar("H", bound=Callable[..., Any])
VERSION = "python-0.1.0"


def now_ms() -> float:
    return time.monotonic() * 1000


class Worker:
    """Offers tasks to a broker and runs their handlers.

        worker = sluice.Worker("n1", concurrency=4)

        @worker.task("shout")
        def shout(task):
            return task.payload.upper()

        worker.run()

    SIGTERM and SIGINT drain (what runs may end within `drain_grace`, the rest is handed back); a
    second one leaves at once. `stop()` may be called from any thread; the rest belongs to one.

    What the broker would never take (a name, an address, a limit) is a ValueError that says so.

    With a `state_dir` (else SLUICE_STATE_DIR) of its own, a node that starts again tells the broker
    which life it replaces: what that one ran is queued again at once, not after a silence.
    """

    def __init__(
        self,
        name: Optional[str] = None,
        concurrency: int = 4,
        *,
        broker: Optional[str] = None,
        queues: Sequence[str] = (),
        labels: Optional[Mapping[str, str]] = None,
        drain_grace: settings.Seconds = 25.0,
        state_dir: Union[str, "os.PathLike[str]", None] = None,
    ) -> None:
        settings.check_concurrency(concurrency)
        grace = settings.check_seconds("drain_grace", drain_grace, settings.DRAIN_GRACE_MAX)
        if settings.is_given(name):
            settings.check_name("name", name)
        address = settings.find_address("broker", broker, "SLUICE_WORKER_BROKER")
        self.address = wire.host_and_port(address, 7712)
        self.node = f"{name or settings.host_name()}@{secrets.token_hex(4)}"
        self._concurrency = concurrency
        self._queues = settings.check_queues(queues)
        self._labels = settings.check_labels(labels)
        self._drain_grace_ms = round(grace * 1000)
        self._state_dir = settings.check_state_dir(state_dir) or os.environ.get("SLUICE_STATE_DIR")
        self._offers: dict[str, Offer] = {}
        self._middlewares: list[Middleware] = []
        self._events: "queue.SimpleQueue[Event]" = queue.SimpleQueue()
        self._stops_asked = 0
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)

    def task(
        self,
        name: str,
        *,
        payload: Optional[type] = None,
        processes: bool = False,
        kill_grace: settings.Seconds = 2.0,
    ) -> Callable[[H], H]:
        """Registers the handler of a task. With `payload`, a dataclass, it is called with the task
        and the payload as a value of that class, and may return one, too. With `processes` every
        attempt has a process of its own: for code that burns CPU (and would hold the GIL) or may
        crash; it is killed `kill_grace` seconds after it was asked to stop. A handler on a thread
        can only be asked."""
        settings.check_name("a task's name", name)
        settings.check_payload_class(name, payload)
        settings.check_bool("processes", processes)
        grace = settings.check_seconds("kill_grace", kill_grace, settings.KILL_GRACE_MAX)

        def register(handler: H) -> H:
            settings.check_handler(name, handler)
            if name in self._offers:
                raise ValueError(f"task {name!r} has a handler already")
            if len(self._offers) >= settings.TASKS_MAX:
                raise ValueError(f"a worker offers at most {settings.TASKS_MAX} tasks")
            called: Handler = handler
            if payload is not None:
                called = typed(payload, handler)
            self._offers[name] = Offer(called, processes, grace)
            return handler

        return register

    def around(self, middleware: H) -> H:
        """Has `middleware(task, call)` around every handler of this worker, added before or after
        it: it returns `call(task)`, or what it wants. The first one added is the outermost."""
        settings.check_middleware(middleware)
        self._middlewares.append(middleware)
        return middleware

    def before(self, step: H) -> H:
        """Has `step(task)` called ahead of every handler. What it raises is the outcome, as if the
        handler had raised it, and the handler is not called."""
        settings.check_middleware(step)

        def run(task: Task, call: Handler) -> Any:
            step(task)
            return call(task)

        self._middlewares.append(run)
        return step

    def after(self, step: H) -> H:
        """Has `step(task, error)` called behind every handler, `error` being what it raised or
        None."""
        settings.check_middleware(step)

        def run(task: Task, call: Handler) -> Any:
            try:
                value = call(task)
            except BaseException as error:
                step(task, error)
                raise
            step(task, None)
            return value

        self._middlewares.append(run)
        return step

    def _offers_within(self) -> dict[str, Offer]:
        """The handlers, each within all middlewares."""
        return {
            name: replace(offer, handler=within(offer.handler, self._middlewares))
            for name, offer in self._offers.items()
        }

    def stop(self) -> None:
        """Like a SIGTERM: the first call drains, the second leaves at once."""
        self._stops_asked += 1
        self._wake()

    def run(self) -> int:
        """Works until told to stop. 0 when everything held was finished and acknowledged. Raises
        CannotStart when another worker has the state directory."""
        if not self._offers:
            raise ValueError("this worker has no task: register one with @worker.task(name)")
        with Life(self.node, self._state_dir) as life:
            return self._live(life)

    def _live(self, life: Life) -> int:
        offers = self._offers_within()
        needs_processes = any(offer.processes for offer in offers.values())
        spawner = Spawner(child_main(offers), life.let_go) if needs_processes else None
        is_main = threading.current_thread() is threading.main_thread()
        old = {}
        if is_main:
            for number in (signal.SIGTERM, signal.SIGINT):
                old[number] = signal.signal(number, lambda *_: self.stop())
        handlers = Handlers(offers, self._emit, spawner)
        is_clean = is_broken = False
        try:
            is_clean = _Loop(self, handlers, life.replaces).run()
        except BaseException:
            is_broken = True
            log.exception('node_failed what_next="a bug of this package: please report it; the node '
                          'ends, and the broker queues its jobs again"')
            raise
        finally:
            is_over = handlers.close()
            for number, handler in old.items():
                signal.signal(number, handler)
            if is_main and not is_over:  # a thread cannot be ended, only left with the process
                if not is_broken:
                    log.error('handler_stuck what_next="a handler does not return; the process ends '
                              'under it"')
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0 if is_clean else 1)
        return 0 if is_clean else 1

    def _emit(self, event: Event) -> None:
        self._events.put(event)
        self._wake()

    def _wake(self) -> None:
        try:
            self._wake_w.send(b"\0")
        except BlockingIOError:
            pass  # it is awake already

    def _core(self, replaces: str) -> WorkerCore:
        return WorkerCore(
            self.node,
            self._concurrency,
            list(self._offers),
            self._queues,
            self._labels,
            VERSION,
            replaces,
            drain_grace_ms=self._drain_grace_ms,
        )


class _Loop:
    """One turn: gather what happened, let the core decide, carry it out."""

    def __init__(self, worker: Worker, handlers: Handlers, replaces: str) -> None:
        self._worker = worker
        self._handlers = handlers
        self._core = worker._core(replaces)
        self._context: "zmq.Context[Any]" = zmq.Context()
        self._dealer = wire.Dealer(self._context, worker.address, worker._concurrency + 64)
        self._backlog: deque[bytes] = deque()
        self._stops_seen = 0
        self._reopen_at = NEVER
        self._reopen_delay_ms = 1000

    def run(self) -> bool:
        log.info("node_started node=%s replaces=%s broker=%s concurrency=%d", self._worker.node,
                 self._core.replaces, self._worker.address, self._worker._concurrency)
        try:
            while True:
                self._wait()
                now = now_ms()
                self._gather(now)
                out = self._core.settle(now)
                if out.exit:
                    return self._leave(out)
                self._carry_out(out, now)
        finally:
            self._dealer.close(2000)
            self._context.term()

    def _wait(self) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer.socket, zmq.POLLIN | (zmq.POLLOUT if self._backlog else 0))
        poller.register(self._dealer.monitor, zmq.POLLIN)
        poller.register(self._worker._wake_r, zmq.POLLIN)
        due = min(self._core.next_deadline(), self._handlers.next_deadline(), self._reopen_at,
                  self._dealer.reopen_at * 1000)
        poller.poll(None if due == NEVER else max(0, int(due - now_ms()) + 1))

    def _gather(self, now: float) -> None:
        self._connection(now)
        for message in self._dealer.messages(_say_ignored):
            try:
                self._core.message(message, now)
            except (KeyError, TypeError, ValueError) as error:
                _say_ignored(f"{message.get('op')}: {error!r}")
        try:
            while self._worker._wake_r.recv(4096):
                pass
        except BlockingIOError:
            pass
        for _ in range(self._worker._events.qsize()):  # what comes meanwhile has its own turn
            self._take(self._worker._events.get(), now)
        while self._stops_seen < self._worker._stops_asked:
            self._stops_seen += 1
            if self._stops_seen == 1:
                self._core.begin_drain("signal", now)
            else:
                self._core.leave_at_once(now)

    def _connection(self, now: float) -> None:
        for change in self._dealer.changes():
            if change == wire.Dealer.UP:
                self._reopen_delay_ms = 1000
                self._core.connected(now)
                continue
            if change == wire.Dealer.NOBODY:
                self._core.nobody_answers(self._dealer.address, now)
                continue
            if change == wire.Dealer.SILENT:
                self._core.broker_silent(self._dealer.address, now)
                continue
            self._backlog.clear()  # the core repeats it all on the next connection
            self._core.disconnected()
            if change == wire.Dealer.REFUSED and self._reopen_at == NEVER:
                log.error("handshake_failed broker=%s what_next=\"is that the workers' port?\"",
                          self._dealer.address)
                self._reopen_at = now + self._reopen_delay_ms
                self._reopen_delay_ms = min(self._reopen_delay_ms * 2, 30_000)
        if now >= min(self._reopen_at, self._dealer.reopen_at * 1000):
            self._reopen_at = NEVER
            self._dealer.reopen()
        self._flush()

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, Done):
            self._handlers.ended(event.key)
            self._core.done(event.key, event.ended, now)
        elif isinstance(event, Reported):
            percent, text, checkpoint, awaited_n = event.take()
            self._core.progress(event.key, percent, text, checkpoint, now, awaited_n)
        elif isinstance(event, Logged):
            self._core.log(event.key, event.take())
        elif isinstance(event, Broken):
            log.error('runtime_failed detail="%s"', event.detail)
            self._core.begin_drain(event.detail, now, grace_ms=0)

    def _carry_out(self, out: Output, now: float) -> None:
        _say(out.facts)
        for key, reason in out.stops:
            self._handlers.stop(key, reason, now)
        for key, number, is_recorded in out.answers:
            self._handlers.answer(key, number, is_recorded)
        for key, job, deadline in out.starts:
            self._handlers.start(key, job, None if deadline == NEVER else deadline / 1000)
        self._handlers.tick(now)
        self._backlog.extend(map(wire.pack, out.sends))
        self._flush()

    def _flush(self) -> None:
        while self._backlog and self._dealer.send(self._backlog[0]):
            self._backlog.popleft()

    def _leave(self, out: Output) -> bool:
        """Processes end first, then the last words go out."""
        _say(out.facts)
        self._handlers.close()
        self._backlog.extend(map(wire.pack, out.sends))
        give_up = now_ms() + 1000
        self._flush()
        while self._backlog and self._dealer.is_up and (left := give_up - now_ms()) > 0:
            self._dealer.socket.poll(int(left) + 1, zmq.POLLOUT)
            self._flush()
        return out.exit == "drained"


def _say(facts: Iterable[Fact]) -> None:
    for fact in facts:
        log.log(fact.level, "%s", fact.text)


def _say_ignored(why: str) -> None:
    log.warning('message_ignored why="%s"', why)
