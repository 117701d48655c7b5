"""Real processes for the stories: a broker with its Redis, workers, an external redis-server.

Readiness comes from the protocol or from a line of a log, never from a pause; the long time-outs
only end a test that hangs. A Cluster ends what it started, by pid, and says so when something of
it is left. SLUICE_BIN is the folder of the programs."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
from pathlib import Path

import msgpack
import zmq

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SLUICE_BIN", ROOT / "build" / "dev" / "bin"))
PYTHON_NODE = Path(__file__).with_name("python_node.py")
IS_PYTHON = os.environ.get("SLUICE_E2E_NODE") == "python"  # which worker the stories are told of
PATIENCE = 60.0
FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')
PREFIX = "sluice:{p0}:"


def until(what, why="it did not become true", patience=PATIENCE):
    """Asks again until the answer is true, and lets others run in between."""
    limit = time.monotonic() + patience
    while not (value := what()):
        if time.monotonic() > limit:
            raise AssertionError(why)
        time.sleep(0.005)
    return value


def free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_running(pid):
    """False for a zombie as well: that is for its parent to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def below(pid):
    """The descendants of a process, by pid: their names. One that ends meanwhile is left out."""
    found = {}
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
            found.update(below(int(child)))
    except OSError:
        pass
    return found


class Process:
    """A program whose log (stderr) is read by a thread, so that a test can wait for a line."""

    def __init__(self, arguments, **environment):
        self.arguments = [str(word) for word in arguments]
        self.lines = []
        self._has_more = threading.Condition()  # guards lines, is_over
        self._is_over = False
        self._popen = subprocess.Popen(
            self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={**clean_environment(), **environment})
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._popen.stderr:
            with self._has_more:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._has_more.notify_all()
        with self._has_more:
            self._is_over = True
            self._has_more.notify_all()

    def line(self, text, begin=0):
        """The first line from number `begin` on that holds `text`; waits for it."""
        limit = time.monotonic() + PATIENCE
        with self._has_more:
            at = begin
            while True:
                for at in range(at, len(self.lines)):
                    if text in self.lines[at]:
                        return self.lines[at]
                at = len(self.lines)
                if self._is_over or not self._has_more.wait(limit - time.monotonic()):
                    raise AssertionError(f"no line with {text!r}; the log:\n" + self.log())

    def log(self):
        return "\n".join([line for line in self.lines if " config " not in line][-60:])

    def signal(self, number):
        self._popen.send_signal(number)

    def is_alive(self):
        return self._popen.poll() is None

    def exit_code(self):
        """Waits for its end; negative = the signal that ended it."""
        try:
            code = self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments[0]} does not end; the log:\n{self.log()}")
        self._reader.join(PATIENCE)
        return code

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.exit_code()

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.exit_code()

    def end(self):
        """For the clean-up: whatever state it is in."""
        if self.is_alive():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(10)
        if self.is_alive():
            self.signal(signal.SIGKILL)
        self._popen.wait()
        self._reader.join(10)
        self._popen.stderr.close()


