"""Options of decorators and of callers: which of them wins, and what reaches the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from helpers import job_of, value

import eram
from eram._jobs.enqueueing import _document


def make_handler(**options):
    def email(job, to="x"):
        pass

    email.__module__, email.__qualname__ = "shop.jobs", "email"
    return eram.job(**options)(email)


MINUTE = timedelta(minutes=1)

DECLARED = {
    "queue": "mail",
    "priority": 3,
    "max_attempts": 5,
    "tags": ["outgoing"],
    "meta": {"by": "decorator"},
    "backoff": [1, timedelta(minutes=1)],
    "timeout": timedelta(seconds=30),
    "unique": {"period": timedelta(minutes=5), "keys": ("to",)},
}


def test_document_keeps_the_two_apart():
    document = _document(make_handler(**DECLARED).options(priority=1), {"to": "x"}, {"timeout": 9})
    assert document == {
        "handler": "shop.jobs:email",
        "args": {"to": "x"},
        "priority": 1,
        "timeout": 9.0,
        "defaults": {
            "queue": "mail",
            "priority": 3,
            "max_attempts": 5,
            "tags": ["outgoing"],
            "meta": {"by": "decorator"},
            "backoff": [1, 60.0],
            "timeout": 30.0,
            "unique": {"period": 300.0, "keys": ["to"]},
        },
    }


def test_handler_that_declares_nothing_has_no_defaults():
    assert "defaults" not in _document(make_handler(), {}, {})
    assert "defaults" not in _document(make_handler(queue=None), {}, {})
    assert "defaults" not in _document("shop.jobs:email", {}, {})


def test_none_is_what_was_not_given():
    options: Any = {"priority": None, "tags": None}
    document = _document(make_handler().options(priority=1), {}, options)
    assert document == {"handler": "shop.jobs:email", "args": {}, "priority": 1}
    later = make_handler().options(delay=3600).options(**options)
    for nothing in ({"delay": None}, {"scheduled_at": None}):
        assert _document(later, {}, nothing)["delay"] == 3600


def test_delay_and_scheduled_at_replace_each_other():
    """Whoever says when, last."""
    tomorrow = datetime(2030, 1, 1, tzinfo=UTC)
    either = make_handler().options(delay=60).options(scheduled_at=tomorrow)
    assert either.job_options == {"scheduled_at": "2030-01-01T00:00:00+00:00"}
    assert either.options(delay=1).job_options == {"delay": 1}


def test_options_are_read_once():
    handler = make_handler().options(tags=(tag for tag in "ab"), backoff={"delays": [MINUTE]})
    for _ in range(2):
        document = _document(handler, {}, {})
        assert (document["tags"], document["backoff"]) == (["a", "b"], {"delays": [60]})


WRONG = [
    ({"priority": "1"}, "priority must be an integer, got '1'"),
    ({"priority": 1.0}, "priority must be an integer, got 1.0"),
    ({"max_attempts": True}, "max_attempts must be an integer"),
    ({"queue": 5}, "queue must be a string, got 5"),
    ({"queue": ["q"]}, "queue must be a string"),
    ({"tags": [1]}, "tags must be a list of strings"),
    ({"tags": b"abc"}, "tags must be a list of strings"),
    ({"tags": {"a": 1}}, "tags must be a list of strings"),
    ({"meta": 5}, "meta must be a mapping, got 5"),
    ({"meta": ["ab", "cd"]}, "meta must be a mapping"),
    ({"meta": {1: 2}}, "the names of meta must be strings"),
    ({"backoff": b"linear"}, "backoff must be the name"),
    ({"unique": {"keys": [1]}}, "unique: keys must be a list of strings"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_type_is_refused_wherever_it_is_said(options: Any, message):
    with pytest.raises(TypeError, match=message):
        make_handler(**options)
    with pytest.raises(TypeError, match=message):
        make_handler().options(**options)
    with pytest.raises(TypeError, match=message):
        _document("a:b", {}, options)


def test_time_that_utc_does_not_have_is_refused():
    first = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    with pytest.raises(ValueError, match="scheduled_at is out of range"):
        _document("a:b", {}, {"scheduled_at": first})


def test_unique_may_be_switched_off():
    document = _document(make_handler(unique=True), {}, {"unique": False})
    assert (document["unique"], document["defaults"]) == (False, {"unique": True})


@pytest.mark.parametrize("backoff", ["linear", [1, 2.5, "1 minute"], {"strategy": "fixed"}])
def test_backoff_may_have_short_forms(backoff):
    assert _document(make_handler(), {}, {"backoff": backoff})["backoff"] == backoff


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"unique": 30}, TypeError),
        ({"tags": "one"}, TypeError),
        ({"aliases": "shop.jobs:mail"}, TypeError),
        ({"meta": {"x": float("nan")}}, eram.UnstorableValueError),
        ({"aliasses": []}, TypeError),
    ],
)
def test_decorator_refuses_at_once_what_makes_no_sense(options, error):
    with pytest.raises(error):
        make_handler(**options)


def wins(conn, handler, **options):
    job = job_of(conn, eram.enqueue(conn, handler, **options).id)
    return job["priority"], job["max_attempts"], job["queue"]


def test_caller_wins_over_administrator_and_that_over_decorator(conn):
    handler = make_handler(priority=3, max_attempts=5)
    assert wins(conn, handler) == (3, 5, "default")
    conn.execute("select eram_register_handler('shop.jobs:email', queue => 'old', priority => 9)")
    # What this process knows is newer than what a worker has declared, as far as it goes.
    assert wins(conn, handler) == (3, 5, "old")
    override = json.dumps({"priority": 7, "queue": "set"})
    conn.execute("select eram_set_handler('shop.jobs:email', %s)", (override,))
    assert wins(conn, handler) == (7, 5, "set")
    assert wins(conn, handler, priority=1) == (1, 5, "set")
    assert wins(conn, handler.options(max_attempts=2), queue="q") == (7, 2, "q")


def test_timeout_is_stored(conn):
    def timeout(handler, **options):
        job_id = eram.enqueue(conn, handler, **options).id
        return value(conn, "select timeout from eram_job_specs where job_id = %s", job_id)

    assert timeout(make_handler()) is None
    assert timeout(make_handler(timeout=90)) == timedelta(seconds=90)
    assert timeout(make_handler(timeout=90), timeout=timedelta(hours=1)) == timedelta(hours=1)


def test_unique_job_is_there_once(conn):
    handler = make_handler(unique={"period": timedelta(hours=1)})
    first = handler.enqueue(conn, to="x")
    assert handler.enqueue(conn, to="x") == eram.Enqueued(first.id, is_duplicate=True)
    assert not handler.enqueue(conn, to="y").is_duplicate
    assert not handler.options(unique=False).enqueue(conn, to="x").is_duplicate

    plain = make_handler()
    answers = eram.enqueue_many(
        conn,
        [{"handler": plain, "args": {"to": to}, "unique": {"keys": ["to"]}} for to in "aba"],
    )
    assert [answer.is_duplicate for answer in answers] == [False, False, True]
    assert answers[0].id == answers[2].id
