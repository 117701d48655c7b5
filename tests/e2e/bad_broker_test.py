"""What no broker should send, to a node and to the `sluice` command: neither dies, and both say in
words what is wrong."""

import subprocess
import threading
import unittest

import msgpack
import zmq

from cluster import BIN, PATIENCE, Story, clean_environment, until
from spoiled import halves

LATER = 2**62  # an epoch above any that a spoiled message may claim


class BadBroker(Story):
    """A broker that we play."""

    redis = "memory:"

    def setUp(self):
        super().setUp()
        self.router = self.cluster.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.sndhwm = 0  # a ROUTER drops what is too much
        port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.addCleanup(self.router.close, 0)
        self.cluster.addresses = [f"tcp://127.0.0.1:{port}"] * 3
        self.peer = None

    def start_node(self):
        """It would wait for acks when it is asked to leave; so it is killed."""
        worker = self.cluster.start_worker("--builtin", "echo")
        self.addCleanup(worker.kill)
        self.take("status")
        return worker

    def take(self, *ops):
        """The next message of such an op."""
        while True:
            self.assertTrue(self.router.poll(PATIENCE * 1000), f"no {ops} came")
            self.peer, *frames = self.router.recv_multipart()
            message = msgpack.unpackb(frames[-1])
            if message["op"] in ops:
                return message

    def send(self, *frames):
        self.router.send_multipart([self.peer, *frames])

    def say(self, op, epoch=LATER, **more):
        self.send(msgpack.packb({"op": op, "epoch": epoch, **more}))

    def check_it_works(self, worker):
        """A job that is sent now is run and reported."""
        self.say("welcome", n=1, heartbeat_ms=60_000)
        self.say("run", n=2, jobs=[{"id": "good", "epoch": LATER, "attempt": 1, "task": "echo",
                                    "timeout_ms": 0, "payload": b"fine"}])
        good = until(lambda: [r for r in self.take("result")["results"] if r["id"] == "good"])[0]
        self.assertEqual((good["outcome"], good["result"]), ("completed", b"fine"))
        self.assertTrue(worker.is_alive())

    def test_halves_and_spoiled_messages_do_not_stop_a_node(self):
        worker = self.start_node()
        attempt = {"id": "a", "epoch": 7, "attempt": 1}
        for message in [{"op": "welcome", "epoch": 7, "n": 1, "heartbeat_ms": 60_000},
                        {"op": "run", "epoch": 7, "n": 2, "jobs": [
                            {**attempt, "task": "echo", "payload": b"x"}]},
                        {"op": "cancel", "epoch": 7, "n": 3, "attempts": [attempt]},
                        {"op": "drop", "epoch": 7, "n": 4, "attempts": [attempt]},
                        {"op": "ack", "epoch": 7, "n": 5, "results": [attempt]}]:
            for frame in halves(message):
                self.send(frame)
        self.check_it_works(worker)

    def test_wrong_fields_and_frames_do_not_stop_a_node(self):
        worker = self.start_node()
        for n, more in enumerate([{"jobs": 7}, {"jobs": [{"id": "no blanks"}]}, {"jobs": [[]]},
                                  {"jobs": [{"id": "a", "epoch": 7, "attempt": 0}]},
                                  {"jobs": [{"id": "a", "epoch": -1, "attempt": 1}]}], 1):
            self.say("run", 7, n=n, **more)
        self.say("sing", 7, n=20)
        self.send(b"\x93\x01\x02\x03")
        self.send(b"")
        self.send(b"a", b"b")
        self.send(b"\xdd\xff\xff\xff\xff")
        self.check_it_works(worker)

    def test_a_message_over_the_bound_costs_the_connection_and_no_more(self):
        worker = self.start_node()
        first = self.peer
        self.send(b"x" * (9 << 20))
        until(lambda: self.take("status") and self.peer != first)  # over a new connection
        self.check_it_works(worker)

    def test_a_job_of_a_task_that_the_node_has_not_is_a_failure(self):
        self.start_node()
        self.say("welcome", n=1, heartbeat_ms=60_000)
        self.say("run", n=2, jobs=[{"id": "a", "epoch": LATER, "attempt": 1, "task": "sing"}])
        result = self.take("result")["results"][0]
        self.assertEqual(result["outcome"], "failed")
        self.assertIn("sing", result["error"]["message"])

    def test_a_broker_of_another_version_is_named_and_asked_again(self):
        worker = self.start_node()
        self.say("error", 0, n=0, code="unsupported_version", field="protocol",
                 message="the sender speaks protocol 1: upgrade the sender")
        self.assertIn("upgrade the sender", worker.line("broker_refused"))
        self.check_it_works(worker)

    def ping(self, answer):
        """`sluice ping` against a broker that answers so; its exit status and words."""
        def serve():
            request = self.take("ping")
            self.send(answer(request))
        server = threading.Thread(target=serve)
        server.start()
        done = subprocess.run([BIN / "sluice", "ping", "--timeout", "1s"], capture_output=True,
                              text=True, env={**clean_environment(),
                                              "SLUICE_BROKER": self.cluster.addresses[0]})
        server.join()
        return done.returncode, done.stderr

    def test_the_command_says_when_answers_are_no_answers(self):
        for answer in (b"", b"\xc1", b"\x80", msgpack.packb({"op": "pong", "req": "other"})):
            status, said = self.ping(lambda _, answer=answer: answer)
            self.assertEqual(status, 124, said)
            self.assertIn(self.cluster.addresses[0], said)

    def test_an_answer_over_the_bound_costs_the_command_its_connection_and_no_more(self):
        def serve():
            self.take("ping")
            self.send(b"x" * (9 << 20))
            request = self.take("ping")  # over a new connection
            self.send(msgpack.packb({"op": "pong", "req": request["req"], "version": "x",
                                     "protocol": 1, "epoch": 1, "durable": "always",
                                     "store": "ok"}))
        server = threading.Thread(target=serve)
        server.start()
        done = subprocess.run([BIN / "sluice", "ping", "--timeout", "60s"], capture_output=True,
                              env={**clean_environment(),
                                   "SLUICE_BROKER": self.cluster.addresses[0]})
        server.join()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_command_says_when_the_broker_is_of_another_version(self):
        status, said = self.ping(lambda request: msgpack.packb(
            {"op": "error", "req": request["req"], "code": "unsupported_version",
             "field": "protocol", "message": "upgrade the sender", "retryable": False}))
        self.assertEqual(status, 1, said)
        self.assertIn("upgrade the sender", said)
        status, said = self.ping(lambda request: msgpack.packb(
            {"op": "paused", "req": request["req"]}))
        self.assertEqual(status, 1, said)
        self.assertIn("another version", said)


if __name__ == "__main__":
    unittest.main()
