"""The producer's side against a scripted broker."""

from __future__ import annotations

import json
import threading
from datetime import date, datetime, timedelta, timezone

import msgpack
import pytest

import sluice
from sluice.client import _submits


def accept(request):
    return [{"id": job["id"], "status": "accepted"} for job in request["jobs"]]


def test_a_submit_says_exactly_what_was_asked_for(broker, client, in_background):
    call = in_background(
        client.submit, "echo", {"a": 1}, id="j1", queue="q", priority="high", delay=1.5,
        expires_at=datetime(2030, 1, 1, tzinfo=timezone.utc), timeout=0, max_retries=2,
        retry="patient", tags=["x"], headers={"k": "v"}, keep_result=60,
    )  # fmt: skip
    request = broker.take()
    assert request["protocol"] == 1
    (job,) = request["jobs"]
    assert msgpack.unpackb(job.pop("payload")) == {"a": 1}
    assert job == {
        "id": "j1", "task": "echo", "queue": "q", "priority": "high", "delay_ms": 1500,
        "expires_at_ms": 1893456000000, "timeout_ms": 0, "max_retries": 2, "retry": "patient",
        "tags": ["x"], "headers": {"k": "v"}, "keep_result_ms": 60000,
    }  # fmt: skip
    broker.answer(request, "submitted", results=accept(request), durable="everysec")
    handle = call.result()
    assert (handle.id, handle.status) == ("j1", "accepted")


@pytest.mark.parametrize("tags", ["abc", b"abc"])
def test_a_text_for_the_tags_is_refused_and_not_taken_for_its_letters(tags):
    with pytest.raises(sluice.SubmitFailed, match="tags") as caught:
        sluice.make_job("echo", tags=tags)
    assert (caught.value.code, caught.value.field) == ("bad_field", "tags")


@pytest.mark.parametrize("call", [
    lambda client: client.get("j1"),
    lambda client: client.submit("echo"),
    lambda client: list(client.submit_stream([])),
    lambda client: next(client.list("failed")),
])  # fmt: skip
@pytest.mark.parametrize("is_used_before", [True, False])
def test_a_closed_client_says_that_it_is_closed(broker, in_background, call, is_used_before):
    client = sluice.connect(broker.address)
    if is_used_before:
        asked = in_background(client.stats)
        broker.answer(broker.take(), "stats", stats={})
        asked.result()
    client.close()
    with pytest.raises(sluice.ClientClosed, match="this client is closed"):
        call(client)
    client.close()


@pytest.mark.parametrize("address", ["garbage", "tcp://h:port", "tcp://h:70000", "a b", "what://h:1"])
def test_an_address_that_is_none_is_refused_at_once(address, monkeypatch):
    with pytest.raises(ValueError, match="^address must be tcp://HOST:PORT"):
        sluice.connect(address)
    monkeypatch.setenv("SLUICE_BROKER", address)
    with pytest.raises(ValueError, match="^SLUICE_BROKER must be"):
        sluice.connect()


def test_json_travels_as_json_with_its_content_type(broker, client, in_background):
    call = in_background(client.submit, "echo", {"a": "ä"}, content_type="application/json")
    request = broker.take()
    assert request["jobs"][0]["content_type"] == "application/json"
    assert json.loads(request["jobs"][0]["payload"]) == {"a": "ä"}
    broker.answer(request, "submitted", results=accept(request))
    call.result()


def test_a_job_that_is_not_taken_raises_with_code_and_field(broker, client, in_background):
    call = in_background(client.submit, "no such/name", id="j1")
    request = broker.take()
    item = {"id": "j1", "status": "rejected", "code": "bad_field", "field": "task", "message": "m"}
    broker.answer(request, "submitted", results=[item])
    with pytest.raises(sluice.SubmitFailed) as caught:
        call.result()
    assert (caught.value.id, caught.value.code, caught.value.field) == ("j1", "bad_field", "task")


def test_what_the_broker_cannot_take_yet_is_sent_again(broker, client, in_background):
    call = in_background(client.submit, "echo", id="j1")
    for code in ("retry_later", "store_unavailable"):
        request = broker.take()
        broker.answer(request, "error", code=code, message="", retryable=True, retry_after_ms=10)
    again = broker.take()
    assert again["jobs"] == request["jobs"]
    broker.answer(again, "submitted", results=accept(again))
    assert call.result().status == "accepted"


