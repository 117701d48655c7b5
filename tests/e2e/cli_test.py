"""The `sluice` command as a script uses it: exit statuses, JSON, pipes."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import unittest
from pathlib import Path

from cluster import BIN, PATIENCE, ROOT, Gate, Story, clean_environment, free_ports, until

OK, FAILED, USAGE, NOT_FOUND, UNAVAILABLE, TRY_AGAIN, TIMEOUT = 0, 1, 2, 4, 69, 75, 124


class CommandLine(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()

    def sluice(self, *arguments, status=OK, stdin=b"", broker=None):
        """What it says on stdout, once it has ended with `status`."""
        done = subprocess.run(
            [BIN / "sluice", *map(str, arguments)], input=stdin, capture_output=True,
            timeout=2 * PATIENCE,
            env={**clean_environment(), "SLUICE_BROKER": broker or self.cluster.addresses[0],
                 "SLUICE_EVENTS": self.cluster.addresses[2]})
        self.error = done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{arguments}\n{done.stdout}\n{self.error}")
        return done.stdout.decode()

    def ask(self, *arguments, **more):
        return json.loads(self.sluice(*arguments, "--json", **more))

    def start_worker(self, *arguments):
        self.cluster.start_worker("--concurrency", "2", *arguments)
        self.cluster.client().until_workers(1)

    def test_a_directory_on_stdin_is_no_payload(self):
        folder = os.open(self.cluster.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        done = subprocess.run([BIN / "sluice", "submit", "echo", "-"], stdin=folder,
                              capture_output=True, timeout=PATIENCE,
                              env={**clean_environment(),
                                   "SLUICE_BROKER": self.cluster.addresses[0]})
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(b"stdin: cannot be read", done.stderr)

    def test_a_job_from_submit_to_its_result(self):
        self.start_worker("--builtin", "echo,fail")
        done = self.ask("submit", "echo", "text=hello", "n=3", "--tag", "AAPL", "--wait")
        self.assertEqual((done["state"], done["result"]), ("completed", {"text": "hello", "n": 3}))
        job_id = self.sluice("submit", "echo", "-", "--content-type", "text/plain",
                             stdin=b"from a pipe").strip()
        self.assertEqual(self.ask("wait", job_id, "--for", "60s")["result"], "from a pipe")
        self.assertIn("completed", self.sluice("get", job_id))
        self.sluice("get", job_id, "nobody", status=NOT_FOUND)

        listed = until(lambda: self.ask("list", "--state", "completed", "--tag", "AAPL")["jobs"])
        self.assertEqual([job["id"] for job in listed], [done["id"]])
        self.assertEqual(self.ask("list", "--tag", "AAPL")["jobs"], listed)  # of every state

    def test_a_failed_job_is_1_and_can_be_queued_anew(self):
        self.start_worker("--builtin", "fail")
        failed = self.ask("submit", "fail", "code=no", "--max-retries", "1", "--retry", "base=1ms",
                          "--id", "f1", "--wait", status=FAILED)
        self.assertEqual((failed["retry_count"], len(failed["attempts"])), (1, 2))
        self.assertEqual(self.ask("retry", "f1")["results"][0]["status"], "retried")
        self.sluice("wait", "f1", status=FAILED)
        self.sluice("cancel", "f1", status=FAILED)  # too late
        self.assertEqual(self.ask("delete", "f1")["results"][0]["status"], "deleted")
        self.sluice("delete", "nobody", status=NOT_FOUND)

    def test_a_submit_again_is_the_same_job_and_other_content_is_refused(self):
        self.assertEqual(self.ask("submit", "echo", "a=1", "--id", "j")["status"], "accepted")
        self.assertEqual(self.ask("submit", "echo", "a=1", "--id", "j")["status"], "duplicate")
        self.sluice("submit", "echo", "a=2", "--id", "j", status=FAILED)
        self.sluice("wait", "j", "--for", "1ms", status=TIMEOUT)

    def test_a_running_job_is_cancelled_with_its_reason(self):
        gate = Gate(self.cluster.folder)
        self.addCleanup(gate.release)
        self.start_worker("--config", self.cluster.write("node.toml", gate.task))
        self.sluice("submit", "gated", "--id", "g1")
        gate.until_running(1)
        self.assertEqual(self.ask("workers")["workers"][0]["running"], 1)
        done = self.ask("cancel", "g1", "--reason", "wrong date")["results"][0]
        self.assertEqual(done["status"], "cancelling")
        ended = self.ask("wait", "g1", status=FAILED)
        self.assertEqual((ended["state"], ended["cancel_reason"]), ("cancelled", "wrong date"))

    def test_a_queue_is_paused_purged_and_resumed(self):
        self.start_worker("--builtin", "echo")
        self.sluice("pause", "mail")
        self.sluice("submit", "echo", "a=1", "-q", "mail", "--id", "m1")
        self.sluice("submit", "echo", "a=1", "-q", "mail", "--id", "m2")
        queue = next(q for q in self.ask("queues")["queues"] if q["queue"] == "mail")
        self.assertEqual((queue["paused"], queue["queued"]), (True, 2))
        self.assertEqual(self.ask("purge", "mail")["count"], 2)
        self.sluice("wait", "m1", "m2", status=FAILED)
        self.sluice("submit", "echo", "a=1", "-q", "mail", "--id", "m3")
        self.sluice("resume", "mail")
        self.sluice("wait", "m3")
        self.assertEqual(self.ask("stats")["completed"], 1)

    def test_a_queue_that_nobody_knows_is_named_with_those_there_are(self):
        self.sluice("submit", "echo", "-q", "mail")
        for command in ("resume", "purge"):
            self.sluice(command, "maill", status=NOT_FOUND)
            self.assertIn("no job was ever in 'maill'; the queues are: mail", self.error)
        self.sluice("pause", "later")  # before its first job: may be meant
        self.assertIn("no job was ever in 'later'", self.error)
        self.sluice("pause", "later")
        self.assertEqual(self.error, "")

    def test_a_refusal_that_passes_is_75_and_says_to_send_it_again(self):
        self.sluice("submit", "echo", "-q", "full")
        self.cluster.broker.stop()
        self.cluster.start_broker("--queue-max", "1")
        self.sluice("submit", "echo", "-q", "full", status=TRY_AGAIN)
        self.assertIn("sluice: queue: the queue holds as many waiting jobs as it may", self.error)
        lines = "\n".join(json.dumps({"task": "echo", "queue": "full"}) for _ in range(3))
        done = self.ask("submit", "--jsonl", "-", stdin=lines.encode(), status=TRY_AGAIN)
        self.assertEqual(done["refused"], 3)
        self.sluice("submit", "--jsonl", "-", stdin=f"{lines}\nno json".encode(), status=FAILED)

    def test_many_lines_with_bad_ones_between(self):
        self.start_worker("--builtin", "noop")
        lines = [json.dumps({"task": "noop", "id": f"n{n}", "payload": n}) for n in range(3000)]
        lines[10] = "no json"
        lines[2500] = json.dumps({"task": "no good"})
        done = self.ask("submit", "--jsonl", "-", stdin="\n".join(lines).encode(), status=FAILED)
        self.assertEqual((done["lines"], done["accepted"], done["refused"], done["bad_lines"]),
                         (3000, 2998, 1, 1))
        errors = [json.loads(line) for line in self.error.splitlines()]
        self.assertEqual(sorted(error["line"] for error in errors), [11, 2501])
        self.sluice("wait", "n0", "n2999")

        again = self.ask("submit", "--jsonl", "-", stdin="\n".join(lines[20:30]).encode())
        self.assertEqual(again["duplicate"], 10)

    def test_every_page_of_a_long_list(self):
        lines = "\n".join(json.dumps({"task": "noop", "id": f"n{n}"}) for n in range(450))
        self.sluice("submit", "--jsonl", "-", stdin=lines.encode())

        def all_ids():
            said = self.sluice("list", "-s", "queued", "--all", "--json")
            found = [json.loads(line)["id"] for line in said.splitlines()]
            return found if len(found) >= 450 else None  # the view is a little behind
        self.assertEqual(sorted(until(all_ids)), sorted(f"n{n}" for n in range(450)))

    def test_a_drained_node_leaves(self):
        self.start_worker("--builtin", "echo")
        node = self.ask("workers")["workers"][0]["node"]
        self.sluice("drain", "nobody", status=NOT_FOUND)
        self.sluice("drain", node)
        self.cluster.client().until_workers(0)

    def test_events_are_told_as_they_happen(self):
        self.start_worker("--builtin", "echo")
        watcher = subprocess.Popen(
            [BIN / "sluice", "events", "job.completed", "--json", "--count", "1", "--events",
             self.cluster.addresses[2]], stdout=subprocess.PIPE, env=clean_environment())
        self.addCleanup(watcher.stdout.close)
        self.addCleanup(watcher.wait, PATIENCE)
        self.addCleanup(watcher.kill)
        said = []
        reader = threading.Thread(target=lambda: said.append(watcher.stdout.readline()))
        reader.start()
        # A subscriber sees what comes after it has joined; so jobs go on until it says one.
        until(lambda: self.sluice("submit", "echo", "a=1", "--wait") and not reader.is_alive())
        reader.join()
        self.assertEqual(json.loads(said[0])["event"], "job.completed")

    def watch(self, *arguments):
        """`sluice events`, what it says on either stream as lines."""
        return self.cluster.start(
            ["sh", "-c", 'exec "$@" >&2', "sh", BIN / "sluice", "events", "--events",
             self.cluster.addresses[2], *arguments])

    def until_seen(self, watcher, queue):
        """It sees what comes after it has joined; so jobs go on until it says one."""
        until(lambda: self.sluice("submit", "echo", "-q", queue) and
              any(f" {queue}/echo" in line for line in watcher.lines))

    def test_a_watcher_is_told_that_the_broker_went_away_and_came_back(self):
        watcher = self.watch("job.queued")
        self.until_seen(watcher, "before")
        self.cluster.broker.kill()
        watcher.line("went away; waiting for it to come back")
        self.cluster.start_broker()
        watcher.line("the broker is back")
        self.until_seen(watcher, "after")
        self.assertEqual(watcher.stop(), OK)

    def test_a_watcher_leaves_after_a_silence_of_its_timeout(self):
        watcher = self.watch("job.progress", "--timeout", "2s")
        self.assertEqual(watcher.exit_code(), TIMEOUT)
        self.assertIn("no event within 2s", watcher.log())

    def test_what_cannot_be_told_is_no_success(self):
        for how in ('exec "$@" > /dev/full', 'exec "$@" >&-'):
            for arguments in (["stats"], ["submit", "echo"], ["list", "--json"]):
                done = subprocess.run(["sh", "-c", how, "sh", BIN / "sluice", *arguments],
                                      env={**clean_environment(),
                                           "SLUICE_BROKER": self.cluster.addresses[0]},
                                      capture_output=True, timeout=PATIENCE)
                self.assertEqual(done.returncode, 1, (how, arguments, done.stderr))
                self.assertIn(b"cannot be told", done.stderr)

    def test_a_closed_stderr_does_not_change_the_exit_status(self):
        for arguments, status in ((["frob"], USAGE), (["stats"], 0), (["get", "nope"], 4)):
            done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", BIN / "sluice", *arguments],
                                  env={**clean_environment(),
                                       "SLUICE_BROKER": self.cluster.addresses[0]},
                                  stdout=subprocess.DEVNULL, timeout=PATIENCE)
            self.assertEqual(done.returncode, status, arguments)

    def on_a_terminal(self, *arguments):
        """What a person sees: everything that it writes to a terminal of 100 columns, to its end."""
        master, terminal = pty.openpty()
        self.addCleanup(os.close, master)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        process = subprocess.Popen(
            [BIN / "sluice", *map(str, arguments)], stdin=terminal, stdout=terminal, stderr=terminal,
            env={**clean_environment(), "TERM": "xterm", "SLUICE_BROKER": self.cluster.addresses[0]})
        os.close(terminal)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while part := os.read(master, 65536):
                seen += part
        self.assertEqual(process.wait(PATIENCE), OK, seen)
        return seen.decode()

    def test_a_bar_moves_where_a_person_waits_and_none_where_a_script_does(self):
        path = self.cluster.folder / "jobs.jsonl"
        path.write_text("".join(f'{{"id": "bar-{i}", "task": "sleep", "payload": {{"ms": 1}}}}\n' for i in range(300)))
        ids = [f"bar-{i}" for i in range(300)]
        seen = self.on_a_terminal("submit", "--jsonl", path)
        self.assertIn("300 accepted", seen)
        self.start_worker("--builtin", "sleep")
        seen = self.on_a_terminal("wait", *ids)
        shares = [int(share) for share in re.findall(r"\[[#.]+\] +(\d+) %", seen)]
        self.assertEqual((shares[0], shares[-1]), (0, 100), seen)
        self.assertEqual(shares, sorted(shares))
        self.assertTrue(all(len(line) < 100 for line in re.split(r"[\r\n]+|\x1b\[\w", seen)), seen)
        self.sluice("wait", *ids)
        self.assertNotIn("%", self.error)

    def test_many_lines_are_submitted_in_bounded_memory(self):
        """Its peak with sixty thousand lines is that with ten thousand."""
        def peak_kib(count):
            path = self.cluster.folder / f"{count}.jsonl"
            with path.open("w") as file:
                for i in range(count):
                    file.write(f'{{"task": "echo", "queue": "q{count}", "payload": {{"n": {i}, "text": "{"x" * 100}"}}}}\n')
            process = subprocess.Popen(
                [BIN / "sluice", "submit", "--jsonl", path, "--json"], stdout=subprocess.PIPE,
                env={**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0],
                     "ASAN_OPTIONS": "quarantine_size_mb=1"})  # else it keeps what was freed, 256 MiB of it
            peak = 0
            with process.stdout:
                while process.poll() is None:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peak = max([peak, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))])
                    time.sleep(0.005)
                self.assertEqual(json.load(process.stdout)["accepted"], count)
            return peak

        few, many = peak_kib(10_000), peak_kib(60_000)
        self.assertLess(many, few + 8 * 1024, f"{few} KiB, then {many} KiB")  # 9 MiB are the lines alone

    def test_the_examples_do_what_they_say(self):
        self.start_worker("--builtin", "echo")
        environment = {**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0],
                       "PATH": f"{BIN}:{os.environ['PATH']}"}
        for program in (BIN / "example_submit", ROOT / "producer" / "examples" / "submit.sh"):
            done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE, env=environment)
            self.assertEqual(done.returncode, 0, done.stderr)
            said = json.loads(done.stdout)
            self.assertEqual(said.get("result", said), {"text": "hello"})

    def test_no_broker_is_a_sentence_and_not_a_hang(self):
        nobody = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        for arguments in (["ping"], ["submit", "echo", "a=1"], ["get", "a"], ["wait", "a"],
                          ["submit", "--jsonl", "-"]):
            self.sluice(*arguments, "--timeout", "200ms", status=UNAVAILABLE, broker=nobody,
                        stdin=b'{"task": "echo"}\n')
            self.assertIn(nobody, self.error)
            self.assertIn("sluice-broker", self.error)
        self.sluice("events", "--events", nobody, "--timeout", "200ms", status=UNAVAILABLE)

    def test_wrong_usage_is_2(self):
        for arguments in ([], ["submit"], ["get"], ["frobnicate"], ["list", "-s", "sleeping"],
                          ["submit", "echo", "word"], ["submit", "no good"],
                          ["submit", "echo", "--priority", "urgent"],
                          ["submit", "echo", "@/no/such/file"], ["cancel"],
                          ["ping", "--timeout", "soon"], ["ping", "--broker", "nonsense"]):
            self.sluice(*arguments, status=USAGE)
            self.assertTrue(self.error, arguments)
        self.assertIn("0.1", self.sluice("--version"))


if __name__ == "__main__":
    unittest.main()
