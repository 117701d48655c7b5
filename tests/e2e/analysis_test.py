"""Analysis jobs through broker and worker on the stand-in of the LangGraph API, faults included."""

import json
import subprocess
import sys
import unittest
import urllib.request

from analysis_stories import AnalysisStories, analysis
from cluster import ROOT, Story


class OnTheStandIn(AnalysisStories, Story):
    def setUp(self):
        super().setUp()
        self.url = self.start_stand_in()

    def start_stand_in(self, *options):
        script = ROOT / "tests" / "support" / "langgraph_standin.py"
        server = subprocess.Popen([sys.executable, "-B", script, *options],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

        def end():
            server.kill()
            server.wait()
            server.stdout.close()
        self.addCleanup(end)
        return f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"

    def stats(self, url):
        with urllib.request.urlopen(url + "/_stats", timeout=60) as answer:
            return json.load(answer)

    def runs(self):
        return self.stats(self.url)["all_runs"]

    def run_with_faults(self, *options, **more):
        """One analysis on a server that fails so; its end and what the server did."""
        url = self.start_stand_in("--faults", "1", *options)
        self.start_cluster(url)
        [job_id] = self.client.submit(analysis("AAPL", **more))
        return self.end_of(job_id), self.stats(url)

    def test_a_server_that_answers_500_is_tried_again(self):
        ended, stats = self.run_with_faults("--fault-kinds", "500", max_retries=2)
        self.assertEqual((ended["error_code"], ended["attempt"]), ("http_500", 3))
        self.assertEqual(stats["faults"]["500"], 3)

    def test_a_server_that_says_nothing_ends_with_the_attempts_time(self):
        ended, stats = self.run_with_faults("--fault-kinds", "silent", max_retries=0,
                                            timeout_ms=500)
        self.assertEqual(ended["error_code"], "timeout")
        self.assertGreaterEqual(stats["faults"]["silent"], 1)

    def test_a_run_whose_join_fails_is_polled_to_its_end(self):
        ended, stats = self.run_with_faults("--fault-kinds", "500", "--fault-path", "/join$",
                                            "--slow-ms", "300", max_retries=0)
        self.assertEqual(ended["state"], "completed", ended)
        self.assertEqual((stats["runs"], stats["joined"], stats["faults"]["500"]), (1, 0, 1))

    def test_sixty_analyses_end_right_although_a_fifth_of_the_calls_fails(self):
        url = self.start_stand_in("--faults", "0.2", "--fault-kinds", "500,silent", "--seed", "3",
                                  "--slow-ms", "10")
        self.start_cluster(url)
        tickers = [f"T{n}" for n in range(60)]
        ids = self.client.submit(*[analysis(t, timeout_ms=1000, max_retries=100)
                                   for t in tickers])
        ended = self.client.wait(ids)
        for ticker, job_id in zip(tickers, ids):
            self.assertEqual(json.loads(ended[job_id]["result"])["report"],
                             f"HOLD {ticker} on 2024-01-15")
        self.check_ended(ids)


if __name__ == "__main__":
    unittest.main()
