"""Handlers with typed payloads and middlewares, without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

import pytest

import sluice
from sluice.handlers import call, within
from sluice.typed import plain, read, typed


@dataclass
class Size:
    width: int
    height: Optional[int] = None


@dataclass
class Resize:
    url: str
    sizes: list[Size]
    factor: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("sizes must not be empty")


class Attempt:
    content_type = "application/json"

    def __init__(self, payload: Any) -> None:
        self.payload = payload


def resize(task: Any, wanted: Resize) -> Size:
    return Size(sum(size.width for size in wanted.sizes), round(wanted.factor))


def test_a_payload_comes_as_its_class_and_a_result_goes_as_its_fields():
    payload = {"url": "u", "sizes": [{"width": 3}, {"width": 4, "height": 5}], "factor": 2, "more": 1}
    ended = call(typed(Resize, resize), Attempt(payload))
    assert ended.result == b'{"width":7,"height":2}'


@pytest.mark.parametrize(
    "payload, words",
    [
        ({"sizes": [{"width": 3}]}, "payload.url is missing"),
        ({"url": 5, "sizes": []}, "payload.url must be str, not 5"),
        ({"url": "u", "sizes": {}}, "payload.sizes must be list, not {}"),
        ({"url": "u", "sizes": [{"width": 3}, {"width": True}]}, "payload.sizes[1].width must be int, not True"),
        ({"url": "u", "sizes": [{"width": 3, "height": "x"}]}, "payload.sizes[0].height must be int, not 'x'"),
        ({"url": "u", "sizes": [{"width": 3}], "labels": {"a": 1}}, "payload.labels.a must be str, not 1"),
        ({"url": "u", "sizes": []}, "payload: sizes must not be empty"),
        ([], "payload must be a map with the fields of Resize, not []"),
        (None, "payload must be a map with the fields of Resize, not None"),
    ],
)
def test_what_is_no_such_value_is_failed_for_good(payload, words):
    ended = call(typed(Resize, resize), Attempt(payload))
    assert (ended.outcome, ended.code, ended.retryable, ended.message) == ("failed", "bad_payload", False, words)


def test_only_a_dataclass_can_be_a_payload_s_class():
    worker = sluice.Worker("n", broker="tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="payload of task 'x' must be a dataclass, not <class 'int'>"):
        worker.task("x", payload=int)


def test_a_class_that_no_payload_can_be_read_as_is_refused_at_once():
    @dataclass
    class When:
        at: datetime

    @dataclass
    class Deep:
        items: list[Optional[When]]

    worker = sluice.Worker("n", broker="tcp://127.0.0.1:1")
    for kind, words in ((When, "When.at is a datetime, which no payload holds"), (Deep, "name 'When' is not defined")):
        with pytest.raises(ValueError, match=words):
            worker.task("x", payload=kind)(resize)


def test_numbers_and_keys_are_checked_and_results_are_plain_all_through():
    assert read(float, 2, "x") == 2.0
    for kind, value in ((float, 10**400), (int, 1.0), (int, True), (dict[str, int], {1: 2})):
        with pytest.raises(sluice.Never):
            read(kind, value, "x")
    assert plain([Size(1), {"a": (Size(2, 3),)}]) == [
        {"width": 1, "height": None}, {"a": [{"width": 2, "height": 3}]}]


def test_middlewares_lie_around_each_other_and_see_what_was_raised():
    seen = []
    worker = sluice.Worker("n", broker="tcp://127.0.0.1:1")

    @worker.task("echo")
    def echo(task):
        if task.payload == "raise":
            raise KeyError("x")
        return task.payload

    @worker.around
    def outer(task, call):
        seen.append("outer")
        value = call(task)
        seen.append("out")
        return value + "!"

    @worker.before
    def check(task):
        if task.payload == "refused":
            raise sluice.Never("not_now", "refused")

    @worker.after
    def count(task, error):
        seen.append(type(error).__name__)

    handler = worker._offers_within()["echo"].handler
    assert call(handler, Attempt("hi")).result == b'"hi!"'
    assert seen == ["outer", "NoneType", "out"]
    seen.clear()
    assert call(handler, Attempt("raise")).code == "KeyError"
    assert seen == ["outer", "KeyError"]
    seen.clear()
    assert call(handler, Attempt("refused")).code == "not_now"
    assert seen == ["outer"], "what lies within is not called"
    assert within(echo, []) is echo
    with pytest.raises(ValueError, match="a middleware must be a function, not 5"):
        worker.around(5)
