"""The golden vectors: the package's bytes, what it makes of a broker's, and what it says itself."""

from __future__ import annotations

import json

import conftest
import pytest

import sluice
from sluice import wire
from sluice.client import _filter
from sluice.core import Ended, Key, WorkerCore
from sluice.jobs import STATES, JobView, SubmitResult

VECTORS = conftest.ROOT / "tests" / "vectors"
JOB = Key("01936d2e-7c00-7a3b-8f10-2b5e6c7d8e9f", 1764025200, 1)


def value_of(meaning):
    """JSON with {"$bin": hex} -> what msgpack makes of the bytes."""
    if isinstance(meaning, list):
        return [value_of(each) for each in meaning]
    if not isinstance(meaning, dict):
        return meaning
    if set(meaning) == {"$bin"}:
        return bytes.fromhex(meaning["$bin"])
    return {key: value_of(value) for key, value in meaning.items()}


def vectors(*files):
    for file in files:
        for vector in json.loads((VECTORS / f"{file}.json").read_text()):
            yield pytest.param(vector, id=f"{file}.{vector['name']}")


def meaning(file, name):
    (found,) = [v.values[0] for v in vectors(file) if v.values[0]["name"] == name]
    return value_of(found["meaning"])


FROM_US = ("producer_to_broker", "worker_to_broker")
TO_US = ("broker_to_producer", "broker_to_worker", "broker_to_watcher")


@pytest.mark.parametrize("vector", vectors(*FROM_US, *TO_US))
def test_bytes_and_meaning_agree(vector):
    frame = bytes.fromhex(vector["hex"])
    if vector["name"] in ("req_twice", "extension_type"):
        wire.unpack(frame)  # the broker refuses these; who only reads a broker need not
    elif vector.get("meaning") is None:
        with pytest.raises(ValueError):
            wire.unpack(frame)
    else:
        assert wire.unpack(frame) == value_of(vector["meaning"])
        if vector["kind"] == "exact":
            assert wire.pack(value_of(vector["meaning"])) == frame


# ---------------------------------------------------------------- what a producer says


def test_a_job_is_made_as_the_vectors_have_it():
    full, plain = meaning("producer_to_broker", "submit_every_field")["jobs"]
    made = sluice.make_job(
        "resize",
        {"width": 64},
        id="job:1",
        queue="images",
        content_type="application/json",
        priority="critical",
        delay=1.5,
        expires_at=1_900_000_000,
        timeout=0,
        max_retries=7,
        retry={"base_ms": 300, "factor": 1.5, "cap_ms": 9000, "jitter": 0.5},
        keep_result=60,
        keep_payload=True,
        tags=["AAPL", "läng"],
        headers={"traceparent": "00-1"},
    )
    assert made == full
    made = sluice.make_job("resize", b"", id="job:2", priority="low", run_at=1_900_000_000)
    assert {**made, "payload": b""} == {**plain, "payload": b""}


def test_a_list_s_filter_is_made_as_the_vectors_have_it():
    wanted = meaning("producer_to_broker", "list")
    made = _filter("failed", "mail", "send", "eu", "http_503", 7)
    assert {"req": 7, "protocol": 1, "op": "list", "cursor": "c1", **made} == wanted


# ---------------------------------------------------------------- what a producer makes of answers


@pytest.mark.parametrize("name", ["jobs", "finished", "listed", "waited_in_one_message"])
def test_jobs_of_answers_have_a_state(name):
    jobs = meaning("broker_to_producer", name)["jobs"]
    assert jobs
    for job in map(JobView, jobs):
        assert job.state in (*STATES, "not_found")
        if job.state == "completed" and not job.get("result_gone"):
            assert job.result_or_raise() == job.result
        else:
            with pytest.raises(sluice.JobFailed):
                job.result_or_raise()


def test_answers_to_a_submit_and_errors():
    answers = meaning("broker_to_producer", "submitted_every_status")["results"]
    results = {r.status: r for r in map(SubmitResult.from_wire, answers)}
    assert set(results) == {"accepted", "duplicate", "conflict", "rejected"}
    assert [s for s, r in results.items() if r.is_taken] == ["accepted", "duplicate"]
    assert results["rejected"].error().field == results["rejected"].field != ""
    down = sluice.RequestFailed.from_reply(meaning("broker_to_producer", "error_store_unavailable"))
    assert down.retryable and down.retry_after and down.code == "store_unavailable"


# ---------------------------------------------------------------- what a worker says and hears


class Node:
    """A core that hears vectors."""

    def __init__(self, concurrency=2):
        self.core = WorkerCore("n1@9f2c41aa", concurrency, ["echo"])
        self.core.connected(0)
        self.out = self.core.settle(0)

    def hear(self, name):
        self.core.message(meaning("broker_to_worker", name), 0)
        self.out = self.core.settle(0)
        return self.out

    def said(self, op):
        return [message for message in self.out.sends if message["op"] == op]


def test_a_first_status_is_the_vector_s_with_defaults_said_aloud():
    (status,) = Node().said("status")
    wanted = meaning("worker_to_broker", "status_first")
    defaults = {"queues": [], "labels": {}, "draining": False, "version": "", "replaces": ""}
    assert status == {**defaults, **wanted}


def test_a_run_is_started_and_its_result_is_the_vector_s_until_its_ack():
    node = Node()
    node.hear("welcome")
    ((key, job, _),) = node.hear("run").starts
    assert (key, job["payload"]) == (JOB, b"\xa5hello")
    node.core.done(key, Ended("completed", b"\xa5hello"), 0)
    node.out = node.core.settle(0)
    (message,) = node.said("result")
    assert message["results"][0].pop("usage") == {"cpu_ms": 0, "rss_bytes_max": 0}
    assert message == meaning("worker_to_broker", "result")
    assert node.core.unacknowledged_count == 1
    node.hear("ack")
    assert node.core.unacknowledged_count == 0


def test_every_field_of_a_run_reaches_the_handler():
    first, second = [job for _, job, _ in Node().hear("run_every_field").starts]
    assert (first["checkpoint"], first["headers"]) == (b"\x04", {"traceparent": "00-1"})
    assert (first["attempt"], first["retry_count"], second["payload"]) == (4, 1, b"")


def test_stops_wishes_and_refusals_are_followed():
    node = Node()
    node.hear("run")
    assert node.hear("cancel").stops == [(JOB, "cancel")]
    node = Node()
    node.hear("run")
    assert node.hear("drop").stops == [(JOB, "dropped")]
    assert Node().hear("drain").exit == "drained"
    node = Node()
    assert node.hear("set_concurrency") and node.core.concurrency == 9
    assert any("unsupported_version" in fact.text for fact in Node().hear("error").facts)
    assert Node().hear("unknown_message").starts == []


def test_last_words_are_the_vector_s():
    node = Node()
    node.core.begin_drain("test", 0)
    node.out = node.core.settle(0)
    assert node.said("goodbye") == [meaning("worker_to_broker", "goodbye")]