def clean_environment():
    """Ours without the settings of a developer's own cluster."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SLUICE_")}


def fields(line):
    """The key=value pairs of a log line."""
    return {key: value.strip('"') for key, value in FIELD.findall(line)}


class Client:
    """Requests over one DEALER; the wire itself, no library of ours between."""

    def __init__(self, context, address):
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(address)
        self._req = 0

    def close(self):
        self._socket.close(0)

    def send(self, op, **more):
        self._req += 1
        self._socket.send(msgpack.packb({"op": op, "req": self._req, **more}))
        return self._req

    def send_bytes(self, *frames):
        self._socket.send_multipart(frames)

    def receive(self, timeout=PATIENCE):
        if not self._socket.poll(int(timeout * 1000)):
            raise AssertionError("no answer came")
        return msgpack.unpackb(self._socket.recv())

    def ask(self, op, **more):
        """The closing answer. Asks again with the same content while the broker is away: a
        request that was in flight at a kill is gone, and repeating any is safe."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            req = self.send(op, **more)
            patience_ms = 1000 + more.get("timeout_ms", 0)
            while self._socket.poll(patience_ms):
                reply = msgpack.unpackb(self._socket.recv())
                if reply.get("req") == req and not reply.get("open"):
                    if reply["op"] != "error" or not reply["retryable"]:
                        return reply
                    break
        raise AssertionError(f"{op} was not answered")

    def submit(self, *jobs):
        """Accepted or already known, each of them; the ids."""
        for begin in range(0, len(jobs), 500):
            reply = self.ask("submit", jobs=list(jobs[begin:begin + 500]))
            bad = [r for r in reply.get("results", [reply])
                   if r.get("status") not in ("accepted", "duplicate")]
            assert not bad, bad
        return [job["id"] for job in jobs]

    def get(self, job_id):
        return self.ask("get", ids=[job_id])["jobs"][0]

    def wait(self, ids):
        """Every job of `ids`, ended, by id. Patience is for a time in which none ends."""
        limit = time.monotonic() + PATIENCE
        left, ended = list(ids), {}
        while left:
            assert time.monotonic() < limit, f"none ended for {PATIENCE} s: {[self.get(i) for i in left[:3]]}"
            before = len(ended)
            self.ask("wait", ids=left[:1000], timeout_ms=500)
            for job in self._get_all(left[:1000]):
                if job.get("state") in ("completed", "failed", "cancelled"):
                    ended[job["id"]] = job
            left = [job_id for job_id in left if job_id not in ended]
            if len(ended) > before:
                limit = time.monotonic() + PATIENCE
        return ended

    def _get_all(self, ids):
        while ids:
            reply = self.ask("get", ids=ids)
            yield from reply["jobs"]
            ids = reply.get("more", [])

    def until_state(self, job_id, state, **more):
        """Waits until the job is in `state` and every other field is as given."""
        def look():
            job = self.get(job_id)
            wanted = {"state": state, **more}
            return job if all(job.get(k, 0) == v for k, v in wanted.items()) else None
        return until(look, f"{job_id} does not become {state}")

    def workers(self):
        return self.ask("workers")["workers"]

    def until_workers(self, count):
        return until(lambda: [nodes] if len(nodes := self.workers()) == count else None,
                     f"there are not {count} workers")[0]


def job(task, payload=None, **more):
    """Bytes go as they are."""
    if isinstance(payload, bytes):
        more = {"content_type": "application/octet-stream", **more}
    else:
        payload = msgpack.packb(payload)
    return {"id": str(uuid.uuid4()), "task": task, "payload": payload, **more}


def json_job(task, payload, **more):
    return job(task, json.dumps(payload).encode(), content_type="application/json", **more)


class Redis:
    """A connection to a redis-server on a unix socket, of as many lines as the stories need."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def close(self):
        self._file.close()
        self._socket.close()

    def ask(self, *words):
        parts = [str(word).encode() if not isinstance(word, bytes) else word for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(
            b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._read()

    def _read(self):
        line = self._file.readline()
        if not line:
            raise ConnectionError("redis-server is gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._file.read(size + 2)[:-2].decode(errors="replace")
        return [self._read() for _ in range(int(rest))]

    def hash(self, name):
        flat = self.ask("HGETALL", PREFIX + name)
        return dict(zip(flat[::2], flat[1::2]))

    def count(self, index):
        return self.ask("ZCARD", PREFIX + index)

    def info(self, name):
        return re.search(rf"^{name}:(.*)\r?$", self.ask("INFO"), re.M).group(1).strip()

    def until_view_is_complete(self):
        """The view is a little behind the log: waits until it has the log's last batch."""
        def look():
            meta = self.hash("meta")
            return meta and meta.get("checkpoint") == meta.get("last")
        until(look, "the view does not come up to the log")


