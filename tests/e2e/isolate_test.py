"""Handlers in isolates, in real nodes: placed there by configuration, killed, cancelled, left behind."""

import json
import signal
import unittest

from cluster import Story, below, is_running, job, json_job, until

SLEEP = """
[task.sleep]
run = "isolate"
grace = "10s"
"""


def isolates_of(worker):
    return [pid for pid, name in below(worker.pid).items() if name == "sluice-isolate"]


class Isolates(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def start_node(self, text, *more):
        return self.cluster.start_worker("--config", self.cluster.write("node.toml", text), *more)

    def until_running(self, job_id, worker):
        """The isolate that runs it. The broker says `running` before an isolate has the job."""
        node = self.client.until_state(job_id, "running")["node"]

        def is_busy():
            return any(of["busy"] for it in self.client.workers() if it["node"] == node
                       for of in it.get("isolates", []))

        until(is_busy, f"no isolate of {node} is busy")
        [isolate] = until(lambda: isolates_of(worker))  # the job may be in its socket before it is forked
        return isolate

    def test_a_handler_is_placed_in_an_isolate_without_a_change_of_its_code(self):
        config = self.cluster.write("shout.toml", '[task.shout]\nrun = "isolate"\n')
        worker = self.cluster.start_worker(program="shout_worker", SLUICE_CONFIG=config)
        [job_id] = self.client.submit(job("shout", b"hello"))
        self.assertEqual(self.client.wait([job_id])[job_id]["result"], b"HELLO")
        self.assertEqual(len(isolates_of(worker)), 1)
        self.assertEqual(worker.stop(), 0)

    def test_an_isolate_that_dies_fails_its_attempt_in_words_and_is_replaced(self):
        worker = self.start_node(SLEEP)
        [job_id] = self.client.submit(json_job("sleep", 600_000, max_retries=0))
        isolate = self.until_running(job_id, worker)
        self.cluster.kill_pid(isolate)
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["error_code"]), ("failed", "isolate_crashed"))
        self.assertIn("isolate crashed: SIGKILL", ended["error"])
        [next_id] = self.client.submit(json_job("sleep", 0))
        self.assertEqual(self.client.wait([next_id])[next_id]["state"], "completed")
        self.assertNotEqual(isolates_of(worker), [isolate])
        self.assertEqual(worker.stop(), 0)

    def test_their_figures_are_in_workers_and_in_redis(self):
        worker = self.start_node(SLEEP, "--concurrency", 2)
        [crashed] = self.client.submit(json_job("sleep", 600_000, max_retries=0))
        self.cluster.kill_pid(self.until_running(crashed, worker))
        self.client.wait([crashed])
        [busy] = self.client.submit(json_job("sleep", 600_000))
        self.client.until_state(busy, "running")
        wanted = {"task": "sleep", "total": 1, "busy": 1, "waiting": 0, "crashes": 1, "recycles": 0}

        def figures(node):  # none yet in the status with which it came
            return [{key: of[key] for key in wanted} for of in node.get("isolates", [])]

        until(lambda: figures(self.client.workers()[0]) == [wanted])
        redis = self.cluster.redis()
        until(lambda: [figures(json.loads(node)) for node in redis.hash("nodes").values()] == [[wanted]])
        self.client.ask("cancel", ids=[busy])
        self.client.wait([busy])
        self.assertEqual(worker.stop(), 0)

    def test_a_running_job_is_cancelled_and_its_isolate_serves_the_next(self):
        worker = self.start_node(SLEEP, "--concurrency", 1)
        [job_id] = self.client.submit(json_job("sleep", 600_000))
        isolate = self.until_running(job_id, worker)
        self.client.ask("cancel", ids=[job_id])
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "cancelled")
        [next_id] = self.client.submit(json_job("sleep", 0))
        self.assertEqual(self.client.wait([next_id])[next_id]["state"], "completed")
        self.assertEqual(isolates_of(worker), [isolate])
        self.assertEqual(worker.stop(), 0)

    def test_a_killed_node_leaves_no_isolate_and_its_job_runs_elsewhere(self):
        worker = self.start_node(SLEEP)
        [job_id] = self.client.submit(json_job("sleep", 600_000))
        self.until_running(job_id, worker)
        left = below(worker.pid)
        self.assertEqual(sorted(left.values()), ["sluice-isolate", "sluice-spawner"])
        worker.kill()
        until(lambda: not any(is_running(pid) for pid in left), "processes outlive their node")
        self.client.until_state(job_id, "queued", lost_count=1)
        second = self.start_node(SLEEP)
        self.until_running(job_id, second)
        second.signal(signal.SIGTERM)
        second.line("drain_begun")
        second.signal(signal.SIGTERM)  # leaves at once
        self.client.until_state(job_id, "queued", lost_count=1, retry_count=0)


if __name__ == "__main__":
    unittest.main()