def test_a_single_job_of_a_batch_is_sent_again_alone(broker, client, in_background):
    jobs = [sluice.make_job("echo", n, id=f"j{n}") for n in range(3)]
    call = in_background(client.submit_many, jobs)
    request = broker.take()
    results = accept(request)
    results[1] = {"id": "j1", "status": "rejected", "code": "retry_later", "message": ""}
    broker.answer(request, "submitted", results=results)
    again = broker.take()
    assert [job["id"] for job in again["jobs"]] == ["j1"]
    broker.answer(again, "submitted", results=accept(again))
    assert [(r.id, r.status) for r in call.result()] == [(f"j{n}", "accepted") for n in range(3)]


def test_a_permanent_error_names_the_field_and_is_not_repeated(broker, client, in_background):
    call = in_background(client.pause, "a b")
    broker.answer(
        broker.take(), "error", code="bad_field", field="queue", message="m", retryable=False
    )
    with pytest.raises(sluice.RequestFailed) as caught:
        call.result()
    assert (caught.value.code, caught.value.field, caught.value.retryable) == (
        "bad_field", "queue", False,
    )  # fmt: skip


def test_a_request_is_sent_again_over_a_new_connection(broker, client, in_background):
    call = in_background(client.submit, "echo", 1, id="j1")
    first = broker.take()
    broker.restart()
    second = broker.take()
    assert second == first
    broker.answer(second, "submitted", results=[{"id": "j1", "status": "duplicate"}])
    assert call.result().status == "duplicate"


def test_an_answer_over_the_bound_costs_the_connection_and_is_asked_for_again(
    broker, client, in_background
):
    call = in_background(client.stats)
    broker.take("stats")
    broker._socket.send_multipart([broker.peer, b"x" * (9 << 20)])
    request = broker.take("stats")
    broker.answer(request, "stats", stats={"completed": 1})
    assert call.result() == {"completed": 1}


def test_four_batches_are_under_way_before_the_first_answer(broker, client, in_background):
    call = in_background(client.submit_many, [sluice.make_job("echo", n) for n in range(4500)])
    requests = [broker.take() for _ in range(4)]
    assert [len(r["jobs"]) for r in requests] == [1000] * 4
    for request in reversed(requests):
        broker.answer(request, "submitted", results=accept(request))
    last = broker.take()
    broker.answer(last, "submitted", results=accept(last))
    results = call.result()
    sent = [job["id"] for r in [*requests, last] for job in r["jobs"]]
    assert [r.id for r in results] == sent


def test_batches_are_bounded_in_bytes_and_never_hold_an_id_twice():
    jobs = [sluice.make_job("t", b"x" * 600_000, id=id) for id in ("a", "b")]
    assert [len(m["jobs"]) for m in _submits(jobs)] == [1, 1]
    twice = [sluice.make_job("t", 1, id="a"), sluice.make_job("t", 1, id="a")]
    assert [len(m["jobs"]) for m in _submits(twice)] == [1, 1]


def test_batches_fit_into_a_message_however_many_headers_their_jobs_have():
    headers = {f"h{n}": "x" * 1024 for n in range(16)}
    bodies = list(_submits(sluice.make_job("t", headers=headers) for _ in range(600)))
    assert sum(len(body["jobs"]) for body in bodies) == 600
    assert max(len(msgpack.packb(body)) for body in bodies) < 8 << 20


@pytest.mark.parametrize("field, value", [
    ("payload", b"x" * (1 << 20)),  # five bytes more as msgpack
    ("payload", b"x" * (9 << 20)), ("tags", ["x" * (9 << 20)]), ("queue", "x" * (9 << 20)),
])  # fmt: skip
def test_a_job_that_is_too_large_is_refused_before_it_is_sent(client, field, value):
    with pytest.raises(sluice.SubmitFailed, match="^too_large: ") as caught:
        client.submit("echo", id="j1", **{field: value})
    assert (caught.value.id, caught.value.code, caught.value.field) == ("j1", "too_large", field)


