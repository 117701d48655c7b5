"""pip installs the package offline, with nothing but Debian's tools, into a directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "producer" / "python"

pytest.importorskip("setuptools")
pytest.importorskip("pip")


def test_pip_installs_it_and_what_is_installed_works(tmp_path):
    source = tmp_path / "source"  # setuptools writes beside its source
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "--target", target, source], check=True)
    assert (target / "sluice" / "py.typed").exists()
    code = "import sluice; print(sluice.__file__, len(sluice.make_job('t')['id']))"
    out = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(target)}, cwd=tmp_path, text=True
    )
    assert out.split() == [str(target / "sluice" / "__init__.py"), "36"]


@pytest.mark.parametrize(
    "source, words",
    [
        ("worker = 7", "tasks:worker is not a sluice.Worker"),
        ("import sluice\nworker = sluice.Worker(concurrency=0)", "tasks: concurrency must be 1 to"),
        (None, "there is no module tasks"),
    ],
)
def test_the_runner_takes_a_module_and_refuses_what_is_no_worker(tmp_path, source, words):
    if source:
        (tmp_path / "tasks.py").write_text(source)
    ran = subprocess.run(
        [sys.executable, "-m", "sluice.worker", "tasks:worker"],
        env={"PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2 and words in ran.stderr and "Traceback" not in ran.stderr


def test_its_types_hold(tmp_path):
    environment = {"MYPY_CACHE_DIR": str(tmp_path), **os.environ}  # a build's own is faster
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports"]
        + [str(PACKAGE / "sluice")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
