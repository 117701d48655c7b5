"""What a worker refuses before it is started, because the broker would never take it."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import conftest  # noqa: F401  (puts the package on the path)
import pytest

import sluice

WRONG = [
    ({"name": "a b"}, "name must be 1 to 64 of A-Z a-z 0-9 _ . -, not 'a b'"),
    ({"name": "n" * 65}, "name must be 1 to 64 of"),
    ({"name": "ä"}, "name must be 1 to 64 of"),
    ({"name": "a\n"}, "name must be 1 to 64 of"),
    ({"concurrency": 0}, "concurrency must be 1 to 10000"),
    ({"concurrency": 10_001}, "concurrency must be 1 to 10000"),
    ({"concurrency": 1.5}, "concurrency must be 1 to 10000"),
    ({"broker": "garbage"}, "broker must be tcp://HOST:PORT, not 'garbage'"),
    ({"broker": "tcp://h:port"}, "broker must be tcp://HOST:PORT"),
    ({"broker": "tcp://h:0"}, "broker must be tcp://HOST:PORT"),
    ({"broker": "http://h:1"}, "broker must be tcp://HOST:PORT"),
    ({"queues": "mail"}, "queues must be a list of names, not the text 'mail'"),
    ({"queues": ["mail", "a b"]}, "each of queues must be 1 to 64 of"),
    ({"queues": ["q"] * 257}, "queues must be at most 256"),
    ({"labels": {"a b": "x"}}, "the name of each of labels must be 1 to 64 of"),
    ({"labels": {"a": "x" * 1025}}, "labels['a'] must be a text of at most 1024 bytes"),
    ({"labels": {"a": 1}}, "labels['a'] must be a text of at most 1024 bytes"),
    ({"labels": {f"l{n}": "" for n in range(33)}}, "labels must be at most 32"),
    ({"drain_grace": -1}, "drain_grace must be 0 to 86400 seconds, not -1"),
    ({"drain_grace": float("nan")}, "drain_grace must be 0 to 86400 seconds"),
    ({"drain_grace": "abc"}, "drain_grace must be 0 to 86400 seconds, not 'abc'"),
    ({"broker": 7712}, "broker must be tcp://HOST:PORT, not 7712"),
    ({"labels": ["a"]}, "labels must be a dict of texts, not ['a']"),
    ({"queues": 7}, "queues must be a list of names, not 7"),
    ({"drain_grace": 86_401}, "drain_grace must be 0 to 86400 seconds"),
    ({"drain_grace": timedelta(days=2)}, "drain_grace must be 0 to 86400 seconds, not datetime.timedelta(days=2)"),
    ({"drain_grace": None}, "drain_grace must be 0 to 86400 seconds"),
    ({"name": 0}, "name must be 1 to 64 of A-Z a-z 0-9 _ . -, not 0"),
    ({"name": False}, "name must be 1 to 64 of"),
    ({"broker": 0}, "broker must be tcp://HOST:PORT, not 0"),
    ({"broker": "h\udcff:1"}, "broker must be tcp://HOST:PORT"),
    ({"labels": {"a": "\udcff"}}, "labels['a'] must be a text of at most 1024 bytes"),
    ({"labels": 0}, "labels must be a dict of texts, not 0"),
    ({"state_dir": 5}, "state_dir must be the path of a directory, not 5"),
    ({"state_dir": 0}, "state_dir must be the path of a directory, not 0"),
    ({"state_dir": b"x"}, "state_dir must be the path of a directory"),
    ({"state_dir": "a\0b"}, "state_dir must be the path of a directory"),
]


@pytest.mark.parametrize("arguments, words", WRONG)
def test_a_worker_is_refused_where_it_is_made_with_the_argument_and_the_rule(arguments, words):
    with pytest.raises(ValueError) as caught:
        sluice.Worker(**arguments)
    assert str(caught.value).startswith(words)


def test_a_wrong_address_in_the_environment_is_named_so(monkeypatch):
    monkeypatch.setenv("SLUICE_WORKER_BROKER", "garbage")
    with pytest.raises(ValueError, match="^SLUICE_WORKER_BROKER must be tcp://HOST:PORT"):
        sluice.Worker()


def test_what_is_at_the_bounds_is_taken():
    sluice.Worker(
        "n" * 64, 10_000, broker="ipc:///tmp/workers", queues=["q"] * 256, drain_grace=0,
        labels={f"l{n}": "x" * 1024 for n in range(32)},
    )  # fmt: skip
    worker = sluice.Worker(drain_grace=timedelta(seconds=1.5), state_dir=Path("/tmp/x"))
    assert (worker._drain_grace_ms, worker._state_dir) == (1500, "/tmp/x")
    worker.task("t", kill_grace=timedelta(minutes=1))(print)
    assert worker._offers["t"].kill_grace == 60
    assert sluice.Worker("", broker="").address == "tcp://127.0.0.1:7712"
    assert sluice.Worker(broker="h:1").address == "tcp://h:1"
    assert sluice.Worker(broker="tcp://[::1]:7712").address == "tcp://[::1]:7712"


@pytest.mark.parametrize("host, name", [("my host.lan", "my_host"), ("", "worker"), ("ä" * 70, "_" * 64)])
def test_the_host_s_name_is_made_a_node_s(host, name, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert sluice.Worker().node.partition("@")[0] == name


@pytest.mark.parametrize("name", ["a b", "", "t" * 65, "a/b", 7])
def test_a_task_is_refused_where_it_is_named(name):
    worker = sluice.Worker()
    with pytest.raises(ValueError, match="^a task's name must be 1 to 64 of"):
        worker.task(name)


@pytest.mark.parametrize("offer, words", [
    (lambda worker: worker.task("a", processes="no"), "processes must be True or False, not 'no'"),
    (lambda worker: worker.task("a", processes=1), "processes must be True or False, not 1"),
    (lambda worker: worker.task("a", kill_grace="2"), "kill_grace must be 0 to"),
    (lambda worker: worker.task("a")(5), "handler of task 'a' must be a function, not 5"),
])  # fmt: skip
def test_an_offer_of_a_wrong_kind_is_refused_with_the_argument_s_name(offer, words):
    worker = sluice.Worker()
    with pytest.raises(ValueError) as caught:
        offer(worker)
    assert str(caught.value).startswith(words)
    assert not worker._offers


def test_a_task_is_refused_without_its_name_with_a_wrong_grace_and_beyond_256():
    worker = sluice.Worker()
    with pytest.raises(ValueError, match="^a task's name must be"):
        worker.task(lambda task: None)
    with pytest.raises(ValueError, match="^kill_grace must be 0 to"):
        worker.task("t", kill_grace=-1)
    for number in range(256):
        worker.task(f"t{number}")(print)
    with pytest.raises(ValueError, match="at most 256 tasks"):
        worker.task("one-more")(print)
