#!/usr/bin/env python3
"""A stand-in of the LangGraph API for the demo and the tests: the calls that the `analysis` task
makes, answered as the real server does, with faults drawn from a seed.

    langgraph_standin.py [--port 0] [--seed 1] [--faults 0.0] [--slow-ms 100] [--slow-max-ms N]

Prints {"port": N} when it listens. GET /_stats tells what it did. Tickers as in the real test
graph: SLOWn waits n seconds, BAD raises, HUGE gives a 2 MB report.
"""
import argparse
import json
import random
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class World:
    """Threads and runs. `lock` guards all of it; `changed` tells of a run that ended."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.random = random.Random(options.seed)
        self.threads = {}  # thread id -> list of runs, newest first
        self.values = {}  # thread id -> state values
        self.faults = {"429": 0, "500": 0, "silent": 0}
        self.calls = 0
        self.cancelled = 0
        self.joined = 0

    def draw_fault(self, path):
        with self.lock:
            self.calls += 1
            if not re.search(self.options.fault_path, path):
                return None
            if self.random.random() >= self.options.faults:
                return None
            fault = self.random.choice(sorted(self.options.fault_kinds.split(",")))
            self.faults[fault] += 1
            return fault

    def start_run(self, thread_id, values):
        ticker = str(values.get("company_of_interest", ""))
        slow = re.fullmatch(r"SLOW(\d+)", ticker)
        with self.lock:
            low = self.options.slow_ms
            delay = int(slow[1]) if slow else self.random.uniform(
                low, max(low, self.options.slow_max_ms)) / 1000
            run = {"run_id": str(uuid.uuid4()), "thread_id": thread_id, "status": "running",
                   "input": values}
            self.threads[thread_id].insert(0, run)
        timer = threading.Timer(delay, self.end_run, (run,))
        timer.daemon = True
        timer.start()
        return dict(run, status="pending")

    def end_run(self, run):
        values = run["input"]
        ticker, date = values.get("company_of_interest"), values.get("trade_date")
        with self.changed:
            if run["status"] == "running":
                run["status"] = "error" if ticker == "BAD" else "success"
                if ticker != "BAD":
                    report = f"HOLD {ticker} on {date}"
                    if ticker == "HUGE":
                        report = report.ljust(2_000_000, ".")
                    self.values[run["thread_id"]] = dict(values, final_trade_decision=report)
            self.changed.notify_all()

    def cancel_run(self, run):
        with self.changed:
            if run["status"] == "running":
                run["status"] = "interrupted"
                self.cancelled += 1
            self.changed.notify_all()

    def stats(self):
        with self.lock:
            return {
                "calls": self.calls,
                "faults": dict(self.faults),
                "threads": len(self.threads),
                "runs": sum(map(len, self.threads.values())),
                "joined": self.joined,
                "cancelled": self.cancelled,
                "all_runs": [
                    {key: run[key] for key in ("thread_id", "run_id", "status")}
                    for runs in self.threads.values() for run in runs
                ],
                "runs_per_thread": {
                    name: [run["status"] for run in runs] for name, runs in self.threads.items()
                },
            }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self):
        self.serve({})

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(size) or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self.answer(400, "not a JSON object")
        self.serve(body)

    def serve(self, body):
        if self.path == "/ok":
            return self.answer(200, {"ok": True})
        if self.path == "/_stats":
            return self.answer(200, self.world.stats())
        key = self.world.options.api_key
        if key and self.headers.get("X-Api-Key") != key:
            return self.answer(403, "Forbidden")
        fault = self.world.draw_fault(self.path)
        if fault == "429":
            return self.answer(429, "too many requests", [("Retry-After", "1")])
        if fault == "500":
            return self.answer(500, "internal server error")
        if fault == "silent":
            self.close_connection = True
            self.connection.settimeout(60)
            self.connection.recv(1)  # says nothing until the caller gives up
            return None
        return self.route(self.command, self.path.split("?")[0].strip("/").split("/"), body)

    def route(self, method, path, body):
        world = self.world
        if (method, path) == ("POST", ["threads"]):
            thread_id = body.get("thread_id") or str(uuid.uuid4())
            with world.lock:
                if thread_id in world.threads and body.get("if_exists") != "do_nothing":
                    return self.answer(409, "Thread already exists")
                world.threads.setdefault(thread_id, [])
            return self.answer(200, {"thread_id": thread_id, "status": "idle"})
        if path[0] != "threads" or len(path) < 3 or path[1] not in world.threads:
            return self.answer(404, "not found")
        if path[2] == "state" and method == "GET":
            with world.lock:
                values = dict(world.values.get(path[1], {}))
            return self.answer(200, {"values": values})
        if path[2:] == ["runs"]:
            return self.runs(method, path[1], body)
        if path[2] == "runs" and len(path) in (4, 5):
            return self.run(method, path[1], path[3], path[4:])
        return self.answer(404, "not found")

    def runs(self, method, thread_id, body):
        world = self.world
        if method == "GET":
            with world.lock:
                runs = [dict(run) for run in world.threads[thread_id]]
            return self.answer(200, runs)
        if body.get("assistant_id") != world.options.assistant:
            return self.answer(404, f"No assistant found for {body.get('assistant_id')}")
        return self.answer(200, world.start_run(thread_id, dict(body.get("input") or {})))

    def run(self, method, thread_id, run_id, rest):
        world = self.world
        with world.lock:
            found = [run for run in world.threads[thread_id] if run["run_id"] == run_id]
        if not found:
            return self.answer(404, "Run not found")
        run = found[0]
        if rest == ["cancel"] and method == "POST":
            world.cancel_run(run)
            return self.answer(202, {})
        if rest == ["join"] and method == "GET":
            with world.changed:
                world.joined += 1
                world.changed.wait_for(lambda: run["status"] != "running")
                if run["status"] == "error":
                    body = {"__error__": {"error": "Error", "message": "unknown ticker"}}
                else:
                    body = dict(world.values.get(thread_id, {}))
            return self.answer(200, body)
        if not rest and method == "GET":
            with world.lock:
                copy = dict(run)
            return self.answer(200, copy)
        return self.answer(404, "not found")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=float, default=0.0, help="share of calls, 0 to 1")
    parser.add_argument("--fault-kinds", default="429,500,silent")
    parser.add_argument("--fault-path", default="", help="only of calls whose path matches")
    parser.add_argument("--slow-ms", type=float, default=50.0, help="a run takes at least this")
    parser.add_argument("--slow-max-ms", type=float, default=0.0, help="and at most this")
    parser.add_argument("--assistant", default="trading")
    parser.add_argument("--api-key", default="", help="wanted in X-Api-Key")
    options = parser.parse_args()
    Handler.world = World(options)
    server = Server(("127.0.0.1", options.port), Handler)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    try:
        server.serve_forever(poll_interval=60)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
