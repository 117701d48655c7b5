"""Nodes that die, stop, share a name, drain; a broker that sleeps. No job is lost or runs for two."""

import signal
import unittest

from cluster import Gate, Story, is_running, job, until


class Nodes(Story):
    def setUp(self):
        super().setUp()
        self.gate = Gate(self.cluster.folder)
        self.addCleanup(self.gate.release)
        self.config = self.cluster.write("node.toml", self.gate.task)
        self.cluster.start_broker()
        self.client = self.cluster.client()

    def start_node(self, name, *more, slots=2):
        return self.cluster.start_worker("--config", self.config, "--concurrency", slots, *more,
                                         name=f"{name}-{self.cluster.tag}")

    def until_programs_are_gone(self, runs):
        until(lambda: not any(is_running(pid) for _, _, pid in runs),
              "programs outlive their node")

    def test_jobs_of_a_killed_node_run_elsewhere_and_its_programs_die_with_it(self):
        first = self.start_node("first")
        ids = self.client.submit(job("gated"), job("gated"), job("gated"))
        runs = self.gate.until_running(2)
        first.kill()
        self.until_programs_are_gone(runs)
        for job_id, _, _ in runs:
            self.client.until_state(job_id, "queued", lost_count=1, retry_count=0)
        self.gate.release()
        self.start_node("second")
        ended = self.client.wait(ids)
        self.assertEqual({job["state"] for job in ended.values()}, {"completed"})
        for job_id, _, _ in runs:
            self.assertEqual(ended[job_id]["attempt"], 2)
        self.check_ended(ids)
        self.check_totals(submitted=3, completed=3, failed=0, retried=0, lost=2)

    def test_a_stopped_node_is_dead_after_its_silence_and_its_late_result_is_stale(self):
        first = self.start_node("first", slots=1)
        [job_id] = self.client.submit(job("gated"))
        self.gate.until_running(1)
        first.signal(signal.SIGSTOP)
        self.start_node("second", slots=1)
        self.gate.until_running(2)  # the broker gave the job to the other one
        self.gate.release()
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["attempt"]), ("completed", 2))
        first.signal(signal.SIGCONT)
        self.client.until_workers(2)
        until(lambda: any("result_stale" in line or "attempt_dropped" in line
                          for line in first.lines) or self.client.workers() is None,
              "the late attempt was not refused")
        self.assertEqual(self.client.get(job_id)["revision"], ended["revision"])
        self.check_ended([job_id])
        self.check_totals(submitted=1, completed=1, lost=1)

    def test_a_broker_that_slept_declares_no_node_dead(self):
        self.start_node("first")
        ids = self.client.submit(job("gated"), job("gated"))
        self.gate.until_running(2)
        broker = self.cluster.broker
        broker.signal(signal.SIGSTOP)
        # The one pause of the stories: the silence itself is what is tested.
        with self.assertRaises(AssertionError):
            self.client.receive(timeout=3)
        broker.signal(signal.SIGCONT)
        broker.line("broker_slept")
        self.gate.release()
        ended = self.client.wait(ids)
        self.assertEqual({(e["attempt"], e.get("lost_count", 0)) for e in ended.values()},
                         {(1, 0)})
        self.assertFalse(any("node_dead" in line for line in broker.lines))
        self.check_totals(submitted=2, completed=2, lost=0)

    def test_two_lives_of_one_name_are_two_nodes(self):
        self.start_node("twin", slots=1)
        self.start_node("twin", slots=1)
        nodes = self.client.until_workers(2)
        self.assertEqual(len({node["node"] for node in nodes}), 2)
        self.assertEqual({node["node"].split("@")[0] for node in nodes},
                         {f"twin-{self.cluster.tag}"})
        ids = self.client.submit(*[job("gated") for _ in range(4)])
        self.assertEqual(len({run[0] for run in self.gate.until_running(2)}), 2)
        self.gate.release()
        self.client.wait(ids)
        self.assertEqual(len(self.gate.runs()), 4)
        self.check_ended(ids)

    def test_a_node_that_starts_again_says_whom_it_replaces(self):
        state = self.cluster.folder / "state"
        first = self.start_node("one", "--state-dir", state)
        [job_id] = self.client.submit(job("gated"))
        self.gate.until_running(1)
        other = self.start_node("one", "--state-dir", state)  # the first lives: refused
        self.assertEqual(other.exit_code(), 1)
        self.assertIn("belongs to a worker that is running", other.log())
        first.kill()
        self.gate.release()
        again = self.start_node("one", "--state-dir", state)
        again.line("node_started")
        ended = self.client.wait([job_id])[job_id]
        self.assertEqual((ended["attempt"], ended["lost_count"]), (2, 1))

    def test_a_stopped_broker_is_called_silent_and_not_absent(self):
        node = self.start_node("one")
        self.client.until_workers(1)
        self.cluster.broker.signal(signal.SIGSTOP)
        node.line("broker_silent")
        self.assertNotIn("no_broker", node.log())
        self.cluster.broker.signal(signal.SIGCONT)
        self.gate.release()
        [job_id] = self.client.submit(job("gated"))
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "completed")
        self.assertEqual(node.log().count("broker_silent"), 1)

    def test_a_state_directory_that_is_none_is_left_as_it_is(self):
        state = self.cluster.folder / "state"
        state.mkdir()
        (state / "life").write_text("of a beetle\n")
        node = self.start_node("one", "--state-dir", state)
        self.assertEqual(node.exit_code(), 1)
        self.assertIn(f"{state}/life holds no node id", node.log())
        self.assertEqual((state / "life").read_text(), "of a beetle\n")

    def test_a_drained_node_finishes_what_runs_and_takes_nothing_new(self):
        first = self.start_node("first", slots=1)
        ids = self.client.submit(job("gated"), job("gated"))
        self.gate.until_running(1)
        first.signal(signal.SIGTERM)
        first.line("drain_begun")
        until(lambda: self.client.until_workers(1)[0].get("draining"))
        self.gate.release()
        self.assertEqual(first.exit_code(), 0)
        self.assertEqual([self.client.get(job_id)["state"] for job_id in ids],
                         ["completed", "queued"])
        self.start_node("second")
        self.client.wait(ids)
        self.check_totals(submitted=2, completed=2, lost=0, retried=0)

    def test_an_operator_s_drain_is_as_a_signal(self):
        first = self.start_node("first", slots=1)
        self.client.until_workers(1)
        self.assertEqual(self.client.ask("drain", node=f"first-{self.cluster.tag}")["op"], "asked")
        self.assertEqual(first.exit_code(), 0)
        self.client.until_workers(0)

    def test_a_drain_over_its_grace_hands_back_without_spending_a_retry(self):
        first = self.start_node("first", "--drain-grace", "0s", slots=1)
        [job_id] = self.client.submit(job("gated"))
        runs = self.gate.until_running(1)
        self.assertEqual(first.stop(), 0)
        self.until_programs_are_gone(runs)
        handed_back = self.client.until_state(job_id, "queued")
        self.assertEqual((handed_back.get("retry_count", 0), handed_back.get("lost_count", 0)),
                         (0, 0))

    def test_a_second_signal_leaves_at_once_and_kills_the_programs(self):
        first = self.start_node("first", slots=1)
        [job_id] = self.client.submit(job("gated"))
        runs = self.gate.until_running(1)
        first.signal(signal.SIGTERM)
        first.line("drain_begun")
        first.signal(signal.SIGTERM)
        self.assertNotEqual(first.exit_code(), -signal.SIGTERM)
        self.until_programs_are_gone(runs)
        self.client.until_state(job_id, "queued")
        self.gate.release()
        self.start_node("second")
        self.assertEqual(self.client.wait([job_id])[job_id]["state"], "completed")


if __name__ == "__main__":
    unittest.main()
