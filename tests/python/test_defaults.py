"""Options of decorators and of callers: which of them wins, and what reaches the database."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from helpers import job_of, value

import eram
from eram._enqueue import _document


def make_handler(**options):
    def email(job, to="x"):
        pass

    email.__module__, email.__qualname__ = "shop.jobs", "email"
    return eram.job(**options)(email)


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
    assert document == {"handler": "shop.jobs:email", "args": {}}


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