def ping_redis(path):
    with contextlib.suppress(OSError, ConnectionError, RuntimeError):
        redis = Redis(path)
        try:
            return redis.ask("PING") == "PONG"
        finally:
            redis.close()
    return False


class Gate:
    """An `exec` task whose programs write down that they run, and wait until release(). The gate
    is a file lock: nothing polls, and a program that comes late meets an open gate."""

    def __init__(self, folder):
        self._runs = folder / "runs"
        self._runs.touch()
        self._lock = open(folder / "gate", "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        script = (f"echo $SLUICE_JOB_ID $SLUICE_ATTEMPT $$ >> {self._runs}; "
                  f"flock -s {folder / 'gate'} echo done")
        self.task = f'[task.gated]\nprogram = ["sh", "-c", "{script}"]\n'

    def release(self):
        self._lock.close()

    def runs(self):
        """(job id, attempt, pid) of every program that began."""
        lines = [line.split() for line in self._runs.read_text().splitlines()]
        return [(job_id, int(attempt), int(pid)) for job_id, attempt, pid in lines]

    def until_running(self, count):
        return until(lambda: len(runs := self.runs()) >= count and runs,
                     f"{count} programs do not begin")


class Cluster:
    def __init__(self, redis="private", broker_options=()):
        """`redis`: "private", "memory:", or the address of one that runs."""
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-e2e-"))  # short: it holds unix sockets
        self.data = self.folder / "data"
        self.tag = self.folder.name[-8:]
        self.redis_address = redis
        self.options = ["--heartbeat-ms", "200", "--dead-after-ms", "1000", "--grace-ms", "2000",
                        *broker_options]
        self.addresses = ["tcp://127.0.0.1:0"] * 3
        self.processes = []
        self.broker = None
        self.context = zmq.Context()
        self.clients = []

    # ---- starting

    def start(self, arguments, **environment):
        self.processes.append(Process(arguments, **environment))
        return self.processes[-1]

    def broker_command(self, *more):
        store = ["--data", self.data] if self.redis_address == "private" else [
            "--redis", self.redis_address]
        names = ("--producers", "--workers", "--events")
        where = [word for pair in zip(names, self.addresses) for word in pair]
        return [BIN / "sluice-broker", *where, *store, *self.options, *more]

    def start_broker(self, *more, **environment):
        """Returns when it serves; again on the same ports the next time."""
        self.broker = self.start(self.broker_command(*more), **environment)
        ready = fields(self.broker.line(" ready "))
        self.addresses = [ready["producers"], ready["workers"], ready["events"]]
        return self.broker

    def start_worker(self, *arguments, name=None, program="sluice-worker", inside=(), **environment):
        """Returns at once; until_workers() waits for it. `inside`: a command that runs it."""
        name = name or f"w{len(self.processes)}-{self.tag}"
        if program == "sluice-worker":
            arguments = ["--name", name, "--broker", self.addresses[1], *arguments]
            if IS_PYTHON:
                return self.start([sys.executable, "-B", PYTHON_NODE, *arguments], **environment)
        else:
            environment = {"SLUICE_NAME": name, "SLUICE_WORKER_BROKER": self.addresses[1],
                           **environment}
        return self.start([*inside, BIN / program, *arguments], **environment)

    def start_redis(self, *settings, path=None, ignored=None, inside=(), waits=True):
        """A redis-server of its own; returns the process and the path of its socket, when it
        answers unless told not to wait. `ignored`: a signal that it is to survive. `inside`: a
        command that runs it."""
        path = path or self.folder / "external.sock"
        folder = self.folder / "external"
        folder.mkdir(exist_ok=True)
        shell = ["sh", "-c", f'trap "" {int(ignored)}; exec "$@"', "sh"] if ignored else []
        process = self.start([*inside, *shell, "redis-server", "--port", "0", "--unixsocket", path,
                              "--dir", folder, "--appendonly", "yes", "--save", "", *settings])
        if not waits:
            return process, path
        until(lambda: ping_redis(path) or not process.is_alive(), "redis-server does not answer")
        return process, path

    def client(self):
        self.clients.append(Client(self.context, self.addresses[0]))
        return self.clients[-1]

    def socket(self, kind, address):
        """A raw socket, for what no client would send."""
        made = self.context.socket(kind)
        made.linger = 0
        made.connect(address)
        return made

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    # ---- looking

    def redis(self):
        """A connection to the private Redis."""
        paths = glob.glob(str(self.data / "**" / "*.sock"), recursive=True)
        alive = [path for path in paths if ping_redis(path)]
        assert len(alive) == 1, f"not one private Redis: {paths}"
        self.clients.append(Redis(alive[0]))
        return self.clients[-1]

    def leftovers(self):
        """Processes that carry our folder or our tag and that we have not seen end."""
        found = []
        for entry in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):
                text = Path(entry, "cmdline").read_bytes() + Path(entry, "environ").read_bytes()
                is_ours = self.tag.encode() in text or str(self.folder).encode() in text
                if is_ours and is_running(int(entry[6:])):
                    found.append((int(entry[6:]), text[:200]))
        return found

    # ---- ending

    def kill_pid(self, pid):
        """SIGKILL for a process that our broker started; returns when it is gone."""
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_running(pid), f"{pid} does not end")

    def close(self):
        for client in self.clients:
            client.close()
        for process in reversed(self.processes):
            process.end()
        for path in glob.glob(str(self.data / "**" / "*.sock"), recursive=True):
            self._end_redis(path)
        self.context.destroy(0)
        left = self.leftovers()
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"processes were left: {left}"

    def _end_redis(self, path):
        """A private Redis outlives a broker that was killed, as it should."""
        with contextlib.suppress(OSError, ConnectionError, RuntimeError):
            redis = Redis(path)
            pid = int(redis.info("process_id"))
            with contextlib.suppress(ConnectionError):
                redis.ask("SHUTDOWN", "NOSAVE")
            redis.close()
            until(lambda: not is_running(pid), "the private Redis does not end")


