"""A broker that is silent, late, gone or never was there: what the producer's side says of it. These wait for
time-outs of their own, most of them two seconds."""

from __future__ import annotations

import socket

import pytest

import sluice


def test_a_broker_that_answers_a_wait_late_is_asked_whether_it_is_there(broker, in_background):
    with sluice.connect(broker.address, timeout=2) as impatient:
        call = in_background(impatient.wait, "a", 0)
        broker.take("wait")
        broker.answer(broker.take("ping"), "pong", version="1")
        with pytest.raises(sluice.TimedOut, match="had not ended"):
            call.result()


def test_a_wait_that_was_refused_once_goes_on_while_the_broker_is_there(
    broker, in_background, monkeypatch
):
    monkeypatch.setattr("sluice.client._WAIT_SLICE_MS", 0)
    with sluice.connect(broker.address, timeout=2) as impatient:
        call = in_background(impatient.wait, "a", 60)
        refused = broker.take("wait")
        broker.answer(refused, "error", code="retry_later", message="full", retryable=True, retry_after_ms=1)
        broker.take("wait")  # and has no answer
        broker.answer(broker.take("ping"), "pong", version="1")
        done = [{"id": "a", "state": "completed"}]
        broker.answer(broker.take("wait"), "waited", unfinished=[], jobs=done)
        assert call.result()["a"].state == "completed"


def test_nobody_there_names_the_address_and_what_to_start():
    with sluice.connect("tcp://127.0.0.1:1", timeout=0) as client:
        with pytest.raises(sluice.NoBroker, match="127.0.0.1:1.*sluice-broker"):
            client.ping()


def test_when_the_broker_dies_before_it_answers_the_error_has_the_id(broker, in_background):
    with sluice.connect(broker.address, timeout=2) as client:
        call = in_background(client.submit, "echo")
        (job,) = broker.take()["jobs"]
        broker.close()
        with pytest.raises((sluice.NoBroker, sluice.TimedOut)) as caught:
            call.result()
        assert caught.value.ids == [job["id"]]


def test_the_error_of_a_batch_has_the_ids_of_those_without_an_answer(broker, in_background):
    with sluice.connect(broker.address, timeout=2) as client:
        jobs = [sluice.make_job("echo", id=id) for id in ("a", "b", "b")]
        call = in_background(client.submit_many, jobs)
        first, second = broker.take(), broker.take()
        broker.answer(first, "submitted", results=[{"id": job["id"], "status": "accepted"} for job in first["jobs"]])
        with pytest.raises(sluice.TimedOut) as caught:
            call.result()
        assert (len(first["jobs"]), caught.value.ids) == (2, ["b"])


def test_that_one_copy_of_a_request_was_refused_says_nothing_of_the_other(
    broker, client, in_background
):
    body = {"op": "submit", "jobs": [sluice.make_job("echo", id="j1")]}
    call = in_background(lambda: list(client._connection().talk(iter([body]), 1.0, resend_ms=100)))
    broker.take()
    again = broker.take()
    refusal = {"code": "store_unavailable", "message": "", "retryable": True}
    broker.answer(again, "error", retry_after_ms=9_000, **refusal)
    with pytest.raises(sluice.Error) as caught:
        call.result()
    assert caught.value.ids == ["j1"]


def test_what_was_never_sent_is_no_brokers(in_background):
    with sluice.connect("tcp://127.0.0.1:1", timeout=0.2) as client:
        with pytest.raises(sluice.NoBroker) as caught:
            client.submit("echo")
        assert not caught.value.ids


def test_what_accepts_and_says_nothing_is_not_called_absent():
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        address = "tcp://127.0.0.1:%d" % stopped.getsockname()[1]
        with sluice.connect(address, timeout=0.5) as client:
            with pytest.raises(sluice.TimedOut) as caught:
                client.ping()
    assert str(caught.value) == (
        f"what listens at {address} accepts the connection and says nothing; "
        "if it is the broker, it is stopped or hangs"
    )