def test_a_job_that_is_too_large_is_one_result_among_the_others(broker, client, in_background):
    sizes = {"a": 1, "b": 9 << 20, "c": 1}
    jobs = [sluice.make_job("echo", b"x" * size, id=id) for id, size in sizes.items()]
    call = in_background(client.submit_many, jobs)
    request = broker.take()
    assert [job["id"] for job in request["jobs"]] == ["a", "c"]
    broker.answer(request, "submitted", results=accept(request))
    assert [(r.id, r.status, r.code, r.field) for r in call.result()] == [
        ("a", "accepted", None, None), ("b", "rejected", "too_large", "payload"),
        ("c", "accepted", None, None),
    ]  # fmt: skip


def test_a_request_that_no_message_holds_is_refused_before_it_is_sent(client):
    with pytest.raises(sluice.RequestFailed, match="8 MiB") as caught:
        client.cancel("j1", reason="x" * (9 << 20))
    assert (caught.value.code, caught.value.field) == ("too_large", "reason")


def test_results_come_with_the_wait_and_with_get_when_they_did_not_fit(
    broker, client, in_background
):
    call = in_background(client.wait, ["a", "b"], 60)
    request = broker.take("wait")
    assert request["ids"] == ["a", "b"]
    done = {"state": "completed", "result": msgpack.packb(42)}
    broker.answer(request, "finished", open=True, jobs=[{"id": "a", **done}], more=["b"])
    broker.answer(request, "waited", unfinished=[])
    get = broker.take("get")
    assert get["ids"] == ["b"]
    broker.answer(get, "jobs", jobs=[{"id": "b", **done}])
    views = call.result()
    assert [views[id].result_or_raise() for id in ("a", "b")] == [42, 42]


def test_a_wait_that_is_sent_again_asks_for_what_is_left(broker, client, in_background):
    call = in_background(client.wait, "a", 60)
    first = broker.take("wait")
    broker.restart()
    again = broker.take("wait")
    assert again["timeout_ms"] < first["timeout_ms"]
    broker.answer(again, "waited", unfinished=[], jobs=[{"id": "a", "state": "completed"}])
    assert call.result()["a"].state == "completed"


def test_a_wait_whose_time_is_over_raises(broker, client, in_background):
    call = in_background(client.wait, "a", 0)
    request = broker.take("wait")
    assert request["timeout_ms"] == 0
    broker.answer(request, "waited", unfinished=["a"])
    with pytest.raises(sluice.TimedOut):
        call.result()


@pytest.mark.parametrize(
    "view, code",
    [
        ({"state": "failed", "error_code": "boom", "error": "text"}, "boom"),
        ({"state": "cancelled", "cancel_reason": "no"}, ""),
        ({"state": "completed", "finished_ms": 1, "result_gone": True}, "result_gone"),
        ({"not_found": True}, ""),
    ],
)
def test_result_raises_for_every_other_end(view, code):
    with pytest.raises(sluice.JobFailed) as caught:
        sluice.JobView({"id": "a", **view}).result_or_raise()
    assert caught.value.code == code


def test_list_asks_for_page_after_page(broker, client, in_background):
    call = in_background(lambda: [job.id for job in client.list("failed", tag="AAPL")])
    first = broker.take("list")
    assert (first["state"], first["tag"], first.get("cursor")) == ("failed", "AAPL", None)
    broker.answer(first, "listed", jobs=[{"id": "a", "state": "failed"}], cursor="c1")
    second = broker.take("list")
    assert second["cursor"] == "c1"
    broker.answer(second, "listed", jobs=[{"id": "b", "state": "failed"}])
    assert call.result() == ["a", "b"]


def test_cancel_by_filter_goes_through_all_pages(broker, client, in_background):
    call = in_background(client.cancel, queue="q", reason="enough")
    first = broker.take("cancel")
    assert first["filter"] == {"queue": "q"} and first["reason"] == "enough"
    broker.answer(first, "cancelled", results=[{"id": "a", "status": "cancelled"}], cursor="c")
    second = broker.take("cancel")
    assert second["filter"] == {"queue": "q", "cursor": "c"}
    broker.answer(second, "cancelled", results=[{"id": "b", "status": "too_late"}])
    assert call.result() == {"a": "cancelled", "b": "too_late"}


