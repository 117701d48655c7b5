"""A checkpoint: Task::checkpoint returns when it is recorded, and whatever happens then, the next
attempt goes on from there."""

import json
import unittest

from cluster import Story, json_job, until

TASKS = """
[task.in_an_isolate]
run = "isolate"
handler = "count"

[task.on_a_thread]
run = "thread"
handler = "count"

[task.program]
program = ["sh", "-c", '''
echo '{"progress": 10, "checkpoint": "half way"}' >&3
if [ "$SLUICE_CHECKPOINT" ]; then printf "%s" "$SLUICE_CHECKPOINT"; else sleep 600; fi''']

[task.kept]
run = "kept"
program = ["/usr/bin/python3", "-u", "-c", '''
import json, sys, time
for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps({"progress": 10, "checkpoint": "half way"}))
    if not job.get("checkpoint"):
        time.sleep(600)
    print(json.dumps({"result": job["checkpoint"]}))''']
"""


class Checkpoints(Story):
    def setUp(self):
        super().setUp()
        self.broker = self.cluster.start_broker()
        self.client = self.cluster.client()
        self.redis = self.cluster.redis()
        self.config = self.cluster.write("node.toml", TASKS)
        self.node = self.start_node("first")

    def start_node(self, name):
        return self.cluster.start_worker("--config", self.config, "--concurrency", 4, name=name)

    def recorded(self, job_id):
        return self.redis.hash(f"job:{job_id}").get("checkpoint", "")

    def result(self, ended, job_id):
        return json.loads(ended[job_id]["result"])

    def count(self, task, **more):
        [job_id] = self.client.submit(json_job(task, {"to": 100, "ms": 20}, **more))
        return job_id

    def place(self, job_id):
        """Where it stands by Redis, once it has begun."""
        return int(until(lambda: self.recorded(job_id)))

    def test_a_killed_node_s_handlers_go_on_from_what_was_recorded(self):
        ids = [self.count("in_an_isolate"), self.count("on_a_thread")]
        places = [self.place(job_id) for job_id in ids]
        self.node.kill()
        self.start_node("second")
        ended = self.client.wait(ids)
        for job_id, place in zip(ids, places):
            self.assertEqual((ended[job_id]["state"], ended[job_id]["attempt"]), ("completed", 2))
            self.assertGreaterEqual(self.result(ended, job_id)["from"], place)

    def test_a_killed_node_s_programs_get_what_they_had_saved(self):
        ids = self.client.submit(json_job("program", None), json_job("kept", None))
        for job_id in ids:
            until(lambda: self.recorded(job_id))
        self.node.kill()
        self.start_node("second")
        ended = self.client.wait(ids)
        self.assertEqual([ended[job_id]["result"].strip(b'"') for job_id in ids], [b"half way"] * 2)

    def test_a_handler_s_wait_outlives_the_broker(self):
        ids = [self.count("in_an_isolate"), self.count("on_a_thread")]
        for job_id in ids:
            self.place(job_id)
        self.broker.kill()
        self.cluster.start_broker()
        ended = self.client.wait(ids)
        for job_id in ids:
            self.assertEqual((ended[job_id]["state"], ended[job_id]["attempt"]), ("completed", 1))
            self.assertEqual(self.result(ended, job_id), {"from": 0, "to": 100})

    def test_a_handler_that_is_asked_to_leave_has_saved_its_place(self):
        ids = [self.count("in_an_isolate"), self.count("on_a_thread")]
        places = [self.place(job_id) for job_id in ids]
        self.node.signal(15)
        self.node.line("drain_begun")
        self.node.signal(15)
        self.start_node("second")
        ended = self.client.wait(ids)
        for job_id, place in zip(ids, places):
            self.assertEqual((ended[job_id]["state"], ended[job_id]["retry_count"]), ("completed", 0))
            self.assertGreaterEqual(self.result(ended, job_id)["from"], place)


if __name__ == "__main__":
    unittest.main()
