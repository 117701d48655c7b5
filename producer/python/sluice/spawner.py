"""Processes for handlers that burn CPU or may crash.

`Spawner` forks one helper as the first act of `Worker.run()`, while the process still has one
thread. The helper has no thread and no ZeroMQ; it forks one child per attempt, which finds the
handler in its own memory: nothing is imported again, closures work. When the worker is gone, even
by SIGKILL, the helper kills all its descendants and ends.

An attempt ends with the process of its handler, whatever that one left running: the worker watches
the process (a pidfd), not the socket, which its descendants may hold. What is left goes with it.
Each child is a subreaper: as long as it lives, all below it stays below it, whatever session it
makes for itself; then it falls to the helper. So what the helper finds among its children and did
not fork itself belongs to an attempt that is over, and is killed. (A keeper between helper and
child, as sluice-worker has one, would do the same for one more fork of Python for every attempt.)

Requests and answers are single packets; the child's ends of an attempt's socket pair and of a pipe travel along:
    {"op": "fork"} + fds -> {"pid": n}       {"op": "reap", "pid": n} -> an End
On the attempt's socket: the job goes in, reports come out, each as 4 bytes of length and msgpack. The pipe is the
child's standard output and error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import os
import select
import signal
import socket
import struct
import sys
import threading
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional, Sequence

from . import wire

ChildMain = Callable[["socket.socket"], None]
_TAIL_BYTES = 3800  # of what it printed last, for the error's text
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


SHORTAGES = (
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EAGAIN,
    errno.ETOOMANYREFS,
)  # fmt: skip


def is_shortage(error: BaseException) -> bool:
    """The node is short of something; its jobs are not to blame."""
    if isinstance(error, OSError):
        return error.errno in SHORTAGES
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


class SpawnerGone(RuntimeError):
    """The helper process has died: no attempt can be started any more."""


def write_frame(sock: socket.socket, message: dict[str, Any]) -> None:
    data = wire.pack(message)
    sock.sendall(struct.pack("!I", len(data)) + data)


def read_frame(receive: Callable[[int], bytes]) -> Optional[dict[str, Any]]:
    """None at the end of the stream. `receive` is that of a socket."""
    head = _read(receive, 4)
    data = _read(receive, struct.unpack("!I", head)[0]) if head else None
    return wire.unpack(data) if data else None


def _read(receive: Callable[[int], bytes], size: int) -> Optional[bytes]:
    data = bytearray()
    while len(data) < size:
        try:
            part = receive(min(size - len(data), 1 << 16))
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
    return bytes(data)


def flush_output() -> None:
    """What was printed and not yet written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # there is none, or it is closed
            stream.flush()


class End(NamedTuple):
    """Of a child: its wait status, and what it and the children that it waited for have used."""

    status: int
    cpu_ms: int
    rss_bytes_max: int


class Child:
    """The process of an attempt, as the worker's side sees it. One thread uses it, but for write(),
    which any may call."""

    def __init__(self, pid: int, sock: socket.socket, output: io.FileIO) -> None:
        self.pid = pid
        self.on_output: Callable[[bytes], None] = lambda data: None
        self.tail = b""  # what it printed last
        self._sock = sock
        self._output = output
        os.set_blocking(output.fileno(), False)
        self._end = os.pidfd_open(pid)  # readable when the process has ended
        self._poll = select.poll()
        self._poll.register(self._end, select.POLLIN)
        self._poll.register(sock, select.POLLIN)
        self._poll.register(output, select.POLLIN)

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        os.close(self._end)
        self._sock.close()
        self._output.close()

    def write(self, message: dict[str, Any]) -> None:
        """One that died at once hears nothing: its exit status says how it died."""
        try:
            write_frame(self._sock, message)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def read(self) -> Optional[dict[str, Any]]:
        """None when the process has ended, or has closed the connection."""
        return read_frame(self._receive)

    def has_ended(self, within: float) -> bool:
        """Waits for it so many seconds."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def read_output(self) -> bool:
        """Passes on a part of what it has printed. False when that was all, for now."""
        data = self._output.read(1 << 16)
        if data:
            self.tail = (self.tail + data)[-_TAIL_BYTES:]
            self.on_output(data)
        elif data is not None:  # nobody has it any more
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._output)
        return bool(data)

    def _receive(self, size: int) -> bytes:
        while True:
            ready = dict(self._poll.poll())
            if self._output.fileno() in ready:
                self.read_output()
            if self._end in ready:
                # What it said can still be read; descendants that hold the socket say no more.
                self._sock.shutdown(socket.SHUT_RD)
            if self._end in ready or self._sock.fileno() in ready:
                return self._sock.recv(size)


class Spawner:
    """The worker's side; may be used by any thread. `let_go` is called in the helper, to close what
    it must not hold."""

    def __init__(self, child_main: ChildMain, let_go: Callable[[], None] = lambda: None) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError(
                "a worker with processes=True must start its helper before the process has a "
                "second thread: call run() before you make threads, clients or ZeroMQ contexts"
            )
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flush_output()  # nobody writes that again
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._control.close()
                let_go()
                _serve(theirs, child_main)
            finally:
                os._exit(0)
        theirs.close()

    def fork(self) -> Child:
        """A child that runs `child_main` and leads a process group. Its pid is its own until
        `reap`."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            sock, far_sock = socket.socketpair()
            ours.enter_context(sock)
            theirs.enter_context(far_sock)
            output, far_output = os.pipe()
            output_file = ours.enter_context(io.FileIO(output))
            theirs.callback(os.close, far_output)
            with self._lock:
                answer = self._ask({"op": "fork"}, [far_sock.fileno(), far_output])
            try:
                child = Child(answer["pid"], sock, output_file)
            except OSError:
                self.reap(answer["pid"])
                raise
            ours.pop_all()  # the child's from now on
        return child

    def reap(self, pid: int) -> End:
        """Kills the child and all its descendants. None of them is left after this, and the pid is
        free."""
        with self._lock:
            return End(**self._ask({"op": "reap", "pid": pid}))

    def close(self) -> None:
        """Ends the helper and all its descendants."""
        self._control.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass

    def _ask(self, request: dict[str, Any], passed: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._control, [wire.pack(request)], passed)
        except OSError as error:
            if passed and is_shortage(error):  # nothing was sent, nothing was started
                raise
            raise SpawnerGone(str(error)) from error
        try:
            answer = self._control.recv(4096)
        except OSError as error:
            raise SpawnerGone(str(error)) from error
        if not answer:
            raise SpawnerGone("the helper process has ended")
        reply = wire.unpack(answer)
        if "error" in reply:
            raise OSError(reply["errno"], reply["error"])
        return reply


