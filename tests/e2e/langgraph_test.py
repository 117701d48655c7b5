"""The analysis stories on the real LangGraph API server that ../shared/langgraph starts. Skipped
where that folder or npm is not there."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import unittest
import urllib.request
from pathlib import Path

from analysis_stories import AnalysisStories
from cluster import ROOT, Story, clean_environment, free_ports, until

FOLDER = Path(os.environ.get("LANGGRAPH_DIR", ROOT.parent / "shared" / "langgraph"))
server = None
url = ""


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def is_ready():
    if server.poll() is not None:
        raise unittest.SkipTest("the LangGraph server cannot be installed or started here: "
                                f"start.sh ended with {server.returncode}")
    try:
        return ask("/ok")["ok"]
    except OSError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.2)
        return False


def setUpModule():
    global server, url
    if not (FOLDER / "start.sh").exists():
        raise unittest.SkipTest(f"there is no {FOLDER}/start.sh")
    if shutil.which("npm") is None:
        raise unittest.SkipTest("there is no npm to install the LangGraph server with")
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [FOLDER / "start.sh", str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=clean_environment(), start_new_session=True)
    unittest.addModuleCleanup(end_server)
    until(is_ready, "the LangGraph server does not answer", patience=300)


def end_server():
    """It starts children: its whole group ends, and it is ours alone."""
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    server.wait()


class OnTheRealServer(AnalysisStories, Story):
    def setUp(self):
        super().setUp()
        self.url = url

    def runs(self):
        threads = ask("/threads/search", {"limit": 1000})
        return [run for thread in threads
                for run in ask(f"/threads/{thread['thread_id']}/runs?limit=100")]


if __name__ == "__main__":
    unittest.main()
