"""`on_conflict: replace`: the job that waits gets what the new one would have had."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from psycopg import errors

from .helpers import (
    column,
    complete,
    contents,
    enqueue,
    fetch,
    fetch_late,
    row,
    state_of,
    value,
)
from .unique_helpers import HOUR, KINDS, claim, put

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
REPLACE = {"keys": ["id"], "on_conflict": "replace"}
JOB = "select * from eram_jobs where id = %s"
SPEC = "select * from eram_job_specs where job_id = %s"

CHANGES: dict[str, tuple[Any, Any]] = {
    "args": ({"id": 1, "n": 1}, {"id": 1, "n": 2}),
    "priority": (5, 2),
    "max_attempts": (7, 3),
    "tags": (["a", "b"], ["c"]),
    "meta": ({"m": 1}, {"x": 2}),
    "scheduled_at": ("2099-01-01T00:00:00Z", "2098-01-01T00:00:00Z"),
}


@each_kind
@pytest.mark.parametrize("name", CHANGES)
def test_each_attribute(conn, kind, name):
    base = {"args": {"id": 1}, "delay": 60}
    if name == "scheduled_at":
        base.pop("delay")
    old, new = CHANGES[name]
    first = put(conn, unique={**kind, **REPLACE}, **{**base, name: old})
    before, held = row(conn, SPEC, first.id), row(conn, "select * from eram_unique_keys")
    again = put(conn, unique={**kind, **REPLACE}, **{**base, name: new})
    assert again == (first.id, True)
    after = row(conn, JOB, first.id)
    if name == "scheduled_at":
        assert after.scheduled_at == dt.datetime(2098, 1, 1, tzinfo=dt.UTC)
    else:
        assert getattr(after, name) == new
    assert (after.inserted_at, after.attempt, after.state) == (before.inserted_at, 0, "scheduled")
    assert row(conn, "select * from eram_unique_keys") == held
    assert row(conn, SPEC, first.id).unique_until == before.unique_until
    assert value(conn, "select count(*) from eram_job_specs") == 1


def test_everything_at_once_and_back_to_the_defaults(conn):
    given = {name: new for name, (_, new) in CHANGES.items()}
    first = put(conn, args={"id": 1}, unique=REPLACE)
    assert put(conn, unique=REPLACE, **given) == (first.id, True)
    job = row(conn, JOB, first.id)
    assert (job.args, job.priority, job.max_attempts, job.tags, job.meta, job.state) == (
        *({"id": 1, "n": 2}, 2, 3, ["c"], {"x": 2}, "scheduled"),
    )
    assert put(conn, args={"id": 1}, unique=REPLACE) == (first.id, True)
    job = row(conn, JOB, first.id)
    assert (job.args, job.priority, job.max_attempts, job.tags, job.meta, job.state) == (
        *({"id": 1}, 0, 20, [], None, "available"),
    )


def test_what_stays(conn):
    """The job keeps its name, its place and how it is retried."""
    unique = {"fields": ["args"], "on_conflict": "replace"}
    first = put(
        conn,
        queue="mail",
        backoff={"strategy": "fixed", "base": 5},
        timeout=60,
        unique=unique,
        delay=60,
    )
    again = put(
        conn,
        "app:other",
        queue="other",
        backoff={"strategy": "fixed", "base": 7},
        timeout=70,
        priority=1,
        unique=unique,
    )
    assert again == (first.id, True)
    spec = row(conn, SPEC, first.id)
    assert (spec.handler, spec.queue, spec.backoff["base"], spec.timeout.seconds) == (
        *("app:run", "mail", 5, 60),
    )
    assert spec.priority == 1
    assert column(conn, "select queue from eram_queued_jobs") == ["mail"]


def test_the_first_choice_does_not_matter_for_the_second(conn):
    """What happens on a conflict is said by whoever comes second."""
    first = put(conn, args={"id": 1}, unique={"keys": ["id"], "on_conflict": "raise"})
    assert put(conn, args={"id": 1, "n": 1}, unique=REPLACE) == (first.id, True)
    assert put(conn, args={"id": 1, "n": 2}, unique={"keys": ["id"]}) == (first.id, True)
    assert row(conn, JOB, first.id).args == {"id": 1, "n": 1}


@pytest.mark.parametrize("at", ["2001-01-01T00:00:00Z", None])
def test_a_time_in_the_past_is_moved_to_now(conn, at):
    first = put(conn, args={"id": 1}, unique=REPLACE, delay=3600)
    before = value(conn, "select clock_timestamp()")
    put(conn, args={"id": 1}, unique=REPLACE, scheduled_at=at)
    after = value(conn, "select clock_timestamp()")
    at_last = value(conn, "select scheduled_at from eram_queued_jobs")
    assert before <= at_last <= after
    assert row(conn, JOB, first.id).scheduled_at == at_last
    assert claim(conn, first.id).scheduled_at == at_last


def test_the_new_ticket_does_not_lie_behind_the_cursor(conn, worker):
    """The session's claims have gone on from there."""
    first = put(conn, args={"id": 1}, unique=REPLACE, delay=3600)
    for _ in range(3):
        enqueue(conn)
        complete(conn, fetch(conn, worker))
    put(conn, args={"id": 1}, unique=REPLACE, scheduled_at="2001-01-01T00:00:00Z")
    assert [job.id for job in fetch(conn, worker)] == [first.id]


