"""Broker and Redis killed, stopped and started again. Every accepted job ends once, and Redis says
what was submitted."""

import os
import signal
import socket
import unittest
from pathlib import Path

from cluster import BIN, IS_PYTHON, Gate, Redis, Story, is_running, job, until


class Recovery(Story):
    def setUp(self):
        super().setUp()
        self.gate = Gate(self.cluster.folder)
        self.addCleanup(self.gate.release)
        self.config = self.cluster.write("node.toml", self.gate.task)

    def start_node(self, slots=3):
        return self.cluster.start_worker("--config", self.config, "--builtin", "echo",
                                         "--concurrency", slots)

    def until_programs_ended(self, runs):
        until(lambda: not any(is_running(pid) for _, _, pid in runs), "the programs do not end")

    def check_each_ended_once(self, ended, ids):
        self.assertEqual({job["state"] for job in ended.values()}, {"completed"})
        self.check_ended(ids)
        self.check_totals(submitted=len(ids), completed=len(ids), failed=0)

    def test_a_killed_broker_finds_jobs_running_results_kept_and_jobs_waiting(self):
        cluster = self.cluster
        cluster.start_broker()
        self.start_node()
        client = cluster.client()
        held = client.submit(job("gated"), job("gated"), job("gated"))
        runs = self.gate.until_running(3)
        waiting = client.submit(*[job("echo", b"x") for _ in range(200)])
        cluster.broker.signal(signal.SIGSTOP)  # from now on it acknowledges nothing
        self.gate.release()
        self.until_programs_ended(runs)
        cluster.broker.kill()
        cluster.start_broker()
        ended = client.wait(held + waiting)
        for job_id in held:  # their results were kept: no second attempt
            self.assertEqual((ended[job_id]["attempt"], ended[job_id].get("lost_count", 0)), (1, 0))
        self.assertEqual(len(self.gate.runs()), 3)
        self.check_each_ended_once(ended, held + waiting)

    def test_a_broker_killed_under_a_stream_of_submits_loses_none(self):
        cluster = self.cluster
        cluster.start_broker()
        self.start_node(slots=8)
        client = cluster.client()
        ids = []
        for _ in range(3):
            ids += client.submit(*[job("echo", b"x") for _ in range(300)])
            cluster.broker.kill()
            cluster.start_broker()
        ended = client.wait(ids)
        self.check_each_ended_once(ended, ids)

    def test_whoever_waits_is_told_across_restarts_of_the_broker(self):
        cluster = self.cluster
        cluster.start_broker()
        self.start_node(slots=1)
        client = cluster.client()
        [held] = client.submit(job("gated"))
        self.gate.until_running(1)
        waiting = [cluster.start([BIN / "sluice", *words, "--broker", cluster.addresses[0]])
                   for words in [("wait", held)] * 8 + [("submit", "echo", "a=1", "--wait")] * 4]
        for end in (signal.SIGKILL, signal.SIGTERM) * 2:
            until(lambda: client.ask("stats")["stats"]["waits"] == len(waiting), "not all of them wait")
            cluster.broker.signal(end)
            cluster.broker.exit_code()
            cluster.start_broker()
        until(lambda: client.ask("stats")["stats"]["waits"] == len(waiting), "not all of them wait again")
        self.gate.release()
        self.assertEqual([process.exit_code() for process in waiting], [0] * len(waiting))

    def test_a_job_whose_node_died_with_the_broker_runs_again(self):
        cluster = self.cluster
        cluster.start_broker()
        node = self.start_node(slots=1)
        client = cluster.client()
        [job_id] = client.submit(job("gated"))
        self.gate.until_running(1)
        cluster.broker.kill()
        node.kill()
        self.gate.release()
        cluster.start_broker()
        self.start_node(slots=1)
        ended = client.wait([job_id])
        self.assertEqual((ended[job_id]["attempt"], ended[job_id]["lost_count"]), (2, 1))
        self.check_each_ended_once(ended, [job_id])

    def test_a_killed_redis_is_started_again_and_nothing_is_missing(self):
        cluster = self.cluster
        cluster.start_broker()
        self.start_node()
        client = cluster.client()
        first = client.submit(*[job("echo", b"x") for _ in range(100)])
        held = client.submit(job("gated"))
        self.gate.until_running(1)
        client.wait(first)
        with_pid = cluster.redis()
        pid = int(with_pid.info("process_id"))
        cluster.kill_pid(pid)
        second = client.submit(*[job("echo", b"y") for _ in range(100)])
        self.gate.release()
        ended = client.wait(first + held + second)
        self.assertNotEqual(int(cluster.redis().info("process_id")), pid)
        self.assertTrue(cluster.broker.is_alive())
        self.assertEqual(len(self.gate.runs()), 1)
        self.check_each_ended_once(ended, first + held + second)

    def test_a_redis_that_is_stopped_is_waited_for_and_never_doubled(self):
        cluster = self.cluster
        cluster.start_broker()
        client = cluster.client()
        ids = client.submit(*[job("echo", b"x") for _ in range(200)])
        redis = cluster.redis()
        pid = int(redis.info("process_id"))
        redis.ask("BGREWRITEAOF")  # two servers in it would spoil the files
        os.kill(pid, signal.SIGSTOP)
        cluster.broker.kill()
        cluster.broker = cluster.start(cluster.broker_command())
        cluster.broker.line(f"redis_silent pid={pid}")
        cluster.broker.line("waiting_for_redis")
        os.kill(pid, signal.SIGCONT)
        cluster.broker.line(" ready ")
        self.start_node()
        self.check_each_ended_once(client.wait(ids), ids)
        self.assertEqual(int(cluster.redis().info("process_id")), pid)
        cluster.processes[-1].stop()
        self.assertEqual(cluster.broker.stop(), 0)
        self.assertEqual(cluster.leftovers(), [])

    def test_a_stop_while_redis_is_stopped_is_not_in_order_and_says_so(self):
        cluster = self.cluster
        broker = cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(50)])
        pid = int(cluster.redis().info("process_id"))
        os.kill(pid, signal.SIGSTOP)
        self.assertEqual(broker.stop(), 1)
        broker.line(f"redis_left pid={pid}")
        os.kill(pid, signal.SIGCONT)
        until(lambda: not is_running(pid), "it does not end when it goes on")
        cluster.start_broker()
        self.start_node()
        self.check_each_ended_once(cluster.client().wait(ids), ids)

    def test_a_redis_whose_socket_is_another_s_is_ended_and_another_reads_its_files(self):
        cluster = self.cluster
        cluster.start_broker()
        ids = cluster.client().submit(*[job("echo", b"x") for _ in range(50)])
        pid = int(cluster.redis().info("process_id"))
        cluster.broker.kill()
        path = cluster.data / "redis.sock"
        path.unlink()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        cluster.start_broker()
        self.assertFalse(is_running(pid), "two servers on the same files")
        self.start_node()
        self.check_each_ended_once(cluster.client().wait(ids), ids)

    def test_a_redis_that_lost_its_socket_is_ended_and_another_reads_its_files(self):
        cluster = self.cluster
        cluster.start_broker()
        client = cluster.client()
        ids = client.submit(*[job("echo", b"x") for _ in range(50)])
        pid = int(cluster.redis().info("process_id"))
        cluster.broker.kill()
        (cluster.data / "redis.sock").unlink()
        cluster.start_broker()
        self.assertFalse(is_running(pid), "two servers on the same files")
        self.start_node()
        self.check_each_ended_once(client.wait(ids), ids)

    def test_a_redis_that_cannot_read_its_files_is_named_with_the_reason(self):
        cluster = self.cluster
        broker = cluster.start_broker()
        cluster.client().submit(*[job("echo", b"x") for _ in range(50)])
        self.assertEqual(broker.stop(), 0)
        [log] = cluster.data.glob("appendonlydir/*.incr.aof")
        log.write_bytes(b"spoiled" + log.read_bytes())
        broker = cluster.start(cluster.broker_command())
        self.assertEqual(broker.exit_code(), 1)
        self.assertIn("redis.log", broker.log())
        self.assertIn("Bad file format", broker.log())

    def test_a_redis_that_cannot_read_its_files_while_the_broker_runs_is_named_too(self):
        cluster = self.cluster
        broker = cluster.start_broker()
        cluster.client().submit(*[job("echo", b"x") for _ in range(50)])
        pid = int(cluster.redis().info("process_id"))
        [log] = cluster.data.glob("appendonlydir/*.incr.aof")
        good = log.read_bytes()
        log.write_bytes(b"spoiled" + good)
        cluster.kill_pid(pid)
        self.assertIn("Bad file format", broker.line("ended by itself"))
        log.write_bytes(good)
        broker.line("store_back")

    def test_broker_and_redis_killed_together_lose_nothing_that_redis_has_written(self):
        cluster = self.cluster
        cluster.start_broker("--heartbeat-ms", "200")
        client = cluster.client()
        ids = client.submit(*[job("echo", b"x") for _ in range(50)])
        redis = cluster.redis()
        until(lambda: redis.info("aof_pending_bio_fsync") == "0")
        redis.ask("BGREWRITEAOF")  # on disk for certain, whatever the second
        until(lambda: redis.info("aof_rewrite_in_progress") == "0" and
              redis.info("aof_rewrite_scheduled") == "0")
        pid = int(redis.info("process_id"))
        cluster.broker.kill()
        cluster.kill_pid(pid)
        cluster.start_broker()
        self.start_node()
        self.check_each_ended_once(client.wait(ids), ids)

    def test_an_orderly_stop_leaves_no_process_and_a_restart_finds_everything(self):
        cluster = self.cluster
        broker = cluster.start_broker()
        client = cluster.client()
        paused = client.ask("pause", queue="later")
        self.assertEqual(paused["op"], "paused")
        ids = client.submit(*[job("echo", b"x") for _ in range(20)])
        later = client.submit(job("echo", b"x", queue="later"))
        delayed = client.submit(job("echo", b"x", delay_ms=3_600_000))
        self.assertEqual(broker.stop(), 0)
        self.assertEqual(cluster.leftovers(), [])
        cluster.start_broker()
        self.assertEqual(client.get(ids[0])["state"], "queued")
        self.assertEqual(client.get(delayed[0])["state"], "pending")
        self.start_node()
        client.wait(ids)
        self.assertEqual(client.get(later[0])["state"], "queued")
        client.ask("resume", queue="later")
        client.wait(later)
        client.ask("cancel", ids=delayed)
        self.check_ended(ids)
        self.check_ended(delayed, "cancelled")
        self.check_totals(submitted=22, completed=21, cancelled=1)

    def test_a_second_broker_on_the_same_data_is_refused_with_the_pid_of_the_first(self):
        first = self.cluster.start_broker()
        self.cluster.addresses, mine = ["tcp://127.0.0.1:0"] * 3, self.cluster.addresses
        second = self.cluster.start(self.cluster.broker_command())
        self.assertEqual(second.exit_code(), 3)
        self.assertIn(str(first.pid), second.log())
        self.cluster.addresses = mine
        self.assertEqual(self.cluster.client().ask("ping")["op"], "pong")


