#!/usr/bin/python3
"""A whole cluster on this machine, on real work, with crashes and a node killed on the way.

Exit status: 0 every job was completed and every result is right; 1 not so, and the last lines say
what; 2 wrong usage, or no cluster to stop; 130 interrupted. Nothing is left behind, unless --keep
asks for it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Mapping, Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "producer" / "python")]

import sluice  # noqa: E402
import work  # noqa: E402
from cluster import Cluster, CommandFailed, NoCluster, StartFailed  # noqa: E402
from report import Report, node_name  # noqa: E402
from screen import KindView, NodeView, Screen  # noqa: E402

NODES = {"n2": 2, "n4": 4, "n8": 8}
VICTIM = "n8"
LIAR = "n4"
KILL_AT = 0.35  # share of the jobs that have ended
DOWN_SECONDS = 1.5
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 180
HEARTBEAT_SECONDS = 15
ROUNDS = 5
ENDED = ("completed", "failed", "cancelled")
QUEUES = {"checksum": "files", "analysis": "analysis", "fragile": "fragile"}

NODE_CONFIG = """\
[task.checksum]
run = "exec"
program = [{program}"{{path}}"]
stdin = "none"

[task.analysis]
run = "analysis"
base_url = "http://127.0.0.1:{port}"
assistant_id = "trading"
allow = ["127.0.0.0/8"]
poll_interval = "250ms"

