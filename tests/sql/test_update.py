"""Changing a job that waits."""

from __future__ import annotations

import datetime as dt
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    at_once,
    complete,
    contents,
    enqueue,
    fetch,
    fetch_late,
    row,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import STATES, WAITING, one_of_each
from .unique_helpers import put

JOB = "select * from eram_jobs where id = %s"
SPEC = "select * from eram_job_specs where job_id = %s"
TICKET = "select * from eram_queued_jobs where job_id = %s"
MINUTE = dt.timedelta(minutes=1)


def update(conn: psycopg.Connection, job_id: int | None, **changes: Any) -> bool:
    """Change a job."""
    given = "".join(f", {name} => %s" for name in changes)
    values = [Jsonb(v) if isinstance(v, dict) else v for v in changes.values()]
    return value(conn, f"select eram_update_job(%s{given})", job_id, *values)


@pytest.mark.parametrize("state", STATES)
def test_what_can_be_changed_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    before = contents(conn)
    assert update(conn, jobs[state], priority=7, tags=["new"]) is (state in WAITING)
    if state in WAITING:
        seen = row(conn, JOB, jobs[state])
        assert (seen.state, seen.priority, seen.tags) == (state, 7, ["new"])
    else:
        assert contents(conn) == before


CHANGES = {
    "priority": 3,
    "max_attempts": 5,
    "backoff": {"strategy": "fixed", "base": 5},
    "timeout": MINUTE,
    "tags": ["a", "b"],
    "meta": {"m": 1},
    "args": {"n": 2},
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_value_is_changed_and_the_others_stay(conn, name):
    job_id = enqueue(conn, tags=["x"], args={"x": 1}, meta={"y": 1}, delay=3600)
    before, ticket = row(conn, SPEC, job_id), row(conn, TICKET, job_id)
    assert update(conn, job_id, **{name: CHANGES[name]}) is True
    assert row(conn, SPEC, job_id) == before._replace(**{name: CHANGES[name]})
    lane = 7 if name == "priority" else 1
    assert row(conn, TICKET, job_id) == ticket._replace(lane=lane)


def test_all_values_at_once_and_the_worker_gets_them(conn, worker):
    job_id = enqueue(conn)
    assert update(conn, job_id, **CHANGES, delay=dt.timedelta(0)) is True
    (job,) = fetch_late(conn, worker)
    assert (job.priority, job.max_attempts, job.timeout) == (3, 5, MINUTE)
    assert (job.tags, job.meta, job.args) == (["a", "b"], {"m": 1}, {"n": 2})


def test_null_changes_nothing(conn):
    job_id = enqueue(conn, delay=3600)
    before = contents(conn)
    names = [*CHANGES, "scheduled_at", "delay"]
    assert update(conn, job_id, **dict.fromkeys(names)) is True
    assert update(conn, job_id) is True
    assert contents(conn) == before


def test_values_may_be_emptied(conn):
    job_id = enqueue(conn, tags=["x"], args={"x": 1}, meta={"y": 1})
    assert update(conn, job_id, tags=[], args={}, meta={}) is True
    seen = row(conn, JOB, job_id)
    assert (seen.tags, seen.args, seen.meta) == ([], {}, None)


def test_a_job_is_put_off_and_brought_forward(conn, worker):
    job_id = enqueue(conn)
    at = value(conn, "select now() + interval '1 day'")
    assert update(conn, job_id, scheduled_at=at) is True
    assert (row(conn, JOB, job_id).state, row(conn, JOB, job_id).scheduled_at) == ("scheduled", at)
    assert row(conn, SPEC, job_id).scheduled_at == at
    assert fetch(conn, worker) == []
    assert update(conn, job_id, delay=dt.timedelta(hours=1)) is True
    assert at > row(conn, JOB, job_id).scheduled_at > value(conn, "select now()") + 59 * MINUTE
    assert update(conn, job_id, delay=dt.timedelta(0)) is True
    assert state_of(conn, job_id) == "available"
    assert len(fetch_late(conn, worker)) == 1


@pytest.mark.parametrize("past", ["0001-01-02T00:00:00Z", "2000-01-01T00:00:00Z"])
def test_nothing_enters_a_lane_in_the_past(conn, worker, past):
    job_id = enqueue(conn, delay=3600)
    assert fetch(conn, worker) == []
    before = value(conn, "select clock_timestamp()")
    assert update(conn, job_id, scheduled_at=past) is True
    assert row(conn, TICKET, job_id).scheduled_at > before
    assert row(conn, SPEC, job_id).scheduled_at == row(conn, TICKET, job_id).scheduled_at
    assert len(fetch_late(conn, worker)) == 1


def test_a_due_job_that_is_changed_is_due_as_of_now(conn, connect):
    """The clock is read when the wait for another is over."""
    job_id = enqueue(conn)
    holder, updater = connect(autocommit=False), connect()
    holder.execute("select from eram_queued_jobs for update")
    threads = Threads()
    threads.start(lambda: update(updater, job_id, tags=["x"]))
    wait_for_lock_wait(conn, updater)
    released_at = value(conn, "select clock_timestamp()")
    holder.commit()
    threads.join(10)
    assert row(conn, TICKET, job_id).scheduled_at > released_at


def test_the_time_of_a_retry_is_not_that_of_the_first_run(conn, worker):
    job_id = one_of_each(conn, worker)["retryable"]
    first = row(conn, SPEC, job_id).scheduled_at
    assert update(conn, job_id, delay=dt.timedelta(hours=5)) is True
    assert row(conn, SPEC, job_id).scheduled_at == first
    seen = row(conn, JOB, job_id)
    assert (seen.state, seen.attempt) == ("retryable", 1)
    assert seen.scheduled_at > value(conn, "select now()") + 299 * MINUTE


def test_a_job_that_came_back_stays_before_the_others_unless_it_is_put_off(conn, worker):
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_release_jobs(%s, %s)", [[job.id], [job.run]])
    assert row(conn, TICKET, job_id).lane == 0
    assert update(conn, job_id, tags=["x"]) is True
    assert row(conn, TICKET, job_id).lane == 0
    assert update(conn, job_id, priority=4) is True
    assert row(conn, TICKET, job_id).lane == 8
    assert update(conn, job_id, delay=MINUTE) is True
    assert row(conn, TICKET, job_id).lane == 9


@pytest.mark.parametrize(
    "changes", [{"priority": 0}, {"tags": ["x"]}, {"max_attempts": 5}, {"delay": dt.timedelta(0)}]
)
def test_a_due_job_goes_before_the_others_of_its_priority(conn, worker, changes):
    """Its time is that of the change, but it has not lost its place."""
    first, changed, last = (enqueue(conn) for _ in range(3))
    urgent = enqueue(conn, priority=0)
    conn.execute("select eram_update_job(%s, priority => 3)", [urgent])
    assert update(conn, changed, **changes) is True
    assert [job.id for job in fetch_late(conn, worker)] == [changed, first, last, urgent]


def test_a_job_that_is_put_off_is_one_among_others_when_it_is_due(conn):
    first, second = enqueue(conn, priority=2), enqueue(conn, priority=2, delay=3600)
    assert update(conn, first, tags=["x"]) is True
    assert update(conn, second, tags=["x"]) is True
    assert (row(conn, TICKET, first).lane, row(conn, TICKET, second).lane) == (4, 5)
    assert update(conn, first, delay=MINUTE, priority=3) is True
    assert row(conn, TICKET, first).lane == 7


def test_max_attempts_must_exceed_those_used(conn, worker):
    job_id = one_of_each(conn, worker)["retryable"]
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="the 1 attempts"):
        update(conn, job_id, max_attempts=1)
    assert update(conn, job_id, max_attempts=2) is True
    fetch(conn, worker)
    conn.execute("select eram_retry_job(%s)", [job_id])
    fetch_late(conn, worker)
    assert value(conn, "select eram_fail_job(%s, 2, 'x')", job_id) == "discarded"


