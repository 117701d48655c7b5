"""What attempts have used, in real nodes: as it was measured it stands in Redis and in `sluice get`."""

import json
import re
import subprocess
import unittest

from cluster import BIN, Story, clean_environment, job, json_job

MIB = 1 << 20
# Each kind does what it can: the program burns 0.2 s and has 128 MiB; `echo` and `crash` nearly nothing.
PROGRAM = """
import json, os, sys, time
while time.process_time() < 0.2: pass
held = b"x" * (128 << 20)
if "kept" in sys.argv:
    for line in sys.stdin:
        print(json.dumps({"result": json.loads(line)["payload"]}), flush=True)
"""
TASKS = """
[task.exec]
program = ["/usr/bin/python3", "{program}"]

[task.kept]
run = "kept"
program = ["/usr/bin/python3", "{program}", "kept"]

[task.isolate]
run = "isolate"
handler = "echo"

[task.crash]
run = "isolate"
"""


class Usage(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()
        text = TASKS.format(program=self.cluster.write("program.py", PROGRAM))
        self.cluster.start_worker("--config", self.cluster.write("node.toml", text))

    def attempt(self, submitted):
        """The only attempt of a job, as it stands in Redis; `sluice get` shows the same."""
        [job_id] = self.client.submit({**submitted, "max_retries": 0})
        self.client.wait([job_id])
        redis = self.cluster.redis()
        redis.until_view_is_complete()
        [record] = json.loads(redis.hash(f"job:{job_id}")["attempts"])
        [shown] = json.loads(self.sluice_get(job_id, "--json"))["attempts"]
        for name in ("started_ms", "ended_ms", "cpu_ms", "rss_bytes_max"):
            self.assertEqual(shown.get(name), record.get(name), name)
        self.check_words(self.sluice_get(job_id), record)
        self.assertGreaterEqual(record["ended_ms"], record["started_ms"])
        return record

    def sluice_get(self, *arguments):
        environment = {**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0]}
        done = subprocess.run([BIN / "sluice", "get", *arguments], env=environment, text=True, capture_output=True)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def check_words(self, text, record):
        said = re.search(r"^usage +[0-9.]+ m?s(.*)$", text, re.M)[1]
        self.assertEqual(" CPU" in said, "cpu_ms" in record)
        self.assertEqual("iB at its peak" in said, "rss_bytes_max" in record)

    def test_of_programs_the_cpu_time_and_the_peak_memory(self):
        for task in ("exec", "kept"):
            record = self.attempt(json_job(task, {}))
            self.assertGreaterEqual(record["cpu_ms"], 200, task)
            self.assertGreaterEqual(record["rss_bytes_max"], 128 * MIB, task)

    def test_of_isolates_as_well_also_when_they_crash(self):
        for task, outcome in (("isolate", "completed"), ("crash", "failed")):
            record = self.attempt(json_job(task, {}))
            self.assertEqual(record["outcome"], outcome)
            self.assertGreater(record["rss_bytes_max"], 0, task)

    def test_of_a_thread_its_cpu_time_and_no_memory_which_is_the_node_s(self):
        self.cluster.start_worker(program="shout_worker")
        record = self.attempt(job("shout", b"x" * MIB))
        self.assertGreater(record["cpu_ms"], 0)
        self.assertNotIn("rss_bytes_max", record)


if __name__ == "__main__":
    unittest.main()