def test_the_lane_follows_the_priority(conn, worker):
    first = put(conn, args={"id": 1}, unique=REPLACE, priority=9)
    between = enqueue(conn, priority=5)
    put(conn, args={"id": 1}, unique=REPLACE, priority=0)
    assert [job.id for job in fetch(conn, worker)] == [first.id, between]


def test_the_lane_of_one_that_came_back_follows_too(conn, worker):
    first = put(conn, args={"id": 1}, unique=REPLACE, priority=2)
    job = claim(conn, first.id)
    conn.execute("select eram_release_jobs(array[%s::bigint], array[%s])", [job.id, job.run])
    put(conn, args={"id": 1}, unique=REPLACE, priority=7)
    assert value(conn, "select lane / 2 from eram_queued_jobs") == 7
    (again,) = fetch_late(conn, worker)
    assert (again.id, again.attempt, again.run, again.priority) == (first.id, 1, job.run + 1, 7)


@each_kind
@pytest.mark.parametrize(("wanted", "gets"), [(1, 3), (2, 3), (3, 3), (9, 9), (None, 20)])
def test_one_that_was_tried_keeps_its_attempts(conn, kind, wanted, gets):
    unique = {**kind, **REPLACE}
    first = put(conn, args={"id": 1}, unique=unique, max_attempts=5)
    for _ in range(2):
        job = claim(conn, first.id)
        query = "select eram_fail_job(%s, %s, 'x', delay => '0')"
        assert value(conn, query, job.id, job.run) == "retryable"
    assert put(conn, args={"id": 1, "n": 1}, unique=unique, max_attempts=wanted, delay=60) == (
        *(first.id, True),
    )
    job = row(conn, JOB, first.id)
    assert (job.state, job.attempt, job.max_attempts, len(job.errors)) == ("retryable", 2, gets, 2)
    put(conn, args={"id": 1, "n": 2}, unique=unique, max_attempts=wanted)
    claimed = claim(conn, first.id)
    assert (claimed.attempt, claimed.run, claimed.args) == (3, 3, {"id": 1, "n": 2})


@each_kind
def test_a_running_job_is_left_alone(conn, kind):
    first = put(conn, args={"id": 1}, unique={**kind, **REPLACE})
    job = claim(conn, first.id)
    before = contents(conn)
    again = put(conn, args={"id": 1, "n": 1}, priority=3, unique={**kind, **REPLACE})
    assert again == (first.id, True)
    assert contents(conn) == before
    assert complete(conn, [job]) == [first.id]


