"""Which life of a node this is: the one before it, remembered in a state directory.

The directory holds one file, `life`: the node id of the newest life, and the lock of the process
that lives it. sluice-worker writes the same file, so either may follow the other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import time
from types import TracebackType
from typing import Optional

from . import settings
from .errors import CannotStart

log = logging.getLogger("sluice")
MARK = "SLUICE_NODE"  # in the environment of everything that a node starts


class Life:
    """Holds the directory's lock until the end of the `with` block.

    `replaces` is the node id of the life before: we hold its lock, so it is dead. Empty without a
    directory. What that life left running is killed first. Raises CannotStart, with a sentence.
    """

    def __init__(self, node: str, state_dir: Optional[str]) -> None:
        self.node = node
        self.replaces = ""
        self._fd = -1
        self._mark_before = os.environ.get(MARK)
        if state_dir:
            self._begin(state_dir)
        os.environ[MARK] = node  # for whatever is started from now on

    def __enter__(self) -> "Life":
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._mark_before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = self._mark_before
        self.let_go()

    def let_go(self) -> None:
        """In a forked helper as well: the lock must end with the worker, not with its last child."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, state_dir: str) -> None:
        path = os.path.join(state_dir, "life")
        try:
            os.makedirs(state_dir, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                before = self._first_line()
                self.let_go()
                raise CannotStart(
                    f"the state directory {state_dir} belongs to a worker that is running: {before}"
                ) from None
            # Only now: one that ends between a look and the lock may have followed the life seen.
            before = self._first_line()
            if before and not settings.is_node_id(before):
                self.let_go()
                raise CannotStart(
                    f"{path} holds no node id: is {state_dir} a worker's state directory? If so, "
                    "remove the file and start again"
                )
            if before:
                sweep(before)
            line = f"{self.node}\n".encode()
            # Over what is there: on a full disk the file still names the life before.
            if os.pwrite(self._fd, line, 0) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with contextlib.suppress(OSError):  # the first line is what counts
                os.ftruncate(self._fd, len(line))
        except OSError as error:
            self.let_go()
            raise CannotStart(f"cannot use the state directory {state_dir}: {error}") from error
        self.replaces = before

    def _first_line(self) -> str:
        return os.pread(self._fd, 4096, 0).decode("ascii", "replace").split("\n")[0]


def sweep(node: str) -> int:
    """Kills every process whose environment says that `node` started it, until none is left or
    two seconds have passed; how many. They are left when node and spawner were both killed."""
    total = 0
    give_up = time.monotonic() + 2
    # A process may have forked while we looked: again until nobody is left.
    while (killed := _kill_marked(f"{MARK}={node}".encode())) and time.monotonic() < give_up:
        total += killed
        time.sleep(0.005)
    if total:
        log.warning("leftovers_killed node=%s processes=%d", node, total)
    return total


def _kill_marked(mark: bytes) -> int:
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
                    killed += 1
        except (OSError, ProcessLookupError):
            pass  # gone meanwhile, or another user's
    return killed
