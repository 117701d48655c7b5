"""`python3 -m sluice.worker MODULE:WORKER`: runs the worker that a module defines."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import Optional, Sequence

from .errors import CannotStart
from .node import Worker


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m sluice.worker", description="Runs the worker that a module defines."
    )
    parser.add_argument("worker", metavar="MODULE:WORKER", help="for example tasks:worker")
    parser.add_argument("--log-level", default="INFO", help="default INFO")
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    module, _, name = arguments.worker.partition(":")
    sys.path.insert(0, os.getcwd())
    worker = getattr(importlib.import_module(module), name or "worker", None)
    if not isinstance(worker, Worker):
        parser.error(f"{arguments.worker} is not a sluice.Worker")
    try:
        return worker.run()
    except CannotStart as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
