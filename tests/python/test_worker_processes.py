"""As test_worker.py, with handlers in processes: whatever an attempt started ends with it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import msgpack
import pytest
from conftest import line_with, pids, run_one, wait_gone


def test_a_crash_costs_one_attempt_and_the_checkpoint_comes_with_the_next(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[broker.job("a", "resume")])
    progress = broker.take("progress")
    checkpoint = progress["checkpoint"]
    broker.record(progress)
    (result,) = broker.take("result")["results"]
    assert result["error"]["code"] == "isolate_crashed" and "SIGKILL" in result["error"]["message"]
    again = run_one(broker, "a", "resume", attempt=2, checkpoint=checkpoint, headers={"h": "v"})
    assert msgpack.unpackb(again["result"]) == ["a", [broker.epoch, 2], f"{broker.epoch}.2", 50, {"h": "v"}]


def printed(broker, payload):
    """What a handler printed, and its result."""
    data = b""
    broker.order("run", jobs=[broker.job(payload, "printer", payload)])
    while (message := broker.take("log", "result"))["op"] == "log":
        assert message["id"] == payload
        data += message["bytes"]
    return data, message["results"][0]


def test_what_a_handler_prints_is_in_its_log_ahead_of_its_result(shared_broker):
    for job in ("a", "b"):
        data, result = printed(shared_broker, job)
        assert (data, result["outcome"]) == (b"a line\nof a program\nno newline", "completed")


def test_its_last_words_are_in_its_log_and_in_the_reason(shared_broker):
    data, result = printed(shared_broker, "crash")
    assert data == b"a line\nof a program\n"
    assert result["error"]["message"] == f"isolate crashed: SIGABRT\n{data.decode()}"


def test_a_thread_is_asked_to_stop_and_a_process_is_killed_with_its_children(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[broker.job("a", "wait")])
    broker.take("progress")
    broker.order("cancel", attempts=[broker.ref("a")])
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"
    broker.order("run", jobs=[broker.job("b", "burn")])
    started = pids(broker)
    broker.order("cancel", attempts=[broker.ref("b")])
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"
    for pid in started:
        wait_gone(pid)


@pytest.mark.parametrize("is_far", [False, True])
def test_an_attempt_ends_with_its_handler_s_process_and_takes_what_that_left_with_it(
    shared_broker, is_far
):
    broker = shared_broker
    ends = {
        "segv": "isolate crashed: SIGSEGV",
        "nameless": "isolate crashed: SIG35",
        "kill": "isolate crashed: SIGKILL, from outside or for want of memory",
        "exit": "isolate exited with code 7",
        "exit-in-a-frame": "isolate exited with code 7",
        "raise": "SystemExit: no",
        "return": None,
    }
    for end, message in ends.items():  # more of them than there are slots
        broker.order("run", jobs=[broker.job(end, "leave-child", [end, is_far])])
        (left,) = pids(broker)
        (result,) = broker.take("result")["results"]
        assert not os.path.exists(f"/proc/{left}"), f"{end}: reported before all was gone"
        assert result.get("error", {}).get("message", "").startswith(message or "")
        assert (result["outcome"], "error" in result) == (
            ("failed", True) if message else ("completed", False)
        )
        broker.order("ack", results=[broker.ref(end)])
    assert run_one(broker, "z", "leave-child", ["return", is_far])["outcome"] == "completed"


def test_the_end_of_one_attempt_leaves_the_processes_of_another_alone(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[broker.job("a", "daemon")])
    (daemon,) = pids(broker)
    assert run_one(broker, "b", "leave-child", ["kill", True])["error"]["code"] == "isolate_crashed"
    assert Path(f"/proc/{daemon}/stat").read_text().split()[2] != "Z"
    broker.order("cancel", attempts=[broker.ref("a")])
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"
    assert not os.path.exists(f"/proc/{daemon}")


def test_a_fork_that_returns_from_the_handler_has_no_word_in_the_outcome(shared_broker):
    broker = shared_broker
    assert msgpack.unpackb(run_one(broker, "a", "both")["result"]) == "parent"


def test_a_process_that_left_its_group_is_killed_all_the_same(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[broker.job("a", "move-away")])
    (handler,) = pids(broker)
    broker.order("cancel", attempts=[broker.ref("a")])
    assert broker.take("result")["results"][0]["outcome"] == "cancelled"
    assert not os.path.exists(f"/proc/{handler}")


@pytest.mark.parametrize("then, code, message", [
    ("stay", "isolate_broken", "isolate killed: its handler closed or spoiled its socket"),
    ("return", "isolate_broken", "isolate killed: its handler closed or spoiled its socket"),
    ("exit", "isolate_crashed", "isolate exited with code 7"),
])  # fmt: skip
def test_what_is_said_of_a_process_that_closed_its_connection(shared_broker, then, code, message):
    error = run_one(shared_broker, "a", "close", then)["error"]
    assert (error["code"], error["message"]) == (code, message)


def has_spent(usage):
    return usage["cpu_ms"] >= 100 and usage["rss_bytes_max"] >= 128 << 20


@pytest.mark.parametrize("end", ["return", "segv", "exit"])
@pytest.mark.parametrize("is_in_child", [False, True])
def test_an_attempt_has_used_what_its_process_and_its_children_did(shared_broker, end, is_in_child):
    broker = shared_broker
    result = run_one(broker, "a", "spend", [end, is_in_child])
    assert has_spent(result["usage"]), result
    light = run_one(broker, "b", "leave-child", ["segv", False])
    assert not has_spent(light["usage"]), "it was told what another has used"


def test_a_stopped_attempt_has_used_what_its_process_did(shared_broker):
    broker = shared_broker
    broker.order("run", jobs=[broker.job("a", "spend-on")])
    broker.take("progress")
    broker.order("cancel", attempts=[broker.ref("a")])
    assert has_spent(broker.take("result")["results"][0]["usage"])


def test_a_timed_out_process_is_reported_when_it_is_gone(shared_broker):
    broker = shared_broker
    result = run_one(broker, "a", "burn", timeout_ms=100)
    assert result["error"]["code"] == "timeout"
    assert min(result["usage"].values()) > 0, result


def test_a_killed_worker_leaves_no_process_behind(broker, start):
    process = start()
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "burn")])
    started = pids(broker)
    process.kill()
    for pid in started:
        wait_gone(pid)


def test_what_a_killed_node_and_its_helper_left_is_killed_by_the_next_life(broker, start, tmp_path):
    first = start(state_dir=tmp_path)
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "orphan")])
    helper, escaped = pids(broker)
    os.kill(helper, signal.SIGKILL)  # nobody is left to clean up behind the node
    first.kill()
    first.wait()
    os.kill(escaped, 0)
    start(state_dir=tmp_path)
    broker.take("status")
    wait_gone(escaped)


def test_it_says_that_its_spawner_died(broker, start):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    broker.order("run", jobs=[broker.job("a", "wait-process")])
    [handler] = pids(broker)
    spawner = int(Path(f"/proc/{handler}/stat").read_text().split()[3])
    os.kill(spawner, signal.SIGKILL)
    broker.order("run", jobs=[broker.job("b", "wait-process")])
    line_with(process, "runtime_failed")


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def settled_descriptors(pid):
    """The descriptors of a process that sleeps: one that begins or ends something has others."""
    while True:
        seen = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "S" and seen == {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}:
            return seen


@pytest.mark.parametrize("where", ["node", "spawner", "spawner-fork"])
def test_without_descriptors_a_job_is_handed_back_with_a_warning_and_the_next_one_runs(
    broker, start, where
):
    process = start(stderr=subprocess.PIPE, text=True)
    broker.welcome()
    assert run_one(broker, "first", "odd-process", "number")["error"]["code"] == "404"  # it is up
    pid = process.pid if where == "node" else children_of(process.pid)[0]
    open_ones = settled_descriptors(pid)
    few = min(set(range(len(open_ones) + 1)) - open_ones)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # What the spawner has left over: none for what it is sent, or two for that and none to reap with.
    few += 2 * (where == "spawner-fork")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, before[1]))
    result = run_one(broker, "a", "odd-process", "number")
    if where == "spawner-fork":
        assert result["error"]["code"] == "404"
    else:
        assert result["outcome"] == "handed_back"
        line = line_with(process, "attempt_handed_back")
        assert "job=a" in line and "cannot_start" in line and "Too many open files" in line
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert run_one(broker, "b", "odd-process", "number")["error"]["code"] == "404"