class Story(unittest.TestCase):
    """A test with a cluster; the logs of its processes are shown when it fails."""

    redis = os.environ.get("SLUICE_E2E_REDIS", "private")
    broker_options = ()

    def setUp(self):
        self.cluster = Cluster(self.redis, self.broker_options)
        self.addCleanup(self._clean_up)

    def _clean_up(self):
        result = self._outcome.result
        has_failed = any(case is self for case, _ in [*result.errors, *result.failures])
        self.cluster.close()
        if has_failed:
            for process in self.cluster.processes:
                print(f"--- {' '.join(process.arguments)[:200]}\n{process.log()}")

    # ---- comparing what Redis says with what was submitted

    def check_totals(self, **wanted):
        """`stats` holds these totals, and nothing runs or waits."""
        if self.redis == "memory:":
            return
        redis = self.cluster.redis()
        redis.until_view_is_complete()
        stats = redis.hash("stats")
        for name, count in wanted.items():
            self.assertEqual(int(stats.get(name, 0)), count, f"{name} in {stats}")
        self.assertEqual((redis.count("running"), redis.count("pending")), (0, 0))

    def check_ended(self, ids, state="completed", queue="default"):
        """Exactly these jobs stand in the index, each with a hash of that state."""
        if self.redis == "memory:":
            return
        redis = self.cluster.redis()
        redis.until_view_is_complete()
        self.assertEqual(redis.count(f"{state}:{queue}"), len(ids))
        for job_id in ids:
            self.assertEqual(redis.hash(f"job:{job_id}")["state"], state)

    def check_state(self, job_id, state):
        """The hash of a job, as redis-cli shows it, says so."""
        if self.redis != "memory:":
            redis = self.cluster.redis()
            until(lambda: redis.hash(f"job:{job_id}").get("state") == state,
                  f"{job_id} is not {state} in Redis")
