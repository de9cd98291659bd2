"""Unique keys of jobs that are retried: taken again while they would be in force."""

from __future__ import annotations

import datetime as dt

import pytest
from psycopg import errors

from .helpers import column, complete, contents, fetch, row, start_worker, value
from .unique_ends import cancel_waiting, complete_one, discard, fail_for_good
from .unique_helpers import HOUR, KINDS, TAKEN, document, pass_window, put, put_all

each_kind = pytest.mark.parametrize("unique", KINDS.values(), ids=KINDS)


@each_kind
@pytest.mark.parametrize("state", ["completed", "cancelled", "discarded"])
def test_a_retry_takes_the_key_again(conn, unique, state):
    first = put(conn, unique=unique)
    held = row(conn, "select * from eram_unique_keys")
    ends = {"completed": complete_one, "cancelled": cancel_waiting, "discarded": discard}
    ends[state](conn, first.id)
    assert value(conn, "select eram_retry_job(%s)", first.id) is True
    assert row(conn, "select * from eram_unique_keys") == held
    assert put(conn, unique=unique) == (first.id, True)
    assert column(conn, "select unique_key from eram_queued_jobs") == [held.key]
    cancel_waiting(conn, first.id)
    assert value(conn, TAKEN) == 0


@each_kind
@pytest.mark.parametrize("end", [cancel_waiting, discard, fail_for_good])
def test_a_retry_whose_key_is_anothers_names_that_job(conn, unique, end):
    first = put(conn, unique=unique)
    end(conn, first.id)
    second = put(conn, unique=unique)
    assert second.is_duplicate is False
    before = contents(conn)
    with pytest.raises(errors.UniqueViolation) as caught:
        conn.execute("select eram_retry_job(%s)", [first.id])
    diag = caught.value.diag
    assert str(second.id) in f"{diag.message_primary} {diag.message_detail}"
    assert diag.message_hint
    assert contents(conn) == before
    cancel_waiting(conn, second.id)
    assert value(conn, "select eram_retry_job(%s)", first.id) is True
    assert put(conn, unique=unique) == (first.id, True)


@pytest.mark.parametrize("end", [complete_one, cancel_waiting])
def test_a_retry_after_the_window_takes_no_key(conn, end):
    first = put(conn, unique=HOUR)
    end(conn, first.id)
    pass_window(conn)
    assert value(conn, "select eram_retry_job(%s)", first.id) is True
    second = put(conn, unique=HOUR)
    assert second.is_duplicate is False
    conn.execute("select eram_cancel_job(%s)", [first.id])
    assert put(conn, unique=HOUR) == (second.id, True)


def test_a_retry_after_the_window_beside_a_newer_job(conn):
    first = put(conn, unique=HOUR)
    complete_one(conn, first.id)
    pass_window(conn)
    second = put(conn, unique=HOUR)
    assert second.is_duplicate is False
    assert value(conn, "select eram_retry_job(%s)", first.id) is True
    assert put(conn, unique=HOUR) == (second.id, True)
    jobs = fetch(conn, start_worker(conn))
    assert sorted(complete(conn, jobs)) == [first.id, second.id]


def test_a_retried_window_ends_when_it_would_have(conn):
    first = put(conn, unique=HOUR)
    until = value(conn, "select expires_at from eram_unique_keys")
    cancel_waiting(conn, first.id)
    assert value(conn, TAKEN) == 0
    assert value(conn, "select eram_retry_job(%s)", first.id) is True
    assert value(conn, "select expires_at from eram_unique_keys") == until
    assert until > value(conn, "select clock_timestamp()") + dt.timedelta(minutes=50)


def test_many_retries_in_one_call(conn):
    """Those whose key is another's stay as they are; of equal ones the first gets the key."""
    first, second = put(conn, args={"n": 1}), put(conn, args={"n": 2}, unique=HOUR)
    conn.execute("select eram_cancel_job(id) from eram_jobs")
    third = put(conn, args={"n": 2})
    fourth = put(conn, args={"n": 1})
    conn.execute("select eram_cancel_job(%s)", [fourth.id])
    count = value(conn, """select eram_retry_jobs('{"state": "cancelled"}')""")
    waiting = column(conn, "select id from eram_jobs where state = 'available' order by id")
    assert (count, waiting) == (1, [first.id, third.id])
    found = put_all(conn, document(args={"n": 1}), document(args={"n": 2}))
    assert found == [(first.id, True), (third.id, True)]
    assert second.id not in waiting
