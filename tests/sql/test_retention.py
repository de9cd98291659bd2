"""What is kept how long: the settings, what shows them, and 0, which removes on completion."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    at_once,
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    row,
    rows,
    start_worker,
    state_of,
    value,
)
from .prune_helpers import OF_JOBS, ended, kept, prune, run_prune

INVALID = psycopg.errors.InvalidParameterValue
OUT_OF_RANGE = psycopg.errors.NumericValueOutOfRange


def set_general(conn: psycopg.Connection, max_age: Any) -> None:
    """Change the schedule's setting, and have it carried out once."""
    options = Jsonb({"max_age": max_age})
    conn.execute("select eram_schedule_maintenance('prune', options => %s)", [options])
    run_prune(conn, max_age=max_age)


def set_queue(conn: psycopg.Connection, queue: str, max_age: Any) -> None:
    """Give a queue its own setting."""
    conn.execute("select eram_set_queue(%s, max_age => %s)", [queue, Jsonb(max_age)])


def retention(conn: psycopg.Connection, queue: str | None = None) -> dict[str, str]:
    """Return what is kept how long."""
    return dict(rows(conn, "select * from eram_retention(%s)", queue))


BAD_MAX_AGES = [
    (-1, OUT_OF_RANGE, "max_age"),
    (1e12, OUT_OF_RANGE, "max_age"),
    ("-1 second", OUT_OF_RANGE, "max_age"),
    ("1 month -31 days", OUT_OF_RANGE, "max_age"),
    ("200 years", OUT_OF_RANGE, "max_age"),
    ("soon", psycopg.errors.InvalidDatetimeFormat, "max_age"),
    ("", psycopg.errors.InvalidDatetimeFormat, "max_age"),
    ("-infinity", psycopg.Error, "max_age"),
    (True, INVALID, "max_age"),
    ([1], INVALID, "max_age"),
    ({"completed": -1}, OUT_OF_RANGE, "max_age of completed"),
    ({"completed": {"completed": 1}}, INVALID, "max_age of completed"),
    ({"available": 1}, INVALID, 'unknown state "available"'),
    ({"": 1}, INVALID, 'unknown state ""'),
    ({"canceled": 1}, INVALID, 'unknown state "canceled"'),
]


@pytest.mark.parametrize(("max_age", "error", "words"), BAD_MAX_AGES, ids=str)
def test_a_max_age_that_makes_no_sense_is_refused(conn, max_age, error, words):
    before = contents(conn)
    for refuses in (
        lambda: set_queue(conn, "mail", max_age),
        lambda: value(conn, "select _eram_check_prune_options(%s)", Jsonb({"max_age": max_age})),
    ):
        with pytest.raises(error, match=words) as caught:
            refuses()
        assert caught.value.diag.message_hint
    assert contents(conn) == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"limits": 5}, INVALID, 'unknown key "limits"'),
        ({"interval": 5}, INVALID, 'unknown key "interval"'),
        ({"limit": 0}, OUT_OF_RANGE, "limit must be at least 1, got 0"),
        ({"limit": -1}, OUT_OF_RANGE, "limit"),
        ({"limit": 2.5}, INVALID, "limit"),
        ({"limit": "10"}, INVALID, "limit"),
        ({"limit": 2**31}, INVALID, "limit"),
        ([], INVALID, "options must be a JSON object"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(conn, options, error, words):
    with pytest.raises(error, match=words):
        value(conn, "select _eram_check_prune_options(%s)", Jsonb(options))


def test_a_misspelt_name_is_put_right(conn):
    for options, hint in (
        ({"limits": 5}, 'Did you mean "limit"?'),
        ({"maxage": 5}, 'Did you mean "max_age"?'),
        ({"max_age": {"canceled": 1}}, 'Did you mean "cancelled"?'),
    ):
        with pytest.raises(INVALID) as caught:
            value(conn, "select _eram_check_prune_options(%s)", Jsonb(options))
        assert caught.value.diag.message_hint == hint


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 1, "max_age": 60},
        {"limit": None, "max_age": None},
        {"max_age": "infinity"},
        {"max_age": {"completed": 0, "cancelled": "Infinity", "discarded": None}},
        {"max_age": "100 years"},
    ],
    ids=str,
)
def test_options_that_make_sense_are_taken(conn, options):
    value(conn, "select _eram_check_prune_options(%s)", Jsonb(options))
    run_prune(conn, **options)


