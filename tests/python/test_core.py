"""The rules of a worker, one by one, with the time given by hand."""

from __future__ import annotations

import logging

import conftest  # noqa: F401  (puts the package on the path)
import pytest

from sluice.core import CANCEL, DROPPED, HAND_BACK, TIMED_OUT, Ended, Key, WorkerCore
from sluice.logs import LogBuffer


class World:
    """A core, a clock and a broker's numbers."""

    def __init__(self, concurrency=2, connected=True, **options):
        self.core = WorkerCore("n@1", concurrency, ["t"], **options)
        self.now = 1000.0
        self.epoch, self.n = 5, 0
        if connected:
            self.core.connected(self.now)
            self.say("welcome", heartbeat_ms=3000)
            self.turn()

    def say(self, op, **fields):
        self.n += 1
        self.core.message({"op": op, "epoch": self.epoch, "n": self.n, **fields}, self.now)

    def run(self, *ids, attempt=1, **fields):
        ref = {"epoch": self.epoch, "attempt": attempt, "task": "t"}
        self.say("run", jobs=[{"id": id, **ref, **fields} for id in ids])
        return self.turn()

    def turn(self, later=0):
        self.now += later
        return self.core.settle(self.now)

    def key(self, id, attempt=1):
        return Key(id, self.epoch, attempt)

    def refs(self, *ids):
        return [self.key(id)._asdict() for id in ids]

    def done(self, id, **fields):
        self.core.done(self.key(id), Ended(**{"outcome": "completed", **fields}), self.now)
        return self.turn()


def ops(out):
    return [message["op"] for message in out.sends]


def results(out):
    return [r for m in out.sends if m["op"] == "result" for r in m["results"]]


def statuses(out):
    return [m for m in out.sends if m["op"] == "status"]


def test_a_status_opens_the_connection_and_a_second_follows_the_first_welcome_only():
    world = World(connected=False)
    assert ops(world.turn()) == []
    world.core.connected(world.now)
    assert ops(world.turn()) == ["status"]
    world.say("welcome")
    (second,) = world.turn().sends
    assert second["op"] == "status" and second["seen"] == {"epoch": 5, "n": 1}
    world.say("welcome")
    assert ops(world.turn()) == []


def test_a_welcome_with_repeat_is_answered_with_everything_that_has_no_answer():
    world = World()
    world.run("a", "b")
    world.done("a")
    world.say("welcome")
    assert ops(world.turn()) == []
    world.say("welcome", repeat=True)
    out = world.turn()
    assert [result["id"] for result in results(out)] == ["a"]
    (status,) = statuses(out)
    assert [(h["id"], h["phase"]) for h in status["held"]] == [("a", "finished"), ("b", "running")]


def test_a_heartbeat_comes_at_the_broker_s_interval_and_says_what_is_held():
    world = World(concurrency=1)
    world.run("a", "b")
    assert world.core.next_deadline() == world.now + 3000
    assert ops(world.turn(2999)) == []
    (status,) = world.turn(1).sends
    assert [(h["id"], h["phase"]) for h in status["held"]] == [("a", "running"), ("b", "waiting")]


def test_seq_grows_with_every_status():
    world = World()
    numbers = [statuses(world.turn(3000))[0]["seq"] for _ in range(3)]
    assert numbers == [3, 4, 5]


@pytest.mark.parametrize("epoch, n", [(5, 2), (5, 1), (4, 99)])
def test_a_number_that_is_not_higher_is_not_taken(epoch, n):
    world = World()
    world.run("a")
    assert world.n == 2
    job = {"id": "x", "epoch": epoch, "attempt": 1, "task": "t"}
    world.core.message({"op": "run", "epoch": epoch, "n": n, "jobs": [job]}, world.now)
    assert world.turn().starts == []


def test_a_run_of_a_held_fence_is_ignored_and_of_a_newer_one_is_not():
    world = World()
    world.run("a")
    assert world.run("a").starts == []
    assert [key.attempt for key, _, _ in world.run("a", attempt=2).starts] == [2]


@pytest.mark.parametrize("timeout_ms", ["soon", None, [], {}])
def test_a_job_whose_time_out_is_no_number_is_refused_as_it_comes_and_the_next_one_runs(timeout_ms):
    world = World()
    with pytest.raises((TypeError, ValueError)):
        world.run("a", timeout_ms=timeout_ms)
    assert [key.id for key, _, _ in world.run("b").starts] == ["b"]


def test_its_own_limit_holds_whatever_the_broker_sends():
    world = World(concurrency=2)
    assert len(world.run("a", "b", "c", "d").starts) == 2
    assert len(world.done("a").starts) == 1
    world.say("set_concurrency", concurrency=3)
    out = world.turn()
    assert len(out.starts) == 1 and statuses(out)[0]["concurrency"] == 3
    assert world.core.running_count == 3


