"""Programs that stay, in real nodes: those of worker/README.md as they stand there, killed, cancelled."""

import re
import signal
import unittest

from cluster import ROOT, Story, below, is_running, json_job, until

BLOCK = re.compile(r"^```\w+ run=(kept_\w+)\n(.*?)^```$", re.M | re.S)


class KeptPrograms(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def start_node(self, script, *more):
        """With the task `t`: a program in shell, which does this for every line."""
        self.cluster.write("program.sh", f"while read -r line; do {script}; done\n")
        text = f'[task.t]\nrun = "kept"\nprogram = ["sh", "program.sh"]\ncwd = "{self.cluster.folder}"\n'
        return self.cluster.start_worker("--config", self.cluster.write("node.toml", text), *more)

    def test_those_of_the_readme_do_what_it_says(self):
        blocks = dict(BLOCK.findall((ROOT / "worker" / "README.md").read_text()))
        self.assertLessEqual(max(len(blocks[name].splitlines()) for name in ("kept_python", "kept_shell")), 15)
        self.cluster.write("upper.py", blocks["kept_python"])
        self.cluster.write("upper.sh", blocks["kept_shell"])
        text = blocks["kept_toml"].replace('run = "kept"\n', f'run = "kept"\ncwd = "{self.cluster.folder}"\n')
        worker = self.cluster.start_worker("--config", self.cluster.write("node.toml", text))
        for task in ("upper", "upper-sh"):
            ids = self.client.submit(*[json_job(task, {"text": f"hello {n}"}) for n in range(20)])
            views = self.client.wait(ids)
            self.assertEqual([views[each]["result"] for each in ids], [b"HELLO %d" % n for n in range(20)])
            [bad] = self.client.submit(json_job(task, {"words": 1}))
            view = self.client.wait([bad])[bad]
            self.assertEqual((view["state"], view["error_code"], view["retry_count"]), ("failed", "no_text", 0))
        self.assertEqual(worker.stop(), 0)

    def test_a_killed_one_costs_its_attempt_and_the_job_is_run_by_the_next(self):
        worker = self.start_node('test -e once && echo \'{"result":"second"}\' || { touch once; sleep 600; }')
        [job_id] = self.client.submit(json_job("t", 1, max_retries=1, retry={"base_ms": 1, "jitter": 0.0}))

        def named(name):
            return [pid for pid, of in below(worker.pid).items() if of == name]

        [sleeper] = until(lambda: named("sleep"))
        [program] = named("sh")
        self.cluster.kill_pid(program)
        view = self.client.wait([job_id])[job_id]
        self.assertEqual((view["state"], view["result"], view["retry_count"]), ("completed", b"second", 1))
        until(lambda: not is_running(sleeper), "what the killed program started is left")
        self.assertEqual(worker.stop(), 0)

    def test_a_cancelled_job_ends_and_the_program_serves_the_next(self):
        worker = self.start_node('case $line in *wait*) read -r stop; echo \'{"error":"stopped"}\';; '
                                 '*) echo "{\\"result\\":\\"$$\\"}";; esac', "--concurrency", 1)
        [first] = self.client.submit(json_job("t", "go"))
        pid = self.client.wait([first])[first]["result"]
        [job_id] = self.client.submit(json_job("t", "wait"))
        self.client.until_state(job_id, "running")
        self.client.ask("cancel", ids=[job_id])
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "cancelled")
        [after] = self.client.submit(json_job("t", "go"))
        self.assertEqual(self.client.wait([after])[after]["result"], pid)
        self.assertEqual(worker.stop(), 0)

    def test_a_killed_node_leaves_no_program(self):
        worker = self.start_node("setsid sleep 600 & sleep 600")
        [job_id] = self.client.submit(json_job("t", 1))
        left = until(lambda: (found := below(worker.pid)) and
                     list(found.values()).count("sleep") == 2 and found)
        worker.signal(signal.SIGKILL)
        until(lambda: not any(is_running(pid) for pid in left), "processes outlive their node")
        self.client.until_state(job_id, "queued", lost_count=1)


if __name__ == "__main__":
    unittest.main()
