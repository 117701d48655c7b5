"""`python3 -m sluice.worker MODULE:WORKER`: runs the worker that a module defines."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Optional, Sequence

from .errors import CannotStart
from .node import Worker


class _WrongSetting(Exception):
    pass


def _is_ours(error: Exception) -> bool:
    """Whether this package refused something, and not the module's own code failed."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent == Path(__file__).parent


def _load(text: str) -> Worker:
    module, _, name = text.partition(":")
    if not module:
        raise _WrongSetting(f"{text!r} names no module; write MODULE:WORKER")
    try:
        worker = getattr(importlib.import_module(module), name or "worker", None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise _WrongSetting(f"there is no module {error.name} here or in PYTHONPATH") from None
    except ValueError as error:
        if not _is_ours(error):
            raise
        raise _WrongSetting(f"{module}: {error}") from None
    if not isinstance(worker, Worker):
        raise _WrongSetting(f"{text} is not a sluice.Worker")
    return worker


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m sluice.worker", description="Runs the worker that a module defines."
    )
    parser.add_argument("worker", metavar="MODULE:WORKER", help="for example tasks:worker")
    parser.add_argument(
        "--log-level",
        default="INFO",
        type=str.upper,
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="default INFO",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=arguments.log_level, format="%(asctime)s %(levelname)s %(message)s"
    )
    sys.path.insert(0, os.getcwd())
    try:
        return _load(arguments.worker).run()
    except _WrongSetting as error:
        parser.error(str(error))
    except CannotStart as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
