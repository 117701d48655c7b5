"""What the demo shows: lines that stay, and on a terminal a picture below them that is drawn over
itself. Without a terminal: plain lines. NO_COLOR and 80 columns are respected."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}
TASKS = {"checksum": "yellow", "analysis": "cyan", "fragile": "magenta"}
PLAIN_EVERY_SECONDS = 2.0
WIDTH_MAX = 96


@dataclass
class KindView:
    task: str
    total: int
    ended: int
    retried: int
    per_second: float


@dataclass
class NodeView:
    name: str
    limit: int
    running: list[str]  # tasks, one for each taken slot
    note: str = ""


class Screen:
    def __init__(self) -> None:
        term = os.environ.get("TERM", "")
        self.is_live = sys.stdout.isatty() and term not in ("", "dumb")
        self.has_colours = self.is_live and not os.environ.get("NO_COLOR")
        self.is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self._began = time.monotonic()
        self._drawn = 0
        self._plain_at = 0.0
        if not self.is_unicode:
            sys.stdout.reconfigure(errors="replace")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def begin(self) -> None:
        self._began = time.monotonic()
        if self.is_live:
            print("\033[?25l", end="")

    def end(self) -> None:
        self._clear()
        if self.is_live:
            print("\033[?25h", end="", flush=True)

    def colour(self, name: str, text: str) -> str:
        return f"\033[{COLOURS[name]}m{text}\033[0m" if self.has_colours else text

    def say(self, text: str = "", colour: str = "") -> None:
        """A line that stays."""
        self._clear()
        print(self.colour(colour, text) if colour else text, flush=True)

    def note(self, text: str, colour: str = "") -> None:
        """A line that stays, with the time since begin()."""
        self.say(f"{self.seconds:6.1f} s  {text}", colour)

    def show(self, kinds: list[KindView], nodes: list[NodeView]) -> None:
        if self.is_live:
            self._draw(self._picture(kinds, nodes))
        elif self.seconds >= self._plain_at:
            self._plain_at = self.seconds + PLAIN_EVERY_SECONDS
            self.note(self._sentence(kinds, nodes))

    # ------------------------------------------------------------ inside

    @staticmethod
    def _sentence(kinds: list[KindView], nodes: list[NodeView]) -> str:
        parts = [f"{kind.task} {kind.ended}/{kind.total}" for kind in kinds]
        parts.append(f"{sum(kind.retried for kind in kinds)} retries")
        slots = [f"{n.name} {n.note or f'{len(n.running)}/{n.limit}'}" for n in nodes]
        return ", ".join(parts + [f"slots {' '.join(slots)}"])

    def _picture(self, kinds: list[KindView], nodes: list[NodeView]) -> list[str]:
        width = min(shutil.get_terminal_size().columns, WIDTH_MAX) - 1
        lines = [""]
        for kind in kinds:
            figures = f"{kind.ended:>4}/{kind.total:<3} {kind.per_second:5.0f}/s"
            figures += f" {kind.retried:>3} retries"
            bar = self._bar(kind.ended / max(kind.total, 1), max(8, width - 14 - len(figures)))
            lines.append(f"  {self._task(kind.task, f'{kind.task:<9}')} {bar} {figures}")
        lines.append("")
        for node in nodes:
            lines.append(self._node(node))
        lines.append(self.colour("dim", f"  {self.seconds:.1f} s   slots: {self._legend(kinds)}"))
        return lines

    def _bar(self, share: float, width: int) -> str:
        full = round(share * width)
        on, off = ("█", "░") if self.is_unicode else ("#", ".")
        return self.colour("green", on * full) + self.colour("dim", off * (width - full))

    def _task(self, task: str, text: str) -> str:
        return self.colour(TASKS[task], text)

    def _node(self, node: NodeView) -> str:
        taken = node.running[: node.limit]
        free = "·" if self.is_unicode else "."
        cells = "".join(self._task(task, task[0]) for task in sorted(taken))
        cells += self.colour("dim", free * (node.limit - len(taken)))
        pad = " " * (9 - node.limit)
        if node.note:
            return f"  {node.name}  {cells}{pad}{self.colour('red', node.note)}"
        return f"  {node.name}  {cells}{pad}{len(taken)} of {node.limit} slots busy"

    def _legend(self, kinds: list[KindView]) -> str:
        return ", ".join(f"{kind.task[0]} = {kind.task}" for kind in kinds)

    def _draw(self, lines: list[str]) -> None:
        up = f"\033[{self._drawn}A" if self._drawn else ""
        text = "".join(f"{line}\033[K\n" for line in lines)
        print(f"{up}\r{text}\033[J", end="", flush=True)
        self._drawn = len(lines)

    def _clear(self) -> None:
        if self._drawn:
            print(f"\033[{self._drawn}A\r\033[J", end="", flush=True)
            self._drawn = 0
