"""What no client should send, on every socket: an answer that names the field, or nothing; the
broker lives and its other peers do not notice."""

import random
import socket
import time
import unittest

import msgpack
import zmq

from cluster import Story, job, json_job, until
from spoiled import halves


def status(**more):
    return {"op": "status", "node": "odd@1", "seq": 1, "protocol": 1, "concurrency": 1,
            "tasks": ["odd"], "queues": [], "labels": {}, "draining": False, "version": "x",
            "held": [], "seen": {"epoch": 0, "n": 0}, **more}


class BadInput(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        self.client = self.cluster.client()
        self.client.until_workers(1)

    def tearDown(self):
        """Whatever was sent: the broker serves, and the node works."""
        self.assertTrue(self.cluster.broker.is_alive())
        [job_id] = self.client.submit(job("echo", b"still here"))
        self.assertEqual(self.client.wait([job_id])[job_id]["result"], b"still here")

    def error_of(self, op, **more):
        reply = self.client.ask(op, **more)
        self.assertEqual(reply["op"], "error", reply)
        return reply["code"], reply.get("field", "")

    def test_a_wrong_field_of_a_request_is_named(self):
        for expected, op, more in [
                (("unknown_op", "op"), "sbumit", {}),
                (("bad_field", "ids"), "get", {"ids": "one"}),
                (("malformed", "ids"), "get", {}),
                (("too_large", "ids"), "get", {"ids": ["a"] * 1001}),
                (("bad_field", "timeout_ms"), "wait", {"ids": ["a"], "timeout_ms": -1}),
                (("bad_field", "queue"), "pause", {"queue": "no blanks"}),
                (("too_large", "jobs"), "submit", {"jobs": [job("echo")] * 1001}),
                (("bad_field", "jobs"), "submit", {"jobs": {}}),
                (("unsupported_version", "protocol"), "ping", {"protocol": 2})]:
            with self.subTest(op=op, more=str(more)[:60]):
                self.assertEqual(self.error_of(op, **more), expected)

    def test_a_wrong_job_is_rejected_alone_and_its_field_is_named(self):
        good = job("echo", b"x")
        wrong = [("id", {"id": "no blanks"}), ("task", {"task": ""}), ("task", {"task": 7}),
                 ("payload", {"payload": "text"}), ("payload", {"payload": b"x" * (2**20 + 1)}),
                 ("priority", {"priority": "urgent"}), ("queue", {"queue": "a" * 65}),
                 ("max_retries", {"max_retries": 1001}), ("timeout_ms", {"timeout_ms": -5}),
                 ("tags", {"tags": ["t"] * 17}), ("unique", {"unique": {}})]
        reply = self.client.ask("submit", jobs=[good] + [
            {**job("echo", b"x"), **more} for _, more in wrong])
        first, *others = reply["results"]
        self.assertEqual(first["status"], "accepted")
        for at, ((field, _), result) in enumerate(zip(wrong, others), 1):
            self.assertEqual((result["status"], result["field"].split(".")[0],
                              result["field"].split(".")[1].split("[")[0]),
                             ("rejected", f"jobs[{at}]", field), result)
        self.client.wait([good["id"]])

    def test_halves_and_spoiled_messages_of_producers_harm_nobody(self):
        odd = self.cluster.client()
        for frame in halves({"op": "submit", "req": 1, "jobs": [job("nobody", b"xy")]}):
            odd.send_bytes(frame)
        self.assertEqual(odd.receive()["op"], "error")

    def test_halves_and_spoiled_messages_of_workers_harm_nobody(self):
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[1])
        for message in [status(), {"op": "result", "node": "odd@1", "results": [
                {"id": "a", "epoch": 1, "attempt": 1, "outcome": "completed", "result": b"r"}]},
                {"op": "progress", "node": "odd@1", "id": "a", "epoch": 1, "attempt": 1,
                 "percent": 1}, {"op": "goodbye", "node": "odd@1"}]:
            for frame in halves(message):
                odd.send(frame)
        odd.send(msgpack.packb({"op": "goodbye", "node": "odd@1"}))
        odd.close()

    def test_messages_of_no_frame_or_many_are_refused(self):
        ping = msgpack.packb({"op": "ping", "req": 5})
        for address in self.cluster.addresses[:2]:
            odd = self.cluster.socket(zmq.DEALER, address)
            self.addCleanup(odd.close)
            for frames in [[b"a", b"b", b"c"], [b"", b"", b""], [b"", ping, b"more"], [ping, ping],
                           [msgpack.packb(status()), b""], [b""], [b"x"] * 20_000]:
                odd.send_multipart(frames)
                error = msgpack.unpackb(odd.recv_multipart()[-1])
                self.assertEqual((error["op"], error["code"]), ("error", "malformed"))
                self.assertIn("a message is one frame", error["message"])
        self.assertEqual(len(self.client.workers()), 1)

    def test_bytes_that_are_no_zeromq_and_halves_of_it_harm_nobody(self):
        greeting = (b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        body = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
        ready = greeting + b"\x04" + bytes([len(body)]) + body
        endless = (1 << 62).to_bytes(8, "big")
        for address in self.cluster.addresses:
            host, port = address.removeprefix("tcp://").split(":")
            for text in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\xff", greeting[:11], greeting,
                         greeting + b"\x04\xff", greeting + b"\x06" + endless, ready,
                         ready + b"\x00\xff" + b"half", ready + b"\x02" + endless,
                         random.Random(7).randbytes(4096)]:
                raw = socket.create_connection((host, int(port)))
                self.addCleanup(raw.close)  # until then it says no more and stays
                raw.sendall(text)

    def test_a_message_over_the_bound_ends_that_connection_only(self):
        odd = self.cluster.client()
        odd.send_bytes(b"x" * (17 << 20))
        big = self.cluster.client()  # within the socket's bound, beyond the protocol's
        for size in (8 << 20, (16 << 20) - 100):
            big.send_bytes(msgpack.packb({"op": "ping", "req": 1, "pad": b"x" * size}))
            reply = big.receive()
            self.assertEqual((reply["op"], reply["code"]), ("error", "too_large"))

    def test_deep_and_wide_maps_are_refused(self):
        odd = self.cluster.client()
        deep = b"\x81\xa2op" + b"\x91" * 100_000 + b"\x01"
        claims = b"\xdf\xff\xff\xff\xff"  # a map that says it has 4 billion entries
        for frame in [deep, claims, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc1"]:
            odd.send_bytes(frame)
            self.assertIn(odd.receive()["code"], ("malformed", "bad_field"))

    def test_subscriptions_that_are_none_are_ignored(self):
        odd = self.cluster.socket(zmq.XSUB, self.cluster.addresses[2])
        for frame in [b"", b"\x07", b"\x01" + b"t" * 100_000, b"\x00never", b"\xff" * 9]:
            odd.send(frame)
        odd.send_multipart([b"\x01job", b"more"])
        dealer = self.cluster.socket(zmq.SUB, self.cluster.addresses[0])  # the wrong port
        dealer.subscribe("")
        odd.close()
        dealer.close()

    def test_a_worker_of_another_version_is_told_which_side_to_upgrade(self):
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[1])
        odd.send(msgpack.packb(status(protocol=2)))
        self.assertTrue(odd.poll(60_000))
        reply = msgpack.unpackb(odd.recv())
        self.assertEqual((reply["op"], reply["code"]), ("error", "unsupported_version"))
        self.assertIn("upgrade", reply["message"])
        odd.close()
        self.assertEqual(len(self.client.workers()), 1)

    def test_wrong_fields_of_a_status_are_named(self):
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[1])
        for field, value in [("concurrency", 0), ("concurrency", 10_001), ("tasks", ["a b"]),
                             ("node", ""), ("held", [{"id": "x y"}]), ("labels", [])]:
            odd.send(msgpack.packb(status(**{field: value})))
            self.assertTrue(odd.poll(60_000), field)
            reply = msgpack.unpackb(odd.recv())
            self.assertEqual(reply["op"], "error", (field, reply))
            self.assertTrue(reply["field"].startswith(field), (field, reply))
        odd.close()

    def test_results_for_jobs_that_nobody_gave_are_stale(self):
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[1])
        odd.send(msgpack.packb(status()))
        odd.send(msgpack.packb({"op": "result", "node": "odd@1", "results": [
            {"id": "never-seen", "epoch": 3, "attempt": 9, "outcome": "completed"}]}))

        def ack():
            self.assertTrue(odd.poll(60_000))
            reply = msgpack.unpackb(odd.recv())
            return reply if reply["op"] == "ack" else None
        self.assertTrue(until(ack)["results"][0]["stale"])
        odd.send(msgpack.packb({"op": "goodbye", "node": "odd@1"}))
        self.client.until_workers(1)
        odd.close()

    def take_jobs(self, count):
        """A node that we play: its socket, and what it was given to run."""
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[1])
        odd.send(msgpack.packb(status(concurrency=count)))
        given = []

        def run():
            self.assertTrue(odd.poll(60_000))
            reply = msgpack.unpackb(odd.recv())
            given.extend(reply["jobs"] if reply["op"] == "run" else ())
            return len(given) == count
        ids = self.client.submit(*[job("odd", max_retries=0) for _ in range(count)])
        until(run)
        return odd, ids, {each["id"]: {key: each[key] for key in ("id", "epoch", "attempt")}
                          for each in given}

    def test_a_wrong_entry_of_a_result_fails_its_attempt_and_holds_up_no_other(self):
        odd, ids, named = self.take_jobs(4)
        wrong = [{"outcome": "done"}, {"outcome": "completed", "result": b"x" * (2**20 + 1)},
                 {"outcome": "failed", "error": {"code": "c" * 65}}]
        entries = [{**named[i], **more} for i, more in zip(ids, wrong)]
        entries.append({"outcome": "completed"})  # names no attempt
        entries.append({**named[ids[3]], "outcome": "completed", "result": b"fine"})
        odd.send(msgpack.packb({"op": "result", "node": "odd@1", "results": entries}))
        replies, acked = [], set()

        def all_acked():
            self.assertTrue(odd.poll(60_000))
            replies.append(msgpack.unpackb(odd.recv()))
            acked.update(r["id"] for r in replies[-1].get("results", ()))
            return acked == set(ids)
        until(all_acked)
        [error] = [reply for reply in replies if reply["op"] == "error"]
        self.assertEqual((error["code"], error["field"]), ("bad_field", "results[0].outcome"))
        ended = self.client.wait(ids)
        self.assertEqual([ended[i].get("error_code", "") for i in ids],
                         ["bad_result", "result_too_large", "bad_result", ""])
        self.assertEqual(ended[ids[3]]["result"], b"fine")
        self.assertIn("results[0].outcome", ended[ids[0]]["error"])
        odd.send(msgpack.packb({"op": "goodbye", "node": "odd@1"}))
        self.client.until_workers(1)
        odd.close()

    def test_what_the_broker_s_core_refuses_is_named_as_the_rest(self):
        first = job("nobody")
        self.client.submit(first)
        reply = self.client.ask("submit", jobs=[
            job("nobody"), {**first, "payload": b"other"}, job("nobody", expires_at_ms=int((time.time() + 11 * 366 * 86400) * 1000))])
        self.assertEqual([(r["status"], r.get("field", "")) for r in reply["results"]],
                         [("accepted", ""), ("conflict", "jobs[1].id"),
                          ("rejected", "jobs[2].expires_at_ms")])

    def test_the_text_of_a_past_attempt_is_cut_between_two_characters(self):
        self.cluster.start_worker("--builtin", "fail")
        text = "a" * 255 + "ä" * 100
        [job_id] = self.client.submit(json_job("fail", {"message": text, "retryable": False}))
        view = self.client.wait([job_id])[job_id]  # unpacking it raises where text is none
        self.assertEqual(view["error"], text)
        self.assertEqual(view["attempts"][0]["error"], "a" * 255)

    def test_ten_thousand_queues_are_known_and_one_more_is_refused_also_after_a_kill(self):
        self.client.submit(job("echo", b"of the queue default"))
        results = []
        for first in range(0, 10_000, 1000):
            results += self.client.ask("submit", jobs=[
                job("later", queue=f"q{i}", delay_ms=600_000)
                for i in range(first, first + 1000)])["results"]
        # A slow machine asks again, and is told of a duplicate.
        statuses = [each["status"] for each in results]
        self.assertLessEqual(set(statuses[:-1]), {"accepted", "duplicate"})
        self.assertEqual((len(statuses), statuses[-1]), (10_000, "rejected"))
        self.assertEqual(results[-1]["field"], "jobs[999].queue")
        self.assertEqual(self.error_of("pause", queue="another"), ("bad_field", "queue"))
        self.assertEqual(len(self.client.ask("queues")["queues"]), 10_000)
        self.cluster.broker.kill()
        self.cluster.start_broker()
        self.client.until_workers(1)
        queues = self.client.ask("queues")["queues"]
        self.assertEqual(len(queues), 10_000)
        self.assertEqual(sum(queue["pending"] for queue in queues), 9999)

    def test_a_client_that_floods_and_never_reads_holds_up_nobody(self):
        odd = self.cluster.socket(zmq.DEALER, self.cluster.addresses[0])
        frame = msgpack.packb({"op": "get", "req": 1, "ids": [f"id-{n}" for n in range(1000)]})
        odd.sndtimeo = 100
        sent = 0
        try:
            while sent < 300:
                odd.send(frame)
                sent += 1
        except zmq.Again:
            pass  # pushed back: as it should be
        [job_id] = self.client.submit(job("echo", b"between"))
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "completed")
        odd.close()


if __name__ == "__main__":
    unittest.main()