class DataDirectory(Story):
    def test_a_path_too_long_for_a_socket_leaves_nothing_elsewhere(self):
        runtime = self.cluster.folder / "runtime"
        runtime.mkdir()
        self.cluster.data = self.cluster.folder / ("d" * 120)
        broker = self.cluster.start_broker(XDG_RUNTIME_DIR=str(runtime))
        self.assertEqual(len(list(runtime.glob("sluice-*/redis.sock"))), 1)
        self.assertEqual(self.cluster.data.stat().st_mode & 0o777, 0o700, "it holds payloads")
        self.assertEqual(broker.stop(), 0)
        self.assertEqual(list(runtime.iterdir()), [])


class OtherRedis(Story):
    """--redis unix:///PATH: a server that somebody else runs."""

    def use(self, *settings):
        process, path = self.cluster.start_redis(*settings)
        self.cluster.redis_address = f"unix://{path}"
        return process, path

    def check_in(self, path, ids):
        redis = Redis(path)
        self.addCleanup(redis.close)
        redis.until_view_is_complete()
        self.assertEqual(redis.count("completed:default"), len(ids))
        self.assertEqual(int(redis.hash("stats")["completed"]), len(ids))

    def test_the_whole_way_of_a_job_with_an_external_redis(self):
        _, path = self.use()
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        client = self.cluster.client()
        ids = client.submit(*[job("echo", b"x") for _ in range(50)])
        client.wait(ids)
        self.check_in(path, ids)
        self.assertEqual(self.cluster.broker.stop(), 0)
        redis = Redis(path)  # it is not ours to stop
        self.assertEqual(redis.ask("PING"), "PONG")
        redis.close()

    def test_a_redis_that_evicts_is_refused_with_a_sentence(self):
        self.use("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
        broker = self.cluster.start(self.cluster.broker_command())
        self.assertNotEqual(broker.exit_code(), 0)
        self.assertIn("allkeys-lru", broker.log())
        self.assertIn("noeviction", broker.log())

    def test_a_password_comes_from_the_environment_or_a_file(self):
        _, path = self.use()
        redis = Redis(path)
        self.addCleanup(redis.close)
        redis.ask("CONFIG", "SET", "requirepass", "open sesame")
        for environment, word in [({}, "NOAUTH"), ({"SLUICE_REDIS_PASSWORD": "no"}, "WRONGPASS")]:
            broker = self.cluster.start(self.cluster.broker_command(), **environment)
            self.assertEqual(broker.exit_code(), 69)
            self.assertIn(word, broker.log())
        file = self.cluster.write("password", "open sesame\n")
        for arguments, environment in [([], {"SLUICE_REDIS_PASSWORD": "open sesame"}),
                                       (["--redis-password-file", file], {})]:
            broker = self.cluster.start_broker(*arguments, **environment)
            self.assertNotIn("sesame", broker.log())
            self.assertNotIn(b"sesame", Path(f"/proc/{broker.pid}/cmdline").read_bytes())
            self.assertEqual(broker.stop(), 0)

    def test_a_replica_is_refused(self):
        self.use("--replicaof", "127.0.0.1", "1")
        broker = self.cluster.start(self.cluster.broker_command())
        self.assertNotEqual(broker.exit_code(), 0)
        self.assertIn("replica", broker.log())

    def test_a_redis_that_is_not_there_yet_is_waited_for(self):
        path = self.cluster.folder / "external.sock"
        self.cluster.redis_address = f"unix://{path}"
        broker = self.cluster.start(self.cluster.broker_command())
        broker.line("waiting_for_redis")
        self.cluster.start_redis()
        broker.line(" ready ")

    def test_a_broker_that_waits_for_redis_can_be_stopped(self):
        self.cluster.redis_address = f"unix://{self.cluster.folder / 'never.sock'}"
        broker = self.cluster.start(self.cluster.broker_command())
        broker.line("waiting_for_redis")
        self.assertEqual(broker.stop(), 69)

    def test_a_redis_that_dies_and_comes_back_has_everything_again(self):
        process, path = self.use()
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        client = self.cluster.client()
        first = client.submit(*[job("echo", b"x") for _ in range(50)])
        client.wait(first)
        process.kill()
        self.cluster.broker.line("store_lost")
        req = client.send("submit", jobs=[job("echo", b"z")])
        reply = until(lambda: (r := client.receive()) and r.get("req") == req and r)
        self.assertEqual((reply["op"], reply.get("code")), ("error", "store_unavailable"))
        self.cluster.start_redis(path=path)
        second = client.submit(*[job("echo", b"y") for _ in range(50)])
        client.wait(second)
        self.check_in(path, first + second)

    def test_flushall_is_an_alarm_and_no_crash(self):
        _, path = self.use()
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        client = self.cluster.client()
        client.wait(client.submit(job("echo", b"x")))
        redis = Redis(path)
        redis.ask("FLUSHALL")
        redis.close()
        client.wait(client.submit(job("echo", b"y")))
        until(lambda: any("store_resynced" in line or "store_rolled_back" in line
                          for line in self.cluster.broker.lines))

    def test_a_flushall_while_nothing_happens_is_seen_and_put_back(self):
        _, path = self.use()
        self.cluster.start_broker()
        worker = self.cluster.start_worker("--builtin", "echo")
        client = self.cluster.client()
        ended = client.submit(job("echo", b"x", id="ended"))
        client.wait(ended)
        self.assertEqual(worker.stop(), 0)
        # What has left memory is looked for in the view before a new id is taken.
        self.cluster.broker.kill()
        self.cluster.start_broker()
        client = self.cluster.client()
        client.submit(job("echo", b"y", id="waits"))
        redis = Redis(path)
        until(lambda: redis.hash("job:waits"))
        redis.ask("FLUSHALL")
        self.cluster.broker.line("store_rolled_back")
        self.cluster.broker.line("store_rewritten")
        until(lambda: redis.hash("job:waits"))
        client.submit(job("echo", b"z", id="new"))
        self.cluster.broker.kill()
        self.cluster.start_broker()
        client = self.cluster.client()
        for name in ("waits", "new"):
            self.assertEqual(client.get(name)["state"], "queued")
        again = client.ask("submit", jobs=[job("echo", b"x", id="ended")])
        self.assertEqual([result["status"] for result in again["results"]], ["duplicate"])
        redis.close()

    def test_a_flushall_just_after_another_and_just_before_a_stop_is_put_back(self):
        _, path = self.use()
        self.cluster.start_broker()
        client = self.cluster.client()
        client.submit(job("echo", b"y", id="waits"))
        redis = Redis(path)
        self.addCleanup(redis.close)
        until(lambda: redis.hash("job:waits"))
        redis.ask("FLUSHALL")
        self.cluster.broker.line("store_resynced")
        until(lambda: redis.hash("job:waits"))
        begin = len(self.cluster.broker.lines)
        redis.ask("FLUSHALL")
        self.cluster.broker.line("store_resynced", begin)
        until(lambda: redis.hash("job:waits"))
        redis.ask("FLUSHALL")
        self.assertEqual(self.cluster.broker.stop(), 0)
        self.cluster.start_broker()
        self.assertEqual(self.cluster.client().get("waits")["state"], "queued")


if IS_PYTHON:
    del OtherRedis  # it is about the broker


if __name__ == "__main__":
    unittest.main()