def kill_all(pid: int) -> None:
    """A child and its process group. It may have left that for another."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


# ---------------------------------------------------------------- in the helper


def _serve(control: socket.socket, child_main: ChildMain) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the worker decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored ones cannot be waited for
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    family = _Family()
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(control, 4096, 2)
        except OSError:
            data, fds = b"", []
        if not data:
            family.end()
            return
        request = wire.unpack(data)
        try:
            if request["op"] == "fork":
                if len(fds) < 2:  # the kernel could not hand them to us
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                answer: dict[str, Any] = {"pid": family.fork(fds, control, child_main)}
            else:
                answer = family.reap(request["pid"])._asdict()
        except OSError as error:
            answer = {"error": error.strerror or str(error), "errno": error.errno or 0}
        finally:
            for fd in fds:
                os.close(fd)
        try:
            control.send(wire.pack(answer))
        except OSError:
            pass  # the worker is gone; the next read says so


def _print_to(pipe: int) -> None:
    """Line by line: a crash takes what stands in a buffer with it."""
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


class _Family:
    """The helper's children: those of attempts, and strangers, which attempts left behind."""

    def __init__(self) -> None:
        # Opened once: to end an attempt takes no descriptor, and so cannot fail for want of one.
        self._children_fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        self._attempts: set[int] = set()
        self._not_ours: set[int] = set()  # another user's (sudo); the kernel protects them from us

    def fork(self, fds: list[int], control: socket.socket, child_main: ChildMain) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._attempts.add(pid)
            try:
                os.setpgid(pid, pid)  # here as well: nobody may see the child outside its group
            except OSError:
                pass
            return pid
        code = 1
        try:
            control.close()
            os.close(self._children_fd)
            os.setpgid(0, 0)
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            if os.getppid() == parent:
                sock = socket.socket(fileno=fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, 3))
                _print_to(fds[1])
                for fd in fds:
                    if fd > 2:
                        os.close(fd)
                child_main(sock)
                code = 0
        finally:
            os._exit(code)

    def reap(self, pid: int) -> End:
        kill_all(pid)
        _, status, used = os.wait4(pid, 0)
        self._attempts.discard(pid)
        self._end_strangers()
        return End(status, round((used.ru_utime + used.ru_stime) * 1000), used.ru_maxrss * 1024)

    def end(self) -> None:
        for pid in self._attempts:
            kill_all(pid)
        self._attempts.clear()
        self._end_strangers()

    def _end_strangers(self) -> None:
        """Until none is left: what a killed process leaves behind becomes ours."""
        self._not_ours -= {pid for pid in self._not_ours if os.waitpid(pid, os.WNOHANG)[0]}
        while pids := self._children() - self._attempts - self._not_ours:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except PermissionError:
                    self._not_ours.add(pid)
            for pid in pids - self._not_ours:
                os.waitpid(pid, 0)

    def _children(self) -> set[int]:
        os.lseek(self._children_fd, 0, os.SEEK_SET)
        data = b""
        while part := os.read(self._children_fd, 1 << 16):
            data += part
        return {int(word) for word in data.split()}
