#!/usr/bin/env python3
"""The include rule, common <- core <- adapters <- main, checked on the sources as they stand; and that each source
has a unit test of its name, or a line in elsewhere.txt that says where it is tested.

What a file may include is decided by its folder (LAYERS). The second half of this file plants
violations in a copy of the sources and shows that each is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("common", "broker", "worker", "producer")
TOP_LEVEL = {*COMPONENTS, "tests", "compose", "CMakeLists.txt", "CMakePresets.json", "README.md",
             "CHANGELOG.md", "LICENSE", "dev"}  # and dot-files

# Folder -> folders of this repository it may include. The longest matching folder decides.
LAYERS = {
    "common": ("common",),
    "broker/core": ("common", "broker/core"),
    "worker/core": ("common", "worker/core"),
    "broker/store": ("common", "broker/core", "broker/store"),
    "broker/net": ("common", "broker/core", "broker/net"),
    "broker": ("common", "broker"),
    "worker": ("common", "worker"),
    "worker/examples/project": ("common", "producer", "worker"),  # a user's, who has both
    "producer": ("common", "producer"),
}
PURE = ("common", "broker/core", "worker/core")

# Around a core, not in it: flags, files and logs of a program.
APP = re.compile(r"^common/(?:(config|log)[^/]*|(clock|process)\.[^/]*)$")
APP_LIBRARIES = re.compile(r"^(CLI/|toml\+\+/|spdlog/)")

HEAVY = re.compile(r"^(zmq\.hpp|zmq\.h|zmq_addon\.hpp|hiredis/|curl/|msgpack\.hpp|msgpack/)")
# What the pure parts may not have: time, threads, chance, the outside world.
IMPURE_INCLUDES = re.compile(
    r"^(chrono|ctime|time\.h|thread|mutex|shared_mutex|condition_variable|atomic|future|stop_token"
    r"|semaphore|latch|barrier|random|iostream|fstream|filesystem|unistd\.h|poll\.h|signal\.h|csignal"
    r"|pthread\.h|sys/.*|netinet/.*|arpa/.*|spdlog/.*|CLI/.*|toml\+\+/.*)$")
IMPURE_WORDS = re.compile(
    r"std::(chrono|this_thread|j?thread|mutex|random_device|mt19937|cout|cerr|clog)\b"
    r"|\b(steady_clock|system_clock|clock_gettime|gettimeofday|getenv|getrandom|randombytes_\w+)\b"
    r"|\bspdlog::")

# Target -> the only things it may link.
LINKS = {
    "sluice_common": {"sluice_flags", "PkgConfig::SODIUM"},
    "sluice_broker_core": {"sluice_common"},
    "sluice_worker_core": {"sluice_common"},
    "sluice_broker_store": {"sluice_broker_core", "PkgConfig::HIREDIS", "PkgConfig::SODIUM",
                            "fmt::fmt", "nlohmann_json::nlohmann_json", "Threads::Threads"},
    "sluice_client": {"sluice_common", "PkgConfig::ZMQ"},
}

# Folders whose files are compiled as few large units; those that CMake leaves out of them are exempt. A name that
# two of the files have for helpers of their own would be one set of overloads there, and a call may change its
# meaning without a word: text_of(double) once cut the fractions off what another file wrote.
UNITS = (("broker/core",), ("broker/store",), ("broker", "broker/net"),
         ("worker/runtime", "worker/tasks", "worker/sdk"), ("producer/cli",))
SKIPPED = re.compile(r"set_source_files_properties\(([^)]*?)\s+PROPERTIES\s+SKIP_UNITY_BUILD_INCLUSION", re.DOTALL)
ANONYMOUS = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
HELPER = re.compile(r"^(?![\s#/}]|template|using)[^\n;={]*?\b([a-z_]\w*)\(", re.MULTILINE)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.MULTILINE)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
LINK_CALL = re.compile(r"target_link_libraries\s*\(\s*([^\s)]+)([^)]*)\)", re.DOTALL)


def is_under(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def layer_of(path: str) -> str:
    return max((folder for folder in LAYERS if is_under(path, folder)), key=len)


def include_violation(path: str, included: str) -> str | None:
    """Why `path` may not include `included`, or None."""
    is_app = bool(APP.match(path))
    is_pure = not is_app and any(is_under(path, folder) for folder in PURE)
    if HEAVY.match(included):
        if path.endswith(".h"):
            return "a heavy library in a header"
        if is_pure or is_app:
            return "a heavy library outside the adapters"
    if is_pure and IMPURE_INCLUDES.match(included):
        return "a clock, thread, chance or the outside world in a pure part"
    if is_pure and APP.match(included):
        return "a pure part knows no flags, files, logs or clocks"
    if included.split("/")[0] in COMPONENTS and "/" in included:
        allowed = LAYERS[layer_of(path)]
        if not any(is_under(included, folder) for folder in allowed):
            return f"{layer_of(path)} may include only {', '.join(allowed)}"
    return None


@cache  # the planted copies differ in a file each
def text_violations(path: str, text: str) -> tuple[str, ...]:
    found = []
    for included in INCLUDE.findall(text):
        if why := include_violation(path, included):
            found.append(f"{path} includes {included}: {why}")
    if any(is_under(path, folder) for folder in PURE) and not APP.match(path):
        for word in IMPURE_WORDS.finditer(COMMENT_OR_STRING.sub("", text)):
            found.append(f"{path} uses {word.group()}: not in a pure part")
    return tuple(found)


def source_violations(root: Path) -> list[str]:
    found = []
    for component in COMPONENTS:
        for file in sorted((root / component).rglob("*")):
            if file.suffix in (".h", ".cpp"):
                found += text_violations(file.relative_to(root).as_posix(), file.read_text())
    return found


def link_violations(root: Path) -> list[str]:
    found = []
    for component in COMPONENTS:
        text = re.sub(r"#[^\n]*", "", (root / component / "CMakeLists.txt").read_text())
        for target, rest in LINK_CALL.findall(text):
            linked = set(rest.split()) - {"PUBLIC", "PRIVATE", "INTERFACE"}
            for extra in sorted(linked - LINKS.get(target, linked)):
                found.append(f"{target} links {extra}: it may link only {', '.join(sorted(LINKS[target]))}")
            other = {"broker": "sluice_worker", "worker": "sluice_broker"}.get(component)
            found += [f"{target} links {name}" for name in sorted(linked) if other and name.startswith(other)]
    return found


@cache
def helpers_of(text: str) -> frozenset[str]:
    return frozenset(name for body in ANONYMOUS.findall(text) for name in HELPER.findall(body))


def helper_violations(root: Path) -> list[str]:
    found = []
    for folders in UNITS:
        component = folders[0].split("/")[0]
        skipped = {f"{component}/{name}"
                   for names in SKIPPED.findall((root / component / "CMakeLists.txt").read_text())
                   for name in names.split()}
        owners: dict[str, str] = {}
        for file in sorted(file for folder in folders for file in (root / folder).glob("*.cpp")):
            path = file.relative_to(root).as_posix()
            if path in skipped:
                continue
            found += [f"{path} has a {name}() of its own, as {owners[name]}: they are compiled as one file"
                      for name in sorted(helpers_of(file.read_text())) if owners.setdefault(name, path) != path]
    return found


def unit_test_of(path: Path) -> str:
    """broker/core/waits.cpp: tests/unit/broker_waits_test.cpp; worker/core/worker_core.cpp: worker_core_test.cpp.
    An example is a program of its own: producer_examples_submit_test.cpp would be its test."""
    if path.parts[1] == "examples":
        return f"tests/unit/{'_'.join(path.parts[:2])}_{path.stem}_test.cpp"
    component, stem = path.parts[0], path.stem
    return f"tests/unit/{stem if stem.startswith(component + '_') else component + '_' + stem}_test.cpp"


def test_violations(root: Path) -> list[str]:
    elsewhere = {}
    for line in (root / "tests/unit/elsewhere.txt").read_text().splitlines():
        if not line.startswith("#"):
            source, tests = line.split(":")
            elsewhere[source] = tests.split()
    found = [f"elsewhere.txt: there is no {name}"
             for source, tests in elsewhere.items() for name in (source, *tests) if not (root / name).exists()]
    for component in COMPONENTS:
        for file in sorted((root / component).rglob("*.cpp")):
            source = file.relative_to(root)
            test = root / unit_test_of(source)
            has_test = test.exists() and "TEST" in test.read_text()
            if has_test == (source.as_posix() in elsewhere):
                found.append(f"{source} has {unit_test_of(source)}: elsewhere.txt need not name it" if has_test else
                             f"{source} has no {unit_test_of(source)}, and no line in elsewhere.txt")
    return found


def top_level(root: Path) -> set[str]:
    """The names that git knows at the top; without git, those that are there."""
    if (root / ".git").exists():
        files = subprocess.check_output(
            ["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-z"], text=True)
        return {name.split("/")[0] for name in files.split("\0") if name}
    return set(os.listdir(root))


def top_level_violations(root: Path) -> list[str]:
    extra = {name for name in top_level(root) if not name.startswith(".")} - TOP_LEVEL
    return [f"{name}: not a place at the top level" for name in sorted(extra)]


def violations(root: Path) -> list[str]:
    return (source_violations(root) + link_violations(root) + helper_violations(root) + test_violations(root) +
            top_level_violations(root))


class Architecture(unittest.TestCase):
    def test_the_sources_keep_the_include_rule(self):
        self.assertEqual(source_violations(ROOT), [])

    def test_targets_link_only_what_their_layer_may(self):
        self.assertEqual(link_violations(ROOT), [])

    def test_files_compiled_as_one_have_helpers_of_different_names(self):
        self.assertEqual(helper_violations(ROOT), [])

    def test_each_source_has_a_test_of_its_name_or_says_where(self):
        self.assertEqual(test_violations(ROOT), [])

    def test_the_top_level_has_only_its_places(self):
        self.assertEqual(top_level_violations(ROOT), [])

    def test_there_is_something_to_check(self):
        for folder in LAYERS:
            self.assertTrue(list((ROOT / folder).rglob("*.cpp")), folder)


class PlantedViolations(unittest.TestCase):
    """Each is planted in a copy, must be the one new finding, and is taken back."""

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="sluice-architecture-")
        cls.addClassCleanup(scratch.cleanup)
        cls.root = Path(scratch.name)
        for component in COMPONENTS:
            for file in (ROOT / component).rglob("*"):
                if file.suffix in (".h", ".cpp") or file.name == "CMakeLists.txt":
                    copy = cls.root / file.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
        shutil.copytree(ROOT / "tests", cls.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        cls.before = violations(cls.root)

    def setUp(self):
        self.addCleanup(lambda: self.assertEqual(violations(self.root), self.before, "something was left behind"))

    def spoil(self, path: str) -> Path:
        """A file of the copy that the test may change: it is as it was afterwards."""
        file = self.root / path
        kept = file.read_bytes() if file.exists() else None
        self.addCleanup(lambda: file.unlink() if kept is None else file.write_bytes(kept))
        return file

    def expect_found(self, part: str):
        new = [line for line in violations(self.root) if line not in self.before]
        self.assertEqual(len(new), 1, new)
        self.assertIn(part, new[0])

    def plant(self, path: str, line: str):
        self.assertTrue((self.root / path).parent.is_dir(), path)
        with open(self.spoil(path), "a") as file:
            file.write(f"\n{line}\n")

    def test_of_includes_and_words_are_found(self):
        for path, line, why in (
            ("common/time.h", "#include <chrono>", "pure part"),
            ("common/job.cpp", "#include <iostream>", "pure part"),
            ("common/retry.cpp", "#include <random>", "pure part"),
            ("common/ids.h", '#include "broker/core/core.h"', "common may include only"),
            ("common/ids.cpp", '#include "common/log.h"', "no flags"),
            ("common/log.cpp", "#include <zmq.hpp>", "outside the adapters"),
            ("common/protocol/codec.h", "#include <msgpack.hpp>", "heavy library in a header"),
            ("broker/core/core.cpp", "#include <mutex>", "pure part"),
            ("broker/core/core.cpp", "  #  include <spdlog/spdlog.h>", "pure part"),
            ("broker/core/core.h", '#include "broker/store/store.h"', "broker/core may include only"),
            ("broker/core/nodes.cpp", "#include <hiredis/hiredis.h>", "outside the adapters"),
            ("worker/core/text.cpp", '#include "worker/runtime/life.h"', "worker/core may include only"),
            ("worker/core/text.cpp", "const auto t = steady_clock::now();", "not in a pure part"),
            ("worker/core/planted.h", "std::mutex guard;", "not in a pure part"),
            ("worker/runtime/node.h", "#include <curl/curl.h>", "heavy library in a header"),
            ("worker/tasks/http.cpp", '#include "broker/core/core.h"', "worker may include only"),
            ("broker/store/keys.h", '#include "broker/loop.h"', "broker/store may include only"),
            ("broker/net/router.cpp", '#include "broker/store/store.h"', "broker/net may include only"),
            ("producer/client.cpp", '#include "worker/sdk/task.h"', "producer may include only"),
        ):
            with self.subTest(path=path, line=line):
                self.plant(path, line)
                self.expect_found(why)
            self.doCleanups()

    def test_of_links_are_found(self):
        self.plant("common/CMakeLists.txt", "target_link_libraries(sluice_common PUBLIC spdlog::spdlog)")
        self.expect_found("sluice_common links spdlog::spdlog")

    def test_of_links_across_components_are_found(self):
        self.plant("worker/CMakeLists.txt", "target_link_libraries(sluice_worker PRIVATE sluice_broker_core)")
        self.expect_found("sluice_worker links sluice_broker_core")

    def test_of_helpers_are_found(self):
        self.plant("broker/store/replay.cpp", "namespace {\nstd::string text_of(double) {\n}\n}  // namespace")
        self.expect_found("has a text_of() of its own")

    def test_of_untested_sources_are_found(self):
        self.spoil("broker/core/planted.cpp").touch()
        self.expect_found("broker/core/planted.cpp has no tests/unit/broker_planted_test.cpp")

    def test_of_lines_in_elsewhere_are_found(self):
        with open(self.spoil("tests/unit/elsewhere.txt"), "a") as file:
            file.write("broker/core/waits.cpp: tests/scenarios\n")
        self.expect_found("elsewhere.txt need not name it")
        self.spoil("tests/unit/broker_waits_test.cpp").unlink()
        self.assertEqual(violations(self.root), self.before)

    def test_of_tests_that_are_gone_are_found(self):
        self.spoil("tests/e2e/nodes_test.py").unlink()
        new = [line for line in violations(self.root) if line not in self.before]
        self.assertEqual(set(new), {"elsewhere.txt: there is no tests/e2e/nodes_test.py"})

    def test_at_the_top_level_are_found(self):
        (self.root / "scripts").mkdir()
        self.addCleanup((self.root / "scripts").rmdir)
        self.expect_found("scripts")

    def test_in_comments_and_strings_are_none(self):
        self.plant("broker/core/core.cpp", '// std::mutex\n/* spdlog::info */ const char* kWord = "std::thread";')
        self.assertEqual(violations(self.root), self.before)


if __name__ == "__main__":
    unittest.main()