def test_a_finished_job_is_left_alone(conn):
    first = put(conn, args={"id": 1}, unique={**HOUR, **REPLACE})
    complete(conn, [claim(conn, first.id)])
    before = contents(conn)
    again = put(conn, args={"id": 1, "n": 1}, priority=3, unique={**HOUR, **REPLACE})
    assert again == (first.id, True)
    assert contents(conn) == before


def test_a_pruned_job_is_left_alone(conn):
    first = put(conn, args={"id": 1}, unique={**HOUR, **REPLACE})
    complete(conn, [claim(conn, first.id)])
    assert value(conn, "select eram_prune_jobs('0')") == 1
    again = put(conn, args={"id": 1, "n": 1}, priority=3, unique={**HOUR, **REPLACE})
    assert again == (first.id, True)
    assert value(conn, "select count(*) from eram_job_specs") == 0


def test_debounce(conn, worker):
    """Each change puts the job off, and it runs once, with what was said last."""
    ids = {put(conn, args={"id": 1, "n": n}, unique=REPLACE, delay=3600).id for n in range(20)}
    assert len(ids) == 1
    assert fetch(conn, worker) == []
    put(conn, args={"id": 1, "n": 20}, unique=REPLACE)
    (job,) = fetch_late(conn, worker)
    assert (job.args, job.run) == ({"id": 1, "n": 20}, 1)
    assert complete(conn, [job]) == [job.id]
    assert put(conn, args={"id": 1, "n": 21}, unique=REPLACE).is_duplicate is False


def test_a_replacement_that_is_rolled_back(conn, worker):
    first = put(conn, args={"id": 1}, unique=REPLACE, priority=4)
    before = contents(conn)
    with conn.transaction(force_rollback=True):
        put(conn, args={"id": 1, "n": 1}, unique=REPLACE, priority=1, delay=60)
        assert state_of(conn, first.id) == "scheduled"
    assert contents(conn) == before
    (job,) = fetch_late(conn, worker)
    assert (job.args, job.priority) == ({"id": 1}, 4)


def test_a_replacement_wakes_the_workers_of_the_jobs_queue(conn, connect):
    """Which need not be the queue that the new job would have been in."""
    unique = {"fields": ["args"], "on_conflict": "replace"}
    first = put(conn, queue="a", unique=unique, delay=3600)
    waiting = connect()
    waiting.execute("select * from eram_start_waiting('a')")
    put(conn, queue="b", unique=unique)
    assert list(waiting.notifies(timeout=5, stop_after=1))
    assert value(conn, "select queue from eram_queued_jobs where job_id = %s", first.id) == "a"


def test_replacements_in_one_transaction(conn, worker):
    with conn.transaction():
        first = put(conn, args={"id": 1, "n": 0}, unique=REPLACE)
        for n in range(1, 4):
            options = {"args": {"id": 1, "n": n}, "priority": n, "unique": REPLACE}
            assert put(conn, **options) == (first.id, True)
    (job,) = fetch(conn, worker)
    assert (job.args, job.priority, job.run) == ({"id": 1, "n": 3}, 3, 1)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_replacement_of_what_has_ended_since_the_snapshot(conn, connect, worker, level):
    """A new job, or a serialization error: never is what was said lost."""
    first = put(conn, args={"id": 1}, unique=REPLACE)
    late = connect()
    late.execute(f"begin isolation level {level}")
    assert value(late, "select count(*) from eram_unique_keys") == 1
    complete(conn, fetch(conn, worker))
    try:
        said = put(late, args={"id": 1, "n": 1}, unique=REPLACE)
        late.execute("commit")
    except errors.SerializationFailure:
        assert level == "serializable"
        late.execute("rollback")
    else:
        assert (said.is_duplicate, said.id != first.id) == (False, True)
        assert row(conn, JOB, said.id).args == {"id": 1, "n": 1}
