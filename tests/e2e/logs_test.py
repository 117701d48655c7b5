"""The logs of jobs in a real cluster: from a program's standard error and a handler's Task::log to `sluice logs`."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import unittest

from cluster import BIN, PATIENCE, PREFIX, Story, clean_environment, job, json_job, until

# Says what it is told on its standard error, a line for each file that appears, and ends with the last.
SPEAKER = """
for word in one two three; do
  until [ -e {folder}/$word ]; do sleep 0.02; done
  echo $word >&2
done
"""


class Relay:
    """A port of a broker behind another one. When it is silent, it takes everything and passes nothing on."""

    def __init__(self, address):
        self._target = address.removeprefix("tcp://").rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp://127.0.0.1:%d" % self._listener.getsockname()[1]
        self.is_silent = False
        self.passed = b""  # from the broker
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                threading.Thread(target=self._ask, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _ask(self, near, far):
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if not self.is_silent:
                    far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _answer(self, far, near):
        with contextlib.suppress(OSError), far, near:
            while data := far.recv(65536):
                near.sendall(data)
                self.passed += data

    def close(self):
        self._listener.close()


class Follower:
    """`sluice logs -f`, its output as it comes."""

    def __init__(self, cluster, job_id, broker=None, events=None):
        environment = {**clean_environment(), "SLUICE_BROKER": broker or cluster.addresses[0],
                       "SLUICE_EVENTS": events or cluster.addresses[2]}
        self._popen = subprocess.Popen(
            [BIN / "sluice", "logs", "-f", job_id, "--timeout", "1s"], env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while data := os.read(self._popen.stdout.fileno(), 65536):
            self.out += data

    def until(self, text):
        until(lambda: self.out.endswith(text), f"{text!r} does not come")

    def signal(self, number):
        self._popen.send_signal(number)

    def end(self):
        """Its exit status and what it said beside."""
        error = self._popen.stderr.read()
        code = self._popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._popen.stdout.close()
        self._popen.stderr.close()
        return code, error.decode()


class Logs(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def start_node(self, table, *more):
        return self.cluster.start_worker("--config", self.cluster.write("node.toml", table), *more)

    def start_shell(self, script, *more):
        """With the task `t`, a program in shell for each job."""
        self.cluster.write("program.sh", script)
        return self.start_node('[task.t]\nprogram = ["sh", "program.sh"]\n'
                               f'cwd = "{self.cluster.folder}"\n', *more)

    def sluice(self, *arguments):
        environment = {**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0]}
        ended = subprocess.run([BIN / "sluice", *arguments], env=environment, timeout=PATIENCE,
                               stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return ended.returncode, ended.stdout, ended.stderr.decode()

    def log_of(self, job_id, *more):
        code, out, error = self.sluice("logs", job_id, *more)
        self.assertEqual((code, error), (0, ""))
        return out

    def run_job(self, spec):
        [job_id] = self.client.submit(spec)
        return job_id, self.client.wait([job_id])[job_id]

    def test_of_a_program_for_each_job(self):
        self.start_shell("echo attempt $SLUICE_ATTEMPT >&2; printf '\\377\\033[2J\\n' >&2; "
                         "test $SLUICE_ATTEMPT = 2 && echo done")
        job_id, view = self.run_job(job("t", max_retries=1, retry={"base_ms": 1, "jitter": 0.0}))
        self.assertEqual((view["state"], view["attempt"]), ("completed", 2))
        odd = b"\xff\x1b[2J\n"
        self.assertEqual(self.log_of(job_id), b"attempt 1\n" + odd + b"attempt 2\n" + odd)
        self.assertEqual(self.log_of(job_id, "--attempt", "2"), b"attempt 2\n" + odd)
        chunks = [json.loads(line) for line in self.log_of(job_id, "--json").splitlines()]
        self.assertEqual({chunk["attempt"] for chunk in chunks}, {1, 2})
        self.assertEqual(chunks[0]["offset"], 0)
        self.assertEqual(self.sluice("logs", "never")[0], 4)

    def test_of_a_kept_program(self):
        self.cluster.write("program.sh", "n=0; while read -r line; do n=$((n+1)); echo job $n >&2; "
                                         "echo '{\"result\":1}'; done\n")
        self.start_node('[task.t]\nrun = "kept"\nprogram = ["sh", "program.sh"]\n'
                        f'cwd = "{self.cluster.folder}"\nprocesses_max = 1\n')
        for number in (1, 2):
            job_id, _ = self.run_job(json_job("t", 1))
            self.assertEqual(self.log_of(job_id), b"job %d\n" % number)

    def test_of_a_handler_on_a_thread_and_in_an_isolate(self):
        self.start_node('[task.threads]\nrun = "thread"\nhandler = "count"\n'
                        '[task.isolated]\nrun = "isolate"\nhandler = "count"\n')
        for task in ("threads", "isolated"):
            job_id, view = self.run_job(json_job(task, {"to": 3, "ms": 0}))
            self.assertEqual(view["state"], "completed")
            self.assertEqual(self.log_of(job_id), b"counted to 1\ncounted to 2\ncounted to 3\n")

    def test_of_what_a_handler_in_an_isolate_prints_before_it_crashes(self):
        node = self.start_node('[task.crash]\nrun = "isolate"\n')
        job_id, view = self.run_job(json_job("crash", {}, max_retries=1, retry={"base_ms": 1, "jitter": 0.0}))
        self.assertEqual(view["error"], "isolate crashed: SIGSEGV\nraising SIGSEGV, as asked\n")
        self.assertEqual(self.log_of(job_id), b"raising SIGSEGV, as asked\n" * 2)
        self.assertNotIn("\nraising", node.log())

    def test_of_a_flood_the_end_is_kept_and_neither_node_nor_job_suffers(self):
        node = self.start_shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
                                "head -c 10000 /dev/zero | tr '\\0' x >&2; echo >&2; done; echo last >&2")
        [job_id] = self.client.submit(job("t", timeout_ms=60_000))
        view = self.client.wait([job_id])[job_id]
        self.assertEqual((view["state"], view["attempt"], view.get("lost_count", 0)), ("completed", 1, 0))
        code, out, error = self.sluice("logs", job_id)
        self.assertEqual(code, 0, error)
        self.assertLessEqual(len(out), 1 << 20)
        self.assertTrue(out.endswith(b"x\nlast\n"))
        if self.redis != "memory:":
            size = int(self.cluster.redis().ask("XREVRANGE", PREFIX + "log:" + job_id, "+", "-",
                                                "COUNT", 1)[0][0].split("-")[0])
            if size >= 1 << 20:  # the ring is full; what the node had to drop may have left it
                self.assertGreaterEqual(len(out), (1 << 20) - 2 * 16_384)
            else:
                self.assertIn(b"bytes are missing here]\n", out)
        self.assertNotIn("broker_lost", node.log())
        self.assertNotIn("node_dead", self.cluster.broker.log())

    def test_followed_come_as_they_are_written_until_the_job_has_ended(self):
        self.start_shell(SPEAKER.format(folder=self.cluster.folder))
        [job_id] = self.client.submit(job("t"))
        follower = Follower(self.cluster, job_id)
        self.cluster.write("one", "")
        follower.until(b"one\n")
        self.cluster.write("two", "")
        follower.until(b"one\ntwo\n")
        self.cluster.write("three", "")
        self.assertEqual(follower.end(), (0, ""))
        self.assertEqual(follower.out, b"one\ntwo\nthree\n")

    def test_followed_come_as_events_while_the_broker_answers_nothing(self):
        self.start_shell("until [ -e one ]; do echo tick >&2; sleep 0.02; done\n"
                         + SPEAKER.format(folder=self.cluster.folder))
        [job_id] = self.client.submit(job("t"))
        broker, events = (Relay(self.cluster.addresses[port]) for port in (0, 2))
        self.addCleanup(broker.close)
        self.addCleanup(events.close)
        follower = Follower(self.cluster, job_id, broker.address, events.address)
        until(lambda: b"log." + job_id.encode() in events.passed, "no events come")
        self.cluster.write("one", "")
        follower.until(b"one\n")
        broker.is_silent = True
        self.cluster.write("two", "")
        follower.until(b"one\ntwo\n")
        follower.signal(2)
        self.assertEqual(follower.end()[0], 0)
        self.client.ask("cancel", ids=[job_id])
        self.client.wait([job_id])

    def test_followed_outlive_a_killed_broker_without_a_gap_or_a_double_line(self):
        if self.redis == "memory:":
            return  # it goes with its broker
        self.start_shell(SPEAKER.format(folder=self.cluster.folder))
        [job_id] = self.client.submit(job("t"))
        follower = Follower(self.cluster, job_id)
        self.cluster.write("one", "")
        follower.until(b"one\n")
        self.cluster.broker.kill()
        self.cluster.write("two", "")
        self.cluster.start_broker()
        follower.until(b"one\ntwo\n")
        self.cluster.write("three", "")
        code, _ = follower.end()
        self.assertEqual((code, follower.out), (0, b"one\ntwo\nthree\n"))
        self.assertEqual(self.log_of(job_id), b"one\ntwo\nthree\n")

    def test_who_follows_leaves_quietly_by_ctrl_c(self):
        self.start_shell(SPEAKER.format(folder=self.cluster.folder))
        [job_id] = self.client.submit(job("t"))
        follower = Follower(self.cluster, job_id)
        self.cluster.write("one", "")
        follower.until(b"one\n")
        follower.signal(2)
        self.assertEqual(follower.end(), (0, ""))
        self.client.ask("cancel", ids=[job_id])
        self.client.wait([job_id])

    def test_are_events_for_who_names_their_topic(self):
        self.start_shell("until [ -e stop ]; do echo tick >&2; sleep 0.02; done")
        [job_id] = self.client.submit(job("t"))
        code, out, error = self.sluice("events", "log." + job_id, "--json", "--count", "1",
                                       "--timeout", "60s", "--events", self.cluster.addresses[2])
        self.assertEqual((code, error), (0, ""))
        event = json.loads(out)
        self.assertEqual((event["event"], event["id"], event["attempt"]), ("log", job_id, 1))
        self.assertIn("tick\n", event["text"])
        self.cluster.write("stop", "")
        self.client.wait([job_id])

    def test_go_with_their_job(self):
        self.start_shell("echo here >&2")
        job_id, _ = self.run_job(job("t"))
        self.assertEqual(self.log_of(job_id), b"here\n")
        self.client.ask("delete", ids=[job_id])
        code, _, error = self.sluice("logs", job_id)
        self.assertEqual(code, 4)
        self.assertIn("its log with it", error)
        if self.redis == "memory:":
            return
        redis = self.cluster.redis()
        redis.until_view_is_complete()
        self.assertEqual(redis.ask("KEYS", PREFIX + "log:*"), [])


class LogsOfJobsThatAreNotKept(Story):
    """Of jobs that end and are removed before anybody could read them."""

    broker_options = ("--keep-count", "0")

    def test_do_not_outlive_them(self):
        self.cluster.start_broker()
        client = self.cluster.client()
        table = '[task.t]\nprogram = ["sh", "-c", "echo here >&2"]\n'
        self.cluster.start_worker("--config", self.cluster.write("node.toml", table))
        client.wait(client.submit(*[job("t") for _ in range(50)]))
        self.assertEqual(client.ask("stats")["stats"]["log_chunks"], 50)
        if self.redis == "memory:":
            return
        redis = self.cluster.redis()
        until(lambda: not redis.ask("KEYS", PREFIX + "log:*"), "logs are left")


if __name__ == "__main__":
    unittest.main()
