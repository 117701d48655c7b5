"""Jobs that are HTTP calls, from a node's file to Redis, on a server that behaves badly."""

import json
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cluster import Story, free_ports, json_job


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen.append((self.path, dict(self.headers)))
            count = sum(path == self.path for path, _ in server.seen)
        if self.path == "/busy" and count == 1:
            self.answer(503, b"later", Retry_After="1")
        elif self.path == "/silent":
            server.is_over.wait()
        elif self.path == "/endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while not server.is_over.is_set():
                    self.wfile.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            except OSError:
                self.close_connection = True  # the caller has had enough
        elif self.path == "/elsewhere":
            self.answer(302, Location=server.elsewhere)
        elif self.path == "/gone":
            self.answer(410, b"gone for good")
        else:
            self.answer(200, b"served " + self.path.encode())


class Http(Story):
    def start_server(self, elsewhere=""):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.lock = threading.Lock()  # guards seen
        server.seen, server.is_over, server.elsewhere = [], threading.Event(), elsewhere
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def end():
            server.is_over.set()
            server.shutdown()
            thread.join()
            server.server_close()
        self.addCleanup(end)
        return server, f"http://127.0.0.1:{server.server_port}"

    def setUp(self):
        super().setUp()
        self.other, other_url = self.start_server()
        self.server, self.url = self.start_server(other_url + "/landed")
        secrets = self.cluster.folder / "secrets"
        secrets.mkdir()
        key = secrets / "API"
        key.touch(0o600)
        key.write_text("s3cret\n")
        self.cluster.start_broker()
        self.cluster.start_worker("--config", self.cluster.write("node.toml", f"""
            [task.call]
            run = "http"
            base_url = "{self.url}"
            headers = {{ X-Api-Key = "secret:API" }}
            secrets_dir = "{secrets}"
            allow = ["127.0.0.0/8"]
            response_bytes_max = 100000
            [task.brief]
            run = "http"
            base_url = "{self.url}"
            allow = ["127.0.0.0/8"]
            call_timeout = "200ms"
            [task.closed]
            run = "http"
            """))
        self.client = self.cluster.client()
        self.client.until_workers(1)

    def end_of(self, url, task="call", **more):
        [job_id] = self.client.submit(json_job(
            task, {"url": url}, **{"max_retries": 0, "retry": {"base_ms": 1}, **more}))
        return self.client.wait([job_id])[job_id]

    def test_a_call_completes_with_the_body_and_carries_the_job_s_id_and_the_secret(self):
        ended = self.end_of("/ok")
        self.assertEqual(ended["result"], b"served /ok")
        [(_, headers)] = self.server.seen
        self.assertEqual((headers["Idempotency-Key"], headers["X-Api-Key"]),
                         (ended["id"], "s3cret"))
        self.assertNotIn("s3cret", json.dumps(self.cluster.redis().hash(f"job:{ended['id']}")))

    def test_what_the_target_does_wrong_is_a_failure_with_a_code(self):
        nobody = f"http://127.0.0.1:{free_ports(1)[0]}/"
        for task, url, code in [
                ("call", nobody, "connect_failed"), ("brief", "/silent", "timeout"),
                ("call", "/endless", "response_too_large"), ("call", "/gone", "http_410"),
                ("call", "ftp://h/", "bad_payload")]:
            with self.subTest(url):
                self.assertEqual(self.end_of(url, task)["error_code"], code)

    def test_retry_after_is_waited_for(self):
        ended = self.end_of("/busy", max_retries=1)
        self.assertEqual((ended["state"], ended["retry_count"]), ("completed", 1))
        first, second = ended["attempts"]
        self.assertEqual(first["error_code"], "http_503")
        self.assertGreaterEqual(second["started_ms"] - first["ended_ms"], 950)

    def test_a_redirect_takes_no_secret_to_another_origin(self):
        self.assertEqual(self.end_of("/elsewhere")["result"], b"served /landed")
        [(_, headers)] = self.other.seen
        self.assertNotIn("s3cret", str(headers))
        self.assertNotIn("X-Api-Key", headers)

    def test_a_task_without_allow_does_not_reach_the_inside(self):
        ended = self.end_of(self.url + "/ok", task="closed")
        self.assertEqual(ended["error_code"], "target_refused")
        self.assertEqual(self.server.seen, [])


if __name__ == "__main__":
    unittest.main()
