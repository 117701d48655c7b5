"""Each reason for which the demo must not say that all is well, one by one: totals in Redis that are
not those of the jobs, jobs that are not completed, results that are not right. No process runs."""

import argparse
import contextlib
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import demo  # noqa: E402
import work  # noqa: E402
from report import Report  # noqa: E402

FILE = str(HERE / "analyses.csv")
FILE_SUM = hashlib.sha256(Path(FILE).read_bytes()).hexdigest()
TOTALS = {"submitted": 2, "pending": 0, "completed": 2, "failed": 0, "retried": 3, "lost": 1}
ANALYSIS = {"ticker": "AAPL", "trade_date": "2024-01-16", "status": "success",
            "report": "HOLD AAPL on 2024-01-16"}


class Lines:
    """A screen whose words can be read."""

    def __init__(self):
        self.said = []

    def say(self, text="", colour=""):
        self.said.append(text)


class Redis:
    """A cluster of which only Redis is asked; answers as redis-cli without a terminal."""

    redis_socket = Path("/tmp/redis.sock")

    def __init__(self, totals):
        self._totals = totals

    def redis_cli(self, *words):
        if words == ("HGETALL", "sluice:{p0}:stats"):
            return "".join(f"{name}\n{count}\n" for name, count in self._totals.items())
        return '1) "completed"\n'


def view(id, task, result, **fields):
    return {"id": id, "task": task, "state": "completed", "node": "n2@1f2e3d4c", "created_ms": 1_000,
            "finished_ms": 2_500, "result": result, **fields}


def checksum_view(**fields):
    said = f"{FILE_SUM}  {FILE}\n".encode()
    return view("file-001", "checksum", said, retry_count=1, lost_count=1, **fields)


def analysis_view(**said):
    result = json.dumps({**ANALYSIS, **said}).encode()
    return view("AAPL-2024-01-16", "analysis", result, retry_count=2)


def report(files=None, stocks=None, totals=TOTALS):
    jobs = [work.checksum("file-001", FILE), work.analysis("AAPL", "2024-01-16")]
    views = [files or checksum_view(), stocks or analysis_view()]
    return Report(Lines(), Redis(totals), jobs, views)


class Totals(unittest.TestCase):
    def test_equal_ones_are_no_difference_and_are_shown(self):
        good = report()
        self.assertEqual(good.differences(), [])
        self.assertIn("submitted 2, completed 2, failed 0, retried 3, lost 1", good.screen.said[-1])

    def test_each_of_them_that_differs_is_named_with_both_figures(self):
        for name in ("submitted", "completed", "failed", "retried", "lost"):
            other = report(totals={**TOTALS, name: TOTALS[name] + 7})
            said = f"`{name}` is {TOTALS[name] + 7} in Redis, {TOTALS[name]} by the jobs themselves"
            self.assertEqual(other.differences(), [said])
            self.assertEqual(other.screen.said, [])

    def test_one_that_is_not_in_redis_counts_as_none(self):
        totals = {name: count for name, count in TOTALS.items() if name != "completed"}
        said = "`completed` is 0 in Redis, 2 by the jobs themselves"
        self.assertEqual(report(totals=totals).differences(), [said])


class Results(unittest.TestCase):
    def test_right_ones_are_no_problem(self):
        self.assertEqual(report().wrong_results(), [])

    def test_a_wrong_checksum_is_named_with_its_job_and_node(self):
        [said] = report(files=checksum_view() | {"result": b"0" * 64}).wrong_results()
        self.assertRegex(said, f"^wrong result of job file-001 on node n2: sha256 of {FILE} is ")

    def test_an_analysis_of_something_else_is_named_with_what_differs(self):
        for key, value in (("ticker", "MSFT"), ("trade_date", "2024-01-17"),
                           ("report", "HOLD MSFT on 2024-01-16"), ("report", None)):
            [said] = report(stocks=analysis_view(**{key: value})).wrong_results()
            begin = "wrong result of job AAPL-2024-01-16 on node n2: "
            self.assertEqual(said, f"{begin}{key} is {value!r}, should be {ANALYSIS[key]!r}")

    def test_an_analysis_that_is_no_report_at_all_is_wrong(self):
        for result, why in ((b"", "not JSON"), (b"HOLD", "not JSON"), (b"[]", "not a map")):
            [said] = report(stocks=analysis_view() | {"result": result}).wrong_results()
            self.assertIn(why, said)

    def test_a_job_that_is_not_completed_is_named_with_its_error_whatever_its_result(self):
        failed = checksum_view(error_code="exit_1", error="no such file") | {"state": "failed"}
        said = "job file-001 is failed: exit_1 no such file"
        self.assertEqual(report(files=failed).wrong_results(), [said])
        gone = {"id": "AAPL-2024-01-16", "not_found": True}
        [said] = report(stocks=gone).wrong_results()
        self.assertRegex(said, "^job AAPL-2024-01-16 is not found: ")


