"""The worker as a real process on a real socket, against a broker played by hand."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
from pathlib import Path

import msgpack
import pytest
from conftest import line_with, run_one, wait_gone

import sluice
from sluice.life import Life


def test_every_end_of_a_handler_is_an_outcome(shared_broker):
    broker, status = shared_broker, shared_broker.status
    assert status["concurrency"] == 4 and "shout" in status["tasks"]
    shout = run_one(broker, "a", "shout", "hi")
    assert (shout["outcome"], msgpack.unpackb(shout["result"])) == ("completed", "HI")
    never = run_one(broker, "b", "never")["error"]
    assert (never["code"], never["retryable"]) == ("no_such_thing", False)
    later = run_one(broker, "c", "later")["error"]
    assert (later["retryable"], later["retry_after_ms"]) == (True, 1500)
    failed = run_one(broker, "d", "raise")["error"]
    assert (failed["code"], failed["retryable"]) == ("KeyError", True)
    assert run_one(broker, "e", "exit")["error"]["code"] == "SystemExit"
    assert run_one(broker, "f", "unknown")["error"]["code"] == "task_not_offered"


ODD = {
    "number": ("404", "('not', 'found')"),
    "later-number": ("503", "7"),
    "text": ("TypeError", "RetryAfter wants a number of seconds, not '5'"),
    "nan": ("ValueError", "RetryAfter wants a number of seconds, not NaN"),
    "inf": ("retry_after", "again after 86400 s"),
    "speechless": ("Speechless", "a Speechless that has no text"),
    "speechless-never": ("a_Speechless_that_has_no_text", "a Speechless that has no text"),
    "blind": ("Blind", "of which no more can be said: RuntimeError"),
    "surrogate": ("ValueError", "ValueError: ?"),
}


@pytest.mark.parametrize("task", ["odd", "odd-process"])
def test_whatever_a_handler_raises_is_a_failed_attempt_and_costs_no_slot(shared_broker, task):
    broker = shared_broker
    for what, (code, words) in ODD.items():  # more of them than there are slots
        error = run_one(broker, what, task, what)["error"]
        assert error["code"] == code and words in error["message"], what
        assert error["retryable"] is ("never" not in what and what != "number"), what
        assert error.get("retry_after_ms") == {"inf": 86_400_000, "later-number": 2000}.get(what)
    assert run_one(broker, "z", "shout", "hi")["outcome"] == "completed"


def test_an_exception_of_the_loop_is_logged_and_no_handler_is_blamed(broker, start):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "break")])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "node_failed" in said and "ZeroDivisionError: the loop's own" in said
    assert "Traceback" in said and "handler_stuck" not in said


@pytest.mark.parametrize("task", ["logger", "logger-process"])
def test_what_a_handler_logs_comes_ahead_of_its_result(shared_broker, task):
    broker, data = shared_broker, b""
    broker.order("run", jobs=[broker.job("a", task)])
    while (message := broker.take("log", "result"))["op"] == "log":
        assert (message["id"], message["attempt"]) == ("a", 1)
        data += message["bytes"]
    assert message["results"][0]["outcome"] == "completed"
    assert data == b"one\ntwo\xff\n3\n"


def test_json_in_json_out(shared_broker):
    broker = shared_broker
    job = broker.job("a", "shout", content_type="application/json") | {"payload": b'"hi"'}
    broker.order("run", jobs=[job])
    assert broker.take("result")["results"][0]["result"] == b'"HI"'


def test_heartbeats_go_on_while_handlers_block_and_burn(broker, start):
    start()
    broker.welcome(heartbeat_ms=20)
    broker.order("run", jobs=[broker.job("a", "ignore"), broker.job("b", "burn")])
    first = broker.take("status")["seq"]
    while (status := broker.take("status"))["seq"] < first + 20:
        broker.order("welcome", heartbeat_ms=20)
    assert sorted(h["id"] for h in status["held"]) == ["a", "b"]


def resident_bytes(process):
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.parametrize("task", ["chatter", "chatter-process"])
def test_a_handler_that_reports_without_end_costs_neither_heartbeats_nor_memory(broker, start, task):
    process = start()
    broker.welcome(heartbeat_ms=10)
    broker.order("run", jobs=[broker.job("a", task)])
    report = broker.take("progress")
    while "checkpoint" not in report:
        report = broker.take("progress")
    assert msgpack.unpackb(report["checkpoint"]) == "kept"
    broker.record(report)
    assert broker.take("progress")["message"] == "\N{SNOWMAN}" * 85
    first, before = broker.take("status")["seq"], resident_bytes(process)
    while broker.take("status")["seq"] < first + 40:
        broker.order("welcome", heartbeat_ms=10)
    assert resident_bytes(process) - before < 256 << 10  # two pages; 700 KiB when every report is kept
    broker.order("cancel", attempts=[broker.ref("a")])
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"


@pytest.mark.parametrize("task", ["save", "save-process"])
def test_a_checkpoint_returns_when_it_is_recorded_and_not_for_ever_after_a_stop(shared_broker, task):
    broker = shared_broker
    for how, is_recorded in (({}, True), ({"stale": True}, False)):
        broker.order("run", jobs=[broker.job("a", task)])
        for step in (1, 2):  # the second one does not wait for the interval of reports
            progress = broker.take("progress")
            assert msgpack.unpackb(progress["checkpoint"]) == step
            broker.record(progress, **how)
        (result,) = broker.take("result")["results"]
        assert msgpack.unpackb(result["result"]) == [is_recorded] * 2
        broker.order("ack", results=[broker.ref("a")])
    broker.order("run", jobs=[broker.job("b", task)])
    broker.take("progress")
    broker.order("cancel", attempts=[broker.ref("b")])
    broker.take("progress")  # saved on its way out
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"


@pytest.mark.parametrize("task", ["percent", "percent-process"])
def test_progress_means_the_same_on_a_thread_and_in_a_process(shared_broker, task):
    broker = shared_broker
    taken = {"huge": 100, "low": 0, "inf": 100, "text": 50, "surrogate": 7}
    for what, percent in taken.items():
        broker.order("run", jobs=[broker.job(what, task, what)])
        progress = broker.take("progress")
        assert (progress["percent"], progress["message"]) == (percent, "?"), what
        assert broker.take("result")["results"][0]["outcome"] == "completed", what
        broker.order("ack", results=[broker.ref(what)])
    refused = {
        "odd": "percent must be a number", "nan": "percent must be a number",
        "checkpoint": "checkpoint cannot be kept",
    }  # fmt: skip
    for what, words in refused.items():
        error = run_one(broker, what, task, what)["error"]
        assert error["code"] == "ValueError" and words in error["message"], what


def test_a_result_survives_the_broker_and_is_said_again_to_the_next(broker, start):
    start()
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "shout", "hi"), broker.job("b", "wait")])
    (result,) = broker.take("result")["results"]
    broker.restart()
    status = broker.take()
    assert status["op"] == "status" and status["seen"]["epoch"] == 7
    phases = {h["id"]: (h["epoch"], h["phase"]) for h in status["held"]}
    assert phases == {"a": (7, "finished"), "b": (7, "running")}
    assert broker.take("result")["results"] == [result]
    broker.order("welcome")
    assert broker.take("status")["seen"] == {"epoch": 8, "n": 1}
    broker.order("ack", results=[{"id": "a", "epoch": 7, "attempt": 1}])
    broker.order("cancel", attempts=[{"id": "b", "epoch": 7, "attempt": 1}])
    results = {r["id"]: r for r in broker.take("result")["results"]}
    while "b" not in results:
        results |= {r["id"]: r for r in broker.take("result")["results"]}
    assert results["b"]["outcome"] == "cancelled"


def test_sigterm_drains_hands_back_after_the_grace_and_says_goodbye(broker, start):
    process = start("0.2")
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "wait"), broker.job("b", "wait-process")])
    broker.take("progress")
    broker.take("progress")
    process.send_signal(signal.SIGTERM)
    results = {}
    while len(results) < 2:
        for result in broker.take("result")["results"]:
            results[result["id"]] = result["outcome"]
            broker.order("ack", results=[broker.ref(result["id"])])
    assert results == {"a": "handed_back", "b": "handed_back"}
    broker.take("goodbye")
    assert process.wait(60) == 0


def test_a_drain_wish_is_followed(broker, start):
    process = start()
    broker.welcome()
    broker.order("drain")
    broker.take("goodbye")
    assert process.wait(60) == 0


def test_a_second_sigterm_leaves_at_once_even_past_a_handler_that_ignores_it(broker, start):
    process = start()
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "ignore"), broker.job("b", "wait-process")])
    child = int(max(broker.take("progress")["message"], broker.take("progress")["message"], key=str.isdigit))
    process.send_signal(signal.SIGTERM)
    while not broker.take("status")["draining"]:
        pass
    process.send_signal(signal.SIGTERM)
    outcomes = {r["id"]: r["outcome"] for r in broker.take("result")["results"]}
    assert outcomes == {"a": "handed_back", "b": "handed_back"}
    broker.take("goodbye")
    assert process.wait(60) == 1
    wait_gone(child)


def test_a_node_that_starts_again_names_the_life_that_it_replaces(broker, start, tmp_path):
    first = start(state_dir=tmp_path / "state")
    status = broker.welcome()
    assert not status["replaces"]
    first.kill()
    first.wait()
    start(state_dir=tmp_path / "state")
    again = broker.take("status")
    assert again["replaces"] == status["node"] and again["node"] != status["node"]


def test_a_second_worker_in_the_same_state_directory_is_refused(broker, start, tmp_path):
    start(state_dir=tmp_path)
    status = broker.welcome()
    second = start(state_dir=tmp_path, stderr=subprocess.PIPE, text=True)
    _, text = second.communicate()
    assert second.returncode == 1
    assert str(tmp_path) in text and "is running" in text and status["node"] in text


def test_a_message_over_the_bound_costs_the_connection_and_no_more(broker, start):
    start()
    node = broker.welcome()["node"]
    first = broker.peer
    broker._socket.send_multipart([broker.peer, b"x" * (9 << 20)])
    while broker.take("status")["node"] != node or broker.peer == first:
        pass
    assert run_one(broker, "a", "shout", "hi")["outcome"] == "completed"


def test_without_any_logging_set_up_it_says_that_nobody_answers_and_goes_on_trying(broker, start):
    broker.close()
    process = start(stderr=subprocess.PIPE, text=True)
    assert f"broker={broker.address} " in line_with(process, "no_broker")
    broker._open(broker.address)
    broker.welcome()
    assert run_one(broker, "a", "shout", "hi")["outcome"] == "completed"


def test_a_broker_that_accepts_and_says_nothing_is_called_silent_and_nothing_else(broker, start):
    broker.close()
    host, port = broker.address.removeprefix("tcp://").split(":")
    with socket.create_server((host, int(port))):  # as the kernel does it for a stopped process
        process = start(stderr=subprocess.PIPE, text=True)
        first = process.stderr.readline()
        assert "broker_silent" in first and f"broker={broker.address} " in first
    broker._open(broker.address)
    broker.welcome()
    assert run_one(broker, "a", "shout", "hi")["outcome"] == "completed"


def test_without_any_logging_set_up_it_says_what_the_broker_refuses_and_what_it_ignores(broker, start):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    broker.say({"op": "error", "code": "bad_field", "field": "labels", "message": "too many"})
    line = line_with(process, "broker_refused")
    assert "field=labels" in line and "bad_field: too many" in line
    broker._socket.send_multipart([broker.peer, b"\x80", b"a second frame"])
    assert "more than one frame" in line_with(process, "message_ignored")
    broker._socket.send_multipart([broker.peer, b"\xc1 not msgpack"])
    assert "not msgpack" in line_with(process, "message_ignored")


def test_it_says_that_a_handler_does_not_return_before_it_leaves_it_behind(broker, start):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "ignore")])
    broker.take("progress")
    process.send_signal(signal.SIGTERM)
    while not broker.take("status")["draining"]:
        pass
    process.send_signal(signal.SIGTERM)
    line_with(process, "handler_stuck")


def test_without_memory_for_a_thread_a_job_is_handed_back_and_the_node_lives(broker, start):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
    before = resource.prlimit(process.pid, resource.RLIMIT_AS)
    limit = (pages << 12) + (4 << 20)  # less than the stack of a thread
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, before[1]))
    assert run_one(broker, "a", "shout", "hi")["outcome"] == "handed_back"
    line = line_with(process, "attempt_handed_back")
    assert "job=a" in line and "can't start new thread" in line
    resource.prlimit(process.pid, resource.RLIMIT_AS, before)
    assert run_one(broker, "b", "shout", "hi")["outcome"] == "completed"


def test_a_broken_message_is_ignored(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[{"id": "a"}])
    broker.order("run", jobs=7)
    broker._socket.send_multipart([broker.peer, b"\xc1 not msgpack"])
    broker._socket.send_multipart([broker.peer, b"\x80", b"a second frame"])
    assert run_one(broker, "b", "shout", "hi")["outcome"] == "completed"


def test_on_a_full_disk_no_life_begins_and_the_one_before_is_not_forgotten(tmp_path, monkeypatch):
    Life("a-long-name@00000001", str(tmp_path)).__exit__(None, None, None)
    with monkeypatch.context() as full:

        def pwrite(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(os, "pwrite", pwrite)
        with pytest.raises(sluice.CannotStart, match="No space"):
            Life("n@00000002", str(tmp_path))
    with Life("n@00000003", str(tmp_path)) as life:
        assert life.replaces == "a-long-name@00000001"
    assert (tmp_path / "life").read_text() == "n@00000003\n"


def test_the_life_before_is_the_one_that_held_the_lock_last(tmp_path, monkeypatch):
    (tmp_path / "life").write_text("n@00000001\n")
    flock = fcntl.flock

    def after_another_life(fd, how):
        (tmp_path / "life").write_text("n@00000002\n")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", after_another_life)
    with Life("n@00000003", str(tmp_path)) as life:
        assert life.replaces == "n@00000002"