def test_a_stop_does_not_free_the_slot():
    world = World(concurrency=1)
    world.run("a", "b")
    world.say("cancel", attempts=world.refs("a"))
    out = world.turn()
    assert (out.stops, out.starts) == ([(world.key("a"), CANCEL)], [])
    assert len(world.done("a", outcome="cancelled").starts) == 1


def test_a_waiting_attempt_is_cancelled_at_once():
    world = World(concurrency=1)
    world.run("a", "b")
    world.say("cancel", attempts=world.refs("b"))
    assert [(r["id"], r["outcome"]) for r in results(world.turn())] == [("b", "cancelled")]


def test_a_dropped_attempt_is_stopped_and_never_reported():
    world = World()
    world.run("a")
    world.say("drop", attempts=world.refs("a"))
    assert world.turn().stops == [(world.key("a"), DROPPED)]
    assert results(world.done("a")) == []
    assert statuses(world.turn(3000))[0]["held"] == []


def test_a_drop_forgets_a_finished_result():
    world = World()
    world.run("a")
    world.done("a")
    world.say("drop", attempts=world.refs("a"))
    assert world.core.unacknowledged_count == 0


def test_an_unanswered_result_is_repeated_after_5_s_doubling_to_60():
    world = World()
    world.run("a")
    assert len(results(world.done("a"))) == 1
    for seconds in (5, 10, 20, 40, 60, 60):
        assert results(world.turn(seconds * 1000 - 1)) == []
        assert len(results(world.turn(1))) == 1
    world.say("ack", results=world.refs("a"))
    assert results(world.turn(60_000)) == []


def test_an_ack_of_another_fence_forgets_nothing():
    world = World()
    world.run("a")
    world.done("a")
    world.say("ack", results=[{"id": "a", "epoch": 5, "attempt": 2}])
    assert world.core.unacknowledged_count == 1


def test_results_are_kept_while_away_and_repeated_behind_the_status_of_a_reconnect():
    world = World()
    world.run("a", "b")
    world.done("a")
    world.core.disconnected()
    assert ops(world.done("b")) == []
    assert ops(world.turn(100_000)) == []
    world.core.connected(world.now)
    out = world.turn()
    assert ops(out) == ["status", "result"]
    assert sorted(r["id"] for r in results(out)) == ["a", "b"]


def test_a_new_epoch_makes_everything_be_said_again():
    world = World()
    world.run("a")
    world.done("a")
    world.epoch, world.n = 6, 0
    world.say("welcome")
    out = world.turn()
    assert ops(out) == ["status", "result"]
    assert statuses(out)[0]["seen"] == {"epoch": 6, "n": 1}


def test_no_more_than_4_mib_of_results_are_under_way():
    world = World(concurrency=8)
    ids = [f"j{n}" for n in range(8)]
    world.run(*ids)
    sent = [r["id"] for id in ids for r in results(world.done(id, result=b"x" * (1 << 20)))]
    assert len(sent) == 3
    world.say("ack", results=world.refs(*sent))
    assert len(results(world.turn())) == 3


def test_too_large_a_result_is_a_failure_and_never_cut():
    world = World()
    world.run("a")
    (result,) = results(world.done("a", result=b"x" * ((1 << 20) + 1), cpu_ms=5, rss_bytes_max=7))
    assert result["outcome"] == "failed" and "result" not in result
    assert result["error"]["code"] == "result_too_large" and not result["error"]["retryable"]
    assert result["usage"] == {"cpu_ms": 5, "rss_bytes_max": 7}


def test_codes_and_texts_are_within_the_bounds_of_the_wire():
    world = World()
    world.run("a")
    ended = dict(outcome="failed", code="Bad code!", message="ä" * 4096, retry_after_ms=-5)
    (result,) = results(world.done("a", **ended))
    error = result["error"]
    assert error["code"] == "Bad_code_" and error["retry_after_ms"] == 0
    assert len(error["message"].encode()) == 4096


def test_a_time_out_stops_the_attempt_once():
    world = World()
    assert world.run("a", timeout_ms=500).starts[0][2] == world.now + 500
    assert world.turn(499).stops == []
    assert world.turn(1).stops == [(world.key("a"), TIMED_OUT)]
    assert world.turn(1).stops == []


def test_progress_is_sent_at_once_then_at_most_four_times_a_second():
    world = World()
    world.run("a")
    for percent in (1, 2, 3):
        world.core.progress(world.key("a"), percent, "", None, world.now)
        sent = [m["percent"] for m in world.turn().sends]
        assert sent == ([1] if percent == 1 else [])
    assert [m["percent"] for m in world.turn(250).sends] == [3]


