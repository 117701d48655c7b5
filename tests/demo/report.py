"""The end of the demo: a table, the totals in Redis, and every result held to the truth."""

from __future__ import annotations

import json
import shlex
import urllib.request
from collections import Counter
from typing import Any, Mapping, Sequence

import work
from cluster import Cluster
from screen import Screen

HEAD = "            jobs  completed  retried   lost  recovered      p50      p99"


def node_name(view: Mapping[str, Any]) -> str:
    return str(view.get("node", "")).partition("@")[0]


class Report:
    """`views` are the jobs as the broker showed them when all had ended, in the order of `jobs`."""

    def __init__(
        self,
        screen: Screen,
        cluster: Cluster,
        jobs: Sequence[work.Work],
        views: Sequence[Mapping[str, Any]],
    ) -> None:
        self.screen = screen
        self.cluster = cluster
        self.pairs = list(zip(jobs, views))
        self.isolates: dict[str, Mapping[str, Any]] = {}  # of the fragile jobs, by node and life
        tasks = dict.fromkeys(job.task for job in jobs)
        self.outcomes = [
            work.Outcome.of(task, [view for job, view in self.pairs if job.task == task])
            for task in tasks
        ]

    def table(self, wall_seconds: float) -> None:
        say = self.screen.say
        say()
        say(HEAD, "bold")
        for one in self.outcomes:
            done = one.states["completed"]
            counts = f"{one.count:6} {done:10} {one.retried:8} {one.lost:6} {one.recovered:10}"
            say(f"  {one.task:<8}{counts} {one.percentile(0.5):>8} {one.percentile(0.99):>8}")
        count = len(self.pairs)
        say(f"\n  {count} jobs in {wall_seconds:.1f} s wall time; p50 and p99 are the time from")
        say("  accepted to ended, waiting in line included.")

    def faults(self, standin_port: int) -> None:
        url = f"http://127.0.0.1:{standin_port}/_stats"
        with urllib.request.urlopen(url, timeout=10) as answer:
            stats = json.load(answer)
        named = stats["faults"]
        say = self.screen.say
        say(f"  {stats['calls']} calls to the stand-in: {named['429']} were answered 429,")
        say(f"  {named['500']} were answered 500, {named['silent']} not at all.")

    def takes_crashes(self, workers: Sequence[Mapping[str, Any]]) -> bool:
        """Takes the nodes' own figures of their isolates; whether they are up to what the jobs say."""
        self.isolates = {
            node["node"]: figures
            for node in workers
            for figures in node.get("isolates", [])
            if figures["task"] == "fragile"
        }
        return not self.wrong_crashes()

    def crashes(self) -> None:
        """What the nodes say of them, and what they cannot say of a life that was killed."""
        named = [(node_name({"node": node}), self.isolates[node]) for node in sorted(self.isolates)]
        crashed = ", ".join(f"{name} {figures['crashes']}" for name, figures in named)
        alive = ", ".join(f"{name} {figures['total']}" for name, figures in named)
        of_jobs = self.crashes_of_jobs()
        gone = sum(count for node, count in of_jobs.items() if node not in self.isolates)
        say = self.screen.say
        say("  Isolates that crashed (SIGSEGV) and were replaced, by the nodes' own figures:")
        say(f"  {crashed}; there now: {alive}. By the jobs {of_jobs.total()} crashed,")
        say(f"  {gone} of them on the node that was killed, before that.")

    def crashes_of_jobs(self) -> "Counter[str]":
        """By node and life."""
        return Counter(
            attempt["node"]
            for _, view in self.pairs
            for attempt in view.get("attempts", [])
            if attempt.get("error_code") == "isolate_crashed"
        )

    def wrong_crashes(self) -> list[str]:
        """Where a node that lives counts other crashes than the jobs that it ran."""
        of_jobs = self.crashes_of_jobs()
        return [
            f"{node} says that {figures['crashes']} isolates crashed, its jobs {of_jobs[node]}"
            for node, figures in self.isolates.items()
            if figures["crashes"] != of_jobs[node]
        ]

    def differences(self) -> list[str]:
        """Where the totals in Redis are not those of the jobs themselves."""
        words = self.cluster.redis_cli("HGETALL", "sluice:{p0}:stats").split("\n")
        redis = dict(zip(words[::2], words[1::2]))
        of_jobs = {
            "submitted": sum(one.count for one in self.outcomes),
            "completed": sum(one.states["completed"] for one in self.outcomes),
            "failed": sum(one.states["failed"] for one in self.outcomes),
            "retried": sum(one.retried for one in self.outcomes),
            "lost": sum(one.lost for one in self.outcomes),
        }
        wrong = [
            f"`{name}` is {redis.get(name, 0)} in Redis, {count} by the jobs themselves"
            for name, count in of_jobs.items()
            if int(redis.get(name, 0)) != count
        ]
        if not wrong:
            said = ", ".join(f"{name} {count}" for name, count in of_jobs.items())
            self.screen.say(f"  Redis has the same totals:\n  {said}.")
        return wrong

    def look_into_redis(self) -> None:
        """Three commands as one would type them, with what they print."""
        lost = [job.id for job, view in self.pairs if view.get("lost_count")]
        example = min(lost or [job.id for job, _ in self.pairs], key=len)  # for 80 columns
        say = self.screen.say
        say("\nState in Redis, as anybody can read it:", "bold")
        say(f"$ S={shlex.quote(str(self.cluster.redis_socket))}", "cyan")
        for command in (
            f"HMGET 'sluice:{{p0}}:job:{example}' state node lost_count",
            "ZCARD 'sluice:{p0}:completed:files'",
            "HMGET 'sluice:{p0}:stats' submitted completed retried lost",
        ):
            say(f"$ redis-cli -s $S {command}", "cyan")
            say(self.cluster.redis_cli("--no-raw", *shlex.split(command)).rstrip())

    def wrong_results(self) -> list[str]:
        problems = []
        for job, view in self.pairs:
            if view.get("state") != "completed":
                why = f"{view.get('error_code', '')} {view.get('error', '')}"
                problems.append(f"job {job.id} is {view.get('state', 'not found')}: {why}")
            elif why := job.wrong(view.get("result", b"")):
                problems.append(f"wrong result of job {job.id} on node {node_name(view)}: {why}")
        return problems

    def praise(self) -> None:
        checksums, analyses, fragile = (
            sum(job.task == task for job, _ in self.pairs) for task in work.CHECKS
        )
        self.screen.say("\nNo job was lost, and every result is right:", "green")
        self.screen.say(f"{checksums} checksums are those of hashlib,", "green")
        self.screen.say(f"{analyses} reports are for the ticker and date asked for,", "green")
        self.screen.say(f"{fragile} fragile jobs ended well after their handler had crashed.", "green")
