"""What the programs refuse or doubt at their start, and with which words and exit codes."""

import socket
import subprocess
import unittest

from cluster import BIN, Story, clean_environment


class Refusals(Story):
    redis = "memory:"

    def refusal(self, program, *arguments, **environment):
        """The exit code and the log of a program that must end by itself."""
        process = self.cluster.start([BIN / program, *arguments], **environment)
        return process.exit_code(), process.log()

    def broker(self, *arguments, **environment):
        return self.refusal(*self.cluster.broker_command(*arguments), **environment)

    def check(self, outcome, exit_code, *words):
        self.assertEqual(outcome[0], exit_code, outcome[1])
        for word in words:
            self.assertIn(word, outcome[1])

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            for name in ("--producers", "--workers", "--events"):
                with self.subTest(name):
                    self.check(self.broker(name, address), 1, address, "another broker")

    def test_a_port_that_becomes_free_in_a_moment(self):
        """As of a large broker that was killed: the kernel keeps its ports a little longer."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            broker = self.cluster.start(self.cluster.broker_command("--workers", address))
            self.assertIn(address, broker.line("port_in_use"))
        self.assertIn(address, broker.line(" ready "))

    def test_a_broker_that_waits_for_a_port_can_be_stopped(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            broker = self.cluster.start(self.cluster.broker_command("--workers", address))
            broker.line("port_in_use")
            self.assertEqual(broker.stop(), 1)

    def test_an_address_off_the_loopback_without_insecure(self):
        for address in ("tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0"):
            with self.subTest(address):
                self.check(self.broker("--workers", address), 2, "--workers", "--insecure")

    def test_an_address_that_is_none(self):
        for address in ("tcp://127.0.0.1:99999", "tcp://127.0.0.1", "127.0.0.1:7711", "http://x:1"):
            with self.subTest(address):
                self.check(self.broker("--events", address), 2, "--events", address)
                self.check(self.refusal("sluice-worker", "--broker", address, "--check-config"),
                           2, "--broker", address)
                self.check(self.refusal("sluice", "--broker", address, "ping"), 2, address)

    def test_check_config_knows_what_is_no_redis(self):
        for address, word in [("http://x", "not an address"), ("redis://u:pw@h", "password"),
                              ("redis://127.0.0.1:99999", "not a port"),
                              ("redis://127.0.0.1:1/x", "not a database"),
                              ("redis://10.0.0.1", "redis_plaintext"),
                              ("redis://127.example.com", "redis_plaintext")]:
            with self.subTest(address):
                code, log = self.refusal("sluice-broker", "--redis", address, "--check-config")
                self.check((code, log), 2, "--redis", word)
                self.assertNotIn("pw@", log)
        self.check(self.refusal("sluice-broker", "--redis", "redis://127.0.0.1", "--check-config",
                                "--redis-password-file", "/nowhere"), 2, "--redis-password-file")

    def test_insecure_binds_anywhere_and_says_so(self):
        broker = self.cluster.start_broker("--workers", "tcp://0.0.0.0:0", "--insecure")
        broker.line(" insecure ")
        self.assertEqual(broker.stop(), 0)

    def test_a_broker_s_file_with_an_unknown_key_or_a_wrong_value(self):
        path = self.cluster.write("b.toml", "\nheartbeat = 3\n")
        self.check(self.broker("--config", path), 2, "b.toml:2 heartbeat", "heartbeat_ms")
        path = self.cluster.write("b.toml", 'keep_count = "many"\n')
        self.check(self.broker("--config", path), 2, "b.toml:1 keep_count", "'many'")
        self.check(self.broker("--config", "/nowhere/b.toml"), 2, "/nowhere/b.toml")

    def test_files_without_an_end(self):
        self.check(self.broker("--config", "/dev/zero"), 2, "/dev/zero", "at most 1 MiB")
        self.check(self.refusal("sluice-worker", "--config", "/dev/zero"), 2, "at most 1 MiB")
        self.check(self.broker("--redis", "redis://localhost:1/0", "--redis-password-file",
                               "/dev/zero"), 2, "/dev/zero: its first line has more than")

    def test_a_broker_s_wrong_flag_or_variable(self):
        self.check(self.broker("--hartbeat-ms", "3"), 2, "--hartbeat-ms", "--heartbeat-ms")
        self.check(self.broker("--dead-after-ms", "1"), 2, "--dead-after-ms", "100ms")
        self.check(self.broker("--dead-after-ms", "300"), 2, "--dead-after-ms", "two heartbeats")
        self.check(self.broker(SLUICE_QUEUE_MAX="-1"), 2, "SLUICE_QUEUE_MAX", "'-1'")

    def test_a_worker_s_wrong_settings(self):
        for text, *words in [
                ("qeues = []", "w.toml:1 qeues", "queues"),
                ("concurrency = 10001", "w.toml:1 concurrency", "10000"),
                ('drain_grace = "soon"', "drain_grace", "'soon'"),
                ("task = 3", "task"),
                ("[task.x]\nprogram = 3", "task.x.program"),
                ('[task.x]\nprogram = ["cat"]\ncolour = "red"', "task.x.colour"),
                ('[task.x]\nrun = "magic"', "task.x.run", "exec, http"),
                ('[task."a b"]\nprogram = ["cat"]', "task.a b"),
                ('[task.x]\nrun = "thread"\nhandler = "none"', "task.x.handler")]:
            with self.subTest(text):
                path = self.cluster.write("w.toml", text)
                self.check(self.refusal("sluice-worker", "--config", path), 2, *words)

    def test_a_worker_s_wrong_flags(self):
        for arguments, word in [(["--broker", "localhost"], "--broker"),
                                (["--name", "no blanks"], "--name"),
                                (["--label", "zone"], "--label"),
                                (["--task", "sum"], "--task"),
                                (["--builtin", "nothing"], "--builtin: nothing is none"),
                                (["--concurency", "3"], "--concurrency"),
                                (["more"], "more")]:
            with self.subTest(arguments):
                self.check(self.refusal("sluice-worker", *arguments), 2, word)

    def test_a_worker_with_handlers_of_its_own_is_configured_alike(self):
        self.check(self.refusal("shout_worker", SLUICE_CONCURRENCY="many"), 2, "SLUICE_CONCURRENCY",
                   "'many'")
        self.check(self.refusal("shout_worker", "--broker", "localhost"), 2, "--broker")
        self.check(self.refusal("shout_worker", "--concurrency", "3", "--check-config"), 0)
        path = self.cluster.write("w.toml", '[task.shout]\nrun = "isolate"\nisolates_mim = 3')
        self.check(self.refusal("shout_worker", "--config", path), 2, "task.shout.isolates_mim",
                   "did you mean isolates_min?")

    def test_check_config_runs_nothing(self):
        config = self.cluster.write("w.toml", '[task.sum]\nprogram = ["sha256sum"]\n')
        self.check(self.refusal("sluice-worker", "--config", config, "--check-config"), 0)
        self.check(self.broker("--check-config"), 0)

    def test_check_config_shows_the_tasks_and_what_is_doubtful(self):
        config = self.cluster.write("w.toml", """
            [task.sum]
            program = ["sha256sum"]
            env = {TOKEN = "hidden"}
            [task.gone]
            program = ["/no/such/program"]
            [task.lost]
            program = ["true"]
            cwd = "/no/such/directory"
            [task.echo]
            run = "isolate"
            isolates_min = 9
            """)
        done = subprocess.run([BIN / "sluice-worker", "--config", config, "--concurrency", "2", "--check-config"],
                              env=clean_environment(), text=True, capture_output=True)
        self.check((done.returncode, done.stdout), 0, 'task.sum.program=["sha256sum"]', "task.sum.env={TOKEN}",
                   "task.echo.isolates_min=9", "the configuration is valid")
        self.assertNotIn("hidden", done.stdout)
        self.check((done.returncode, done.stderr), 0,
                   "doubtful: task.gone.program: /no/such/program cannot be run now",
                   "doubtful: task.lost.cwd: there is no directory /no/such/directory",
                   "doubtful: task.echo.isolates_min: 9 are kept for at most 2 jobs at once")
        self.assertNotIn("doubtful: task.sum", done.stderr)
        self.cluster.addresses[1] = "tcp://127.0.0.1:1"
        worker = self.cluster.start_worker("--config", config, "--concurrency", "2")
        worker.line("task_doubtful setting=task.gone.program")
        worker.stop()

    def test_a_worker_with_too_few_descriptors_says_how_many_it_wants(self):
        def at_start(tasks, *arguments):
            config = self.cluster.write("w.toml", tasks)
            worker = self.cluster.start_worker("--config", config, *arguments,
                                               inside=["prlimit", "--nofile=200:200"])
            worker.line("node_started")
            worker.stop()
            return worker.log()

        self.cluster.addresses[1] = "tcp://127.0.0.1:1"
        isolates = '[task.echo]\nrun = "isolate"\nisolates_min = 0\nisolates_max = '
        self.assertNotIn("few_descriptors", at_start(isolates + "40"))
        self.assertRegex(at_start(isolates + "60"), "few_descriptors limit=200 wanted=244 ")
        threads = '[task.noop]\nrun = "thread"'
        self.assertNotIn("few_descriptors", at_start(threads, "--concurrency", "1000"))
        programs = '[task.sum]\nprogram = "sha256sum"'
        self.assertRegex(at_start(programs, "--concurrency", "30"), "few_descriptors limit=200 wanted=214 ")

    def test_a_worker_without_a_broker_says_so_and_can_be_stopped(self):
        self.cluster.addresses[1] = "tcp://127.0.0.1:1"
        worker = self.cluster.start_worker("--log-format", "json")
        self.assertIn('"event":"no_broker"', worker.line("no_broker"))
        self.assertEqual(worker.stop(), 0)

    def test_a_worker_at_the_producers_port_is_told(self):
        self.cluster.start_broker()
        self.cluster.addresses[1] = self.cluster.addresses[0]
        worker = self.cluster.start_worker()
        worker.line("broker_refused")
        worker.stop()


if __name__ == "__main__":
    unittest.main()
