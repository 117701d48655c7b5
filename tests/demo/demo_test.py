"""The demo against the programs in SLUICE_BIN, shortened: what it says of good work and of a lie,
and that nothing of it is left, whichever way it ends."""

import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = os.environ["SLUICE_BIN"]
SHORT = ["--checksums", "60", "--analyses", "20", "--crashers", "10", "--slow-ms", "400"]
PATIENCE = 240


class Demo(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-dt-")
        self.addCleanup(self._folder.cleanup)
        self.folder = Path(self._folder.name)

    def begin(self, *options):
        command = ["/usr/bin/python3", "-B", str(HERE / "demo.py"), "--bin", BIN, *SHORT, *options]
        environment = {**os.environ, "TMPDIR": str(self.folder), "NO_COLOR": "1"}
        return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def finish(self, process):
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
            self.fail(f"it does not end; it said:\n{said}")
        return said

    def assert_nothing_is_left(self):
        self.assertEqual(list(self.folder.iterdir()), [])
        mark = str(self.folder).encode()
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in text:
                left.append((entry.name, text[:120]))
        self.assertEqual(left, [])

    def check_crashes(self, said):
        """Five jobs crash once, five twice, less often only where n8 was killed first. The nodes that live
        count what their jobs say, and each has an isolate."""
        crashed, alive, ended, gone = re.search(
            r"own figures:\n  (.*); there now: (.*)\. By the jobs (\d+) crashed,\n  (\d+) of them", said).groups()
        by_node = {name: int(count) for name, count in re.findall(r"(n\d) (\d+)", crashed)}
        self.assertEqual(list(by_node), ["n2", "n4", "n8"])
        self.assertEqual(sum(by_node.values()) + int(gone), int(ended))
        self.assertTrue(5 < int(ended) <= 15, said)
        self.assertTrue(all(int(count) > 0 for count in re.findall(r"n\d (\d+)", alive)), said)
        self.assertRegex(said, r"fragile +10 +10 +[1-9]")

    def test_it_says_that_all_is_well_when_a_node_is_killed_and_all_is_well(self):
        demo = self.begin()
        said = self.finish(demo)
        self.assertEqual(demo.returncode, 0, said)
        for words in ("killed n8", "started n8 again", "Redis has the same totals:\n  submitted 90, "
                      "completed 90, failed 0", "60 checksums are those of hashlib",
                      "10 fragile jobs ended well after their handler had crashed"):
            self.assertIn(words, said)
        self.check_crashes(said)
        self.assertNotIn("\033", said)
        self.assert_nothing_is_left()

    def test_it_names_the_result_of_a_worker_that_lies(self):
        demo = self.begin("--liar")
        said = self.finish(demo)
        self.assertEqual(demo.returncode, 1, said)
        self.assertRegex(said, r"wrong result of job file-\d+ on node n4: sha256 of /usr/")
        self.assertNotIn("every result is right", said)
        self.assert_nothing_is_left()

    def test_an_interrupt_leaves_nothing_behind(self):
        demo = self.begin()
        for line in demo.stdout:
            if "checksum" in line:
                break
        demo.send_signal(signal.SIGINT)
        said = self.finish(demo)
        self.assertEqual(demo.returncode, 130, said)
        self.assert_nothing_is_left()

    def check_what_it_says_how_to_talk(self, said):
        """The commands as printed: events come, and the node beside the demo's does its work."""
        environment = {**os.environ, **dict(re.findall(r"export (\w+)=(\S+)", said))}

        def sluice(*words):
            done = subprocess.run([f"{BIN}/sluice", *words], env=environment, text=True,
                                  capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        events = subprocess.Popen([f"{BIN}/sluice", "events", "--count", "1", "--timeout", "60s"],
                                  env=environment, stdout=subprocess.DEVNULL)
        while events.poll() is None:  # the first may come before it listens
            sluice("submit", "checksum", "path=/etc/hostname", "--wait")
        self.assertEqual(events.returncode, 0)
        command = re.search(r"^ +(\S+/sluice-worker .*\\\n.*)$", said, re.M)[1]
        node = subprocess.Popen(["sh", "-c", f"exec {command}"], text=True, stderr=subprocess.PIPE)
        self.addCleanup(node.stderr.close)
        self.addCleanup(node.wait)
        self.addCleanup(node.terminate)
        self.assertTrue(any("broker_welcomed" in line for line in node.stderr))
        for name in ("n2", "n4", "n8"):
            sluice("drain", name)
        sluice("submit", "checksum", "path=/etc/hostname", "--id", "mine", "--wait")
        self.assertRegex(sluice("get", "mine", "--json"), r'"node": ?"n1@')
        node.terminate()
        node.wait(PATIENCE)

    def test_what_it_keeps_can_be_stopped_by_one_command(self):
        demo = self.begin("--keep")
        said = self.finish(demo)
        self.assertEqual(demo.returncode, 0, said)
        [directory] = self.folder.iterdir()
        self.check_what_it_says_how_to_talk(said)
        stop = said.strip().splitlines()[-1].strip()
        self.assertIn(f"--stop {directory}", stop)
        subprocess.run(["sh", "-c", stop], check=True, timeout=PATIENCE)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
