"""A node of the Python package that takes sluice-worker's flags and its file's programs, so that
the stories of the one run with the other (SLUICE_E2E_NODE=python)."""

import argparse
import logging
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "producer" / "python"))
import sluice  # noqa: E402


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--broker")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--state-dir")
    parser.add_argument("--drain-grace", default="25s")
    parser.add_argument("--config")
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--builtin", default="")
    return parser.parse_args()


def programs(options):
    """Task name -> argv."""
    tables = {}
    if options.config:
        tables = tomllib.loads(Path(options.config).read_text()).get("task", {})
    found = {name: table["program"] for name, table in tables.items()}
    return found | {name: program.split() for name, program in (t.split("=", 1) for t in options.task)}


def runner(argv):
    def run(task):
        """Payload on stdin, the result from stdout. The time-out and every stop are sluice's."""
        environment = {**os.environ, "SLUICE_JOB_ID": task.id, "SLUICE_ATTEMPT": str(task.attempt)}
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing to tidy up: the group is killed
        done = subprocess.run(argv, input=task.raw, stdout=subprocess.PIPE, env=environment)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}")
        return done.stdout
    return run


def echo(task):
    return task.payload


def fail(task):
    wish = task.payload or {}
    code = wish.get("code", "failed")
    raise sluice.RetryAfter(0, code=code) if wish.get("retryable", True) else sluice.Never(code)


def main():
    options = parse()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    worker = sluice.Worker(
        options.name, options.concurrency, broker=options.broker, state_dir=options.state_dir,
        drain_grace=float(options.drain_grace.rstrip("s")))
    for name, argv in programs(options).items():
        worker.task(name, processes=True, kill_grace=0.5)(runner(argv))
    for name in filter(None, options.builtin.split(",")):
        worker.task(name)({"echo": echo, "fail": fail}[name])
    try:
        return worker.run()
    except sluice.CannotStart as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