def test_ids_and_a_filter_exclude_each_other(client):
    for call in (lambda: client.delete("a", queue="q"), client.delete):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize(
    "field, ticker, trade_date",
    [("ticker", "a/b", "2024-01-15"), ("ticker", "", "2024-01-15"),
     ("trade_date", "AAPL", "2023-02-29"), ("trade_date", "AAPL", "15.1.2024"),
     ("trade_date", "AAPL", "20240115")],
)  # fmt: skip
def test_a_wrong_analysis_is_refused_before_it_is_sent(client, field, ticker, trade_date):
    with pytest.raises(sluice.SubmitFailed) as caught:
        client.queue_analysis(ticker, trade_date)
    assert (caught.value.code, caught.value.field) == ("bad_field", field)
    assert field in str(caught.value)


def test_an_analysis_is_a_tagged_job_of_its_own_queue(broker, client, in_background):
    call = in_background(client.queue_analysis, "AAPL", "2024-01-15", "high")
    request = broker.take()
    (job,) = request["jobs"]
    assert (job["task"], job["queue"], job["priority"]) == ("analysis", "analysis", "high")
    assert job["tags"] == ["AAPL", "2024-01-15"]
    assert msgpack.unpackb(job["payload"]) == {"ticker": "AAPL", "trade_date": "2024-01-15"}
    broker.answer(request, "submitted", results=accept(request))
    call.result()


def test_a_wait_for_a_submitted_job_that_fails_has_its_id(broker, client, in_background):
    call = in_background(client.submit, "echo", id="j1", wait=0)
    request = broker.take()
    broker.answer(request, "submitted", results=accept(request))
    broker.answer(broker.take("wait"), "waited", unfinished=["j1"])
    with pytest.raises(sluice.TimedOut) as caught:
        call.result()
    assert caught.value.ids == ["j1"]


def test_threads_do_not_hold_each_other_up(broker, client, in_background):
    wait = in_background(client.wait, "a", 60)
    waiting = broker.take("wait")
    waiter = broker.peer
    ping = in_background(client.ping)
    broker.answer(broker.take("ping"), "pong", version="1")
    assert ping.result() == {"version": "1"}
    broker.peer = waiter
    broker.answer(waiting, "waited", unfinished=[], jobs=[{"id": "a", "state": "completed"}])
    assert wait.result()["a"].state == "completed"


def test_the_connections_of_threads_that_ended_are_closed(broker, client):
    counts = []
    for _ in range(200):
        thread = threading.Thread(target=client.ping)
        thread.start()
        broker.answer(broker.take("ping"), "pong")
        thread.join()
        counts.append(len(client._connections))
    assert max(counts) <= 3


