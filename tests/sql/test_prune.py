"""Pruning: what goes when, and what stays."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    column,
    complete,
    contents,
    enqueue,
    fetch,
    rows,
    state_of,
    value,
    wait_until,
)
from .prune_helpers import (
    OF_JOBS,
    STATES,
    completed_many,
    ended,
    kept,
    let_pass,
    prune,
    run_prune,
    violations,
)

DEFAULTS = {"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"}


@pytest.mark.parametrize("state", STATES)
def test_a_job_is_kept_for_its_time_and_no_longer(conn, worker, state):
    job_id = ended(conn, worker, state)
    let_pass(conn, DEFAULTS[state])
    let_pass(conn, "-1 minute")
    assert prune(conn) == 0
    assert run_prune(conn) is False
    assert state_of(conn, job_id) == state
    let_pass(conn, "1 minute")
    assert prune(conn) == 1
    assert kept(conn) == []
    assert prune(conn) == 0


@pytest.mark.parametrize("state", STATES)
def test_what_a_job_consists_of_goes_together(conn, worker, state):
    goes, stays = ended(conn, worker, state), ended(conn, worker, state)
    for job_id in (goes, stays):
        conn.execute(
            """
            insert into eram_job_errors (job_id, run, attempt, errored_at, error, detail)
            values (%s, 0, 1, now(), 'an earlier one', '{}')
            """,
            [job_id],
        )
    let_pass(conn, "8 days", goes)
    assert prune(conn) == 1
    for table in OF_JOBS:
        assert set(column(conn, f"select job_id from {table}")) == {stays}
    assert column(conn, "select unnest(ids) from eram_completions") == (
        [stays] if state == "completed" else []
    )


def test_the_age_counts_from_the_end_not_from_the_schedule(conn, worker):
    """A job that waited for a month and ended just now is new."""
    enqueue(conn)
    conn.execute(
        """
        update eram_job_specs
        set inserted_at = now() - interval '30 days', scheduled_at = now() - interval '30 days';
        update eram_queued_jobs set scheduled_at = now() - interval '30 days';
        """
    )
    complete(conn, fetch(conn, worker))
    conn.execute("update eram_finished_jobs set attempted_at = now() - interval '29 days'")
    assert prune(conn) == 0
    assert run_prune(conn, max_age=1) is False
    assert len(kept(conn)) == 1


def test_what_has_not_ended_is_never_removed(conn, worker):
    ids = [enqueue(conn) for _ in range(3)] + [enqueue(conn, delay=3600)]
    running, retryable, released = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'x')", [retryable.id])
    conn.execute("select eram_release_jobs(array[%s::bigint], '{1}')", [released.id])
    conn.execute(
        "update eram_running_jobs set attempted_at = '2001-01-01 00:00:00Z' where job_id = %s",
        [running.id],
    )
    assert prune(conn, "0") == 0
    assert kept(conn) == ids
    assert value(conn, "select count(*) from eram_job_errors") == 1


def test_no_more_than_the_limit_goes_at_a_time_the_oldest_first(conn, worker):
    ids = completed_many(conn, worker, 25, batch=10)
    let_pass(conn, "2 days")
    for limit, count, left in ((7, 7, 18), (1, 1, 17), (7, 7, 10), (20, 10, 0)):
        assert prune(conn, max_count=limit) == count
        assert kept(conn) == ids[len(ids) - left :]
        assert violations(conn) == []


def test_a_limit_parts_even_a_completion_of_many(conn, worker):
    ids = completed_many(conn, worker, 700, batch=700)
    let_pass(conn, "2 days")
    # As it may stand in a table that something else has filled.
    conn.execute(
        """
        with gone as (delete from eram_completions returning *)
        insert into eram_completions
        select queue, max(finalized_at), array_agg(id) from gone, unnest(ids) as id group by queue
        """
    )
    assert [prune(conn, max_count=150) for _ in range(6)] == [150] * 4 + [100, 0]
    assert len(ids) == 700
    assert kept(conn) == []
    assert value(conn, "select count(*) from eram_completions") == 0


def test_a_full_batch_says_that_there_may_be_more(conn, worker):
    completed_many(conn, worker, 20)
    for _ in range(2):
        ended(conn, worker, "discarded")
    let_pass(conn, "8 days")
    assert [run_prune(conn, limit=8) for _ in range(4)] == [True, True, False, False]
    assert kept(conn) == []


def test_a_batch_ends_when_its_time_is_over(conn, worker):
    """With no time at all it does one step, so that it gets on."""
    completed_many(conn, worker, 2500, batch=500)
    let_pass(conn, "2 days")
    step = "select * from _eram_prune(null, 1000000, '0')"
    assert rows(conn, step) == [(1000, True)]
    assert rows(conn, step) == [(1000, True)]
    assert rows(conn, step) == [(500, True)]
    # A look that took long on a slow machine is not made anew at once.
    wait_until(lambda: rows(conn, step) == [(0, False)], "it has come to the end")


def test_windows_that_are_over_are_removed(conn):
    """Some time after, for someone may be taking one over; and until there are no more."""
    conn.execute(
        """
        insert into eram_unique_keys
        select convert_to(n::text, 'UTF8'), n, clock_timestamp() - interval '2 minutes'
        from generate_series(1, 15000) as n
        """
    )
    conn.execute("insert into eram_unique_keys values ('x', 1, clock_timestamp())")
    left = "select count(*) from eram_unique_keys"
    assert run_prune(conn) is True
    assert value(conn, left) == 5001
    assert run_prune(conn) is False
    assert value(conn, left) == 1


def test_the_most_overdue_queue_goes_first(conn, worker):
    """Otherwise a queue that is late in the alphabet could wait for ever."""
    newer = completed_many(conn, worker, 5, queue="a")
    older = completed_many(conn, worker, 5, queue="z")
    conn.execute("select eram_set_queue('a', max_age => '0.5')")
    let_pass(conn, "2 days", *newer)
    let_pass(conn, "9 days", *older)
    assert prune(conn, max_count=5) == 5
    assert kept(conn) == newer


@pytest.mark.parametrize(
    ("max_age", "left"),
    [
        (60, set()),
        (172799, set()),
        (172801, set(STATES)),
        ("2 days 1 minute", set(STATES)),
        ("infinity", set(STATES)),
        ("Infinity", set(STATES)),
        (None, {"discarded"}),
        ({}, {"discarded"}),
        ({"completed": "infinity"}, {"completed", "discarded"}),
        ({"cancelled": None}, {"discarded"}),
        ({"discarded": "1 day"}, set()),
        ({"discarded": 0, "cancelled": "3 days"}, {"cancelled"}),
    ],
    ids=str,
)
def test_max_age_is_honoured_to_the_letter(conn, worker, max_age, left):
    for state in STATES:
        ended(conn, worker, state)
    let_pass(conn, "2 days")
    run_prune(conn, max_age=max_age)
    assert set(column(conn, "select state from eram_jobs")) == left


def test_a_queue_may_have_its_own_by_state(conn, worker):
    conn.execute("""select eram_set_queue('audit', max_age => '{"completed": "infinity"}')""")
    conn.execute("select eram_set_queue('brief', max_age => '60')")
    for queue in ("audit", "brief", "default"):
        for state in STATES:
            ended(conn, worker, state, queue)
    let_pass(conn, "1 hour")
    run_prune(conn)
    assert set(column(conn, "select distinct queue from eram_jobs")) == {"audit", "default"}
    let_pass(conn, "30 days")
    run_prune(conn)
    assert rows(conn, "select queue, state from eram_jobs") == [("audit", "completed")]


def test_a_careless_call_does_not_empty_a_queue_that_has_its_own(conn, worker):
    conn.execute("""select eram_set_queue('audit', max_age => '{"completed": "infinity"}')""")
    kept_one, other = ended(conn, worker, queue="audit"), ended(conn, worker)
    discarded = ended(conn, worker, "discarded", "audit")
    let_pass(conn, "2 hours")
    assert prune(conn) == 0
    assert prune(conn, "1 hour") == 2
    assert kept(conn) == [kept_one]
    assert {other, discarded} & {kept_one} == set()


def test_by_hand_it_takes_what_the_schedule_has(conn, worker):
    conn.execute("""select eram_schedule_maintenance('prune', options => '{"max_age": 600}')""")
    ended(conn, worker, "discarded")
    let_pass(conn, "9 minutes")
    assert prune(conn) == 0
    let_pass(conn, "2 minutes")
    assert prune(conn) == 1


def test_a_setting_that_was_taken_back_holds_no_longer(conn, worker):
    conn.execute("select eram_set_queue('default', max_age => '\"infinity\"')")
    ended(conn, worker)
    let_pass(conn, "2 days")
    assert prune(conn) == 0
    conn.execute("select eram_set_queue('default', max_age => '{}')")
    assert prune(conn) == 1


def test_a_job_that_runs_again_is_not_removed_by_its_first_end(conn, worker):
    """As a retry by hand would have it; its second end counts."""
    job_id = ended(conn, worker)
    let_pass(conn, "2 days")
    conn.execute(
        """
        with gone as (delete from eram_finished_jobs returning *)
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select job_id, clock_timestamp(), run, attempt, 0, queue from gone
        """
    )
    with conn.transaction(force_rollback=True):
        assert prune(conn) == 0
        assert kept(conn) == [job_id]
    complete(conn, fetch(conn, worker))
    assert prune(conn) == 0
    assert violations(conn) == []
    let_pass(conn, "2 days")
    assert prune(conn) == 1
    assert kept(conn) == []


def test_what_was_rolled_back_is_still_there(conn, worker):
    completed_many(conn, worker, 10)
    ended(conn, worker, "cancelled")
    let_pass(conn, "2 days")
    before = contents(conn)
    with conn.transaction(force_rollback=True):
        assert run_prune(conn, limit=5) is True
        assert prune(conn) == 6
    assert contents(conn) == before
    assert run_prune(conn) is False
    assert kept(conn) == []


def test_a_completion_that_was_rolled_back_is_not_noted(conn, worker):
    enqueue(conn)
    jobs = fetch(conn, worker)
    with conn.transaction(force_rollback=True):
        complete(conn, jobs)
    assert value(conn, "select count(*) from eram_completions") == 0


def test_completions_are_noted_by_call_and_queue(conn, worker):
    for queue in ("a", "b"):
        for _ in range(3):
            enqueue(conn, queue=queue)
    jobs = fetch(conn, worker, queue="a") + fetch(conn, worker, queue="b")
    complete(conn, jobs[::-1])
    noted = rows(conn, "select queue, ids, finalized_at from eram_completions order by queue")
    assert [(completions.queue, sorted(completions.ids)) for completions in noted] == [
        ("a", [job.id for job in jobs[:3]]),
        ("b", [job.id for job in jobs[3:]]),
    ]
    assert noted[0].finalized_at == value(
        conn, "select max(finalized_at) from eram_finished_jobs where queue = 'a'"
    )


def test_a_great_completion_is_noted_in_rows_that_stay_in_line(conn, worker):
    completed_many(conn, worker, 450, batch=450)
    counts = column(conn, "select cardinality(ids) from eram_completions order by 1")
    assert counts == [50, 200, 200]
    toast = (
        "select pg_relation_size(reltoastrelid) from pg_class where relname = 'eram_completions'"
    )
    assert value(conn, toast) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (("-1 second", None), psycopg.errors.NumericValueOutOfRange, "max_age"),
        (("1 day -25 hours", None), psycopg.errors.NumericValueOutOfRange, "max_age"),
        (("101 years", None), psycopg.errors.NumericValueOutOfRange, "max_age"),
        ((None, 0), psycopg.errors.NumericValueOutOfRange, "max_count"),
        ((None, -5), psycopg.errors.NumericValueOutOfRange, "max_count"),
        (("0", -(2**31)), psycopg.errors.NumericValueOutOfRange, "max_count"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(conn, worker, arguments, error, word):
    ended(conn, worker)
    before = contents(conn)
    with pytest.raises(error, match=word):
        prune(conn, *arguments)
    assert contents(conn) == before


def test_an_infinite_interval_is_refused_where_there_is_one(conn):
    refused = (psycopg.errors.NumericValueOutOfRange, psycopg.errors.InvalidDatetimeFormat)
    with pytest.raises(refused):
        prune(conn, "infinity")


def test_extremes_are_taken(conn, worker):
    ended(conn, worker)
    assert prune(conn, "100 years", 2**31 - 1) == 0
    with contextlib.suppress(psycopg.errors.NumericValueOutOfRange):
        run_prune(conn, max_age=100 * 365 * 86400, limit=2**31 - 1)
    assert prune(conn, "0") == 1


def test_workers_that_ended_long_ago_go_too(conn, worker):
    conn.execute(
        """
        insert into eram_workers (
            name, queues, is_direct, timeline, stalled_after, started_at, heartbeat_at, ended_at,
            end_reason)
        select 'w' || days, '{default}', false, 'x', '0', now(), now() - interval '30 days',
            now() - make_interval(days => days), 'died'
        from unnest('{6,8,30}'::integer[]) as days;
        insert into eram_cancelled_runs
        select id, 1, 1 from eram_workers where name <> 'w6';
        """
    )
    run_prune(conn)
    assert column(conn, "select name from eram_workers order by id") == ["tester", "w6"]
    assert column(conn, "select worker from eram_cancelled_runs") == [worker]


def test_the_schedule_prunes(conn, worker):
    ended(conn, worker)
    let_pass(conn, "2 days")
    conn.execute("select eram_tick()")
    assert kept(conn) == [] or conn.execute(
        "update eram_schedules set next_run_at = now() where name = 'eram:prune'"
    )
    conn.execute("select eram_tick()")
    assert kept(conn) == []
    assert value(conn, "select last_error from eram_schedules where name = 'eram:prune'") is None


def test_names_of_queues_may_be_anything(conn, worker):
    for queue in ('a"b', "{x,y}", "null", "🦀", "\\", "a'b"):
        conn.execute("select eram_set_queue(%s, max_age => %s)", [queue, Jsonb(1)])
        ended(conn, worker, queue=queue)
        ended(conn, worker, "discarded", queue)
    let_pass(conn, "1 minute")
    assert run_prune(conn, limit=3) is True
    assert run_prune(conn) is False
    assert kept(conn) == []
