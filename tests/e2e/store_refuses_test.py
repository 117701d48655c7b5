"""A Redis that answers and writes nothing: its disk is full, its file may not grow, its saves fail, it
loads. Nothing is lost, everybody is told why, and it goes on by itself."""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import tempfile
import unittest

from cluster import Redis, Story, fields, job, until


class RefusingRedis(Story):
    redis = "external"

    def use_redis(self, *settings, inside=()):
        self.process, self.path = self.cluster.start_redis(*settings, ignored=signal.SIGXFSZ,
                                                           inside=inside)
        self.cluster.redis_address = f"unix://{self.path}"
        self.folder = self.path.parent / "external"
        self.keys = self.connect()
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        self.client = self.cluster.client()
        self.client.until_workers(1)

    def connect(self):
        self.cluster.clients.append(Redis(self.path))
        return self.cluster.clients[-1]

    def answer(self, op, **more):
        """The first answer, whatever it is."""
        req = self.client.send(op, **more)
        while (reply := self.client.receive())["req"] != req:
            self.early.append(reply)
        return reply

    def is_refused(self):
        try:
            self.keys.ask("SET", "probe", "1")
        except RuntimeError as error:
            return str(error).startswith("MISCONF")
        return False

    def check_store_unavailable(self, reply, *words):
        self.assertEqual((reply["op"], reply.get("code")), ("error", "store_unavailable"), reply)
        self.assertTrue(reply["retryable"] and reply["retry_after_ms"] > 0, reply)
        for word in words:
            self.assertIn(word, reply["message"])

    def check_story(self, break_it, mend_it):
        self.early = []  # answers to other requests than the one that was waited for
        broker = self.cluster.broker
        [done] = self.client.submit(job("echo", b"before"))
        self.client.wait([done])
        [waiting] = self.client.submit(job("echo", b"z", delay_ms=3_600_000))
        break_it()
        until(self.is_refused, "Redis goes on writing")

        undecided = job("echo", b"undecided")
        held = self.client.send("submit", jobs=[undecided])
        until(lambda: self.answer("ping")["store"] == "down", "the store is not seen to be down")
        self.assertIn("MISCONF", self.answer("stats")["stats"]["store_reason"])
        later = job("echo", b"later")
        self.check_store_unavailable(self.answer("submit", jobs=[later]), "MISCONF")
        self.check_store_unavailable(self.answer("get", ids=[undecided["id"]]), "MISCONF")
        self.check_store_unavailable(self.answer("list", state="completed"), "MISCONF")
        [known] = self.answer("get", ids=[waiting])["jobs"]
        self.assertEqual(known["state"], "pending", "what is durable is told")
        self.assertEqual(self.early, [], "nothing is said of what is undecided")

        begin = self.refusals()
        until(lambda: self.refusals() > begin + 40, "the broker does not try again")
        told = [line for line in broker.lines if " store_lost " in line]
        self.assertLessEqual(len(told), 2, told)
        self.assertIn("MISCONF", told[0])

        mend_it()
        broker.line("store_back")
        reply = next((r for r in self.early if r["req"] == held), None)
        while reply is None:
            reply = r if (r := self.client.receive())["req"] == held else None
        self.assertEqual(reply["results"][0]["status"], "accepted")
        self.client.submit(later)
        ended = self.client.wait([undecided["id"], later["id"]])
        self.assertEqual({job["attempt"] for job in ended.values()}, {1})
        self.keys.until_view_is_complete()
        self.assertEqual(self.keys.count("completed:default"), 3)
        return [done, undecided["id"], later["id"]]

    def refusals(self):
        found = re.search(r"errorstat_MISCONF:count=(\d+)", self.keys.ask("INFO", "errorstats"))
        return int(found.group(1)) if found else 0

    def small_disk(self, size):
        """Lays a disk of so many bytes over the folder of Redis, in a mount namespace; returns the
        command that runs another in there. The disk lives as long as the process that holds it.
        Where no namespace can be made, SLUICE_TEST_SMALL_DISK may name an empty disk of that size."""
        folder = self.cluster.folder / "external"
        if lent := os.environ.get("SLUICE_TEST_SMALL_DISK"):
            self.disk = pathlib.Path(tempfile.mkdtemp(dir=lent))
            self.addCleanup(shutil.rmtree, self.disk, ignore_errors=True)
            folder.symlink_to(self.disk)
            return []
        folder.mkdir()
        is_root = os.geteuid() == 0
        holder = self.cluster.start(
            ["unshare", "--mount", *([] if is_root else ["--map-root-user"]), "sh", "-c",
             f'mount -t tmpfs -o size={size} tmpfs "$1" && echo mounted >&2 && exec sleep 600',
             "sh", folder])
        until(lambda: "mounted" in holder.log() or not holder.is_alive())
        if not holder.is_alive():
            self.skipTest(f"no mount namespace here: {holder.log().strip()}")
        self.disk = pathlib.Path(f"/proc/{holder.pid}/root{folder}")
        return ["nsenter", "--mount", *([] if is_root else ["--user", "--preserve-credentials"]),
                "--target", str(holder.pid)]

    def test_a_full_disk(self):
        inside = self.small_disk(8 << 20)
        self.use_redis(inside=inside)
        filler = self.disk / "filler"

        def fill():
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            self.assertEqual(os.statvfs(self.disk).f_bavail, 0)
            self.keys.ask("SET", "longer than the rest of a page", "x" * 8192)

        ids = self.check_story(fill, filler.unlink)
        self.check_redis_has(ids, inside)

    def check_redis_has(self, ids, inside=()):
        """It is on the disk: a Redis that dies and comes back has it all."""
        self.process.kill()
        self.cluster.start_redis(path=self.path, inside=inside)
        redis = self.connect()
        for job_id in ids:
            until(lambda: redis.hash(f"job:{job_id}").get("state") == "completed")

    def test_a_file_that_may_not_grow(self):
        self.use_redis()

        def limit(size):
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE,
                             (size, resource.RLIM_INFINITY))
        [aof] = (self.folder / "appendonlydir").glob("*.incr.aof")
        ids = self.check_story(lambda: limit(aof.stat().st_size),
                               lambda: limit(resource.RLIM_INFINITY))
        self.keys.ask("BGREWRITEAOF")
        until(lambda: self.keys.info("aof_rewrite_in_progress") == "0"
              and self.keys.info("aof_rewrite_scheduled") == "0", "the AOF is not rewritten")
        self.check_redis_has(ids)

    def test_saves_that_fail(self):
        self.use_redis("--stop-writes-on-bgsave-error", "yes")
        blocked = self.folder / "dump.rdb"  # a folder where the file is to be

        def save(wanted):
            self.keys.ask("BGSAVE")
            until(lambda: self.keys.info("rdb_bgsave_in_progress") == "0")
            self.assertEqual(self.keys.info("rdb_last_bgsave_status"), wanted)

        def break_it():
            (blocked / "full").mkdir(parents=True)
            self.keys.ask("CONFIG", "SET", "save", "3600 1000000")
            save("err")

        def mend_it():
            (blocked / "full").rmdir()
            blocked.rmdir()
            save("ok")
        self.check_story(break_it, mend_it)

    def test_a_redis_that_takes_long_to_load(self):
        self.early = []
        self.use_redis()
        ids = self.client.submit(*[job("echo", b"x") for _ in range(20)])
        self.client.wait(ids)
        self.keys.ask("EVAL", "for i = 1, 20000 do redis.call('SET', 'filler' .. i, i) end", "0")
        self.process.kill()
        broker = self.cluster.broker
        broker.line("store_lost")
        self.process, _ = self.cluster.start_redis("--key-load-delay", "250", path=self.path,
                                                   waits=False)
        said = broker.line("LOADING")
        self.assertIn("store_lost", said)
        waiting = job("echo", b"y")
        self.check_store_unavailable(self.answer("submit", jobs=[waiting]), "LOADING")
        broker.line("store_back")
        self.client.submit(waiting)
        self.client.wait([waiting["id"]])
        self.keys = self.connect()
        self.keys.until_view_is_complete()
        self.assertEqual(self.keys.count("completed:default"), 21)

    def test_a_broker_that_starts_while_redis_loads(self):
        self.early = []
        self.use_redis()
        ids = self.client.submit(*[job("echo", b"x") for _ in range(20)])
        self.client.wait(ids)
        self.keys.until_view_is_complete()
        self.keys.ask("EVAL", "for i = 1, 20000 do redis.call('SET', 'filler' .. i, i) end", "0")
        self.cluster.broker.kill()
        self.process.kill()
        self.process, _ = self.cluster.start_redis("--key-load-delay", "250", path=self.path,
                                                   waits=False)
        broker = self.cluster.start_broker()
        waits = broker.line("waiting_for_redis")
        self.assertIn("reason", fields(waits))
        self.assertEqual(self.client.get(ids[0])["state"], "completed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
