"""What the `analysis` task must do on a server of the LangGraph API, whichever it is: stories that
analysis_test.py tells with the stand-in and langgraph_test.py with the real server."""

import json
import signal

from cluster import json_job, until

TASK = """
[task.{task}]
run = "analysis"
base_url = "{url}"
assistant_id = "{assistant}"
allow = ["127.0.0.0/8"]
poll_interval = "50ms"
"""


def analysis(ticker, task="analysis", **more):
    return json_job(task, {"ticker": ticker, "trade_date": "2024-01-15"},
                    retry={"base_ms": 1, "jitter": 0.0}, **more)


class AnalysisStories:
    """Mixed into a Story. `url` is the server's; runs() lists the runs of all threads as
    {"thread_id", "run_id", "status"}."""

    url = ""

    def runs(self):
        raise NotImplementedError

    def start_cluster(self, url=None):
        self.cluster.start_broker()
        self.config = self.cluster.write("node.toml", "".join(
            TASK.format(task=task, url=url or self.url, assistant=assistant)
            for task, assistant in [("analysis", "trading"), ("nobody", "nobody")]))
        self.client = self.cluster.client()
        return self.start_node()

    def start_node(self):
        return self.cluster.start_worker("--config", self.config, "--concurrency", "8")

    def end_of(self, job_id):
        return self.client.wait([job_id])[job_id]

    def runs_since(self, before):
        known = {run["run_id"] for run in before}
        return [run for run in self.runs() if run["run_id"] not in known]

    def test_a_report_comes_back(self):
        self.start_cluster()
        ids = self.client.submit(*[analysis(ticker) for ticker in ("AAPL", "MSFT", "BRK.B")])
        ended = self.client.wait(ids)
        reports = [json.loads(ended[job_id]["result"]) for job_id in ids]
        for ticker, report in zip(("AAPL", "MSFT", "BRK.B"), reports):
            self.assertEqual((report["ticker"], report["trade_date"]), (ticker, "2024-01-15"))
            self.assertIn(ticker, report["report"])
        self.assertEqual(len({report["thread_id"] for report in reports}), 3)
        self.check_ended(ids)

    def test_a_graph_that_raises_fails_the_job_with_its_words(self):
        self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("BAD", max_retries=1))
        ended = self.end_of(job_id)
        self.assertEqual((ended["state"], ended["error_code"], ended["attempt"]),
                         ("failed", "graph_error", 2))
        self.assertIn("unknown ticker", ended["error"])
        first, second = self.runs_since(before)
        self.assertEqual(first["thread_id"], second["thread_id"])

    def test_a_person_s_retry_is_a_run_on_another_thread(self):
        self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("BAD", max_retries=0))
        self.assertEqual(self.end_of(job_id)["state"], "failed")
        self.client.ask("retry", ids=[job_id])
        self.assertEqual(self.end_of(job_id)["state"], "failed")
        first, second = self.runs_since(before)
        self.assertNotEqual(first["thread_id"], second["thread_id"])

    def test_an_assistant_that_does_not_exist_is_never_tried_again(self):
        self.start_cluster()
        [job_id] = self.client.submit(analysis("AAPL", task="nobody"))
        ended = self.end_of(job_id)
        self.assertEqual((ended["error_code"], ended["attempt"]), ("assistant_not_found", 1))

    def test_a_wrong_payload_never_reaches_the_server(self):
        self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("no/such"))
        self.assertEqual(self.end_of(job_id)["error_code"], "bad_payload")
        self.assertEqual(self.runs_since(before), [])

    def test_the_second_attempt_joins_the_run_of_a_node_that_was_killed(self):
        first = self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("SLOW3"))
        [run] = until(lambda: self.runs_since(before))
        first.kill()
        self.client.until_state(job_id, "queued", lost_count=1)
        self.start_node()
        ended = self.end_of(job_id)
        self.assertEqual((ended["state"], ended["attempt"]), ("completed", 2))
        result = json.loads(ended["result"])
        self.assertEqual((result["run_id"], result["thread_id"]),
                         (run["run_id"], run["thread_id"]))
        self.assertEqual(len(self.runs_since(before)), 1)

    def test_a_cancel_ends_the_remote_run(self):
        self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("SLOW600"))
        until(lambda: self.runs_since(before))
        self.client.ask("cancel", ids=[job_id])
        self.assertEqual(self.end_of(job_id)["state"], "cancelled")
        self.until_run_is_over(before)

    def test_a_time_out_ends_the_remote_run(self):
        self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("SLOW600", timeout_ms=2500, max_retries=0))
        ended = self.end_of(job_id)
        self.assertEqual((ended["state"], ended["error_code"]), ("failed", "timeout"))
        self.until_run_is_over(before)

    def test_a_drained_node_leaves_the_remote_run_to_the_next(self):
        first = self.start_cluster()
        before = self.runs()
        [job_id] = self.client.submit(analysis("SLOW3"))
        until(lambda: self.runs_since(before))
        first.signal(signal.SIGTERM)
        first.line("drain_begun")
        first.signal(signal.SIGTERM)
        first.exit_code()
        self.start_node()
        self.assertEqual(self.end_of(job_id)["state"], "completed")
        self.assertEqual(len(self.runs_since(before)), 1)

    def until_run_is_over(self, before):
        until(lambda: [run["status"] for run in self.runs_since(before)
                       if run["status"] in ("running", "pending")] == [],
              "the remote run goes on")