def test_a_checkpoint_is_repeated_until_it_is_acknowledged():
    world = World()
    world.run("a")
    world.core.progress(world.key("a"), 1, "", b"c", world.now)
    (report,) = world.turn().sends
    assert (report["checkpoint"], report["checkpoint_n"]) == (b"c", 1)
    again = [m for m in world.turn(5000).sends if m["op"] == "progress"]
    assert again[0]["checkpoint"] == b"c"
    world.say("ack", results=[{**world.key("a")._asdict(), "checkpoint_n": 1}])
    assert "progress" not in ops(world.turn(5000))
    assert world.core.running_count == 1  # it was not taken for the result's ack


def test_a_checkpoint_that_is_waited_for_is_sent_at_once_and_answered():
    world = World()
    world.run("a")
    for number in (1, 2):
        world.core.progress(world.key("a"), 1, "", b"c", world.now, number)
        assert ops(world.turn()) == ["progress"]
    answers = []
    for acked in ({"checkpoint_n": 1}, {"checkpoint_n": 2}, {"checkpoint_n": 2}):
        world.say("ack", results=[{**world.key("a")._asdict(), **acked}])
        answers.append(world.turn().answers)
    assert answers == [[], [(world.key("a"), 2, True)], []]
    world.core.progress(world.key("a"), 1, "", b"d", world.now, 3)
    world.turn()
    world.say("ack", results=[{**world.key("a")._asdict(), "checkpoint_n": 3, "stale": True}])
    assert world.turn().answers == [(world.key("a"), 3, False)]


def test_the_last_checkpoint_goes_ahead_of_the_result():
    world = World()
    world.run("a")
    world.core.progress(world.key("a"), 1, "", None, world.now)
    world.turn()
    world.core.progress(world.key("a"), 2, "", b"c", world.now)
    assert ops(world.done("a")) == ["progress", "result"]


def test_a_drain_hands_back_what_waits_and_leaves_when_all_is_acknowledged():
    world = World(concurrency=1)
    world.run("a", "b")
    world.say("drain")
    out = world.turn()
    assert [(r["id"], r["outcome"]) for r in results(out)] == [("b", "handed_back")]
    assert statuses(out)[0]["draining"]
    assert [r["outcome"] for r in results(world.run("c"))] == ["handed_back"]
    world.say("ack", results=world.refs("b", "c"))
    assert not world.turn().exit
    world.done("a")
    world.say("ack", results=world.refs("a"))
    out = world.turn()
    assert out.exit == "drained" and ops(out) == ["goodbye"]


def test_after_the_grace_what_runs_is_handed_back():
    world = World(drain_grace_ms=25_000)
    world.run("a")
    world.core.begin_drain("a signal", world.now)
    assert world.turn(24_999).stops == []
    assert world.turn(1).stops == [(world.key("a"), HAND_BACK)]
    out = world.turn(10_000)  # a handler that does not stop
    assert out.exit == "at_once"
    assert [(r["id"], r["outcome"]) for r in results(out)] == [("a", "handed_back")]
    assert ops(out)[-1] == "goodbye"


def test_leaving_at_once_says_what_is_unacknowledged_and_goodbye():
    world = World()
    world.run("a", "b")
    world.done("a")
    world.core.leave_at_once(world.now)
    out = world.turn()
    assert {r["id"]: r["outcome"] for r in results(out)} == {"a": "completed", "b": "handed_back"}
    assert out.exit == "at_once" and ops(out)[-1] == "goodbye"


def test_leaving_at_once_sends_the_newest_checkpoint_ahead_of_what_is_handed_back():
    world = World()
    world.run("a")
    world.core.progress(world.key("a"), 1, "", b"old", world.now)
    world.turn()
    world.core.progress(world.key("a"), 2, "", b"new", world.now)  # too soon after the other
    world.core.leave_at_once(world.now)
    out = world.turn()
    assert ops(out) == ["progress", "result", "goodbye"]
    assert out.sends[0]["checkpoint"] == b"new"


def test_a_refused_status_is_said_and_changes_nothing():
    world = World()
    error = {"op": "error", "code": "unsupported_version", "field": "protocol", "message": "m"}
    world.core.message(error, world.now)
    out = world.turn()
    [(text, level)] = out.facts
    assert out.sends == [] and level == logging.ERROR
    assert text == 'broker_refused field=protocol detail="unsupported_version: m"'


def test_that_nobody_answers_is_said_at_once_then_once_a_minute_until_somebody_does():
    world = World(connected=False)

    def said(later):
        world.now += later
        world.core.nobody_answers("tcp://h:1", world.now)
        return [(f.text.split(" what_next=")[0], f.level) for f in world.turn().facts]

    line = [("no_broker broker=tcp://h:1", logging.WARNING)]
    assert said(0) == line
    assert said(59_999) == []
    assert said(1) == line
    world.core.connected(world.now)
    assert said(100_000) == []
    world.core.disconnected()
    world.turn()
    assert said(0) == line


