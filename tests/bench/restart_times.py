#!/usr/bin/python3
"""How soon a broker that was killed serves again (promise P6): a private Redis full of waiting jobs,
kill -9, start, until a producer has its answer. Not a test: it prints figures, the median of the runs.

    restart_times.py [--bin build/release/bin] [--jobs 100000 1000000] [--runs 3] [--both]

`killed broker`: its Redis lives on, as promise P6 has it. `both` (with --both): Redis was killed too, and
loads its file first. CPU is what a quiet machine would come near to. Nine in ten jobs are queued, one in ten is due in a day; none runs, for there is no node."""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack
import zmq

ROOT = Path(__file__).resolve().parents[2]
JOBS_PER_MESSAGE = 1000
MESSAGES_OUT = 8


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--jobs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--both", action="store_true", help="then kill Redis too")
    parser.add_argument("--payload-bytes", type=int, default=200)
    return parser.parse_args()


class Broker:
    def __init__(self, program, data):
        self.command = [program, "--data", data, "--memory-max", "8GiB",
                        "--producers", "tcp://127.0.0.1:0", "--workers", "tcp://127.0.0.1:0",
                        "--events", "tcp://127.0.0.1:0"]
        self.data = Path(data)
        self.context = zmq.Context()

    def start(self):
        """Seconds until it says that it is ready, and until a producer has an answer."""
        begin = time.monotonic()
        redis_cpu = self.redis_cpu()
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if b" ready " in line:
                break
        else:
            sys.exit("the broker did not start")
        ready = time.monotonic() - begin
        address = line.split(b"producers=")[1].split()[0].decode()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)
        reply = self.ask({"op": "submit", "req": 1, "jobs": [
            {"id": f"first-{begin}", "task": "nobody", "payload": b""}]})
        assert reply["results"][0]["status"] == "accepted", reply
        return (ready, time.monotonic() - begin, self.broker_cpu(), self.redis_cpu() - redis_cpu)

    def broker_cpu(self):
        ticks = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def redis_cpu(self):
        """What it has used so far; 0 while it does not run."""
        info = subprocess.run(["redis-cli", "-s", self.data / "redis.sock", "INFO", "cpu"],
                              capture_output=True, text=True).stdout
        return sum(float(line.split(":")[1]) for line in info.splitlines()
                   if line.startswith(("used_cpu_sys:", "used_cpu_user:")))

    def ask(self, request):
        self.socket.send(msgpack.packb(request))
        return msgpack.unpackb(self.socket.recv())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
        self.socket.close(0)

    def rss_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def redis(self, *words):
        return subprocess.run(["redis-cli", "-s", self.data / "redis.sock", *words], check=True,
                              capture_output=True, text=True).stdout.strip()

    def kill_redis(self):
        pid = next(int(line.split(":")[1]) for line in self.redis("INFO", "server").splitlines()
                   if line.startswith("process_id"))
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)

    def until_view_is_complete(self):
        while True:
            last, checkpoint = self.redis("HMGET", "sluice:{p0}:meta", "last",
                                          "checkpoint").split()
            if last == checkpoint:
                return
            time.sleep(0.05)

    def fill(self, count, payload):
        due_ms = int(time.time() * 1000) + 24 * 3600 * 1000
        out = {}
        for first in range(0, count, JOBS_PER_MESSAGE):
            jobs = [{"id": f"job-{n:08}", "task": "nobody", "payload": payload,
                     **({"run_at_ms": due_ms} if n % 10 == 9 else {})}
                    for n in range(first, min(count, first + JOBS_PER_MESSAGE))]
            out[first] = msgpack.packb({"op": "submit", "req": first, "jobs": jobs})
            self.socket.send(out[first])
            while len(out) >= MESSAGES_OUT:
                self.take_answer(out)
        while out:
            self.take_answer(out)
        self.until_view_is_complete()

    def take_answer(self, out):
        """One answer; what is to be sent again is sent again."""
        reply = msgpack.unpackb(self.socket.recv())
        if reply.get("retryable"):
            time.sleep(reply["retry_after_ms"] / 1000)
            self.socket.send(out[reply["req"]])
            return
        bad = [r for r in reply.get("results", [reply])
               if r.get("status") not in ("accepted", "duplicate")]
        if bad:
            sys.exit(f"not accepted: {bad[0]}")
        del out[reply["req"]]


def show(name, times):
    ready, answered, broker, redis = (statistics.median(each) for each in zip(*times))
    runs = ", ".join(f"{time[1]:.2f}" for time in times)
    print(f"  {name:<14} ready {ready:6.2f} s, answers {answered:6.2f} s (runs: {runs}); "
          f"CPU: broker {broker:.2f} s, Redis {redis:.2f} s", flush=True)


def measure(options, count):
    folder = Path(tempfile.mkdtemp(prefix="sluice-restart-"))
    broker = Broker(options.bin / "sluice-broker", folder)
    try:
        broker.start()
        begin = time.monotonic()
        broker.fill(count, bytes(options.payload_bytes))
        load = os.getloadavg()[0]
        print(f"{count} jobs of {options.payload_bytes} B, stored in "
              f"{time.monotonic() - begin:.0f} s, load {load:.1f} on {os.cpu_count()} cores", flush=True)
        killed, both = [], []
        for _ in range(options.runs):
            broker.kill()
            killed.append(broker.start())
        show("killed broker", killed)
        print(f"  broker {broker.rss_mib()} MiB, Redis "
              + broker.redis("INFO", "memory").split("used_memory_human:")[1].split()[0], flush=True)
        for _ in range(options.runs if options.both else 0):
            broker.kill()
            broker.kill_redis()
            both.append(broker.start())
        if both:
            show("both", both)
    finally:
        broker.kill()
        broker.kill_redis()
        broker.context.destroy(0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    chosen = arguments()
    for jobs in chosen.jobs:
        measure(chosen, jobs)
