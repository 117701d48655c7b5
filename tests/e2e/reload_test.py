"""SIGHUP: a node reads its task table again."""

import os
import pty
import signal
import subprocess
import unittest

from cluster import Story, job, until

FIRST = """
[task.version]
program = ["echo", "1"]

[task.gate]
program = ["sh", "-c", "echo begun >&2; cat gate >/dev/null; echo 1"]

[task.gone]
program = ["echo", "never"]
"""
SECOND = """
[task.version]
program = ["echo", "2"]

[task.gate]
program = ["echo", "2"]

[task.echo]
run = "isolate"

[task.kept]
run = "kept"
program = ["sed", "-u", "s/.*/{\\"result\\": 2}/"]
"""


class Reload(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def start_node(self, text, concurrency=4):
        path = self.cluster.write("node.toml", text)
        self.node = self.cluster.start_worker("--config", path, "--concurrency", concurrency)
        self.client.until_workers(1)

    def reload(self, text, said="tasks_read "):
        self.cluster.write("node.toml", text)
        begin = len(self.node.lines)
        self.node.signal(signal.SIGHUP)
        return self.node.line(said, begin)

    def run_one(self, task, payload=None):
        [job_id] = self.client.submit(job(task, payload))
        return self.client.wait([job_id])[job_id]

    def test_what_begins_is_run_as_the_table_says_now_and_what_runs_as_it_began(self):
        gate = str(self.cluster.write("gate-of", "")) + ".fifo"
        os.mkfifo(gate)
        self.start_node(FIRST.replace("gate >", f"{gate} >"))
        [running] = self.client.submit(job("gate"))
        self.client.until_state(running, "running")
        self.assertEqual(self.run_one("version")["result"], b"1\n")
        self.reload(SECOND)
        until(lambda: self.client.workers()[0]["tasks"] == ["echo", "gate", "kept", "version"])
        self.assertEqual(self.run_one("version")["result"], b"2\n")
        self.assertEqual(self.run_one("gate")["result"], b"2\n")
        self.assertEqual(self.run_one("echo", b"isolated")["result"], b"isolated")
        self.assertEqual(self.run_one("kept")["state"], "completed")
        self.assertEqual(self.client.get(running)["state"], "running")
        with open(gate, "w"):
            pass
        ended = self.client.wait([running])[running]
        self.assertEqual((ended["result"], ended["attempt"]), (b"1\n", 1))
        for _ in range(10):  # (the log takes 20 lines of a kind a second) tables before it end with what they ran
            self.reload(SECOND)
        self.assertEqual(self.run_one("echo", b"still")["result"], b"still")
        self.assertEqual(self.node.stop(), 0)

    def test_a_task_that_is_withdrawn_keeps_its_jobs_for_another_node(self):
        self.start_node(FIRST, concurrency=1)
        self.reload(SECOND)
        until(lambda: "gone" not in self.client.workers()[0]["tasks"])
        [waiting] = self.client.submit(job("gone"))
        self.assertEqual(self.run_one("version")["result"], b"2\n")
        self.assertEqual(self.client.get(waiting)["state"], "queued")
        self.reload(FIRST)
        self.assertEqual(self.client.wait([waiting])[waiting]["state"], "completed")

    def test_a_table_with_a_mistake_is_refused_and_the_one_before_stays(self):
        self.start_node(FIRST)
        for wrong, where in (("[task.version]\nprogam = ['x']", "task.version.program"), ("[task", "node.toml"),
                             ("[task.v]\nrun = 'isolate'\nhandler = 'none'", "task.v.handler")):
            self.assertIn(where, self.reload(wrong, "tasks_not_read "))
        self.assertEqual(self.run_one("version")["result"], b"1\n")

    def test_a_node_that_began_without_programs_says_that_it_can_have_none(self):
        self.start_node("[task.noop]\nrun = 'thread'\n")
        self.assertIn("started again", self.reload(SECOND, "tasks_not_read "))
        self.assertEqual(self.run_one("noop")["state"], "completed")
        self.reload("[task.nothing]\nrun = 'thread'\nhandler = 'noop'\n")
        self.assertEqual(self.run_one("nothing")["state"], "completed")

    def test_a_node_whose_terminal_is_closed_leaves(self):
        ours, theirs = pty.openpty()
        node = subprocess.Popen(
            ["setsid", "--ctty", "--wait", os.path.join(os.environ["SLUICE_BIN"], "sluice-worker"), "--broker",
             self.cluster.addresses[1]],
            stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.addCleanup(node.kill)
        self.client.until_workers(1)
        os.close(ours)
        self.assertEqual(node.wait(20), 0)
        self.assertEqual(self.client.workers(), [])


if __name__ == "__main__":
    unittest.main()