def test_what_should_be_rare_is_a_warning_and_what_is_usual_is_not():
    world = World()
    world.run("a", "b")
    world.done("a")
    world.say("ack", results=[{**world.key("a")._asdict(), "stale": True}])
    world.say("drop", attempts=world.refs("b"))
    world.core.disconnected()
    world.core.connected(world.now)
    world.say("welcome")
    world.say("drain")
    levels = {fact.text.split()[0]: fact.level for fact in world.turn().facts}
    assert levels == {
        "result_stale": logging.WARNING, "attempt_dropped": logging.WARNING,
        "broker_lost": logging.WARNING, "broker_welcomed": logging.INFO,
        "drain_begun": logging.INFO,
    }  # fmt: skip


@pytest.mark.parametrize("is_finished, level", [(True, logging.WARNING), (False, logging.INFO)])
def test_leaving_is_a_warning_when_results_are_left_unacknowledged(is_finished, level):
    world = World()
    if is_finished:
        world.run("a")
        world.done("a")
    world.core.leave_at_once(world.now)
    assert [fact.level for fact in world.turn().facts] == [level]


def test_a_silent_broker_is_said_at_once_then_once_a_minute_and_anew_after_a_connection():
    world = World(connected=False)

    def said(later):
        world.now += later
        world.core.broker_silent("tcp://h:1", world.now)
        facts = world.turn().facts
        assert all(f.level == logging.WARNING for f in facts)
        return [f.text.split()[0] for f in facts]

    assert said(0) == ["broker_silent"]
    assert said(59_999) == []
    assert said(1) == ["broker_silent"]
    world.core.connected(world.now)
    world.turn()
    assert said(60_000) == []
    world.core.disconnected()
    world.turn()
    assert said(0) == ["broker_silent"]


def logs(out, id="a"):
    return [m["bytes"] for m in out.sends if m["op"] == "log" and m["id"] == id]


def test_logs_are_sent_at_once_and_what_follows_is_gathered():
    world = World()
    world.run("a")
    world.core.log(world.key("a"), b"one\n")
    out = world.turn()
    assert out.sends == [{"op": "log", "node": "n@1", **world.key("a")._asdict(), "bytes": b"one\n"}]
    world.core.log(world.key("a"), b"two\n")
    world.core.log(world.key("a"), b"three\n")
    assert logs(world.turn()) == []
    assert world.core.next_deadline() == world.now + 100
    assert logs(world.turn(100)) == [b"two\nthree\n"]


def test_logs_go_ahead_of_the_result_and_are_not_repeated():
    world = World()
    world.run("a")
    world.core.disconnected()
    world.core.log(world.key("a"), b"one\n")
    assert world.done("a").sends == []
    world.core.connected(world.now)
    out = world.turn()
    assert ops(out) == ["status", "log", "result"]
    world.core.disconnected()
    world.core.connected(world.now)
    assert ops(world.turn()) == ["status", "result"]


def test_of_a_flood_no_more_logs_are_under_way_than_a_status_may_be_behind():
    world = World()
    world.run("a", "b")
    sent = 0
    for _ in range(100):
        for id in ("a", "b"):
            world.core.log(world.key(id), b"x" * 100_000)
        out = world.turn()
        sent += sum(map(len, logs(out) + logs(out, "b")))
    assert 128 << 10 <= sent <= (128 + 16) << 10
    out = world.turn(100)
    assert ops(out) == ["status"]
    world.say("welcome")
    out = world.turn()
    assert 128 << 10 <= sum(map(len, logs(out) + logs(out, "b"))) <= (128 + 16) << 10
    assert b"bytes are missing here]" in b"".join(logs(out)) and logs(out, "b")


def test_logs_of_a_dropped_attempt_are_thrown_away():
    world = World()
    world.run("a")
    world.core.log(world.key("a"), b"one\n")
    world.say("drop", attempts=world.refs("a"))
    world.core.log(world.key("a"), b"two\n")
    world.done("a")
    assert logs(world.turn(1000)) == []


def test_a_log_that_is_too_long_loses_its_oldest_lines_and_says_so():
    text = b"".join(b"line %d\n" % n for n in range(100_000))
    buffer = LogBuffer()
    for at in range(0, len(text), 1000):
        buffer.add(text[at : at + 1000])
    pieces = []
    while not buffer.is_empty:
        pieces.append(buffer.take())
    assert all(len(piece) <= 16 << 10 and piece.endswith(b"\n") for piece in pieces)
    head, _, rest = b"".join(pieces).partition(b"\n")
    assert text.endswith(rest) and rest.startswith(b"line ") and len(rest) > 250_000
    assert head == b"[sluice: %d bytes are missing here]" % (len(text) - len(rest))
