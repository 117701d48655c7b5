"""Docker or podman, whichever this machine has: a project of containers under a name of its own, and its end.

Docker is taken where its daemon answers and it has `docker compose`; else podman, which
../shared/tools/containers.sh sets up (or the script that SLUICE_CONTAINERS_SETUP names)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


def answers(*words):
    try:
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=PATIENCE).returncode == 0
    except OSError:
        return False


def skip(reason):
    print(f"SKIP: {reason}", flush=True)
    sys.exit(77)


def choose():
    """(engine, words of its compose); ends the program with 77 where there is none."""
    if answers("docker", "info") and answers("docker", "compose", "version"):
        return "docker", ["docker", "compose"]
    setup = Path(os.environ.get("SLUICE_CONTAINERS_SETUP",
                                ROOT.parent / "shared" / "tools" / "containers.sh"))
    if not setup.exists():
        skip("no docker compose here, and no ../shared/tools/containers.sh that sets up podman")
    if os.geteuid() != 0:
        skip("podman is set up and run as root, and this is not root")
    if subprocess.run(["bash", setup]).returncode != 0:
        skip(f"{setup.name} could not set up podman here; what it says stands above")
    return "podman", ["podman-compose"]


class Deadline:
    """Ends a process and what it started, when it takes too long or its reader was broken off."""

    def __init__(self, process, seconds):
        self._process = process
        self._timer = threading.Timer(seconds, self._end)

    def _end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self):
        self._timer.start()

    def __exit__(self, kind, *_):
        self._timer.cancel()
        if kind:
            self._end()


class Project:
    """The containers of compose/docker-compose.yml, under a name and on ports of their own."""

    def __init__(self, engine, compose, environment):
        self.engine = engine
        self.name = f"sluice-test-{os.getpid()}"
        self._compose = " ".join([*compose, "-p", self.name])
        self.environment = {**os.environ, **environment}
        self._label = f"label=com.docker.compose.project={self.name}"

    # ---- running things

    def run(self, *words, given=None, patience=PATIENCE):
        """Its output; a failure shows what it said."""
        done = subprocess.run([str(word) for word in words], cwd=ROOT, env=self.environment,
                              input=given, stdin=None if given is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=patience)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}\n"
                                 f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def shell(self, text, folder=ROOT / "compose", patience=PATIENCE):
        """A block of README.md, whose cluster is this project; its output, which is shown, too: a build takes
        minutes."""
        text = text.replace("docker compose", self._compose)
        said = []
        process = subprocess.Popen(["bash", "-euc", text], cwd=folder, env=self.environment, text=True,
                                   start_new_session=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process, Deadline(process, patience):
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
        assert process.returncode == 0, f"exit {process.returncode} of:\n{text}"
        return "".join(said)

    # ---- looking

    def inspect(self, container):
        return json.loads(self.run(self.engine, "inspect", container))[0]

    def containers(self, service):
        """Their ids, those that do not run included, the oldest first."""
        found = self.run(self.engine, "ps", "-a", "--no-trunc", "--filter", self._label, "--filter",
                         f"label=com.docker.compose.service={service}", "--format", "{{.ID}}").split()
        return sorted(found, key=lambda each: self.inspect(each)["Created"])

    def container(self, service):
        return self.containers(service)[0]

    def exec(self, service, *words):
        return self.run(self.engine, "exec", self.container(service), *words)

    def network(self, container):
        """(name, address) of the network that a container is in."""
        networks = self.inspect(container)["NetworkSettings"]["Networks"]
        return next((name, each["IPAddress"]) for name, each in networks.items())

    def is_healthy(self, container):
        """What the file's own check says. Without systemd nobody runs podman's on a timer."""
        if self.engine == "podman":
            return answers("podman", "healthcheck", "run", container)
        return self.inspect(container)["State"]["Health"]["Status"] == "healthy"

    def logs(self):
        for service in ("redis", "broker", "worker"):
            for container in self.containers(service):
                said = subprocess.run([self.engine, "logs", "--tail", "40", container], text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
                lines = [line for line in said.splitlines() if " config " not in line]
                print(f"--- {service} {container[:12]}", *lines, sep="\n", flush=True)

    # ---- ending

    def _left(self):
        """(kind, name) of everything of the project, in the order in which it can be removed."""
        looks = {"container": ("ps", "-a", "-q"), "pod": ("pod", "ls", "-q"),
                 "volume": ("volume", "ls", "-q"), "network": ("network", "ls", "-q")}
        if self.engine == "docker":
            del looks["pod"]
        return [(kind, name) for kind, look in looks.items()
                for name in self.run(self.engine, *look, "--filter", self._label).split()]

    def remove(self):
        """Everything that carries the project's name, in whatever state; the images stay as a cache. Again while
        something is left: podman refuses a container that its restart policy is just starting."""
        limit = time.monotonic() + PATIENCE
        while left := self._left():
            assert time.monotonic() < limit, f"left behind: {left}"
            for kind, name in left:
                force = ["-f"] if kind != "network" else []
                subprocess.run([self.engine, kind, "rm", *force, name], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=PATIENCE)
