"""A broker of a few lines that a test plays by hand. No timing anywhere: a test waits for messages,
and the long time-outs only end a test that hangs."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import msgpack
import pytest
import zmq

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "tests" / "python" / "worker_tasks.py"
sys.path.insert(0, str(ROOT / "producer" / "python"))

PATIENCE_MS = 60_000


class ScriptedBroker:
    """A ROUTER: `take` waits for the next message with an op, `say` answers its sender."""

    def __init__(self, context: "zmq.Context[Any]", address: str = "") -> None:
        self._context = context
        self.n = 0
        self.epoch = 7
        self.peer = b""
        self.status: dict[str, Any] = {}
        self._open(address)

    def _open(self, address: str) -> None:
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if address:
            self._socket.bind(address)
            self.address = address
        else:
            port = self._socket.bind_to_random_port("tcp://127.0.0.1")
            self.address = f"tcp://127.0.0.1:{port}"

    def restart(self) -> None:
        """Gone and back at the same place with a new epoch, remembering nothing."""
        self.close()
        self.epoch += 1
        self.n = 0
        self._open(self.address)

    def close(self) -> None:
        # close() alone returns before the port is free.
        monitor = self._socket.get_monitor_socket(zmq.EVENT_CLOSED)
        self._socket.unbind(self.address)
        if monitor.poll(PATIENCE_MS):
            monitor.recv_multipart()
        self._socket.disable_monitor()
        monitor.close(0)
        self._socket.close(0)

    def take(self, *ops: str) -> dict[str, Any]:
        """The next message, or the next one with such an op (others are left out)."""
        give_up = time.monotonic() + PATIENCE_MS / 1000
        while True:
            left_ms = max(0, round((give_up - time.monotonic()) * 1000))
            assert self._socket.poll(left_ms), f"no {ops} came"  # heartbeats may go on coming
            self.peer, frame = self._socket.recv_multipart()
            message = msgpack.unpackb(frame)
            if not ops or message["op"] in ops:
                return message

    def say(self, message: dict[str, Any]) -> None:
        self._socket.send_multipart([self.peer, msgpack.packb(message)])

    def answer(self, request: dict[str, Any], op: str, **fields: Any) -> None:
        self.say({"op": op, "req": request["req"], **fields})

    def order(self, op: str, **fields: Any) -> None:
        """A numbered message to a worker."""
        self.n += 1
        self.say({"op": op, "epoch": self.epoch, "n": self.n, **fields})

    def welcome(self, heartbeat_ms: int = 3_000) -> dict[str, Any]:
        """Takes a worker's first two statuses; the second one."""
        self.take("status")
        self.order("welcome", heartbeat_ms=heartbeat_ms)
        return self.take("status")

    def record(self, progress: dict[str, Any], **fields: Any) -> None:
        """Acknowledges its checkpoint."""
        key = {field: progress[field] for field in ("id", "epoch", "attempt", "checkpoint_n")}
        self.order("ack", results=[{**key, **fields}])

    def job(self, id: str, task: str, payload: Any = None, **fields: Any) -> dict[str, Any]:
        job = {"id": id, "epoch": self.epoch, "attempt": 1, "task": task, "timeout_ms": 0}
        return {**job, "payload": msgpack.packb(payload), **fields}

    def ref(self, id: str, **fields: Any) -> dict[str, Any]:
        return {"id": id, "epoch": self.epoch, "attempt": 1, **fields}


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    context: "zmq.Context[Any]" = zmq.Context()
    scripted = ScriptedBroker(context)
    yield scripted
    context.destroy(0)


@pytest.fixture
def client(broker):
    import sluice  # found by now

    with sluice.connect(broker.address, timeout=60) as made:
        yield made


def start_worker(broker, *arguments, state_dir="", **options):
    flags = [] if sys.pycache_prefix else ["-B"]  # nothing is left beside the sources
    command = [sys.executable, *flags, str(TASKS), broker.address, *arguments]
    environment = {**os.environ, "SLUICE_STATE_DIR": str(state_dir)}
    return subprocess.Popen(command, env=environment, **options)


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.fixture
def start(broker):
    started = []

    def start(*arguments, **options):
        started.append(start_worker(broker, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        end(process)


@pytest.fixture(scope="module")
def long_lived() -> Iterator[ScriptedBroker]:
    """A start of a worker takes a quarter of a second of CPU: what leaves it idle shares one."""
    context: "zmq.Context[Any]" = zmq.Context()
    scripted = ScriptedBroker(context)
    process = start_worker(scripted)
    yield scripted
    end(process)
    context.destroy(0)


@pytest.fixture
def shared_broker(long_lived) -> ScriptedBroker:
    """Of the shared worker, which holds nothing; its last status is `status`."""
    long_lived.restart()
    long_lived.status = long_lived.welcome()
    while held := long_lived.status["held"]:
        long_lived.order("drop", attempts=[{k: h[k] for k in ("id", "epoch", "attempt")} for h in held])
        long_lived.order("welcome", heartbeat_ms=20)
        long_lived.status = long_lived.take("status")
    return long_lived


@pytest.fixture
def in_background() -> Iterator[Callable[..., Any]]:
    """Runs a call on a thread of its own; `.result()` joins it."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(4)
    yield pool.submit
    pool.shutdown(wait=True)


def wait_gone(pid):
    """Waits for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([fd], [], [], 60)
    os.close(fd)
    assert ready, f"process {pid} is still there"


def run_one(broker, id, task, payload=None, **fields):
    broker.order("run", jobs=[broker.job(id, task, payload, **fields)])
    (result,) = broker.take("result")["results"]
    broker.order("ack", results=[broker.ref(id, attempt=result["attempt"])])
    return result


def pids(broker):
    return [int(word) for word in broker.take("progress")["message"].split()]


def line_with(process, words):
    """The next line of its stderr that holds them."""
    too_late = threading.Timer(60, process.kill)
    too_late.start()
    try:
        for line in process.stderr:
            if words in line:
                return line
    finally:
        too_late.cancel()
    raise AssertionError(f"it said nothing of {words}")
