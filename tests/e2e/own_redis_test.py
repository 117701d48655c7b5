"""The broker's own Redis, and who else may stand in its place: nobody. What was accepted is there
again, whoever listens at its socket, and no process of a stranger is touched."""

import os
import re
import signal
import socket
import time
import unittest
from pathlib import Path

from cluster import PREFIX, Redis, Story, fields, is_running, job, until


class OwnRedis(Story):
    redis = "private"

    def listen(self, path, queue=128):
        """A stranger who listens there, accepts nobody and says nothing."""
        path.unlink(missing_ok=True)
        stranger = socket.socket(socket.AF_UNIX)
        self.addCleanup(stranger.close)
        stranger.bind(str(path))
        stranger.listen(queue)
        return stranger

    def refused_start(self):
        """The log of a start that ends by itself."""
        broker = self.cluster.start(self.cluster.broker_command())
        self.assertEqual(broker.exit_code(), 1, broker.log())
        return broker.log()

    def submitted_and_killed(self):
        """Jobs that were accepted by a broker that was killed, and the pid of its Redis."""
        self.cluster.start_broker()
        ids = self.cluster.client().submit(*[job("echo", b"x") for _ in range(20)])
        pid = int(self.cluster.redis().info("process_id"))
        self.cluster.broker.kill()
        return ids, pid

    def check_all_there(self, ids):
        self.cluster.start_worker("--builtin", "echo")
        ended = self.cluster.client().wait(ids)
        self.assertEqual({job["state"] for job in ended.values()}, {"completed"})

    def test_another_redis_at_our_socket_is_not_taken_for_ours(self):
        cluster = self.cluster
        broker = cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(20)])
        self.assertEqual(broker.stop(), 0)
        path = cluster.data / "redis.sock"
        stranger, _ = cluster.start_redis(path=path)
        keys = Redis(path)
        cluster.clients.append(keys)
        keys.ask("CONFIG", "SET", "appendonly", "no")
        log = self.refused_start()
        self.assertIn(f"pid {stranger.pid}: stop that one", log)
        self.assertEqual(keys.ask("CONFIG", "GET", "appendonly"), ["appendonly", "no"])
        self.assertEqual(keys.ask("DBSIZE"), 0)
        self.assertTrue(stranger.is_alive())
        stranger.stop()
        cluster.start_broker()
        self.check_all_there(ids)

    def test_a_stranger_at_the_socket_of_ours_that_lives_is_not_taken_for_it(self):
        ids, pid = self.submitted_and_killed()
        stranger = self.listen(self.cluster.data / "redis.sock")
        self.assertIn(f"pid {os.getpid()}: stop that one", self.refused_start())
        self.assertTrue(is_running(pid))
        stranger.close()
        self.cluster.start_broker()
        self.assertFalse(is_running(pid), "two servers on the same files")
        self.check_all_there(ids)

    def test_a_stranger_with_a_short_queue_or_a_full_one_keeps_his_socket(self):
        ids, pid = self.submitted_and_killed()
        self.cluster.kill_pid(pid)
        path = self.cluster.data / "redis.sock"
        stranger = self.listen(path, queue=2)
        made = path.stat().st_ino
        self.assertIn(f"pid {os.getpid()}: stop that one", self.refused_start())
        self.assertIn("see `ss -xlp`: stop that one", self.refused_start())
        self.assertEqual(path.stat().st_ino, made)
        stranger.close()
        self.cluster.start_broker()
        self.check_all_there(ids)

    def test_a_stranger_at_the_socket_of_a_redis_that_died_keeps_it_until_he_leaves(self):
        cluster = self.cluster
        cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(20)])
        pid = int(cluster.redis().info("process_id"))
        path = cluster.data / "redis.sock"
        stranger = self.listen(path)
        made = path.stat().st_ino
        cluster.kill_pid(pid)
        cluster.broker.line(f"is held by another process, pid {os.getpid()}")
        self.assertEqual(path.stat().st_ino, made)
        stranger.close()
        cluster.broker.line("redis_restarted")
        self.check_all_there(ids)

    def test_a_stranger_who_comes_later_is_not_spoken_to(self):
        cluster = self.cluster
        cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(20)])
        redis = cluster.redis()
        pid = int(redis.info("process_id"))
        stranger = self.listen(cluster.data / "redis.sock")
        redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cluster.broker.line(f"is held by another process, pid {os.getpid()}")
        self.assertEqual(cluster.broker.stop(), 0)
        self.assertFalse(is_running(pid), "left behind")
        stranger.close()
        cluster.start_broker()
        self.check_all_there(ids)

    def test_keys_of_somebody_else_at_our_names_are_set_aside_and_said(self):
        broker = self.cluster.start_broker()
        keys = self.cluster.redis()
        mine = job("echo", b"x")
        names = [f"job:{mine['id']}", "completed:default", "queued:default", "queues"]
        for name in names:
            keys.ask("SET", PREFIX + name, "theirs")
        client = self.cluster.client()
        client.submit(mine)
        self.check_all_there([mine["id"]])
        keys.until_view_is_complete()
        for name in names:
            self.assertEqual(keys.ask("GET", f"{PREFIX}foreign:{name}"), "theirs", name)
        self.assertEqual(keys.hash(names[0])["state"], "completed")
        self.assertEqual(keys.count("completed:default"), 1)
        self.assertEqual(keys.hash("queues"), {"default": "active"})
        broker.line("store_foreign_keys")
        said = [int(fields(line)["count"]) for line in broker.lines if " store_foreign_keys " in line]
        self.assertEqual(sum(said), len(names))

    def test_a_stop_takes_no_snapshot_however_large_the_data(self):
        cluster = self.cluster
        cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(20)])
        redis = cluster.redis()
        pid = int(redis.info("process_id"))
        redis.ask("CONFIG", "SET", "rdb-key-save-delay", str(10**9))  # a snapshot would take hours
        self.assertEqual(cluster.broker.stop(), 0)
        self.assertFalse(is_running(pid), "left behind")
        self.assertFalse((cluster.data / "dump.rdb").exists())
        cluster.start_broker()
        self.check_all_there(ids)

    def test_locks_that_were_removed_do_not_make_two_of_it(self):
        ids, pid = self.submitted_and_killed()
        (self.cluster.data / "redis.lock").unlink()
        self.assertIn(f"pid {pid}: stop that one", self.refused_start())
        self.cluster.kill_pid(pid)
        self.cluster.start_broker()
        self.check_all_there(ids)

    def test_a_stop_during_the_start_leaves_no_redis(self):
        ids, pid = self.submitted_and_killed()
        os.kill(pid, signal.SIGSTOP)
        broker = self.cluster.start(self.cluster.broker_command())
        broker.line(f"redis_silent pid={pid}")
        begun = time.monotonic()
        self.assertEqual(broker.stop(), 1)
        self.assertLess(time.monotonic() - begun, 5)
        broker.line("told to stop")
        broker.line(f"redis_left pid={pid}")
        os.kill(pid, signal.SIGCONT)
        until(lambda: not is_running(pid), "it does not end when it goes on")
        self.cluster.start_broker()
        self.check_all_there(ids)

    def test_a_stop_before_it_has_its_socket_is_heeded_at_once(self):
        fake = self.cluster.folder / "bin" / "redis-server"
        fake.parent.mkdir()
        fake.write_text('#!/bin/sh\nkill -STOP $$\nPATH=${PATH#*:} exec redis-server "$@"\n')
        fake.chmod(0o755)
        broker = self.cluster.start(self.cluster.broker_command(),
                                    PATH=f"{fake.parent}:{os.environ['PATH']}")
        [pid] = until(lambda: self.stopped_below(broker.pid))
        begun = time.monotonic()
        self.assertEqual(broker.stop(), 1)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn(f"pid {pid} ends when it goes on", broker.line("told to stop"))
        # The next one finds it as it is, and heeds as quickly.
        second = self.cluster.start(self.cluster.broker_command())
        until(lambda: self.heeds_signals(second.pid))  # it looks for its Redis from here on
        begun = time.monotonic()
        self.assertEqual(second.stop(), 1)
        self.assertLess(time.monotonic() - begun, 1.5)
        self.assertIn(f"pid {pid} ends when it goes on", second.line("told to stop"))
        os.kill(pid, signal.SIGCONT)
        until(lambda: not is_running(pid), "it does not end when it goes on")
        self.check_all_there(self.submit_some())

    def heeds_signals(self, pid):
        """Whether it reads SIGTERM from a descriptor, where the signal ended it before."""
        blocked = re.search(r"^SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
        return int(blocked[1], 16) >> (signal.SIGTERM - 1) & 1

    def stopped_below(self, pid):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children
                if Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] == "T"]

    def submit_some(self):
        self.cluster.start_broker()
        return self.cluster.client().submit(*[job("echo", b"x") for _ in range(20)])

    def taken_over(self):
        """A broker, the pid of its Redis, and the jobs that it took before another took its state over."""
        ids = self.submit_some()
        pid = int(self.cluster.redis().info("process_id"))
        self.addCleanup(os.kill, pid, signal.SIGTERM)  # nobody's any more
        first = self.cluster.broker
        self.cluster.addresses = ["tcp://127.0.0.1:0"] * 3
        self.cluster.redis_address = f"unix://{self.cluster.data / 'redis.sock'}"
        self.cluster.start_broker()
        return first, pid, ids

    def test_a_broker_whose_state_another_has_taken_leaves_the_redis_to_it(self):
        first, pid, ids = self.taken_over()
        ids += self.cluster.client().submit(job("echo", b"x"))
        self.assertEqual(first.exit_code(), 3)
        first.line(f"redis_left pid={pid}")
        self.check_all_there(ids)

    def test_nor_does_it_end_that_redis_when_it_is_stopped_before_it_knows(self):
        first, pid, ids = self.taken_over()
        first.stop()
        first.line(f"redis_left pid={pid}")
        self.check_all_there(ids)


class SilentRedis(Story):
    redis = "external"

    def test_one_that_gives_no_answer_is_said_and_a_stop_is_heeded_at_once(self):
        path = self.cluster.folder / "silent.sock"
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(path))
            silent.listen()
            self.cluster.redis_address = f"unix://{path}"
            broker = self.cluster.start(self.cluster.broker_command())
            self.assertIn("it has not answered yet", broker.line("waiting_for_redis"))
            begun = time.monotonic()
            self.assertEqual(broker.stop(), 69)
            self.assertLess(time.monotonic() - begun, 5)
            broker.line("told to stop while it was waited for")


if __name__ == "__main__":
    unittest.main()
