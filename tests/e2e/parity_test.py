"""Parity with the system that Sluice grew from: each of its tests once more, named alike, with real
processes. Handlers run in isolates, as they did there."""

import itertools
import json
import signal
import subprocess
import unittest

import msgpack
import zmq

from cluster import BIN, Story, below, clean_environment, is_running, job, json_job, until

SLOTS = 4
POOL = f"""
[task.echo]
run = "isolate"
isolates_min = 2

[task.sleep]
run = "isolate"
isolates_max = {SLOTS}

[task.fail]
run = "isolate"

[task.crash]
run = "isolate"

[task.direct]
run = "exec"
program = ["sh", "-c", "echo $$"]

[task.fresh]
run = "isolate"
handler = "echo"
reuse = false
isolates_max = 1
"""
FOREVER = 600_000
SOON = {"base_ms": 1, "cap_ms": 1, "jitter": 0.0}


class Parity(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()
        self.node = self.start_node("pool", SLOTS)

    def start_node(self, name, slots, *more):
        config = self.cluster.write(f"{name}.toml", POOL)
        return self.cluster.start_worker("--config", config, "--concurrency", slots, *more, name=name)

    def figures(self, task="echo"):
        [node] = self.client.until_workers(1)
        return next((of for of in node.get("isolates", []) if of["task"] == task), {})

    def shown(self, task):
        """The figures as `sluice workers` shows them, worked out of those."""
        environment = {**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0]}
        said = subprocess.run([BIN / "sluice", "workers", "--json"], env=environment, check=True, capture_output=True)
        [node] = json.loads(said.stdout)["workers"]
        return next(of for of in node["isolates"] if of["task"] == task)

    def until_all_isolates(self):
        """The pids of the least that there are: two of `echo`, one of each other task."""
        def look():
            found = {pid for pid, name in below(self.node.pid).items() if name == "sluice-isolate"}
            return found if len(found) == 6 else None
        return until(look, "there are not six isolates")

    def sleepers(self, count, **more):
        """Jobs that run until somebody ends them; running when this returns."""
        ids = self.client.submit(*[json_job("sleep", FOREVER, **more) for _ in range(count)])
        for job_id in ids:
            self.client.until_state(job_id, "running")
        return ids

    def cancel(self, ids):
        self.client.ask("cancel", ids=ids)
        return self.client.wait(ids)

    def echo(self, text=b"hello", **more):
        return job("echo", text, **more)

    def state(self, job_id):
        return self.client.get(job_id)["state"]

    # ---- the pool

    def test_pool_starts_with_the_configured_number(self):
        until(lambda: self.figures().get("total") == 2)

    def test_task_returns_its_result(self):
        [job_id] = self.client.submit(self.echo())
        self.assertEqual(self.client.wait([job_id])[job_id]["result"], b"hello")

    def test_tasks_run_concurrently(self):
        ids = self.sleepers(SLOTS)  # they all run, and none of them ends
        self.cancel(ids)

    def test_tasks_queue_when_the_pool_is_busy(self):
        first, *ids = self.sleepers(SLOTS)
        [next_id] = self.client.submit(json_job("sleep", FOREVER))
        self.assertEqual(self.state(next_id), "queued")
        self.cancel([first])
        self.client.until_state(next_id, "running")
        self.cancel([*ids, next_id])

    def test_a_failing_task_reports_its_message(self):
        [job_id] = self.client.submit(json_job("fail", {"message": "disk full", "retryable": False}))
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["error"]), ("failed", "disk full"))

    def test_several_task_types(self):
        ids = self.client.submit(self.echo(), json_job("sleep", 0), job("direct"),
                                 json_job("fail", {"retryable": False}))
        ended = self.client.wait(ids)
        self.assertEqual([ended[job_id]["state"] for job_id in ids], ["completed"] * 3 + ["failed"])

    def test_statistics_and_utilisation(self):
        ids = self.sleepers(3)
        until(lambda: self.figures("sleep").get("busy") == 3)
        self.assertEqual((self.figures("sleep")["total"], self.figures("sleep")["waiting"]), (3, 0))
        self.assertEqual(self.shown("sleep")["utilisation"], 1.0)
        self.cancel(ids[:1])
        until(lambda: self.figures("sleep").get("busy") == 2)
        shown = self.shown("sleep")
        self.assertEqual((shown["busy"], shown["available"]), (2, 1))
        self.assertAlmostEqual(shown["utilisation"], 2 / 3, 3)
        self.cancel(ids[1:])
        until(lambda: (of := self.figures("sleep")).get("busy") == 0 and of["jobs"] == 3 and of["busy_ms"] > 0)

    def test_disposal_cleans_up(self):
        self.client.wait(self.client.submit(self.echo()))
        started = below(self.node.pid)
        self.assertIn("sluice-isolate", started.values())
        self.assertEqual(self.node.stop(), 0)
        until(lambda: not any(is_running(pid) for pid in started), "processes outlive their node")

    def test_execution_after_disposal_is_refused(self):
        [node] = self.client.until_workers(1)
        self.client.ask("drain", node=node["node"])
        self.assertEqual(self.node.exit_code(), 0)
        [job_id] = self.client.submit(self.echo())
        self.assertEqual(self.client.workers(), [])
        self.assertEqual(self.state(job_id), "queued")  # and is nobody's until a node comes
        self.start_node("next", SLOTS)
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "completed")

    def test_pending_tasks_are_cancelled_on_disposal(self):
        """Handed back, rather: another node runs them, and no retry is spent."""
        ids = self.sleepers(2)
        self.node.signal(signal.SIGTERM)
        self.node.line("drain_begun")
        self.node.signal(signal.SIGTERM)  # leaves at once
        for job_id in ids:
            self.client.until_state(job_id, "queued", retry_count=0)

    def test_ten_thousand_tasks_under_load(self):
        ids = self.client.submit(*[self.echo(b"%d" % number) for number in range(10_000)])
        ended = self.client.wait(ids)
        self.assertEqual([ended[job_id]["result"] for job_id in ids], [b"%d" % n for n in range(10_000)])
        self.check_totals(submitted=10_000, completed=10_000, failed=0, retried=0, lost=0)

    def test_direct_spawn_and_process(self):
        ids = self.client.submit(*[job("direct") for _ in range(5)])
        pids = {ended["result"] for ended in self.client.wait(ids).values()}
        self.assertEqual(len(pids), 5)
        before = self.until_all_isolates()
        ids = self.client.submit(*[job("fresh", b"%d" % number) for number in range(3)])
        ended = self.client.wait(ids)
        self.assertEqual([ended[job_id]["result"] for job_id in ids], [b"0", b"1", b"2"])
        self.assertEqual(len(before - self.until_all_isolates()), 1)  # those of the other tasks live on
        until(lambda: (of := self.figures("fresh")).get("recycles") == of.get("jobs") == 3)
        self.assertEqual(self.figures("fresh")["crashes"], 0)

    # ---- the jobs

    def test_concurrency_limit_respected(self):
        ids = self.sleepers(SLOTS)
        more = self.client.submit(*[json_job("sleep", FOREVER) for _ in range(10)])
        self.assertEqual({self.state(job_id) for job_id in more}, {"queued"})
        self.cancel([*more, *ids])

    def test_success_recorded(self):
        [job_id] = self.client.submit(self.echo())
        self.client.wait([job_id])
        self.check_ended([job_id])
        self.check_totals(submitted=1, completed=1, failed=0)

    def test_failure_recorded(self):
        [job_id] = self.client.submit(json_job("fail", {"code": "no_paper", "retryable": False}))
        self.client.wait([job_id])
        self.check_ended([job_id], "failed")
        self.check_totals(submitted=1, completed=0, failed=1)
        self.assertEqual(self.cluster.redis().hash(f"job:{job_id}")["error_code"], "no_paper")

    def test_cancellation(self):
        ids = self.sleepers(1)
        self.assertEqual(self.cancel(ids)[ids[0]]["state"], "cancelled")

    def test_unknown_job(self):
        self.assertTrue(self.client.get("nobody")["not_found"])

    def test_cleanup(self):
        [job_id] = self.client.submit(self.echo())
        self.client.wait([job_id])
        self.client.ask("delete", ids=[job_id])
        redis = self.cluster.redis()
        redis.until_view_is_complete()
        self.assertEqual(redis.hash(f"job:{job_id}"), {})

    def test_crash_inside_an_isolate(self):
        ids = self.client.submit(json_job("crash", {}, max_retries=0),
                                 json_job("crash", {"attempts": 2}, max_retries=2, retry=SOON))
        ended = self.client.wait(ids)
        self.assertEqual(ended[ids[0]]["state"], "failed")
        reason = "isolate crashed: SIGSEGV\nraising SIGSEGV, as asked\n"
        self.assertEqual(ended[ids[0]]["error"], reason)
        self.assertEqual([each.get("error") for each in ended[ids[1]]["attempts"]],
                         [reason] * 2 + [None])
        self.assertEqual(ended[ids[1]]["result"], b"3")
        until(lambda: (of := self.figures("crash")).get("crashes") == 3 and of["total"] > 0)
        self.assertTrue(self.node.is_alive())

    def test_whole_flow_from_queue_to_end(self):
        self.client.ask("pause", queue="default")
        [job_id] = self.client.submit(json_job("sleep", FOREVER))
        self.assertEqual(self.state(job_id), "queued")
        self.client.ask("resume", queue="default")
        self.client.until_state(job_id, "running")
        self.cancel([job_id])
        [job_id] = self.client.submit(self.echo())
        self.assertEqual(self.client.wait([job_id])[job_id]["attempt"], 1)

    def test_events_along_the_way(self):
        events = self.cluster.socket(zmq.SUB, self.cluster.addresses[2])
        events.subscribe(b"job.")
        seen = []
        # A subscriber sees what comes after it has joined; so jobs go on until it has one from its beginning.
        for number in itertools.count():
            self.client.wait(self.client.submit(self.echo(id=f"job-{number}")))
            while events.poll(0):
                topic, body = events.recv_multipart()
                seen.append((msgpack.unpackb(body)["id"], topic.decode().split(".")[1]))
            whole = [what for job_id, what in seen if job_id == f"job-{number - 1}"]
            if whole[:1] == ["queued"]:
                break
        self.assertEqual(whole, ["queued", "started", "completed"])

    def test_retries(self):
        [job_id] = self.client.submit(json_job("fail", {}, max_retries=2, retry=SOON))
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["retry_count"], ended["attempt"]), ("failed", 2, 3))

    def test_concurrent_processing_within_limits(self):
        self.start_node("second", 2)
        self.client.until_workers(2)
        ids = self.sleepers(SLOTS + 2)
        [next_id] = self.client.submit(json_job("sleep", FOREVER))
        self.assertEqual(self.state(next_id), "queued")
        running = {node["node"]: node["running"] for node in self.client.workers()}
        self.assertEqual(sorted(running.values()), [2, SLOTS])
        self.cancel([next_id, *ids])

    def test_processor_statistics(self):
        ids = self.client.submit(self.echo(), self.echo(), json_job("fail", {"retryable": False}))
        self.client.wait(ids)
        [queue] = self.client.ask("queues")["queues"]
        totals = {name: queue[name] for name in ("submitted", "completed", "failed", "running", "queued")}
        self.assertEqual(totals, {"submitted": 3, "completed": 2, "failed": 1, "running": 0, "queued": 0})

    def test_batch_processing(self):
        reply = self.client.ask("submit", jobs=[self.echo() for _ in range(500)])
        self.assertEqual({result["status"] for result in reply["results"]}, {"accepted"})
        ids = [result["id"] for result in reply["results"]]
        self.assertEqual({ended["state"] for ended in self.client.wait(ids).values()}, {"completed"})

    def test_priority_respected_in_the_pool(self):
        busy = self.sleepers(SLOTS)
        low, high = self.client.submit(json_job("sleep", FOREVER, priority="low"),
                                       json_job("sleep", FOREVER, priority="critical"))
        self.cancel(busy[:1])
        self.client.until_state(high, "running")
        self.assertEqual(self.state(low), "queued")
        self.cancel([low, high, *busy[1:]])


if __name__ == "__main__":
    unittest.main()