def test_the_defaults_hold_before_the_first_tick_and_after_it(conn):
    expected = {"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"}
    assert retention(conn) == retention(conn, "mail") == expected
    assert list(retention(conn)) == list(expected)
    conn.execute("select eram_tick()")
    assert retention(conn) == expected


def test_what_is_set_is_shown(conn):
    set_general(conn, 60)
    assert retention(conn) == dict.fromkeys(("completed", "cancelled", "discarded"), "60 seconds")
    set_general(conn, {"completed": 1, "discarded": "infinity"})
    general = {"completed": "1 second", "cancelled": "1 day", "discarded": "infinity"}
    assert retention(conn) == general
    set_queue(conn, "mail", {"cancelled": "2 hours"})
    assert retention(conn, "mail") == general | {"cancelled": "2 hours"}
    assert retention(conn, "other") == retention(conn) == general


def test_without_its_schedule_everything_is_kept(conn):
    conn.execute("select eram_tick()")
    set_queue(conn, "brief", 0)
    kept_all = dict.fromkeys(("completed", "cancelled", "discarded"), "infinity")
    conn.execute("select eram_pause_schedule('eram:prune')")
    assert retention(conn) == kept_all
    conn.execute("select eram_resume_schedule('eram:prune')")
    assert retention(conn)["completed"] == "1 day"
    conn.execute("select eram_unschedule('eram:prune')")
    assert retention(conn) == kept_all
    # For that, nothing need run.
    assert retention(conn, "brief") == kept_all | {"completed": "0 seconds"}


def test_a_setting_replaces_the_one_before_and_null_leaves_it(conn):
    set_queue(conn, "mail", {"completed": "1 hour", "cancelled": None})
    query = "select max_age, rescue_after::text from eram_queues where name = 'mail'"
    assert row(conn, query) == ({"completed": "1 hour"}, None)
    conn.execute("select eram_set_queue('mail', priority => 1, rescue_after => '2 hours')")
    assert row(conn, query) == ({"completed": "1 hour"}, "02:00:00")
    set_queue(conn, "mail", "infinity")
    assert row(conn, query) == (
        dict.fromkeys(("completed", "cancelled", "discarded"), "infinity"),
        "02:00:00",
    )
    set_queue(conn, "mail", {})
    conn.execute("select eram_set_queue('mail', rescue_after => '0')")
    assert row(conn, query) == (None, None)


def test_a_bad_rescue_after_is_refused(conn):
    for bad in ("-1 second", "101 years"):
        with pytest.raises(OUT_OF_RANGE, match="rescue_after"):
            conn.execute("select eram_set_queue('mail', rescue_after => %s)", [bad])
    assert rows(conn, "select * from eram_queues") == []


@pytest.mark.parametrize("zero", [0, "0", "0 seconds", "00:00", {"completed": 0}], ids=str)
@pytest.mark.parametrize("of_the_queue", [True, False])
def test_with_0_a_completed_job_is_removed_at_once(conn, worker, zero, of_the_queue):
    if of_the_queue:
        set_queue(conn, "default", zero)
    else:
        set_general(conn, zero)
    ids = enqueue_many(conn, 3)
    jobs = fetch(conn, worker)
    assert sorted(complete(conn, jobs)) == ids
    assert complete(conn, jobs) == []
    for table in (*OF_JOBS, "eram_running_jobs", "eram_completions"):
        assert value(conn, f"select count(*) from {table}") == 0


def test_with_0_the_errors_of_earlier_attempts_go_too(conn, worker):
    set_queue(conn, "default", 0)
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, %s, 'x', delay => '0')", [job.id, job.run])
    assert value(conn, "select count(*) from eram_job_errors") == 1
    assert complete(conn, fetch(conn, worker)) == [job_id]
    assert value(conn, "select count(*) from eram_job_errors") == 0


