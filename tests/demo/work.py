"""The demo's jobs: what is submitted, and whether what came back is right."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

ROOTS = ("/usr/share", "/usr/lib")
FILE_BYTES_MAX = 8 << 20
ANALYSES = Path(__file__).with_name("analyses.csv")


@dataclass(frozen=True)
class Work:
    """One job: `fields` as they stand on a line for `sluice submit --jsonl`."""

    id: str
    task: str
    fields: Mapping[str, Any]

    def wrong(self, result: bytes) -> Optional[str]:
        """Why this result is not right; None when it is."""
        return CHECKS[self.task](self, result)


def plain_files(root: str) -> Iterator[str]:
    """Regular files below `root` that we may read; no names that sha256sum would escape."""
    for directory, folders, names in os.walk(root):
        folders.sort()
        for name in names:
            path = os.path.join(directory, name)
            if not path.isascii() or not path.isprintable() or "\\" in path:
                continue
            if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                continue
            if 0 < os.path.getsize(path) <= FILE_BYTES_MAX:
                yield path


def checksums(count: int) -> list[Work]:
    """`count` files, evenly spread over all that there are: the same ones on every run."""
    files = sorted(path for root in ROOTS for path in plain_files(root))
    if len(files) < count:
        raise SystemExit(f"only {len(files)} files in {' and '.join(ROOTS)}; {count} are needed")
    chosen = (files[index * len(files) // count] for index in range(count))
    return [checksum(f"file-{number:03}", path) for number, path in enumerate(chosen, 1)]


def checksum(id: str, path: str) -> Work:
    fields = {"id": id, "task": "checksum", "queue": "files", "payload": {"path": path}}
    return Work(id, "checksum", fields)


def analyses(count: int) -> list[Work]:
    """Stock analyses that give up on an attempt after 3 s and try again soon."""
    with ANALYSES.open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    return [analysis(row["ticker"], row["trade_date"]) for row in rows]


def analysis(ticker: str, trade_date: str) -> Work:
    fields = {
        "id": f"{ticker}-{trade_date}",
        "task": "analysis",
        "queue": "analysis",
        "payload": {"ticker": ticker, "trade_date": trade_date},
        "tags": [ticker, trade_date],
        "timeout_ms": 3_000,
        "max_retries": 12,
        "retry": {"base_ms": 300, "factor": 2.0, "cap_ms": 2_000, "jitter": 0.2},
    }
    return Work(fields["id"], "analysis", fields)


def fragile(number: int) -> Work:
    """A job whose handler crashes in its first attempts, and then says the number of the attempt."""
    fields = {
        "id": f"fragile-{number:02}",
        "task": "fragile",
        "queue": "fragile",
        "payload": {"signal": "SIGSEGV", "attempts": 1 + number % 2},
        "timeout_ms": 10_000,
        "max_retries": 12,
        "retry": {"base_ms": 100, "factor": 2.0, "cap_ms": 1_000, "jitter": 0.2},
    }
    return Work(fields["id"], "fragile", fields)


def wrong_checksum(work: Work, result: bytes) -> Optional[str]:
    path = work.fields["payload"]["path"]
    said = result.decode(errors="replace").split(" ")[0]
    truth = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return None if said == truth else f"sha256 of {path} is {truth[:16]}…, not {said[:16]}…"


def wrong_report(work: Work, result: bytes) -> Optional[str]:
    asked = work.fields["payload"]
    wanted = {**asked, "report": f"HOLD {asked['ticker']} on {asked['trade_date']}"}
    try:
        said = json.loads(result)
    except ValueError:
        return "its result is not JSON"
    if not isinstance(said, dict):
        return "its result is not a map"
    for key, value in wanted.items():
        if said.get(key) != value:
            return f"{key} is {said.get(key)!r}, should be {value!r}"
    return None


def wrong_attempt(work: Work, result: bytes) -> Optional[str]:
    crashing = work.fields["payload"]["attempts"]
    if result.isdigit() and int(result) > crashing:
        return None
    return f"it says attempt {result!r}, and had to crash in the first {crashing}"


CHECKS = {"checksum": wrong_checksum, "analysis": wrong_report, "fragile": wrong_attempt}


@dataclass
class Outcome:
    """What became of the jobs of one task."""

    task: str
    states: "Counter[str]"
    retried: int
    lost: int
    recovered: int  # lost attempts whose job was completed all the same
    latencies_ms: list[int]

    @classmethod
    def of(cls, task: str, views: list[Mapping[str, Any]]) -> "Outcome":
        done = [view for view in views if view.get("state") == "completed"]
        return cls(
            task,
            Counter(str(view.get("state", "not found")) for view in views),
            sum(view.get("retry_count", 0) for view in views),
            sum(view.get("lost_count", 0) for view in views),
            sum(view.get("lost_count", 0) for view in done),
            sorted(view["finished_ms"] - view["created_ms"] for view in done),
        )

    @property
    def count(self) -> int:
        return self.states.total()

    def percentile(self, share: float) -> str:
        """Nearest rank."""
        if not self.latencies_ms:
            return "-"
        rank = max(0, -(-len(self.latencies_ms) * share // 1) - 1)
        return f"{self.latencies_ms[int(rank)] / 1000:.2f} s"