def test_ids_are_uuids_of_version_7_and_sort_by_time():
    import uuid

    ids = [uuid.UUID(sluice.make_job("t")["id"]) for _ in range(50)]
    assert {(i.version, i.variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert [i.int >> 80 for i in ids] == sorted(i.int >> 80 for i in ids)


NESTED = []
NESTED.append(NESTED)
WRONG_FIELDS = [
    ("delay", "5s"), ("delay", float("nan")), ("delay", float("inf")), ("timeout", True),
    ("run_at", "now"), ("run_at", datetime.min), ("expires_at", date(2030, 1, 1)),
    ("keep_result", [1]), ("tags", None), ("tags", [object()]), ("tags", ["a", 5]),
    ("tags", ["\udcff"]), ("task", 5), ("task", None), ("id", 5), ("id", 0), ("id", ""),
    ("id", "x" * 65), ("id", "\udcff"), ("queue", 5), ("priority", 1), ("content_type", 5), ("content_type", None),
    ("max_retries", "3"), ("max_retries", 10**30), ("max_retries", 1.5), ("max_retries", True),
    ("retry", 5), ("retry", {"base_ms": object()}), ("retry", {1: 1}), ("keep_payload", "no"),
    ("headers", [1]), ("headers", "abc"), ("headers", []), ("headers", {"a": 1}),
    ("headers", {1: "a"}), ("headers", {"a": "\udcff"}), ("payload", object()),
    ("payload", 10**30), ("payload", "\udcff"), ("payload", NESTED), ("payload", {"a": {1, 2}}),
]  # fmt: skip


@pytest.mark.parametrize("field, wrong", WRONG_FIELDS)
def test_a_field_of_a_wrong_kind_is_refused_before_it_is_sent(client, field, wrong):
    with pytest.raises(sluice.SubmitFailed, match=f"^bad_field: {field}") as caught:
        client.submit(**{"task": "echo", field: wrong})
    assert (caught.value.code, caught.value.field) == ("bad_field", field)
    assert caught.value.message.startswith(f"{field} ")


@pytest.mark.parametrize("content_type, wrong", [
    ("application/json", object()), ("application/json", NESTED), ("application/json", "\udcff"),
    ("text/plain", "a text"),
])  # fmt: skip
def test_a_payload_that_its_encoding_does_not_hold_is_refused_with_the_type(content_type, wrong):
    with pytest.raises(sluice.SubmitFailed) as caught:
        sluice.make_job("echo", wrong, content_type=content_type)
    assert caught.value.message.startswith(f"payload cannot be sent as {content_type}: ")


JOB = {"id": "a", "task": "echo"}
WRONG_CALLS = [
    (lambda c: c.submit("echo", wait="yes"), "wait must be 0 to"),
    (lambda c: c.submit("echo", wait=None), "wait must be 0 to"),
    (lambda c: c.submit("echo", wait=-1), "wait must be 0 to"),
    (lambda c: c.submit_many(5), "jobs must be a list of what make_job returns, not 5"),
    (lambda c: c.submit_many(JOB), "jobs must be a list"),
    (lambda c: c.submit_many([JOB, 5]), "each of jobs must be what make_job returns, not 5"),
    (lambda c: c.submit_many([JOB, {"id": 5}]), "each of jobs must be what make_job returns"),
    (lambda c: next(c.submit_stream(5)), "jobs must be a list"),
    (lambda c: next(c.submit_stream([JOB, 5])), "each of jobs must be"),
    (lambda c: c.wait("x", timeout="5"), "timeout must be 0 to"),
    (lambda c: c.wait("x", timeout=float("nan")), "timeout must be 0 to"),
    (lambda c: c.wait("x", timeout=float("inf")), "timeout must be 0 to"),
    (lambda c: c.wait("x", timeout=True), "timeout must be 0 to"),
    (lambda c: c.result("x", timeout=-1), "timeout must be 0 to"),
    (lambda c: c.wait(5), "ids must be a job's id or a list of them, not 5"),
    (lambda c: c.get(5), "ids must be a job's id or a list of them, not 5"),
    (lambda c: c.get(["a", 5]), "each of ids must be a text, not 5"),
    (lambda c: c.get(b"a"), "each of ids must be a text, not 97"),
    (lambda c: c.get("\udcff"), "ids must be a text"),
    (lambda c: c.result(5), "id must be a text, not 5"),
    (lambda c: c.result(["a"]), "id must be a text, not ['a']"),
    (lambda c: c.cancel({"state": "failed"}), "ids must be no filter, which is given as state="),
    (lambda c: c.cancel(5), "ids must be a job's id or a list of them, not 5"),
    (lambda c: c.retry(5), "ids must be a job's id or a list of them, not 5"),
    (lambda c: c.delete(5), "ids must be a job's id or a list of them, not 5"),
    (lambda c: c.cancel("a", reason=5), "reason must be a text, not 5"),
    (lambda c: c.cancel(queue=5), "queue must be a text, not 5"),
    (lambda c: c.cancel(queue=None), "queue must be a text, not None"),
    (lambda c: c.cancel(queue="q", stat="failed"), "stat is nothing to filter by; there are state"),
    (lambda c: c.list(5), "state must be a text, not 5"),
    (lambda c: c.list(tag=5), "tag must be a text, not 5"),
    (lambda c: c.list(page_size="5"), "page_size must be a whole number, not '5'"),
    (lambda c: c.pause(5), "queue must be a text, not 5"),
    (lambda c: c.resume(5), "queue must be a text, not 5"),
    (lambda c: c.purge(5), "queue must be a text, not 5"),
    (lambda c: c.drain(5), "node must be a text, not 5"),
    (lambda c: c.set_concurrency(5, 1), "node must be a text, not 5"),
    (lambda c: c.set_concurrency("n", "4"), "concurrency must be a whole number, not '4'"),
    (lambda c: sluice.connect(0), "address must be tcp://HOST:PORT, not 0"),
    (lambda c: sluice.connect(timeout="10"), "timeout must be 0 to"),
    (lambda c: sluice.connect(timeout=None), "timeout must be 0 to"),
    (lambda c: sluice.connect(timeout=float("nan")), "timeout must be 0 to"),
    (lambda c: sluice.connect(timeout=-1), "timeout must be 0 to"),
]


@pytest.mark.parametrize("call, words", WRONG_CALLS)
def test_a_call_of_a_wrong_kind_is_refused_before_it_is_sent(broker, client, call, words):
    with pytest.raises(ValueError) as caught:
        call(client)
    assert str(caught.value).startswith(words)
    assert not broker._socket.poll(0)


def test_a_time_out_may_be_a_timedelta(broker, in_background):
    with sluice.connect(broker.address, timeout=timedelta(minutes=1)) as client:
        assert client.timeout == 60
        call = in_background(client.wait, "a", timedelta(milliseconds=0))
        request = broker.take("wait")
        assert request["timeout_ms"] == 0
        broker.answer(request, "waited", unfinished=["a"])
        with pytest.raises(sluice.TimedOut):
            call.result()


@pytest.mark.parametrize("ticker, day, field", [
    (None, "2024-01-15", "ticker"), (7, "2024-01-15", "ticker"), ("A", None, "trade_date"),
    ("A", datetime(2024, 1, 15), "trade_date"), ("A", 20240115, "trade_date"),
])  # fmt: skip
def test_an_analysis_of_what_is_no_text_is_refused_with_the_field(client, ticker, day, field):
    with pytest.raises(sluice.SubmitFailed) as caught:
        client.queue_analysis(ticker, day)
    assert (caught.value.code, caught.value.field) == ("bad_field", field)


def test_an_analysis_takes_a_date(broker, client, in_background):
    call = in_background(client.queue_analysis, "BRK.B", date(2024, 1, 15))
    request = broker.take()
    (job,) = request["jobs"]
    assert msgpack.unpackb(job["payload"]) == {"ticker": "BRK.B", "trade_date": "2024-01-15"}
    assert job["tags"] == ["BRK.B", "2024-01-15"]
    broker.answer(request, "submitted", results=accept(request))
    call.result()


def test_an_address_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="^address must be tcp://HOST:PORT, not 7711"):
        sluice.connect(7711)


def chunk(offset, data, attempt=1):
    return {"offset": offset, "attempt": attempt, "at_ms": 1000, "bytes": data}


def test_logs_are_read_to_their_end(broker, client, in_background):
    call = in_background(lambda: list(client.logs("j1")))
    request = broker.take("logs")
    assert (request["id"], request["from"]) == ("j1", 0)
    broker.answer(request, "logs", id="j1", state="running", next=4, size=6, chunks=[chunk(0, b"one\n")])
    request = broker.take("logs")
    assert request["from"] == 4
    broker.answer(request, "logs", id="j1", state="running", next=6, size=6, chunks=[chunk(4, b"\xff\n", 2)])
    first, second = call.result()
    assert (first.text, first.data, first.attempt, first.at_ms) == ("one\n", b"one\n", 1, 1000)
    assert (second.text, second.offset, second.attempt) == ("\ufffd\n", 4, 2)


def test_followed_logs_go_on_until_the_job_has_ended_and_over_an_outage(broker, client, in_background):
    call = in_background(lambda: [each.data for each in client.logs("j1", follow=True)])
    def answer(state, next, *chunks):
        broker.answer(broker.take("logs"), "logs", id="j1", state=state, next=next, size=next, chunks=chunks)
    answer("queued", 0)
    answer("running", 2, chunk(0, b"1\n"))
    refusal = {"code": "store_full", "message": "for now", "retryable": True}
    broker.answer(broker.take("logs"), "error", **refusal)
    answer("completed", 4, chunk(2, b"2\n"))
    assert call.result() == [b"1\n", b"2\n"]


def test_logs_of_an_unknown_job_are_refused_and_of_a_removed_one_end(broker, client, in_background):
    gone = {"code": "not_found", "field": "id", "message": "no such job", "retryable": False}
    call = in_background(lambda: list(client.logs("j1", follow=True)))
    broker.answer(broker.take("logs"), "error", **gone)
    with pytest.raises(sluice.RequestFailed, match="no such job"):
        call.result()
    call = in_background(lambda: list(client.logs("j1", follow=True)))
    broker.answer(broker.take("logs"), "logs", id="j1", state="queued", next=0, size=0, chunks=[])
    broker.answer(broker.take("logs"), "error", **gone)
    assert call.result() == []
    with pytest.raises(ValueError, match="^follow must be"):
        client.logs("j1", follow=1)