[task.fragile]
run = "isolate"
handler = "crash"
"""


class Wrong(Exception):
    """The demo did not come out as it must."""


class Demo:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.screen = Screen()
        self.cluster = Cluster(options.bin)
        self.standin_port = 0
        self.notes: dict[str, str] = {}  # node -> what is special about it
        self.marks: list[tuple[float, dict[str, int]]] = []
        self.client: sluice.Client

    def run(self) -> None:
        say = self.screen.say
        self.files = work.checksums(self.options.checksums)
        self.stocks = work.analyses(self.options.analyses)
        self.crashers = [work.fragile(number) for number in range(1, self.options.crashers + 1)]
        self.jobs = self.files + self.stocks + self.crashers
        say("Sluice demo", "bold")
        self.start()
        say(f"  broker  {self.cluster.producers}, its own Redis in {self.cluster.data}")
        limits = ", ".join(f"{name} ({limit} slots)" for name, limit in NODES.items())
        say(f"  nodes   {limits}")
        say("  server  a stand-in of the LangGraph API: slow, and of its calls")
        share = f"{self.options.faults:.0%}"
        say(f"          {share} get 429 with Retry-After, 500, or no answer at all")
        self.screen.begin()
        began = time.monotonic()
        with sluice.connect(self.cluster.producers) as self.client:
            with ThreadPoolExecutor(1) as pool:  # a client may be used by several threads
                self.watch(pool.submit(self.submit))
            wall = time.monotonic() - began
            views = self.client.get([job.id for job in self.jobs])
            report = Report(self.screen, self.cluster, self.jobs, views)
            self.await_heartbeats(report)
            next(self.client.list("failed"), None)  # a list brings the view in Redis up to date
        self.screen.end()
        self.judge(report, wall)

    def await_heartbeats(self, report: Report) -> None:
        """A node's figures are those of its last heartbeat: until they have all crashes."""
        deadline = time.monotonic() + HEARTBEAT_SECONDS
        while not report.takes_crashes(self.client.workers()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def judge(self, report: Report, wall_seconds: float) -> None:
        report.table(wall_seconds)
        report.faults(self.standin_port)
        report.crashes()
        problems = report.differences() + report.wrong_crashes()
        report.look_into_redis()
        problems += report.wrong_results()
        if problems:
            more = [f"... {len(problems)} in all"] if problems[10:] else []
            raise Wrong("\n".join(problems[:10] + more))
        report.praise()

    # ------------------------------------------------------------ before

    def start(self) -> None:
        options = self.options
        standin = ["/usr/bin/python3", ROOT / "tests" / "support" / "langgraph_standin.py"]
        standin += ["--seed", options.seed, "--faults", options.faults]
        standin += ["--slow-ms", options.slow_ms, "--slow-max-ms", options.slow_ms * 2.5]
        self.standin_port = int(self.cluster.start("standin", standin, r'"port": (\d+)')[1])
        self.cluster.start_broker(*(["--redis", options.redis] if options.redis else []))
        for name in NODES:
            self.config(name).write_text(self.node_config(name))
            self.start_node(name)

    def start_node(self, name: str) -> None:
        self.cluster.start_worker(name, NODES[name], self.config(name))

    def config(self, name: str) -> Path:
        return self.cluster.directory / f"{name}.toml"

    def node_config(self, name: str) -> str:
        program = '"sha256sum", "--", '
        if self.options.liar and name == LIAR:
            program = '"sh", "-c", "sha256sum -- \\"$1\\" | tr 0-9a-f 1-9a-f0", "liar", '
        return NODE_CONFIG.format(program=program, port=self.standin_port)

    def submit(self) -> None:
        """In rounds, so that all kinds of jobs stand in line between each other."""
        jsonl = self.cluster.directory / "files.jsonl"
        for turn in range(ROUNDS):
            files = self.files[turn::ROUNDS]
            jsonl.write_text("".join(json.dumps(job.fields) + "\n" for job in files))
            self.submit_files(jsonl, files)
            others = self.stocks[turn::ROUNDS] + self.crashers[turn::ROUNDS]
            for answer in self.client.submit_many(map(wire_job, others)):
                if answer.status != "accepted":
                    raise Wrong(f"{answer.id} was not accepted: {answer.error()}")
        say = self.screen.note
        say(f"{len(self.files)} checksum jobs accepted (sluice submit --jsonl): sha256sum of files")
        say(f"{len(self.stocks)} analysis jobs accepted (Python): HTTP calls, ticker and date")
        say(f"{len(self.crashers)} fragile jobs accepted (Python): a handler that crashes at first")

    def submit_files(self, jsonl: Path, files: list[work.Work]) -> None:
        if not files:
            return
        said = json.loads(self.cluster.sluice("submit", "--jsonl", jsonl, "--json"))
        if said["accepted"] != len(files):
            raise Wrong(f"sluice submit --jsonl said {said} for {len(files)} jobs")

    # ------------------------------------------------------------ while they run

    def watch(self, submitting: "Future[None]") -> None:
        """Until every job has ended; kills one node on the way, and starts it again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        killed_at: Optional[float] = None
        is_back = is_told = False
        while True:
            if submitting.done():
                submitting.result()
            queues = {queue["queue"]: queue for queue in self.client.queues()}
            running = list(self.client.list("running"))
            ended = self.show(queues, running)
            held = [view.id for view in running if node_name(view) == VICTIM]
            if killed_at is None and self.is_time_to_kill(ended, len(held)):
                self.kill(held)
                killed_at = time.monotonic()
            elif killed_at and not is_back and time.monotonic() - killed_at > DOWN_SECONDS:
                self.bring_back()
                is_back = True
            lost = sum(queue["lost"] for queue in queues.values())
            if lost and not is_told:
                self.screen.note(f"{lost} attempts were lost; their jobs are first in line again")
                is_told = True
            if ended == len(self.jobs) and (is_told or not killed_at):
                break
            if time.monotonic() > deadline:
                left = len(self.jobs) - ended
                raise Wrong(f"{left} jobs had not ended after {PATIENCE_SECONDS} s")
            time.sleep(LOOK_SECONDS)
        if not is_back:
            raise Wrong(f"every job ended before {VICTIM} was killed and back: too few jobs")

    def is_time_to_kill(self, ended: int, held: int) -> bool:
        """Well into the work, with most of its slots taken; later any job will do."""
        share = ended / len(self.jobs)
        return share >= KILL_AT and held > (NODES[VICTIM] // 2 if share < 2 * KILL_AT else 0)

    def kill(self, held: list[str]) -> None:
        victim = self.cluster.kill(VICTIM)
        self.notes[VICTIM] = "killed"
        how = f"killed {VICTIM} (pid {victim.pid}, SIGKILL)"
        self.screen.note(f"{how} while it ran {len(held)} jobs:", "red")
        self.screen.note(f"  {', '.join(sorted(held)[:3])}, ...", "red")

    def bring_back(self) -> None:
        self.start_node(VICTIM)
        del self.notes[VICTIM]
        pid = self.cluster.processes[VICTIM].pid
        text = f"started {VICTIM} again (pid {pid}); it says which life it replaces"
        self.screen.note(text, "green")

    def show(self, queues: Mapping[str, dict[str, Any]], running: list[sluice.JobView]) -> int:
        """Draws; returns how many jobs have ended."""
        counts = {}
        kinds = []
        for task, name in QUEUES.items():
            queue = queues.get(name, {})
            counts[task] = sum(queue.get(state, 0) for state in ENDED)
            total = sum(job.task == task for job in self.jobs)
            rate = self.rate(task, counts[task])
            kinds.append(KindView(task, total, counts[task], queue.get("retried", 0), rate))
        self.marks.append((time.monotonic(), counts))
        taken: dict[str, list[str]] = {name: [] for name in NODES}
        for view in running:
            taken.setdefault(node_name(view), []).append(view["task"])
        nodes = [
            NodeView(name, limit, taken[name], self.notes.get(name, ""))
            for name, limit in NODES.items()
        ]
        self.screen.show(kinds, nodes)
        return sum(counts.values())

    def rate(self, task: str, count: int) -> float:
        """Ends per second over about the last two seconds."""
        now = time.monotonic()
        while len(self.marks) > 1 and self.marks[0][0] < now - 2:
            self.marks.pop(0)
        if not self.marks:
            return 0.0
        then, before = self.marks[0]
        return (count - before[task]) / max(now - then, LOOK_SECONDS)

    # ------------------------------------------------------------ after

    def say_how_to_talk(self) -> None:
        binaries = os.path.relpath(self.options.bin)
        here = os.path.relpath(HERE / "demo.py")
        package = os.path.relpath(ROOT / "producer" / "python")
        python = "sluice.connect().queue_analysis('AAPL', '2024-01-16').result(120)"
        say = self.screen.say
        say("\nThe cluster goes on running. Talk to it:", "bold")
        say(f"  export SLUICE_BROKER={self.cluster.producers}")
        say(f"  export SLUICE_EVENTS={self.cluster.events}")
        say(f"  {binaries}/sluice submit checksum path=/etc/hostname --wait")
        say(f"  PYTHONPATH={package} /usr/bin/python3 -c \\")
        say(f"    \"import sluice; print({python})\"")
        say(f"  redis-cli -s {self.cluster.redis_socket} HGETALL 'sluice:{{p0}}:stats'")
        say(f"  {binaries}/sluice events      # what happens from now on, until Ctrl-C")
        say("One more node for its jobs, until Ctrl-C:", "bold")
        say(f"  {binaries}/sluice-worker --name n1 --broker {self.cluster.workers} \\")
        say(f"    --config {self.config('n2')}")
        say("Read the broker's log:", "bold")
        say(f"  less {self.cluster.directory}/broker.log")
        say("Stop it and remove its directory:", "bold")
        say(f"  /usr/bin/python3 {here} --stop {self.cluster.directory}")


def wire_job(job: work.Work) -> dict[str, Any]:
    fields = dict(job.fields)
    names = ("id", "queue", "tags", "max_retries", "retry")
    options = {key: fields[key] for key in names if key in fields}
    return sluice.make_job(
        job.task,
        fields["payload"],
        timeout=fields["timeout_ms"] / 1000,
        content_type="application/json",
        **options,
    )


def read_options() -> argparse.Namespace:
    about = __doc__.split("\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="./dev demo", description=about)
    option = parser.add_argument
    option("--keep", action="store_true", help="leave the cluster running, say how to talk to it")
    option("--stop", type=Path, metavar="DIR", help="stop a cluster that --keep left running")
    option("--bin", type=Path, default=ROOT / "build/release/bin", help="where the programs are")
    option("--seed", type=int, default=1, help="of the stand-in's faults")
    option("--checksums", type=int, default=500)
    option("--analyses", type=int, default=60, help="at most 60")
    option("--crashers", type=int, default=20, help="jobs whose handler crashes at first")
    option("--faults", type=float, default=0.06, help="share of the stand-in's calls")
    option("--slow-ms", type=float, default=900.0, help="an analysis takes 1 to 2.5 times that")
    option("--liar", action="store_true", help=f"for the test: {LIAR} answers wrong checksums")
    option("--redis", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.bin = options.bin.resolve()
    for name in ("sluice-broker", "sluice-worker", "sluice"):
        if not options.stop and not (options.bin / name).exists():
            parser.error(f"{options.bin / name} is not there; ./dev demo builds it")
    return options


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def stop(directory: Path) -> int:
    try:
        cluster = Cluster.of_directory(directory)
    except NoCluster as error:
        print(error, file=sys.stderr)
        return 2
    if not cluster.is_alive:
        print(f"that cluster was stopped already; removing {directory}")
    cluster.stop()
    return 0


def main() -> int:
    options = read_options()
    if options.stop:
        return stop(options.stop)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    demo = Demo(options)
    is_kept = False
    try:
        demo.run()
        if options.keep:
            demo.say_how_to_talk()
            is_kept = True
        return 0
    except (Wrong, StartFailed, CommandFailed, sluice.Error) as error:
        demo.screen.end()
        demo.screen.say(f"\nFAILED: {error}", "red")
        return 1
    except KeyboardInterrupt:
        demo.screen.end()
        demo.screen.say("\ninterrupted; stopping the cluster")
        return 130
    finally:
        demo.screen.end()
        if not is_kept:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must leave nothing
            demo.cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
