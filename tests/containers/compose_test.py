"""compose/ for real, with the commands of README.md: builds the images, starts Redis, a broker and three workers
on ports of their own, submits through the published port with the `sluice` command, and takes away a worker, the
broker and Redis's address in the middle. Every job ends, and `stats` in Redis says the same as the broker.

Skips (exit 77) with a reason where there are no containers; removes what it started, also when it fails."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from cluster import BIN, clean_environment, free_ports, until  # noqa: E402

from engine import PATIENCE, ROOT, Project, choose  # noqa: E402

BLOCK = re.compile(r"^```\w+ containers=(\w+)\n(.*?)^```$", re.M | re.S)
BUILDING = 4500.0  # of a machine with two cores that has much else to do
SERVICES = ("redis", "broker", "worker")
WORKERS = 3
SLOTS = 4  # of each, in compose/worker.toml
TOTALS = ("submitted", "completed", "failed", "cancelled", "retried", "lost", "handed_back", "timed_out")
USER = 10001
IMAGE_BYTES_MAX = 60e6


class Containers(unittest.TestCase):
    engine, compose, project = None, None, None

    @classmethod
    def setUpClass(cls):
        cls.blocks = dict(BLOCK.findall((ROOT / "README.md").read_text()))
        cls.ports = dict(zip(("PRODUCERS", "WORKERS", "EVENTS"), free_ports(3)))
        cls.project = Project(cls.engine, cls.compose, {
            "WORKER_REPLICAS": str(WORKERS),  # the same as in the first block: each has a shell of its own
            **{f"SLUICE_{name}_PORT": str(port) for name, port in cls.ports.items()}})
        cls.addClassCleanup(cls.project.remove)
        cls.project.shell(cls.blocks["up"], folder=ROOT, patience=BUILDING)
        cls.addClassCleanup(cls.end_in_order)

    @classmethod
    def end_in_order(cls):
        """By the page's last block; it leaves none of the file's containers."""
        cls.project.shell(cls.blocks["down"])
        left = [each for service in SERVICES for each in cls.project.containers(service)]
        assert not left, f"the page's last block leaves {left}"

    def setUp(self):
        self.addCleanup(self.show_logs)
        self.until_workers(WORKERS)
        self.before = self.totals()

    def show_logs(self):
        result = self._outcome.result
        if any(case is self for case, _ in [*result.errors, *result.failures]):
            self.project.logs()

    # ---- the published port, as a user has it

    def sluice(self, *words, given=None):
        return subprocess.run([BIN / "sluice", *words], input=given, text=True, timeout=PATIENCE,
                              env={**clean_environment(),
                                   "SLUICE_BROKER": f"tcp://127.0.0.1:{self.ports['PRODUCERS']}"},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, *words, given=None):
        """What it answers, once the broker is there to be asked: every request may be repeated."""
        def answered():
            done = self.sluice(*words, "--json", given=given)
            self.assertIn(done.returncode, (0, 69, 124), done.stderr)
            return done if done.returncode == 0 else None
        return json.loads(until(answered, f"{words} is not answered", PATIENCE).stdout or "null")

    def workers(self):
        return self.ask("workers")["workers"]

    def until_workers(self, count):
        until(lambda: len(self.workers()) == count, f"there are not {count} workers", PATIENCE)

    def submit(self, name, count, sleep_ms):
        ids = [f"{name}-{number}" for number in range(count)]
        lines = [json.dumps({"id": each, "task": "sleep", "payload": sleep_ms}) for each in ids]
        done = self.sluice("submit", "--jsonl", "-", given="\n".join(lines) + "\n")
        self.assertIn(f"{count} accepted", done.stdout + done.stderr)
        return ids

    def until_completed(self, ids):
        """Waits as long as it takes, over a broker that goes away and comes back."""
        def ended():
            done = self.sluice("wait", *ids, "--for", "10s", "--json")
            self.assertIn(done.returncode, (0, 69, 124), done.stdout[-1000:] + done.stderr)
            return done.returncode == 0 and json.loads(done.stdout)
        jobs = until(ended, "not every job completed", PATIENCE)
        jobs = jobs if isinstance(jobs, list) else [jobs]  # of one id: the job itself
        self.assertEqual({job["state"] for job in jobs}, {"completed"})
        return jobs

    # ---- Redis, as a user looks into it

    def redis(self, *words):
        return self.project.exec("redis", "redis-cli", *words).splitlines()

    def hash(self, name):
        flat = self.redis("HGETALL", f"sluice:{{p0}}:{name}")
        return dict(zip(flat[::2], flat[1::2]))

    def totals(self):
        """Of `stats` in Redis, once the view has come up to the log; the broker says the same."""
        def settled():
            said = self.ask("stats")
            meta, stats = self.hash("meta"), self.hash("stats")
            if meta.get("checkpoint") != meta.get("last") or str(said["batch"]) != meta["last"]:
                return None
            return said, {name: int(stats.get(name, 0)) for name in TOTALS}
        said, stats = until(settled, "the view does not come up to the log", PATIENCE)
        self.assertEqual(stats, {name: said[name] for name in TOTALS})
        return stats

    def check_totals(self, jobs):
        """`jobs` more were submitted and completed since the story began; returns what else happened."""
        now = self.totals()
        since = {name: now[name] - self.before[name] for name in TOTALS}
        self.assertEqual((since["submitted"], since["completed"]), (jobs, jobs), since)
        self.assertEqual((since["failed"], since["cancelled"], since["timed_out"]), (0, 0, 0), since)
        return since

    # ---- the stories

    def test_every_service_becomes_healthy(self):
        for service in SERVICES:
            for container in self.project.containers(service):
                until(lambda: self.project.is_healthy(container), f"{service} is not healthy", PATIENCE)

    def test_a_broker_without_its_redis_is_not_healthy(self):
        broker, redis = self.project.container("broker"), self.project.container("redis")
        until(lambda: self.project.is_healthy(broker), "the broker is not healthy", PATIENCE)
        self.project.run(self.project.engine, "stop", redis)
        until(lambda: not self.project.is_healthy(broker), "healthy without Redis", PATIENCE)
        self.project.run(self.project.engine, "start", redis)
        until(lambda: self.project.is_healthy(broker), "not healthy again", PATIENCE)

    def test_nothing_runs_as_root_and_the_image_is_small(self):
        for service in ("broker", "worker"):
            self.assertEqual(self.project.exec(service, "id", "-u").strip(), str(USER))
        self.assertNotEqual(self.project.exec("redis", "id", "-u").strip(), "0")
        image = self.project.inspect("sluice")
        self.assertLess(image["Size"], IMAGE_BYTES_MAX)

    def test_ports_are_published_on_the_loopback_only(self):
        bound = self.project.inspect(self.project.container("broker"))["HostConfig"]["PortBindings"]
        self.assertEqual({each["HostIp"] for ports in bound.values() for each in ports}, {"127.0.0.1"})
        for service in ("redis", "worker"):
            settings = self.project.inspect(self.project.container(service))["HostConfig"]
            self.assertFalse(settings.get("PortBindings"))
        outward = address_to_the_outside()
        for port in self.ports.values():
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            with self.assertRaises(OSError):
                socket.create_connection((outward, port), 2).close()

    def test_a_killed_worker_loses_no_job(self):
        ids = self.submit("killed", 480, 500)
        victim = self.project.containers("worker")[1]
        node = f"{self.project.inspect(victim)['Config']['Hostname']}@"
        until(lambda: any(each["node"].startswith(node) and each["running"] == SLOTS
                          for each in self.workers()), "the worker is not busy", PATIENCE)
        self.project.run(self.project.engine, "kill", "--signal", "KILL", victim)
        jobs = self.until_completed(ids)
        lost = [job for job in jobs if job["lost_count"] > 0]
        self.assertGreater(len(lost), 0, "it was killed with nothing to do")
        self.assertLessEqual(len(lost), SLOTS)
        self.assertEqual(self.check_totals(len(ids))["lost"], len(lost))
        self.project.run(self.project.engine, "start", victim)
        self.until_workers(WORKERS)

    def test_a_restarted_broker_goes_on_with_every_job(self):
        ids = self.submit("restarted", 240, 500)
        until(lambda: self.ask("stats")["running"] == WORKERS * SLOTS, "not every slot is busy", PATIENCE)
        epoch = self.ask("stats")["epoch"]
        self.project.run(self.project.engine, "restart", self.project.container("broker"))
        self.until_completed(ids)
        self.assertGreater(self.ask("stats")["epoch"], epoch)
        self.check_totals(len(ids))

    def test_a_redis_with_another_address_is_found_again(self):
        redis = self.project.container("redis")
        network, before = self.project.network(redis)
        self.project.run(self.project.engine, "stop", redis)
        # Somebody else takes the address in the meantime.
        other = self.project.run(self.project.engine, "run", "-d", "--network", network, "--label",
                                 f"com.docker.compose.project={self.project.name}",
                                 "sluice", "sleep", "1d").strip()
        self.addCleanup(self.project.run, self.project.engine, "rm", "-f", other)
        self.project.run(self.project.engine, "start", redis)
        self.assertNotEqual(self.project.network(redis)[1], before)
        ids = until(lambda: self.submitted_or_none("moved"), "it takes no jobs again", PATIENCE)
        self.until_completed(ids)
        self.check_totals(len(ids))

    def submitted_or_none(self, name):
        done = self.sluice("submit", "echo", '"hello"', "--id", name)
        return [name] if done.returncode == 0 else None

    def test_a_stopped_worker_finishes_what_it_runs(self):
        ids = self.submit("stopped", WORKERS * SLOTS, 3000)
        until(lambda: self.ask("stats")["running"] == len(ids), "not every slot is busy", PATIENCE)
        worker = self.project.containers("worker")[0]
        self.project.run(self.project.engine, "stop", "-t", "40", worker)
        self.assertEqual(self.project.inspect(worker)["State"]["ExitCode"], 0)
        self.until_completed(ids)
        since = self.check_totals(len(ids))
        self.assertEqual((since["lost"], since["handed_back"]), (0, 0))
        self.project.run(self.project.engine, "start", worker)
        self.until_workers(WORKERS)

    def test_the_readme_s_commands_do_what_it_says(self):
        said = self.project.shell(self.blocks["use"])
        self.assertIn(hashlib.sha256(b'{"text":"hello"}').hexdigest(), said)
        self.assertEqual(len(set(re.findall(r"\b[0-9a-f]{12}@[0-9a-f]{8}\b", said))), WORKERS)
        self.assertIn("submitted", re.findall(r"[\w:]+", said))

    def test_an_image_of_ones_own_runs_the_programs(self):
        tag = f"{self.project.name}-own"
        self.addCleanup(subprocess.run, [self.project.engine, "rmi", tag], stdout=subprocess.DEVNULL)
        self.project.run(self.project.engine, "build", "-t", tag, "-", given=self.blocks["image"],
                         patience=BUILDING)
        said = self.project.run(self.project.engine, "run", "--rm", tag, "sh", "-c",
                                "python3 --version && sluice-worker --version")
        self.assertRegex(said, r"Python 3[^\n]*\n[^\n]*\d+\.\d+\.\d+")

    def test_every_block_is_run(self):
        self.assertEqual(set(self.blocks), {"up", "use", "image", "down"})


def address_to_the_outside():
    """Of this machine; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


if __name__ == "__main__":
    Containers.engine, Containers.compose = choose()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        unittest.main(verbosity=2)
    finally:  # also of a run that was broken off
        if Containers.project:
            Containers.project.remove()
