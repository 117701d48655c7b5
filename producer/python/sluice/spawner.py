"""Processes for handlers that burn CPU or may crash.

`Spawner` forks one helper as the first act of `Worker.run()`, while the process still has one
thread. The helper has no thread and no ZeroMQ; it forks one child per attempt, which finds the
handler in its own memory: nothing is imported again, closures work. When the worker is gone, even
by SIGKILL, the helper kills all its descendants and ends.

Requests and answers are single packets; the child's end of an attempt's socket pair travels along:
    {"op": "fork"} + fd -> {"pid": n}        {"op": "reap", "pid": n} -> {"status": wait status}
On the attempt's socket: the job goes in, reports come out, each as 4 bytes of length and msgpack.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import threading
from typing import Any, Callable, Optional

from . import wire

ChildMain = Callable[["socket.socket"], None]
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


def read_frame(sock: socket.socket) -> Optional[dict[str, Any]]:
    """None at the end of the stream."""
    head = _read(sock, 4)
    data = _read(sock, struct.unpack("!I", head)[0]) if head else None
    return wire.unpack(data) if data else None


def _read(sock: socket.socket, size: int) -> Optional[bytes]:
    data = bytearray()
    while len(data) < size:
        try:
            part = sock.recv(min(size - len(data), 1 << 16))
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
    return bytes(data)


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
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._control.close()
                let_go()
                _serve(theirs, child_main)
            finally:
                os._exit(0)
        theirs.close()

    def fork(self) -> tuple[int, socket.socket]:
        """A child that runs `child_main` and leads a process group; its pid and our socket."""
        ours, theirs = socket.socketpair()
        try:
            with self._lock:
                answer = self._ask({"op": "fork"}, theirs)
        finally:
            theirs.close()
        return int(answer["pid"]), ours

    def reap(self, pid: int) -> int:
        """Kills what is left of the child's group; its wait status. The pid is free after this."""
        with self._lock:
            return int(self._ask({"op": "reap", "pid": pid})["status"])

    def close(self) -> None:
        """Ends the helper and all its descendants."""
        self._control.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass

    def _ask(self, request: dict[str, Any], passed: Optional[socket.socket] = None) -> dict[str, Any]:
        try:
            fds = [passed.fileno()] if passed else []
            socket.send_fds(self._control, [wire.pack(request)], fds)
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


# ---------------------------------------------------------------- in the helper


def _serve(control: socket.socket, child_main: ChildMain) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the worker decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(control, 4096, 1)
        except OSError:
            data, fds = b"", []
        if not data:
            _kill_descendants()
            return
        request = wire.unpack(data)
        try:
            if request["op"] == "fork":
                if not fds:  # the kernel could not hand it to us
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                answer: dict[str, Any] = {"pid": _fork_child(fds[0], control, child_main)}
            else:
                answer = {"status": _reap(request["pid"])}
        except OSError as error:
            answer = {"error": error.strerror or str(error), "errno": error.errno or 0}
        finally:
            for fd in fds:
                os.close(fd)
        try:
            control.send(wire.pack(answer))
        except OSError:
            pass  # the worker is gone; the next read says so


def _fork_child(fd: int, control: socket.socket, child_main: ChildMain) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        try:
            os.setpgid(pid, pid)  # here as well: nobody may see the child outside its group
        except OSError:
            pass
        return pid
    code = 1
    try:
        control.close()
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            child_main(socket.socket(fileno=fd))
            code = 0
    finally:
        os._exit(code)


def _reap(pid: int) -> int:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    status = os.waitpid(pid, 0)[1]
    try:
        _reap_orphans()
    except OSError:
        pass  # no descriptor left to look with: the next one does it
    return status


def _reap_orphans() -> None:
    """Grandchildren that became ours and have ended; children of attempts are left for `reap`."""
    for pid in _children():
        try:
            info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is not None and os.getpgid(pid) != pid:
                os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass


def _children() -> list[int]:
    with open("/proc/self/task/%d/children" % os.getpid()) as file:
        return [int(word) for word in file.read().split()]


def _kill_descendants() -> None:
    """Until none is left: what a killed child leaves behind becomes ours."""
    while pids := _children():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
