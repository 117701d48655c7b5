"""What people read in Redis beside the jobs: the nodes that are there, and what happened."""

import json
import unittest
from collections import Counter

from cluster import Story, job, until

FAILING = '[task.broken]\nprogram = ["sh", "-c", "exit 65"]\n'


class Notes(Story):
    def setUp(self):
        super().setUp()
        self.config = self.cluster.write("node.toml", FAILING)
        self.cluster.start_broker()
        self.client = self.cluster.client()
        self.redis_keys = self.cluster.redis()

    def start_node(self, name, slots=3):
        return self.cluster.start_worker("--config", self.config, "--concurrency", slots,
                                         "--label", "zone=a", name=f"{name}-{self.cluster.tag}")

    def nodes(self):
        """node -> its status, as `HGETALL sluice:{p0}:nodes` shows them."""
        return {node: json.loads(text) for node, text in self.redis_keys.hash("nodes").items()}

    def until_nodes(self, *names):
        """Waits until exactly these stand there; the status of the first that does."""
        wanted = sorted(f"{name}-{self.cluster.tag}" for name in names)
        until(lambda: sorted(node.split("@")[0] for node in self.nodes()) == wanted,
              f"`nodes` does not become {wanted}")
        return next(iter(self.nodes().values()), None)

    def events(self):
        entries = self.redis_keys.ask("XRANGE", "sluice:{p0}:events", "-", "+")
        return [json.loads(pairs[1]) for _, pairs in entries]

    def until_event(self, what, **fields):
        def look():
            for event in self.events():
                if event["event"] == what and fields.items() <= event.items():
                    return event
            return None
        return until(look, f"no event {what} {fields}: {self.events()[-5:]}")

    def test_a_node_stands_there_with_its_last_status_until_it_leaves_or_dies(self):
        first = self.start_node("first")
        status = self.until_nodes("first")
        self.assertEqual((status["concurrency"], status["free"], status["running"]), (3, 3, 0))
        self.assertEqual((status["labels"], status["draining"]), ({"zone": "a"}, False))
        self.assertIn("broken", status["tasks"])
        seen_ms = status["seen_ms"]
        until(lambda: next(iter(self.nodes().values()))["seen_ms"] > seen_ms,
              "the next heartbeat is not shown")
        second = self.start_node("second")
        self.until_nodes("first", "second")
        self.assertEqual(first.stop(), 0)
        self.until_nodes("second")
        second.kill()
        self.until_nodes()
        for what, name in [("node_joined", "first"),
                           ("node_left", "first"), ("node_joined", "second"),
                           ("node_dead", "second")]:
            self.assertTrue(any(event["event"] == what and event["node"].startswith(name)
                                for event in self.events()), (what, name, self.events()))

    def test_a_new_broker_shows_only_the_nodes_that_it_hears(self):
        gone, stays = self.start_node("gone"), self.start_node("stays")
        self.until_nodes("gone", "stays")
        self.cluster.broker.kill()
        gone.kill()
        self.cluster.start_broker()
        self.until_nodes("stays")
        self.assertTrue(stays.is_alive())

    def test_what_an_operator_does_and_which_jobs_fail(self):
        self.start_node("first")
        self.until_nodes("first")
        self.client.ask("pause", queue="mail")
        self.client.ask("resume", queue="mail")
        [failing] = self.client.submit(job("broken", max_retries=0))
        self.client.until_state(failing, "failed")
        self.client.ask("retry", ids=[failing])
        self.client.until_state(failing, "failed", attempt=2)
        self.client.ask("delete", ids=[failing])
        self.client.ask("purge", queue="mail")
        node = f"first-{self.cluster.tag}"
        self.client.ask("set_concurrency", node=node, concurrency=2)
        self.client.ask("drain", node=node)
        self.until_event("queue_paused", queue="mail")
        self.until_event("queue_resumed", queue="mail")
        self.until_event("job_failed", job=failing, attempt=1, queue="default", task="broken")
        self.until_event("jobs_retried", count=1)
        self.until_event("job_failed", job=failing, attempt=2)
        self.until_event("jobs_deleted", count=1)
        self.until_event("queue_purged", queue="mail")
        self.until_event("node_concurrency_asked", count=2)
        self.assertTrue(self.until_event("node_drain_asked")["node"].startswith(node))

    def test_of_a_storm_of_failures_a_hundred_a_second_are_kept(self):
        self.start_node("first", slots=1)
        self.until_nodes("first")
        # They expire in one turn of the broker: a storm as fast as can be.
        due_ms = int(self.redis_keys.ask("TIME")[0]) * 1000 + 500
        failed = self.client.submit(*[job("nobody", expires_at_ms=due_ms) for _ in range(1000)])
        self.client.wait(failed)

        def accounted_for():
            events = self.events()
            return (sum(event["event"] == "job_failed" for event in events) +
                    sum(event["count"] for event in events if event["event"] == "left_out"))

        # What was left out is said with the first event of a later second; a storm over the turn of
        # a second is left out twice.
        def is_all_said():
            failed.extend(self.client.submit(job("broken", max_retries=0)))
            self.client.wait(failed[-1:])
            self.redis_keys.until_view_is_complete()
            return accounted_for() == len(failed)
        until(is_all_said, "not every failure is kept or counted as left out")
        events = self.events()
        self.assertTrue(any(event["event"] == "left_out" for event in events))
        seconds = Counter(event["at_ms"] // 1000 for event in events)
        self.assertEqual(max(seconds.values()), 100, seconds)
        self.check_totals(failed=len(failed))


if __name__ == "__main__":
    unittest.main(verbosity=2)
