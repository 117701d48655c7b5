"""What `cmake --install` leaves: a project outside the tree that is built on it, its public headers, the units of
systemd."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from cluster import BIN, PATIENCE, ROOT, Cluster, clean_environment

BUILD = BIN.parent


def run(*words, **more):
    done = subprocess.run([str(word) for word in words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=5 * PATIENCE, **more)
    if done.returncode != 0:
        raise AssertionError(f"{words} exits with {done.returncode}:\n{done.stdout[-8000:]}")
    return done.stdout


def linker_flags():
    """A library with sanitizers or coverage in it asks for them in what links it."""
    cache = (BUILD / "CMakeCache.txt").read_text()
    sanitizers = re.search(r"^SLUICE_SANITIZE:\w+=(.+)$", cache, re.M)
    flags = [f"-fsanitize={sanitizers[1]}"] if sanitizers else []
    return " ".join(flags + ["--coverage"] * bool(re.search(r"^SLUICE_COVERAGE:BOOL=ON$", cache, re.M)))


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = Path(tempfile.mkdtemp(prefix="sluice-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.prefix)
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)

    def setUp(self):
        self.cluster = Cluster("private")
        self.addCleanup(self.cluster.close)

    def test_a_project_outside_the_tree_is_built_on_it_and_runs(self):
        project = self.cluster.folder / "project"
        shutil.copytree(ROOT / "worker" / "examples" / "project", project)
        build = self.cluster.folder / "build"
        run("cmake", "-G", "Ninja", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}",
            f"-DCMAKE_EXE_LINKER_FLAGS={linker_flags()}")
        run("cmake", "--build", build)
        self.cluster.start_broker()
        self.cluster.start([build / "count_words"], SLUICE_NAME="words", SLUICE_WORKER_BROKER=self.cluster.addresses[1])
        said = run(build / "ask", "the words of a sentence",
                   env={**clean_environment(), "SLUICE_BROKER": self.cluster.addresses[0]})
        self.assertEqual(said, "5\n")

    def test_only_public_headers_come_and_each_stands_alone(self):
        include = self.prefix / "include" / "sluice"
        headers = sorted(path.relative_to(include).as_posix() for path in include.rglob("*") if path.is_file())
        self.assertEqual([name for name in headers if not name.startswith("common/")],
                         ["producer/client.h", "producer/event_stream.h", "worker/sdk/task.h", "worker/sdk/typed.h", "worker/sdk/worker.h"])
        for header in headers:
            run("c++", "-std=c++20", "-fsyntax-only", "-x", "c++", f"-I{include}", include / header)

    def test_the_programs_run_from_there(self):
        for program in ("sluice", "sluice-broker", "sluice-worker"):
            self.assertRegex(run(self.prefix / "bin" / program, "--version", env=clean_environment()),
                             rf"^{program} \d+\.\d+\.\d+\n$")

    def test_the_units_set_what_the_programs_know(self):
        (self.cluster.folder / "files.toml").write_text('[task.sum]\nprogram = ["sha256sum"]\n')
        for unit, program in (("sluice-broker.service", "sluice-broker"), ("sluice-worker@.service", "sluice-worker")):
            text = (self.prefix / "lib" / "systemd" / "system" / unit).read_text()
            text = text.replace("%i", "files").replace("%S", str(self.cluster.folder))
            text = text.replace("/etc/sluice", str(self.cluster.folder))
            started = re.search(r"^ExecStart=(.*)$", text, re.M)[1].split()
            self.assertEqual((Path(started[0]).name, started[1:]), (program, []))
            settings = dict(item.split("=", 1)
                            for line in re.findall(r"^Environment=(.*)$", text, re.M) for item in line.split())
            said = run(self.prefix / "bin" / program, "--check-config", env={**clean_environment(), **settings})
            for name, value in settings.items():
                if name != "SLUICE_CONFIG":
                    self.assertIn(f"{name.removeprefix('SLUICE_').lower()}={value} (", said)


if __name__ == "__main__":
    unittest.main()
