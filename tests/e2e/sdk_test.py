"""A worker of one's own in C++ with a typed handler and middlewares, on threads and in isolates."""

import json
import unittest

from cluster import Story, json_job, until

HEADERS = {"tenant": "acme"}


class Sdk(Story):
    def setUp(self):
        super().setUp()
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def end_of(self, payload, **more):
        [job_id] = self.client.submit(json_job("total", payload, max_retries=0, **more))
        return self.client.wait([job_id])[job_id]

    def log_of(self, ended):
        return b"".join(piece["bytes"] for piece in self.client.ask("logs", id=ended["id"])["chunks"]).decode()

    def tell_story(self, worker, log_of):
        """`log_of` a job is where it finds what its handler has printed."""
        ended = self.end_of({"lines": [{"cents": 250, "count": 2}, {"cents": 1, "count": 1}]}, headers=HEADERS)
        self.assertEqual(json.loads(ended["result"]), {"cents": 501})
        wrong = self.end_of({"lines": [{"cents": 250}]}, headers=HEADERS)
        self.assertEqual((wrong["error_code"], wrong["error"]), ("bad_payload", "key 'count' not found"))
        refused = self.end_of({"lines": []})
        self.assertEqual((refused["error_code"], refused["error"]), ("no_tenant", "the header `tenant` is missing"))
        said = [f"audit {job['id']} {word}" for job, word in
                ((ended, "ok"), (wrong, "bad_payload"), (refused, "no_tenant"))]
        until(lambda: all(line in log_of(job) for job, line in zip((ended, wrong, refused), said)),
              "the step behind the handlers is not heard")
        self.assertEqual(worker.stop(), 0)

    def test_a_typed_handler_and_its_middlewares_on_threads(self):
        worker = self.cluster.start_worker(program="invoice_worker")
        self.tell_story(worker, lambda _: worker.log())

    def test_the_same_in_isolates(self):
        config = self.cluster.write("total.toml", '[task.total]\nrun = "isolate"\n')
        self.tell_story(self.cluster.start_worker(program="invoice_worker", SLUICE_CONFIG=config), self.log_of)


if __name__ == "__main__":
    unittest.main()
