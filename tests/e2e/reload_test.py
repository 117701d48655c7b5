"""SIGHUP: a node reads its task table again."""

import os
import pty
import signal
import subprocess
import unittest

from cluster import BIN, Story, job, json_job, until

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

    def start_at_a_terminal(self, *before):
        """The process, and our end of its terminal."""
        ours, theirs = pty.openpty()
        node = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *before, BIN / "sluice-worker", "--broker", self.cluster.addresses[1]],
            stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.addCleanup(node.wait)
        self.addCleanup(node.kill)
        self.client.until_workers(1)
        return node, ours

    def test_a_node_whose_terminal_is_closed_leaves(self):
        node, terminal = self.start_at_a_terminal()
        os.close(terminal)
        self.assertEqual(node.wait(20), 0)
        self.assertEqual(self.client.workers(), [])

    def test_one_that_is_to_survive_that_does(self):
        node, terminal = self.start_at_a_terminal("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
        os.close(terminal)
        self.assertEqual(self.run_one("echo", b"here")["result"], b"here")
        node.terminate()
        self.assertEqual(node.wait(20), 0)

    @unittest.skipIf(os.geteuid() != 0, "a pid namespace needs root")
    def test_ctrl_c_reaches_the_node_of_a_container_once(self):
        node, terminal = self.start_at_a_terminal("unshare", "--pid", "--fork", "--mount-proc")
        self.addCleanup(os.close, terminal)
        [job_id] = self.client.submit(json_job("count", {"to": 50, "ms": 20}))
        redis = self.cluster.redis()
        until(lambda: redis.hash(f"job:{job_id}").get("checkpoint"))  # it is under way
        os.write(terminal, b"\x03")
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["attempt"]), ("completed", 1))  # it drained
        self.assertEqual(node.wait(20), 0)


if __name__ == "__main__":
    unittest.main()
