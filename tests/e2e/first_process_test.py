"""A node that is the first process of its namespace, as in a container."""

import os
import subprocess
import unittest

from cluster import Story, below, is_running, job, json_job, until

TASKS = """
[task.escape]
program = ["sh", "-c", "setsid sleep 600 & setsid sleep 600 & echo $$"]

[task.sleep]
run = "isolate"

[task.count]
run = "isolate"
"""


def parent_and_state(pid):
    with open(f"/proc/{pid}/stat") as stat:
        state, parent = stat.read().rsplit(")", 1)[1].split()[:2]
    return int(parent), state


@unittest.skipIf(os.geteuid() != 0, "a pid namespace needs root")
class FirstProcess(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()
        config = self.cluster.write("node.toml", TASKS)
        self.outside = self.cluster.start_worker(
            "--config", config, "--concurrency", 4, inside=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"))
        self.client.until_workers(1)
        [self.node] = [pid for pid in below(self.outside.pid) if parent_and_state(pid)[0] == self.outside.pid]

    def children(self):
        found = {}
        for pid in below(self.node):
            try:
                parent, state = parent_and_state(pid)
            except FileNotFoundError:
                continue
            if parent == self.node:
                found[pid] = state
        return found

    def test_orphans_of_its_container_are_waited_for(self):
        before = self.children()
        subprocess.run(["nsenter", "-t", str(self.node), "--pid", "--mount", "sh", "-c", "sleep 0.2 & sleep 0.1 &"],
                       check=True)
        until(lambda: self.children() == before)
        self.assertEqual(len(before), 1)  # the node itself

    def test_it_drains_at_a_sigterm_and_nothing_is_left(self):
        ids = self.client.submit(*[job("escape") for _ in range(4)])
        self.assertEqual({ended["state"] for ended in self.client.wait(ids).values()}, {"completed"})
        self.assertNotIn("sleep", below(self.node).values())
        [job_id] = self.client.submit(json_job("count", {"to": 30, "ms": 20}))
        redis = self.cluster.redis()
        until(lambda: redis.hash(f"job:{job_id}").get("checkpoint"))  # it is under way
        os.kill(self.node, 15)
        self.assertEqual(self.outside.exit_code(), 0)
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "completed")

    def test_all_of_it_is_gone_with_it(self):
        [job_id] = self.client.submit(json_job("sleep", 600_000))
        self.client.until_state(job_id, "running")  # for the broker: the node may not have it yet
        until(lambda: "sluice-isolate" in below(self.node).values())
        started = below(self.node)
        os.kill(self.node, 9)
        until(lambda: not any(is_running(pid) for pid in started))


if __name__ == "__main__":
    unittest.main()
