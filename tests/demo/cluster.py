"""A Sluice cluster of real processes in one temporary directory: a broker with its private Redis,
worker nodes, and whatever else a demo or a test starts beside them.

Every process has a session of its own, so that Ctrl-C reaches only who started them, and is ended
by its pid and start time, never by name. `stop()` leaves nothing behind, in a later process as
well: the directory's `processes.json` is all it needs.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence

START_SECONDS = 30
COMMAND_SECONDS = 60


class CommandFailed(Exception):
    """A command that was run here ended badly."""


class NoCluster(Exception):
    """A directory holds no cluster that could be stopped; the text says so."""


class StartFailed(Exception):
    """A process did not come up; the text says which, and what it said last."""


def start_ticks(pid: int) -> Optional[int]:
    """When a process began: with its pid, its identity. None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Process:
    name: str
    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        return start_ticks(self.pid) == self.started

    def send(self, number: int) -> None:
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def wait(self, seconds: float) -> bool:
        """Until it has ended; also for processes that are not our children."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            return not self.is_alive or bool(poller.poll(seconds * 1000))
        finally:
            os.close(handle)

    def end(self, seconds: float, number: int = signal.SIGTERM) -> None:
        """Asks, waits, and ends it."""
        self.send(number)
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(10)


def output_of(command: Sequence[object], env: Optional[Mapping[str, str]] = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, text=True, capture_output=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise CommandFailed(f"{' '.join(words)}\nended with {done.returncode}: {said}")
    return done.stdout


class Cluster:
    """`binaries` is where sluice-broker, sluice-worker and sluice stand."""

    def __init__(self, binaries: Path, directory: Optional[Path] = None) -> None:
        self.binaries = binaries
        self.directory = directory or Path(tempfile.mkdtemp(prefix="sluice-demo-"))
        self.processes: dict[str, Process] = {}
        self.producers = self.workers = self.events = ""
        self._children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def of_directory(cls, directory: Path) -> "Cluster":
        """The cluster that another process left running there. NoCluster when it is no such
        directory: what is stopped is removed, so nothing is taken for one lightly."""
        cluster = cls(directory, directory)
        try:
            for item in json.loads((directory / "processes.json").read_text()):
                cluster.processes[item["name"]] = Process(**item)
        except FileNotFoundError:
            is_there = "has no processes.json" if directory.is_dir() else "is not there"
            raise NoCluster(
                f"{directory} {is_there}: that cluster was stopped already, or it never was one"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise NoCluster(f"{directory} holds no cluster of the demo: {error!r}") from None
        if "broker" not in cluster.processes:
            raise NoCluster(f"{directory} holds no cluster of the demo: it has no broker")
        return cluster

    @property
    def is_alive(self) -> bool:
        return any(process.is_alive for process in self.processes.values())

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def redis_socket(self) -> Optional[Path]:
        """Of the broker's private Redis, by the broker's word."""
        log = self.directory / "broker.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        found = re.findall(r"redis_started .*?socket=(\S+)", text)
        return Path(found[-1]) if found else None

    # ------------------------------------------------------------ starting

    def start(
        self,
        name: str,
        command: Sequence[object],
        ready: str = "",
        env: Optional[Mapping[str, str]] = None,
    ) -> "re.Match[str]":
        """Starts a process, its output in NAME.log, and waits for a line that matches `ready`."""
        log = self.directory / f"{name}.log"
        begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self._children.append(child)
        self.processes[name] = Process(name, child.pid, start_ticks(child.pid) or 0)
        text = json.dumps([asdict(process) for process in self.processes.values()])
        (self.directory / "processes.json").write_text(text)
        return self._wait_for(name, child, log, begin, ready)

    def _wait_for(
        self, name: str, child: "subprocess.Popen[bytes]", log: Path, begin: int, ready: str
    ) -> "re.Match[str]":
        deadline = time.monotonic() + START_SECONDS
        while True:
            ended = child.poll()
            with log.open("rb") as file:
                file.seek(begin)
                text = file.read().decode(errors="replace")
            found = re.search(ready, text)
            if found and ended is None:
                return found
            if ended is not None or time.monotonic() > deadline:
                why = f"ended with {ended}" if ended is not None else "does not come up"
                raise StartFailed(f"{name} {why}; it said:\n{text[-2000:]}")
            time.sleep(0.01)

    def start_broker(self, *options: object) -> None:
        """On free ports, with its private Redis in `data`."""
        any_port = "tcp://127.0.0.1:*"
        command = [self.binaries / "sluice-broker", "--data", self.data, "--producers", any_port]
        command += ["--workers", any_port, "--events", any_port, *options]
        ready = r"ready .*?producers=(\S+) workers=(\S+) events=(\S+)"
        found = self.start("broker", command, ready)
        self.producers, self.workers, self.events = found.groups()

    def start_worker(self, name: str, limit: int, config: Path) -> None:
        """A node that knows its predecessor: started again under its name, it replaces it."""
        command = [self.binaries / "sluice-worker", "--broker", self.workers, "--name", name]
        command += ["--concurrency", limit, "--config", config, "--drain-grace", "2s"]
        command += ["--state-dir", self.directory / f"{name}.state"]
        self.start(name, command, r" broker_welcomed ")

    # ------------------------------------------------------------ asking

    def sluice(self, *arguments: object) -> str:
        """The output of the `sluice` command."""
        env = {**os.environ, "SLUICE_BROKER": self.producers}
        return output_of([self.binaries / "sluice", *arguments], env)

    def redis_cli(self, *arguments: str) -> str:
        return output_of(["redis-cli", "-s", self.redis_socket, *arguments])

    # ------------------------------------------------------------ ending

    def kill(self, name: str) -> Process:
        """SIGKILL; returns who that was."""
        process = self.processes[name]
        process.send(signal.SIGKILL)
        process.wait(10)
        return process

    def stop(self) -> None:
        """Nodes first, the broker (and by it Redis) last; then the directory."""
        broker = self.processes.pop("broker", None)
        for process in self.processes.values():
            process.send(signal.SIGTERM)
        for process in self.processes.values():
            process.end(5, 0)
        if broker:
            broker.end(10)
        redis = self.redis_socket
        if redis and redis.exists():  # the broker was killed before it could stop its Redis
            command = ["redis-cli", "-s", str(redis), "SHUTDOWN", "NOSAVE"]
            subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False)
        for child in self._children:  # one that an interrupt kept out of `processes` as well
            child.kill()
            child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
