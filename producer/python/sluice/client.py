"""The producer's side: `connect()` and what can be asked of a broker."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, Union

import zmq

from . import wire
from .connection import RESEND_MS, TRY_AGAIN, Connection
from .errors import ClientClosed, Error, NoBroker, RequestFailed, TimedOut
from .jobs import (
    STATES,
    JobView,
    LogChunk,
    SubmitResult,
    check_analysis,
    check_jobs,
    make_job,
    refuse_too_large,
)
from .settings import (
    TIMEOUT_MAX,
    Seconds,
    check_bool,
    check_count,
    check_ids,
    check_seconds,
    check_text,
    find_address,
)

Ids = Union[str, Sequence[str]]
list_type = list  # Client has a method of that name

_WAIT_SLICE_MS = 30_000
_SUBMIT_BYTES = 1 << 20
_LOG_PAUSE, _LOG_PAUSE_MAX = 0.1, 0.5  # seconds between two questions of one who follows
_FILTER = ("state", "queue", "task", "tag", "error_code")


def connect(address: Optional[str] = None, *, timeout: Seconds = 10.0) -> "Client":
    """A client of the broker at `address` (else SLUICE_BROKER, else tcp://127.0.0.1:7711).

    Nothing is sent yet. `timeout` is how many seconds a request may take, repeats included.
    What is no address or no time is a ValueError that begins with the argument's name.
    """
    return Client(address, timeout=timeout)


@dataclass(frozen=True)
class Handle:
    """A submitted job."""

    id: str
    status: str
    client: "Client"

    def get(self) -> JobView:
        return self.client.get(self.id)[0]

    def wait(self, timeout: Optional[Seconds] = None) -> JobView:
        return self.client.wait(self.id, timeout)[self.id]

    def result(self, timeout: Optional[Seconds] = None) -> Any:
        return self.client.result(self.id, timeout)

    def cancel(self, reason: str = "") -> str:
        return self.client.cancel(self.id, reason=reason)[self.id]


@dataclass
class _Thread:
    """What a thread has of a client. It goes with the thread, also with one that `threading` does
    not know."""

    connection: Connection


class Client:
    """Talks to one broker.

    Thread-safe: every thread has a connection of its own, so a thread that waits does not hold up
    another; it is closed when the thread has ended and another one calls. `close()` (or the end of
    the `with` block) belongs after the last call of all threads. After a fork make a new client.
    Every request is sent again after a reconnect and after `retry_later`, `store_unavailable` or
    `draining`, until `timeout` seconds are over; this is safe.
    """

    def __init__(self, address: Optional[str] = None, *, timeout: Seconds = 10.0) -> None:
        self.address = wire.host_and_port(find_address("address", address, "SLUICE_BROKER"), 7711)
        self.timeout = check_seconds("timeout", timeout, TIMEOUT_MAX)
        self._context: "zmq.Context[Any]" = zmq.Context()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list_type[tuple[weakref.ref[_Thread], Connection]] = []
        self._is_closed = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()
        self._context.term()

    # ------------------------------------------------------------ submit

    def submit(
        self, task: str, payload: Any = None, *, wait: Union[bool, Seconds] = False, **options: Any
    ) -> Handle:
        """Hands over one job; `options` are those of `make_job`. When this returns, the job will be
        done. Raises SubmitFailed when it is not taken; when no answer comes, `ids` of the error has
        the id under which the broker may have it. `wait` = True or seconds: until its end."""
        timeout = None if isinstance(wait, bool) else check_seconds("wait", wait, TIMEOUT_MAX)
        (answer,) = self.submit_many([make_job(task, payload, **options)])
        if not answer.is_taken:
            raise answer.error()
        handle = Handle(answer.id, answer.status, self)
        if wait is not False:
            try:
                handle.wait(timeout)
            except Error as error:
                error.ids = [handle.id]
                raise
        return handle

    def submit_many(self, jobs: Iterable[Mapping[str, Any]]) -> list_type[SubmitResult]:
        """Hands over any number of jobs (from `make_job`), in batches, several under way at once.
        One result for each, in their order; nothing is raised for a job that is not taken."""
        taken = list_type(check_jobs(jobs))
        indexes: dict[str, deque[int]] = {}
        for index, job in enumerate(taken):
            indexes.setdefault(job["id"], deque()).append(index)
        results = {indexes[r.id].popleft(): r for r in self.submit_stream(taken)}
        return [results[index] for index in range(len(taken))]

    def submit_stream(self, jobs: Iterable[Mapping[str, Any]]) -> Iterator[SubmitResult]:
        """Like submit_many for more jobs than fit into memory: yields each result as it comes, in
        no promised order. Nothing is sent beyond what is asked for: exhaust the iterator."""
        self._check_open()
        connection = Connection(self._context, self.address)
        try:
            deadline = time.monotonic() + self.timeout
            todo: Iterable[Mapping[str, Any]] = check_jobs(jobs)
            while todo:
                refused: dict[str, Mapping[str, Any]] = {}
                too_large: deque[SubmitResult] = deque()
                bodies = _submits(_fitting(todo, too_large))
                for body, reply in connection.talk(bodies, self.timeout):
                    _raise_error(reply)
                    sent = {job["id"]: job for job in body["jobs"]}
                    for item in reply["results"]:
                        if item.get("code") in TRY_AGAIN and time.monotonic() < deadline:
                            refused[item["id"]] = sent[item["id"]]
                            continue
                        deadline = time.monotonic() + self.timeout
                        yield SubmitResult.from_wire(item)
                    while too_large:
                        yield too_large.popleft()
                yield from too_large
                todo = list(refused.values())
                if todo:
                    connection.idle(0.5)
        finally:
            connection.close()

    def queue_analysis(
        self, ticker: str, trade_date: Union[str, date], priority: str = "normal"
    ) -> Handle:
        """An `analysis` job: one run of the stock analysis for a ticker and a day (a date, or
        YYYY-MM-DD).
        Raises SubmitFailed, `field` being `ticker` or `trade_date`, before anything is sent."""
        day = check_analysis(ticker, trade_date)
        return self.submit(
            "analysis",
            {"ticker": ticker, "trade_date": day},
            queue="analysis",
            priority=priority,
            tags=[ticker, day],
        )

    # ------------------------------------------------------------ look and wait

    def get(self, ids: Ids) -> list_type[JobView]:
        """The jobs as they are now, in the order asked."""
        wanted = check_ids(ids)
        found: dict[str, JobView] = {}
        missing = wanted
        while missing:
            reply = self._call({"op": "get", "ids": missing[:1000]})
            views = [JobView(view) for view in reply["jobs"]]
            found.update((view.id, view) for view in views)
            before, missing = len(missing), [id for id in missing if id not in found]
            if len(missing) == before:
                raise RequestFailed("internal", "the broker's answer leaves out what was asked for")
        return [found[id] for id in wanted]

    def wait(self, ids: Ids, timeout: Optional[Seconds] = None) -> dict[str, JobView]:
        """The jobs when all have ended, by id. Raises TimedOut after `timeout` seconds (None: waits
        as long as it takes). An unknown id comes back as `not_found` at once."""
        wanted = check_ids(ids)
        seconds = None if timeout is None else check_seconds("timeout", timeout, TIMEOUT_MAX)
        deadline = None if seconds is None else time.monotonic() + seconds
        ended: dict[str, JobView] = {}
        left = list(dict.fromkeys(wanted))
        while left:
            slice_ms = _WAIT_SLICE_MS
            if deadline is not None:
                slice_ms = max(0, min(slice_ms, round((deadline - time.monotonic()) * 1000)))
            try:
                ended.update((view.id, view) for view in self._wait_once(left[:1000], slice_ms))
            except (TimedOut, RequestFailed) as error:
                # The clock of a broker whose Redis is away stands: it answers later, or for now not.
                is_over = deadline is not None and time.monotonic() >= deadline
                if isinstance(error, RequestFailed) and (is_over or error.code not in TRY_AGAIN):
                    raise
                self.ping()
            left = [id for id in left if id not in ended]
            if left and deadline is not None and time.monotonic() >= deadline:
                raise TimedOut(f"{len(left)} of {len(wanted)} jobs had not ended in {seconds:g} s")
        return {id: ended[id] for id in wanted}

    def result(self, id: str, timeout: Optional[Seconds] = None) -> Any:
        """Waits for the job's end; its result, or JobFailed."""
        return self.wait(check_text("id", id), timeout)[id].result_or_raise()

    def list(
        self,
        state: Optional[str] = None,
        *,
        queue: Optional[str] = None,
        task: Optional[str] = None,
        tag: Optional[str] = None,
        error_code: Optional[str] = None,
        page_size: int = 100,
    ) -> Iterator[JobView]:
        """The jobs in a state (every state: one after the other), page by page, without payloads
        and results."""
        return self._pages(_filter(state, queue, task, tag, error_code, page_size))

    def _pages(self, filter: dict[str, Any]) -> Iterator[JobView]:
        for state in (filter["state"],) if filter.get("state") else STATES:
            body = {**filter, "state": state}
            while True:
                reply = self._call({"op": "list", **body})
                yield from map(JobView, reply["jobs"])
                if not reply.get("cursor"):
                    break
                body["cursor"] = reply["cursor"]

    def logs(self, id: str, *, follow: bool = False) -> Iterator[LogChunk]:
        """What the job's attempts logged, piece by piece, as much as is kept. With `follow` it goes
        on with what comes until the job has ended, and outlives a broker that is away."""
        check_text("id", id)
        check_bool("follow", follow)
        return self._logs(id, follow)

    def _logs(self, id: str, follow: bool) -> Iterator[LogChunk]:
        position, pause, is_known = 0, _LOG_PAUSE, False
        while True:
            try:
                page = self._call({"op": "logs", "id": id, "from": position})
            except (NoBroker, TimedOut, RequestFailed) as error:
                is_gone = isinstance(error, RequestFailed) and error.code == "not_found"
                if is_known and is_gone:  # it was removed
                    return
                is_final = isinstance(error, RequestFailed) and not error.retryable
                if is_final or not (follow and is_known):
                    raise
                time.sleep(_LOG_PAUSE_MAX)
                continue
            is_known = True
            yield from map(LogChunk.from_wire, page["chunks"])
            position = page["next"]
            if position < page["size"]:
                continue
            if not follow or page["state"] in ("completed", "failed", "cancelled"):
                return
            pause = _LOG_PAUSE if page["chunks"] else min(pause * 1.5, _LOG_PAUSE_MAX)
            time.sleep(pause)

    def queues(self) -> Sequence[dict[str, Any]]:
        return list_of_maps(self._call({"op": "queues"})["queues"])

    def workers(self) -> Sequence[dict[str, Any]]:
        return list_of_maps(self._call({"op": "workers"})["workers"])

    def stats(self) -> dict[str, Any]:
        return dict(self._call({"op": "stats"})["stats"])

    def ping(self) -> dict[str, Any]:
        """The broker's version, epoch and what "durable" means there."""
        reply = self._call({"op": "ping"})
        return {key: value for key, value in reply.items() if key not in ("op", "req")}

    # ------------------------------------------------------------ change

    def cancel(self, ids: Optional[Ids] = None, *, reason: str = "", **filter: Any) -> dict[str, str]:
        """Cancels jobs by id, or all that a filter (state, queue, task, tag, error_code) meets.
        By id: `cancelled`, `cancelling`, `too_late` or `not_found`."""
        check_text("reason", reason)
        return self._target("cancel", ids, filter, {"reason": reason} if reason else {})

    def retry(self, ids: Optional[Ids] = None, **filter: Any) -> dict[str, str]:
        """Queues failed and cancelled jobs anew."""
        return self._target("retry", ids, filter, {})

    def delete(self, ids: Optional[Ids] = None, **filter: Any) -> dict[str, str]:
        """Removes ended jobs."""
        return self._target("delete", ids, filter, {})

    def pause(self, queue: str) -> None:
        self._call({"op": "pause", "queue": check_text("queue", queue)})

    def resume(self, queue: str) -> None:
        self._call({"op": "resume", "queue": check_text("queue", queue)})

    def purge(self, queue: str) -> int:
        """Cancels every job of the queue that waits; how many."""
        return int(self._call({"op": "purge", "queue": check_text("queue", queue)}).get("count", 0))

    def drain(self, node: str) -> None:
        """Asks a node to finish what it holds and leave."""
        self._call({"op": "drain", "node": check_text("node", node)})

    def set_concurrency(self, node: str, concurrency: int) -> None:
        check_text("node", node)
        check_count("concurrency", concurrency)
        self._call({"op": "set_concurrency", "node": node, "concurrency": concurrency})

    # ------------------------------------------------------------ inside

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosed()

    def _connection(self) -> "Connection":
        self._check_open()
        thread: Optional[_Thread] = getattr(self._local, "thread", None)
        if thread is None:
            self._close_left()
            thread = self._local.thread = _Thread(Connection(self._context, self.address))
            with self._lock:
                self._connections.append((weakref.ref(thread), thread.connection))
        return thread.connection

    def _close_left(self) -> None:
        """The connections of threads that have ended."""
        with self._lock:
            left = [each for each in self._connections if each[0]() is None]
            self._connections = [each for each in self._connections if each not in left]
            for _, connection in left:
                connection.close()

    def _call(
        self,
        body: dict[str, Any],
        timeout: Optional[float] = None,
        resend_ms: int = RESEND_MS,
        on_open: Optional[Callable[[dict[str, Any]], None]] = None,
    ) -> dict[str, Any]:
        seconds = self.timeout if timeout is None else timeout
        talk = self._connection().talk(iter([body]), seconds, resend_ms, on_open)
        _, reply = next(talk)
        _raise_error(reply)
        return reply

    def _wait_once(self, ids: Sequence[str], slice_ms: int) -> Iterator[JobView]:
        views: dict[str, JobView] = {}
        more: list_type[str] = []

        def take(reply: dict[str, Any]) -> None:
            views.update((view["id"], JobView(view)) for view in reply.get("jobs", ()))
            more.extend(reply.get("more", ()))

        body = {"op": "wait", "ids": list_type(ids), "timeout_ms": slice_ms}
        seconds = slice_ms / 1000 + self.timeout
        take(self._call(body, seconds, slice_ms + RESEND_MS, take))
        yield from views.values()
        if more:  # their results did not fit into one message
            yield from (view for view in self.get(more) if view.id not in views)

    def _target(
        self, op: str, ids: Optional[Ids], filter: dict[str, Any], extra: dict[str, Any]
    ) -> dict[str, str]:
        results: dict[str, str] = {}
        if ids is not None:
            if filter:
                raise ValueError("either ids or a filter, not both")
            for batch in wire.batches(check_ids(ids), 1000):
                reply = self._call({"op": op, "ids": batch, **extra})
                results.update((item["id"], item["status"]) for item in reply["results"])
            return results
        if not filter:
            raise ValueError("neither ids nor a filter")
        _check_filter(filter)
        while True:
            reply = self._call({"op": op, "filter": filter, **extra})
            results.update((item["id"], item["status"]) for item in reply["results"])
            if not reply.get("cursor"):
                return results
            filter = {**filter, "cursor": reply["cursor"]}


# ---------------------------------------------------------------- small things

def list_of_maps(items: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    return [dict(item) for item in items]


def _filter(
    state: Optional[str],
    queue: Optional[str],
    task: Optional[str],
    tag: Optional[str],
    error_code: Optional[str],
    page_size: int,
) -> dict[str, Any]:
    check_count("page_size", page_size)
    fields = {"state": state, "queue": queue, "task": task, "tag": tag, "error_code": error_code}
    filter = _check_filter({k: v for k, v in fields.items() if v is not None})
    return {**filter, "limit": page_size}


def _check_filter(filter: dict[str, Any]) -> dict[str, Any]:
    """A broker passes over what it does not know, and would act on more jobs than were meant."""
    for name, value in filter.items():
        if name not in _FILTER:
            raise ValueError(f"{name} is nothing to filter by; there are {', '.join(_FILTER)}")
        check_text(name, value)
    return filter


def _fitting(
    jobs: Iterable[Mapping[str, Any]], too_large: deque[SubmitResult]
) -> Iterator[Mapping[str, Any]]:
    """Without those of which a broker could not even say which it refuses."""
    for job in jobs:
        result = refuse_too_large(job)
        if result is None:
            yield job
        else:
            too_large.append(result)


def _submits(jobs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages of at most 1000 jobs and about 1 MiB; the same id never twice in one of them."""
    batch: dict[str, Mapping[str, Any]] = {}
    size = 0
    for job in jobs:
        job_size = len(wire.pack(job))
        if batch and (len(batch) >= 1000 or size + job_size > _SUBMIT_BYTES or job["id"] in batch):
            yield {"op": "submit", "jobs": list(batch.values())}
            batch, size = {}, 0
        batch[job["id"]] = job
        size += job_size
    if batch:
        yield {"op": "submit", "jobs": list(batch.values())}


def _raise_error(reply: Mapping[str, Any]) -> None:
    if reply.get("op") == "error":
        raise RequestFailed.from_reply(reply)