class Figures(unittest.TestCase):
    def test_the_table_has_a_line_for_each_kind_of_job_and_the_wall_time(self):
        one = report()
        one.table(12.34)
        said = [line.split() for line in one.screen.said]
        self.assertIn("checksum 1 1 1 1 1 1.50 s 1.50 s".split(), said)
        self.assertIn("analysis 1 1 2 0 0 1.50 s 1.50 s".split(), said)
        self.assertIn("2 jobs in 12.3 s wall time", " ".join(one.screen.said))

    def test_a_lost_attempt_is_recovered_by_a_job_that_was_completed_all_the_same(self):
        views = [view("a", "checksum", b"", lost_count=2),
                 view("b", "checksum", b"", lost_count=1) | {"state": "failed"}]
        one = work.Outcome.of("checksum", views)
        self.assertEqual((one.count, one.states["completed"], one.lost, one.recovered), (2, 1, 3, 2))

    def test_percentiles_are_those_of_the_nearest_rank(self):
        views = [view(f"j{ms}", "checksum", b"") | {"created_ms": 0, "finished_ms": ms * 10}
                 for ms in range(100, 0, -1)]
        one = work.Outcome.of("checksum", views)
        self.assertEqual((one.percentile(0.5), one.percentile(0.99)), ("0.50 s", "0.99 s"))
        self.assertEqual(work.Outcome.of("checksum", []).percentile(0.5), "-")


class Watch(unittest.TestCase):
    def test_jobs_that_end_before_the_node_was_killed_and_back_show_nothing(self):
        shown = demo.Demo(argparse.Namespace(bin=HERE))
        self.addCleanup(shown.cluster.stop)
        shown.jobs = [work.checksum("file-001", FILE)]
        shown.client = mock.Mock()
        shown.client.queues.return_value = shown.client.list.return_value = []
        submitting = mock.Mock()
        with mock.patch.object(shown, "show", return_value=1), \
                mock.patch.object(shown, "is_time_to_kill", return_value=False), \
                self.assertRaisesRegex(demo.Wrong, "before n. was killed and back: too few jobs"):
            shown.watch(submitting)
        submitting.result.assert_called_once()


class Judge(unittest.TestCase):
    """What the demo makes of it: Wrong, by which it leaves with 1."""

    def judge(self, one):
        shown = demo.Demo(argparse.Namespace(bin=HERE))
        self.addCleanup(shown.cluster.stop)
        with mock.patch.object(Report, "faults"):  # asks the stand-in, which is not there
            shown.judge(one, 1.0)
        return one.screen.said

    def test_it_praises_when_all_is_well(self):
        self.assertIn("1 checksums are those of hashlib,", self.judge(report()))

    def test_it_is_wrong_for_each_reason_alone(self):
        reasons = {
            "`lost` is 9 in Redis": report(totals={**TOTALS, "lost": 9}),
            "sha256 of": report(files=checksum_view() | {"result": b"0"}),
            "report is": report(stocks=analysis_view(report="SELL")),
            # Its totals are right: only the jobs' own states tell.
            "job file-001 is failed": report(
                files=checksum_view() | {"state": "failed"},
                totals={**TOTALS, "completed": 1, "failed": 1}),
        }
        for words, one in reasons.items():
            with self.subTest(words), self.assertRaisesRegex(demo.Wrong, words):
                self.judge(one)
            self.assertFalse([line for line in one.screen.said if "every result is right" in line])


class Stop(unittest.TestCase):
    """--stop DIR where there is nothing to stop."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sluice-dt-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "demo"
        self.folder.mkdir()

    def stop(self, folder):
        """Its exit code, what it says and what it complains of."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", ["demo.py", "--stop", str(folder)]), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = demo.main()
        return code, out.getvalue(), err.getvalue()

    def test_a_directory_that_is_not_there_is_said_in_a_sentence(self):
        command = ["/usr/bin/python3", "-B", str(HERE / "demo.py"), "--stop", str(self.folder / "gone")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "^[^\n]*gone is not there: that cluster was stopped already, or [^\n]*\n$")

    def test_another_s_directory_is_said_in_a_sentence_and_kept(self):
        mine = self.folder / "mine.txt"
        mine.write_text("mine")
        for words in (None, "not JSON", "[]", "{}", "7", '[{"name": "broker"}]'):
            if words is not None:
                (self.folder / "processes.json").write_text(words)
            code, _, complaint = self.stop(self.folder)
            self.assertEqual((code, len(complaint.splitlines())), (2, 1), words)
            self.assertTrue(mine.exists())

    def test_a_cluster_whose_processes_are_gone_is_said_to_be_and_removed(self):
        gone = [{"name": "broker", "pid": 1, "started": 1}]  # pid 1 is another's by now
        (self.folder / "processes.json").write_text(json.dumps(gone))
        code, said, complaint = self.stop(self.folder)
        self.assertEqual(code, 0, complaint)
        self.assertIn("was stopped already", said)
        self.assertFalse(self.folder.exists())


if __name__ == "__main__":
    unittest.main()