def test_a_unique_key_stays_what_it_was(conn):
    first = put(conn, args={"n": 1})
    assert update(conn, first.id, args={"n": 2}) is True
    assert put(conn, args={"n": 1}) == (first.id, True)
    assert put(conn, args={"n": 2}).is_duplicate is False


BAD = [
    ("priority", 10, psycopg.errors.NumericValueOutOfRange),
    ("priority", -1, psycopg.errors.NumericValueOutOfRange),
    ("max_attempts", 0, psycopg.errors.NumericValueOutOfRange),
    ("max_attempts", 1_000_001, psycopg.errors.NumericValueOutOfRange),
    ("scheduled_at", "infinity", psycopg.errors.DatetimeFieldOverflow),
    ("scheduled_at", "-infinity", psycopg.errors.DatetimeFieldOverflow),
    ("delay", "-1 second", psycopg.errors.NumericValueOutOfRange),
    ("delay", "101 years", psycopg.errors.NumericValueOutOfRange),
    ("timeout", "0", psycopg.errors.NumericValueOutOfRange),
    ("timeout", "-1 hour", psycopg.errors.NumericValueOutOfRange),
    ("backoff", '{"strategy": "none of these"}', psycopg.DataError),
    ("backoff", "7", psycopg.DataError),
    ("tags", [""], psycopg.errors.NullValueNotAllowed),
    ("tags", ["a", None], psycopg.errors.NullValueNotAllowed),
    ("tags", [["a"]], psycopg.errors.ArraySubscriptError),
    ("tags", ["x" * 256], psycopg.errors.NameTooLong),
    ("meta", "[]", psycopg.errors.InvalidParameterValue),
    ("meta", "null", psycopg.errors.InvalidParameterValue),
    ("args", '"x"', psycopg.errors.InvalidParameterValue),
    ("args", '{"a": "\\u0000"}', psycopg.errors.UntranslatableCharacter),
]


