"""The worker of the tests, as a process: `worker_tasks.py ADDRESS [grace]`; SLUICE_STATE_DIR."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "producer" / "python"))
import sluice  # noqa: E402

worker = sluice.Worker(
    "py", concurrency=4, broker=sys.argv[1], drain_grace=float((sys.argv + ["25"])[2])
)


@worker.task("shout")
def shout(task):
    return task.payload.upper()


@worker.task("never")
def never(task):
    raise sluice.Never("no_such_thing", "do not try again")


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Blind(sluice.Never):
    def __init__(self):
        pass

    @property
    def code(self):
        raise RuntimeError("no code")


ODD = {
    "number": lambda: sluice.Never(404, ("not", "found")),
    "later-number": lambda: sluice.RetryAfter(2, 7, code=503),
    "text": lambda: sluice.RetryAfter("5"),
    "nan": lambda: sluice.RetryAfter(float("nan")),
    "inf": lambda: sluice.RetryAfter(float("inf")),
    "speechless": Speechless,
    "speechless-never": lambda: sluice.Never(Speechless(), Speechless()),
    "blind": Blind,
    "surrogate": lambda: ValueError("\udcff"),
}


@worker.task("odd")
@worker.task("odd-process", processes=True)
def odd(task):
    raise ODD[task.payload]()


@worker.task("break")
def break_the_loop(task):
    """A bug of the package's own, as a stand-in for all of them."""
    def settle(self, now):
        raise ZeroDivisionError("the loop's own")

    sluice.core.WorkerCore.settle = settle
    task.progress(1, "breaking")
    threading.Event().wait()


@worker.task("logger")
@worker.task("logger-process", processes=True)
def logger(task):
    task.log("one")
    task.log(b"two\xff\n")
    task.log(3)


@worker.task("printer", processes=True)
def printer(task):
    print("a line")
    subprocess.run(["sh", "-c", "echo of a program >&2"], check=True)
    if task.payload == "crash":
        os.abort()
    print("no newline", end="")


@worker.task("chatter")
@worker.task("chatter-process", processes=True)
def chatter(task):
    """Reports as fast as it can, a checkpoint only once."""
    text = "\N{SNOWMAN}" * 100_000
    task.progress(0, "", checkpoint="kept")
    while not task.stop_requested:
        task.progress(1, text)


@worker.task("save")
@worker.task("save-process", processes=True)
def save(task):
    return [task.progress(0, checkpoint=step) for step in (1, 2)]


@worker.task("later")
def later(task):
    raise sluice.RetryAfter(1.5)


@worker.task("raise")
def fail(task):
    raise KeyError("x")


@worker.task("exit")
def leave(task):
    sys.exit(3)


@worker.task("wait")
def wait(task):
    task.progress(1, "waiting")
    task.wait_for_stop()
    return "stopped"


@worker.task("ignore")
def ignore(task):
    task.progress(1, "ignoring")
    threading.Event().wait()


@worker.task("wait-process", processes=True)
def wait_process(task):
    task.progress(1, str(os.getpid()))
    task.wait_for_stop()


@worker.task("burn", processes=True, kill_grace=0.1)
def burn(task):
    """Holds its GIL in one C call that no signal interrupts."""
    child = subprocess.Popen(["sleep", "1000"])
    task.progress(1, f"{os.getpid()} {child.pid}")
    return sum(range(10**15))


@worker.task("orphan", processes=True)
def orphan(task):
    """Starts a program that escapes: a session of its own, nobody waits for it."""
    child = subprocess.Popen(["setsid", "sleep", "1000"], start_new_session=True)
    task.progress(1, f"{os.getppid()} {child.pid}")
    task.wait_for_stop()


def leave_behind(is_far: bool) -> int:
    """A child that holds all that we hold, and stays; its pid, when it is where it should be."""
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if is_far:
            os.setsid()
        os.write(ready_w, b"x")
        while True:
            signal.pause()
    os.read(ready_r, 1)
    return pid


ENDS = {
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "nameless": lambda: os.kill(os.getpid(), 35),
    "kill": lambda: os.kill(os.getpid(), 9),
    "exit": lambda: os._exit(7),
    "exit-in-a-frame": lambda: (os.write(sockets()[0], b"\0\0\0\x09half"), os._exit(7)),
    "raise": lambda: sys.exit("no"),
    "return": lambda: "done",
}


def sockets():
    """The connection to the node: the only socket of a handler's process but its wakeup pair."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_stream(fd)]


def is_stream(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.type == socket.SOCK_STREAM and sock.getblocking()
    except OSError:
        return False


@worker.task("leave-child", processes=True)
def leave_child(task):
    """Ends as it is told, and a child of its own lives on: near, or in a session of its own."""
    end, is_far = task.payload
    task.progress(1, str(leave_behind(is_far)))
    return ENDS[end]()


def spend():
    """100 ms of CPU time and 128 MiB."""
    kept = b"x" * (128 << 20)
    while time.process_time() < 0.1:
        pass
    return len(kept)


@worker.task("spend", processes=True)
def spend_and_end(task):
    """Spends by itself or in a child that it waits for, and ends as it is told."""
    end, is_in_child = task.payload
    pid = os.fork() if is_in_child else 0
    if pid == 0:
        spend()
    if pid == 0 and is_in_child:
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)
    return ENDS[end]()


@worker.task("spend-on", processes=True, kill_grace=0.1)
def spend_on(task):
    """Heeds no stop."""
    task.progress(1, str(spend()))
    threading.Event().wait()


@worker.task("daemon", processes=True)
def daemon(task):
    """Waits beside a process that nobody's child is: its parent has ended."""
    r, w = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.write(w, str(leave_behind(True)).encode())
        os._exit(0)
    os.waitpid(parent, 0)
    task.progress(1, os.read(r, 100).decode())
    task.wait_for_stop()


@worker.task("both", processes=True)
def both(task):
    """A fork that goes the whole way, like its parent."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


@worker.task("move-away", processes=True, kill_grace=0.1)
def move_away(task):
    os.setpgid(0, os.getpgid(os.getppid()))
    task.progress(1, str(os.getpid()))
    return sum(range(10**15))


@worker.task("close", processes=True)
def close(task):
    os.closerange(3, 1024)
    if task.payload == "stay":
        threading.Event().wait()
    if task.payload == "exit":
        os._exit(7)


PERCENTS = {
    "huge": 10**30, "low": -(10**30), "inf": float("inf"), "text": "50", "odd": object(),
    "nan": float("nan"), "surrogate": 7, "checkpoint": 7,
}  # fmt: skip


@worker.task("percent")
@worker.task("percent-process", processes=True)
def percent(task):
    checkpoint = object() if task.payload == "checkpoint" else None
    task.progress(PERCENTS[task.payload], "\udcff", checkpoint)


@worker.task("resume", processes=True)
def resume(task):
    if task.checkpoint is None:
        task.progress(50, "half", checkpoint={"done": 50})
        os.kill(os.getpid(), 9)
    return [task.id, task.fence, str(task.fence), task.checkpoint["done"], task.headers]


@worker.task("gate")
def gate(task):
    go, done = task.payload
    task.progress(1, "at the gate")
    Path(go).read_text()
    Path(done).write_text("done")
    return "went"


if __name__ == "__main__":
    try:
        sys.exit(worker.run())
    except sluice.CannotStart as error:
        sys.exit(str(error))
