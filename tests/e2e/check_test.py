"""`sluice-worker --check`: what a running node says of itself."""

import signal
import subprocess
import unittest

from cluster import BIN, PATIENCE, Story, clean_environment, free_ports, json_job, until


class Check(Story):
    def check(self, *words, **environment):
        return subprocess.run([BIN / "sluice-worker", "--check", *words], timeout=PATIENCE, text=True,
                              capture_output=True, env={**clean_environment(), **environment})

    def test_a_node_is_asked_by_its_state_directory_or_its_name(self):
        self.cluster.start_broker()
        client = self.cluster.client()
        state = str(self.cluster.folder / "state")
        worker = self.cluster.start_worker("--concurrency", "2", "--state-dir", state, name="n1")
        until(lambda: self.check("--state-dir", state).returncode == 0, "the node is not well")
        [job_id] = client.submit(json_job("sleep", 600_000))
        client.until_state(job_id, "running")
        said = until(lambda: [it] if " running=1 " in (it := self.check(SLUICE_STATE_DIR=state).stdout) else None)[0]
        self.assertRegex(said, r"^node=n1@[0-9a-f]{8} broker=tcp://127.0.0.1:\d+ connected=yes draining=no "
                               r"running=1 concurrency=2 unacknowledged=0\n$")
        other = self.check("--name", "nobody-of-this-name")
        self.assertEqual((other.returncode, other.stdout), (1, ""))
        self.assertEqual(other.stderr, "sluice-worker: nobody-of-this-name: no node answers here: is it running, as this user, "
                                       "and with this --name or --state-dir?\n")
        worker.signal(signal.SIGSTOP)
        hung = self.check("--state-dir", state)
        worker.signal(signal.SIGCONT)
        self.assertEqual(hung.returncode, 1)
        self.assertIn("the node does not answer: it is stopped, starved, or hangs", hung.stderr)

    def test_a_node_without_a_broker_says_so(self):
        state = str(self.cluster.folder / "state")
        self.cluster.start_worker("--state-dir", state, "--broker", f"tcp://127.0.0.1:{free_ports(1)[0]}")
        alone = until(lambda: [it] if (it := self.check("--state-dir", state)).stdout else None)[0]
        self.assertEqual(alone.returncode, 69)
        self.assertIn(" connected=no ", alone.stdout)


if __name__ == "__main__":
    unittest.main()
