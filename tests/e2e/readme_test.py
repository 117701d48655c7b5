"""README.md, executed: every block marked `run=NAME` goes through shell, Python or compiler as it
stands, in the order of the page, on one cluster. Only the literal address of the smallest producer
is replaced; ports and data directory come from the environment, as a user may set them."""

import os
import re
import signal
import subprocess
import unittest

from cluster import BIN, PATIENCE, ROOT, Cluster, clean_environment, free_ports

BLOCK = re.compile(r"^```(\w+) run=(\w+)\n(.*?)^```$", re.M | re.S)
PYTHON = "/usr/bin/python3"


class Readme(unittest.TestCase):
    def setUp(self):
        page = (ROOT / "README.md").read_text()
        self.blocks = {name: text for _, name, text in BLOCK.findall(page)}
        self.cluster = Cluster("private")
        self.addCleanup(self.clean_up)
        self.folder = self.cluster.folder
        (self.folder / "build" / "release").mkdir(parents=True)
        (self.folder / "build" / "release" / "bin").symlink_to(BIN)
        self.producers, workers, events = (f"tcp://127.0.0.1:{port}" for port in free_ports(3))
        self.environment = {
            **clean_environment(),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "producer" / "python"),
            "SLUICE_PRODUCERS": self.producers,
            "SLUICE_WORKERS": workers,
            "SLUICE_EVENTS": events,
            "SLUICE_DATA": str(self.cluster.data),
            "SLUICE_BROKER": self.producers,
            "SLUICE_WORKER_BROKER": workers,
        }
        self.pids = {}  # what the blocks called BROKER and WORKER, all of them

    def clean_up(self):
        brokers = self.pids.pop("BROKER", [])
        for pid in [pid for pids in self.pids.values() for pid in pids] + brokers:
            self.end(pid)
        self.cluster.close()

    def end(self, pid):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=PATIENCE)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def command(self, words):
        """Its output; to a file, which what it leaves in the background may keep open."""
        out = self.folder / "output"
        with out.open("wb") as file:
            done = subprocess.run(words, cwd=self.folder, env=self.environment,
                                  timeout=2 * PATIENCE, stdin=subprocess.DEVNULL, stdout=file,
                                  stderr=subprocess.STDOUT)
        said = out.read_text(errors="replace")
        self.assertEqual(done.returncode, 0, f"{words}\n{said}\n{self.logs()}")
        return said

    def logs(self):
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}"
                         for log in self.folder.glob("*.log"))

    def shell(self, name):
        """Runs a block; the variables of pids that it sets are known to the later blocks."""
        end = "\necho PIDS BROKER=${BROKER:-} WORKER=${WORKER:-}\n"
        said = self.command(["bash", "-euc", self.blocks[name] + end])
        for variable, pid in re.findall(r"(BROKER|WORKER)=(\d+)", said.rpartition("PIDS")[2]):
            self.environment[variable] = pid
            self.pids.setdefault(variable, []).append(int(pid))
        return said.rpartition("PIDS")[0]

    def background(self, words):
        with (self.folder / "handler.log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.folder, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)

    def test_every_block_does_what_the_page_says(self):
        self.shell("start")
        said = self.shell("shell")
        self.assertIn("completed", said)
        self.assertIn("mail-7", said)

        producer = self.blocks["python"].replace("tcp://127.0.0.1:7711", self.producers)
        self.assertEqual(len(producer.splitlines()), 6)
        self.assertIn("'status': 'accepted'", self.command([PYTHON, "-c", producer]))
        self.command([str(BIN / "readme_cpp_submit")])

        (self.folder / "node.toml").write_text(self.blocks["program"])
        self.assertIn("/etc/passwd", self.shell("program_use"))
        self.background([PYTHON, "-c", self.blocks["python_worker"]])
        self.assertIn("HELLO", self.command(["sluice", "submit", "shout", '"hello"', "--wait"]))
        self.background([str(BIN / "readme_cpp_worker")])
        said = self.command(["sluice", "submit", "size", '"hello"', "--wait", "--json"])
        self.assertIn("7", said)

        said = self.shell("operate")
        for word in ("files", "py", "default", "paused"):
            self.assertIn(word, said)
        self.command(["sluice", "wait", "mail-7"])
        said = self.shell("redis")
        for word in ("state", "completed", "submitted"):
            self.assertIn(word, said.split())
        self.assertIn("completed", self.shell("backup"))

    def test_every_block_is_run(self):
        known = {"start", "shell", "python", "cpp_submit", "program", "program_use",
                 "python_worker", "cpp_worker", "operate", "redis", "backup"}
        self.assertEqual(set(self.blocks), known)


if __name__ == "__main__":
    unittest.main()