def test_with_0_only_the_run_that_holds_a_job_can_end_it(conn, worker):
    """Lost runs: unknown, of another number, taken away."""
    set_queue(conn, "default", 0)
    ids = enqueue_many(conn, 4)
    jobs = fetch(conn, worker)
    conn.execute("select eram_release_jobs(array[%s::bigint], array[1])", [ids[0]])
    conn.execute("select eram_cancel_job(%s)", [ids[1]])
    found = value(
        conn,
        "select array(select eram_complete_jobs(%s, %s) order by 1)",
        [*ids, 999],
        [1, 1, 2, 1, 1],
    )
    assert found == [ids[3]]
    assert [state_of(conn, job_id) for job_id in ids[:3]] == ["available", "cancelled", "executing"]
    assert complete(conn, jobs[2:3]) == [ids[2]]


def test_with_0_what_ends_otherwise_is_kept_until_the_next_prune(conn, worker):
    set_general(conn, 0)
    cancelled, discarded = ended(conn, worker, "cancelled"), ended(conn, worker, "discarded")
    assert kept(conn) == [cancelled, discarded]
    run_prune(conn, max_age=0)
    assert kept(conn) == []


def test_a_call_may_complete_jobs_that_are_kept_and_jobs_that_are_not(conn, worker):
    set_general(conn, 0)
    set_queue(conn, "audit", {"completed": "infinity"})
    set_queue(conn, "errors", {"discarded": "infinity"})
    ids = {queue: enqueue(conn, queue=queue) for queue in ("default", "audit", "errors")}
    jobs = [job for queue in ids for job in fetch(conn, worker, queue=queue)]
    results = [Jsonb(n) for n in range(3)]
    done = rows(
        conn,
        "select eram_complete_jobs(%s, %s, %s)",
        [job.id for job in jobs],
        [job.run for job in jobs],
        results,
    )
    assert sorted(found for (found,) in done) == sorted(ids.values())
    assert rows(conn, "select id, state, result from eram_jobs") == [(ids["audit"], "completed", 1)]


def test_0_ends_with_the_setting(conn, worker):
    set_general(conn, 0)
    ended(conn, worker)
    assert kept(conn) == []
    set_general(conn, 3600)
    first = ended(conn, worker)
    set_queue(conn, "default", 0)
    ended(conn, worker)
    set_queue(conn, "default", {})
    second = ended(conn, worker)
    assert kept(conn) == [first, second]
    assert rows(conn, "select * from eram_removals") == []


@pytest.mark.parametrize("end", ["eram_pause_schedule", "eram_unschedule"])
def test_0_in_general_is_nothing_without_its_schedule(conn, worker, end):
    set_general(conn, 0)
    conn.execute(f"select {end}('eram:prune')")
    job_id = ended(conn, worker)
    assert state_of(conn, job_id) == "completed"
    assert prune(conn, "0") == 1


def test_0_in_general_holds_from_the_next_prune_on_whoever_wrote_it(conn, worker):
    conn.execute("select eram_tick()")
    conn.execute(
        """update eram_schedules set options = '{"max_age": 0}' where name = 'eram:prune'"""
    )
    ended(conn, worker)
    run_prune(conn, max_age=0)
    assert kept(conn) == []
    ended(conn, worker)
    assert kept(conn) == []


def test_with_0_completions_of_the_same_jobs_do_not_deadlock(conn, connect):
    """They lock all jobs in order of id, whether these stay or go."""
    set_queue(conn, "brief", 0)
    sessions = [connect() for _ in range(4)]
    workers = [start_worker(session) for session in sessions]
    for _ in range(10):
        for queue in ("brief", "default") * 20:
            enqueue(conn, queue=queue)
        jobs = fetch(conn, workers[0], queue="brief") + fetch(conn, workers[0])
        done: list[int] = []

        def report(number: int, jobs: list[Any] = jobs, done: list[int] = done) -> None:
            sessions[number].execute("set deadlock_timeout = '20ms'")
            done.extend(complete(sessions[number], jobs[:: (-1) ** number]))

        at_once(*[lambda n=n: report(n) for n in range(4)])
        assert sorted(done) == sorted(job.id for job in jobs)
