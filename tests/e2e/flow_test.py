"""The whole way of a job, from submit to Redis, with each kind of worker."""

import hashlib
import unittest

from cluster import IS_PYTHON, Gate, Story, is_running, job, json_job, until

of_sluice_worker = unittest.skipIf(IS_PYTHON, "a story of sluice-worker alone")


class Flow(Story):
    def test_jobs_of_programs_and_of_threads_come_back_with_their_results(self):
        cluster = self.cluster
        cluster.start_broker()
        cluster.start_worker("--concurrency", "4", "--task", "checksum=sha256sum", "--builtin",
                             "echo,fail")
        client = cluster.client()
        texts = [f"text {n}".encode() for n in range(40)]
        sums = client.submit(*[job("checksum", text) for text in texts])
        echoes = client.submit(*[job("echo", text) for text in texts])
        bad = client.submit(json_job("fail", {"code": "no", "retryable": False}))
        ended = client.wait(sums + echoes + bad)
        for text, checksum, echo in zip(texts, sums, echoes):
            self.assertEqual(ended[checksum]["result"].split()[0].decode(),
                             hashlib.sha256(text).hexdigest())
            self.assertEqual(ended[echo]["result"], text)
        self.assertEqual((ended[bad[0]]["state"], ended[bad[0]]["error_code"]), ("failed", "no"))
        self.check_ended(sums + echoes)
        self.check_ended(bad, "failed")
        self.check_totals(submitted=81, completed=80, failed=1, retried=0, lost=0)

    def test_a_job_that_fails_twice_is_tried_three_times(self):
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "fail")
        client = self.cluster.client()
        [job_id] = client.submit(json_job(
            "fail", {"code": "again"}, max_retries=2, retry={"base_ms": 1, "jitter": 0.0}))
        ended = client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["attempt"], ended["retry_count"]),
                         ("failed", 3, 2))
        self.assertEqual([a["error_code"] for a in ended["attempts"]], ["again"] * 3)
        self.check_totals(submitted=1, completed=0, failed=1, retried=2)

    def test_a_resend_is_a_duplicate_and_other_content_a_conflict(self):
        self.cluster.start_broker()
        self.cluster.start_worker("--builtin", "echo")
        client = self.cluster.client()
        first = job("echo", "a")
        client.wait(client.submit(first))
        again = client.ask("submit", jobs=[first])["results"][0]
        other = client.ask("submit", jobs=[{**first, "payload": b"b"}])["results"][0]
        self.assertEqual((again["status"], again["state"]), ("duplicate", "completed"))
        self.assertEqual((other["status"], other["code"]), ("conflict", "conflict"))
        self.check_totals(submitted=1, completed=1)

    def test_a_cancel_kills_the_process_group_of_a_running_program(self):
        cluster = self.cluster
        cluster.start_broker()
        pids = cluster.folder / "pids"
        script = f"sleep 600 & echo $$ $! >> {pids}; wait"
        config = cluster.write("node.toml", f'[task.nap]\nprogram = ["sh", "-c", "{script}"]\n')
        cluster.start_worker("--config", config)
        client = cluster.client()
        [job_id] = client.submit(job("nap"))
        line = until(lambda: pids.exists() and pids.read_text().endswith("\n") and
                     pids.read_text())
        reply = client.ask("cancel", ids=[job_id], reason="enough")
        self.assertEqual(reply["results"][0]["status"], "cancelling")
        ended = client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["cancel_reason"]), ("cancelled", "enough"))
        self.assertEqual([pid for pid in map(int, line.split()) if is_running(pid)], [])
        self.check_ended([job_id], "cancelled")

    def test_a_program_over_its_time_is_killed_and_fails(self):
        cluster = self.cluster
        cluster.start_broker()
        config = cluster.write("node.toml", '[task.nap]\nprogram = ["sleep", "600"]\n')
        cluster.start_worker("--config", config)
        client = cluster.client()
        [job_id] = client.submit(job("nap", timeout_ms=100, max_retries=0))
        ended = client.wait([job_id])[job_id]
        self.assertEqual((ended["state"], ended["error_code"]), ("failed", "timeout"))

    @of_sluice_worker
    def test_bad_programs_are_failures_with_a_code(self):
        cluster = self.cluster
        cluster.start_broker()
        config = cluster.write("node.toml", """
            [task.missing]
            program = ["/nowhere/at/all"]
            [task.flood]
            program = ["sh", "-c", "yes | head -c 3000000"]
            [task.crash]
            program = ["sh", "-c", "kill -SEGV $$"]
            [task.noisy]
            program = ["sh", "-c", "yes | head -c 3000000 >&2; echo quiet"]
            [task.never]
            program = ["sh", "-c", "echo no such thing >&2; exit 65"]
            """)
        cluster.start_worker("--config", config)
        client = cluster.client()
        tasks = ["missing", "flood", "crash", "never"]
        ids = client.submit(*[job(task, max_retries=0) for task in tasks])
        ended = client.wait(ids)
        self.assertEqual([ended[i]["error_code"] for i in ids],
                         ["program_not_found", "result_too_large", "killed_by_SIGSEGV",
                          "exit_65"])
        self.assertIn("no such thing", ended[ids[3]]["error"])
        [noisy] = client.submit(job("noisy"))
        self.assertEqual(client.wait([noisy])[noisy]["result"], b"quiet\n")

    @of_sluice_worker
    def test_the_example_of_the_sdk_works(self):
        cluster = self.cluster
        cluster.start_broker()
        worker = cluster.start_worker(program="shout_worker")
        client = cluster.client()
        [job_id] = client.submit(job("shout", b"hello"))
        self.assertEqual(client.wait([job_id])[job_id]["result"], b"HELLO")
        self.assertEqual(worker.stop(), 0)

    def test_a_running_job_shows_its_node_and_ends_in_one_index(self):
        cluster = self.cluster
        cluster.start_broker()
        gate = Gate(cluster.folder)
        cluster.start_worker("--config", cluster.write("node.toml", gate.task), name=f"n-{cluster.tag}")
        client = cluster.client()
        [job_id] = client.submit(job("gated"))
        gate.until_running(1)
        self.assertTrue(client.get(job_id)["node"].startswith(f"n-{cluster.tag}@"))
        self.check_state(job_id, "running")
        gate.release()
        client.wait([job_id])
        self.check_ended([job_id])
        self.check_totals(submitted=1, completed=1)


if __name__ == "__main__":
    unittest.main()
