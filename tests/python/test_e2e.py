"""Stories with a real broker (SLUICE_BROKER_BIN) and real workers; the broker's Redis is its own
where state must survive it. More stories of a Python node: tests/e2e, with SLUICE_E2E_NODE=python."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import sluice

HERE = Path(__file__).resolve().parent
BROKER = os.environ.get("SLUICE_BROKER_BIN", "")
pytestmark = pytest.mark.skipif(not BROKER, reason="SLUICE_BROKER_BIN names no sluice-broker")
PATIENCE = 60.0


class Cluster:
    """A broker on free ports and the workers of worker_tasks.py; ends only what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.store = ["--redis", "memory:"]
        self.ports = ["tcp://127.0.0.1:0"] * 3
        self.broker = self.start_broker()
        self.client = sluice.connect(self.ports[0], timeout=PATIENCE)

    def start_broker(self) -> "subprocess.Popen[bytes]":
        names = ("--producers", "--workers", "--events")
        where = [word for pair in zip(names, self.ports) for word in pair]
        beats = ["--heartbeat-ms", "100", "--dead-after-ms", "1000", "--log-format", "logfmt"]
        command = [BROKER, *where, *self.store, *beats]
        broker = self._start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in broker.stderr:
            ready = re.search(rb"ready producers=(\S+) workers=(\S+) events=(\S+)", line)
            if ready:
                self.ports = [word.decode() for word in ready.groups()]
                return broker
        raise AssertionError(f"the broker did not start: exit {broker.wait()}")

    def worker(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-B", str(HERE / "worker_tasks.py"), self.ports[1], *arguments]
        return self._start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _start(self, command, **options):
        self.processes.append(subprocess.Popen(command, **options))
        return self.processes[-1]

    def until(self, what):
        """Asks again until it is true; only a test that hangs meets the limit."""
        limit = time.monotonic() + PATIENCE
        while not (value := what()):
            assert time.monotonic() < limit, "it did not become true"
        return value

    def running(self, handle):
        """Waits until the handler has reported something."""
        return self.until(lambda: (job := handle.get()).get("progress_message") and job)

    def close(self) -> None:
        self.client.close()
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for path in self.folder.glob("**/*.sock"):  # a private Redis outlives a killed broker
            subprocess.run(["redis-cli", "-s", path, "shutdown", "nosave"], capture_output=True)


@pytest.fixture
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="sluice-"))  # short: a unix socket's path is bounded
    made = Cluster(folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_jobs_of_many_batches_come_back_with_their_results(cluster):
    cluster.worker()
    jobs = [sluice.make_job("shout", f"t{n}") for n in range(2500)]
    assert {r.status for r in cluster.client.submit_many(jobs)} == {"accepted"}
    assert {r.status for r in cluster.client.submit_many(jobs[:10])} == {"duplicate"}
    views = cluster.client.wait([job["id"] for job in jobs], PATIENCE)
    results = [views[job["id"]].result_or_raise() for job in jobs]
    assert results == [f"T{n}" for n in range(2500)]


def test_a_killed_worker_s_job_runs_again_elsewhere(cluster):
    first = cluster.worker()
    job = cluster.client.submit("wait")
    cluster.running(job)
    first.kill()
    cluster.until(lambda: job.get()["state"] == "queued")
    cluster.worker()
    again = cluster.until(lambda: (view := job.get()).state == "running" and view)
    assert (again["attempt"], again["lost_count"], again["retry_count"]) == (2, 1, 0)
    assert job.cancel() == "cancelling"
    assert job.wait(PATIENCE).state == "cancelled"


def test_a_node_that_burns_cpu_past_dead_after_is_not_declared_dead(cluster):
    cluster.worker()
    job = cluster.client.submit("burn")
    begun = cluster.running(job)["started_ms"]
    ping = lambda: cluster.client.stats() and time.time() * 1000 > begun + 3000  # noqa: E731
    cluster.until(ping)
    view = job.get()
    assert (view.state, view["attempt"], view.get("lost_count", 0)) == ("running", 1, 0)
    assert job.cancel("enough") == "cancelling"
    assert job.wait(PATIENCE).state == "cancelled"


def test_a_drained_node_hands_back_and_leaves(cluster):
    node = cluster.worker("0.1")
    job = cluster.client.submit("wait")
    cluster.running(job)
    cluster.client.drain("py")
    assert node.wait(PATIENCE) == 0
    view = cluster.until(lambda: (view := job.get()).state == "queued" and view)
    assert view["retry_count"] == 0 and view.get("lost_count", 0) == 0
    assert cluster.client.workers() == []


@pytest.mark.parametrize("task", ["logger", "logger-process"])
def test_what_a_handler_logs_is_followed_to_the_job_s_end(cluster, task):
    job = cluster.client.submit(task)
    chunks = cluster.client.logs(job.id, follow=True)
    cluster.worker()
    assert b"".join(chunk.data for chunk in chunks) == b"one\ntwo\xff\n3\n"
    assert job.get().state == "completed"


def test_never_again_is_not_tried_again(cluster):
    cluster.worker()
    with pytest.raises(sluice.JobFailed) as caught:
        cluster.client.submit("never").result(PATIENCE)
    assert caught.value.code == "no_such_thing"


def test_a_result_that_no_broker_took_survives_the_broker_s_kill(tmp_path, cluster_with_redis):
    cluster = cluster_with_redis
    gate, done = str(tmp_path / "gate"), str(tmp_path / "done")
    os.mkfifo(gate)
    os.mkfifo(done)
    cluster.worker()
    job = cluster.client.submit("gate", [gate, done])
    cluster.running(job)
    cluster.broker.send_signal(signal.SIGSTOP)
    Path(gate).write_text("go")
    assert Path(done).read_text() == "done"  # the handler is about to return; nobody listens
    cluster.broker.kill()
    cluster.broker.wait()
    cluster.broker = cluster.start_broker()
    view = job.wait(PATIENCE)
    assert (view.result_or_raise(), view["attempt"]) == ("went", 1)


@pytest.fixture
def cluster_with_redis(cluster):
    cluster.client.close()
    cluster.broker.terminate()
    cluster.broker.wait()
    cluster.store = ["--data", str(cluster.folder / "data")]
    cluster.broker = cluster.start_broker()
    cluster.client = sluice.connect(cluster.ports[0], timeout=PATIENCE)
    return cluster