@pytest.mark.parametrize(("name", "bad", "error"), BAD)
def test_a_bad_value_is_refused_and_changes_nothing(conn, name, bad, error):
    job_id = enqueue(conn)
    before = contents(conn)
    with pytest.raises(error):
        update(conn, job_id, **{name: bad})
    assert contents(conn) == before


def test_a_time_and_a_delay_exclude_each_other(conn):
    job_id = enqueue(conn)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="exclude each other"):
        update(conn, job_id, delay=MINUTE, scheduled_at="2100-01-01T00:00:00Z")


def test_an_unknown_id_is_an_error(conn):
    with pytest.raises(psycopg.errors.UndefinedObject, match="job 7 does not exist"):
        update(conn, 7)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_update_waits_for_a_claim_under_way(conn, connect, worker, end):
    job_id = enqueue(conn)
    claimer, updater = connect(autocommit=False), connect()
    assert len(fetch(claimer, worker)) == 1
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(update(updater, job_id, args={"n": 1})))
    wait_for_lock_wait(conn, updater)
    claimer.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert row(conn, JOB, job_id).args == ({"n": 1} if end == "rollback" else {})


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_claim_passes_over_what_is_being_changed(conn, connect, worker, end):
    job_id = enqueue(conn)
    updater = connect(autocommit=False)
    assert update(updater, job_id, args={"n": 1}) is True
    assert fetch(conn, worker) == []
    updater.execute(end)
    (job,) = fetch_late(conn, worker)
    assert job.args == ({"n": 1} if end == "commit" else {})


def test_of_two_updates_at_once_both_count(conn, connect):
    job_id = enqueue(conn)
    first, second = connect(autocommit=False), connect()
    assert update(first, job_id, priority=4) is True
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(update(second, job_id, args={"n": 1})))
    wait_for_lock_wait(conn, second)
    first.commit()
    threads.join(10)
    assert answers == [True]
    seen = row(conn, JOB, job_id)
    assert (seen.priority, seen.args) == (4, {"n": 1})


def test_a_claim_that_races_an_update_has_what_the_update_said(conn, connect):
    """An update that says true is what the claim gets; one that says false changed nothing."""
    claimer, updater = connect(), connect()
    worker = start_worker(claimer)
    answers: list[bool] = []
    for number in range(150):
        job_id = enqueue(conn)
        jobs: list[Any] = []
        at_once(
            lambda jobs=jobs: jobs.extend(fetch(claimer, worker)),
            lambda i=job_id, n=number: answers.append(update(updater, i, args={"n": n})),
        )
        jobs = jobs or fetch_late(claimer, worker)
        assert [job.args for job in jobs] == [{"n": number} if answers[-1] else {}]
        complete(claimer, jobs)
    assert set(answers) == {True, False}
