"""The views of statistics: figures of histories that were written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from .helpers import enqueue_many, row, rows, start_worker, value
from .statistics_helpers import minutes, record, run_jobs, stats

PERCENTILES = (50.5, 95.05, 99.01)


def write_completed(
    conn: psycopg.Connection, count: int, *, at: str = "0 seconds", run: int = 1, a_row: int = 200
) -> None:
    """Have jobs completed that long ago: the first waited and ran for a second, the next for two.

    Times are as of one moment; as many jobs as said are named in a row.
    """
    conn.execute(
        """
        with specs as (
            insert into eram_job_specs (
                handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
            select
                'app:run', '{}', '{}', 'default', 0, 20, at - number * interval '2 seconds',
                at - number * interval '2 seconds'
            from generate_series(1, %(count)s) as number
            cross join (select now() - %(at)s::interval) as times (at)
            returning job_id, scheduled_at, now() - %(at)s::interval as at
        ),
        ended as (
            insert into eram_finished_jobs (
                job_id, attempted_at, finalized_at, run, attempt, state, queue)
            select
                job_id, at - (at - scheduled_at) / 2, at, %(run)s, %(run)s, 'completed', 'default'
            from specs
            returning job_id, finalized_at
        )
        insert into eram_completions (queue, finalized_at, ids)
        select 'default', max(finalized_at), array_agg(job_id)
        from (select *, row_number() over (order by job_id) - 1 as number from ended) as numbered
        group by number / %(a_row)s
        """,
        {"count": count, "at": at, "run": run, "a_row": a_row},
    )


def write_failures(conn: psycopg.Connection, count: int, *, within: str = "10 seconds") -> None:
    """Have a job's attempts failed, all within so long before now."""
    conn.execute(
        """
        insert into eram_job_errors (job_id, run, attempt, errored_at, error, detail)
        select
            (select max(job_id) from eram_job_specs), number, 1,
            now() - (%(count)s - number) * %(within)s::interval / %(count)s, 'no ' || number, '{}'
        from generate_series(1, %(count)s) as number
        """,
        {"count": count, "within": within},
    )


def seconds(*times: Any) -> tuple[float, ...]:
    return tuple(round(time.total_seconds(), 2) for time in times)


@contextlib.contextmanager
def half_read(conn: psycopg.Connection, table: str) -> Iterator[None]:
    """Have half of a table read at most."""
    before = value(conn, "select pg_get_functiondef('_eram_most_pages'::regproc)")
    half = value(conn, "select _eram_page_count(%s) / 2", table)
    assert half > 50
    conn.execute(before.replace("15000", str(half)))
    try:
        yield
    finally:
        conn.execute(before)


def test_times_are_told_as_percentiles(conn):
    # All at one moment, and so in one minute.
    with conn.transaction():
        write_completed(conn, 100)
        # It waited, and not for its first run; and one ended too long ago.
        write_completed(conn, 1, run=2)
        write_completed(conn, 1, at="61 minutes")
    conn.execute(
        "update eram_job_specs set scheduled_at = scheduled_at - interval '1 hour'"
        " where job_id = (select job_id from eram_finished_jobs where run = 2)"
    )
    conn.execute(
        "update eram_finished_jobs set attempted_at = finalized_at - interval '50.5 seconds'"
        " where run = 2"
    )
    seen = row(conn, "select * from eram_latency")
    assert seen.sample_count == 101
    assert seconds(seen.wait_p50, seen.wait_p95, seen.wait_p99) == PERCENTILES
    assert seconds(seen.run_p50, seen.run_p95, seen.run_p99) == (50.5, 95, 99)
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.completed_count, seen.is_estimate) == (101, False)
    assert seconds(seen.wait_p50, seen.wait_p95) == PERCENTILES[:2]
    assert seconds(seen.run_p50, seen.run_p95) == (50.5, 95)
    told = rows(
        conn,
        "select name, array_agg(round(value::numeric, 2) order by labels ->> 'quantile') as times"
        " from eram_metrics where labels ? 'quantile' group by name order by name",
    )
    assert [[float(time) for time in each.times] for each in told] == [
        [50.5, 95, 99],
        [*PERCENTILES],
    ]

    record(conn)
    seen = row(conn, "select * from eram_throughput where completed_count > 1")
    assert seconds(seen.wait_p50, seen.wait_p95, seen.wait_p99) == PERCENTILES
    assert seconds(seen.run_p50, seen.run_p95, seen.run_p99) == (50.5, 95, 99)


def test_each_minute_has_a_sample_of_its_own(conn):
    for ago, count in (("50 minutes", 3), ("5 minutes", 4), ("3 minutes", 5)):
        write_completed(conn, count, at=ago)
    assert minutes(conn) == (12, 0, 0, 0)
    record(conn)
    found = rows(conn, "select * from eram_minutes order by minute")
    assert [seen.completed_count for seen in found] == [3, 4, 5]
    assert [seen.run_sample_count for seen in found] == [3, 4, 5]
    assert [seen.wait_sample_count for seen in found] == [3, 4, 5]
    assert minutes(conn) == (12, 0, 0, 0)
    # What was sampled is not sampled again.
    worker = start_worker(conn)
    for _ in range(2):
        run_jobs(conn, worker, 2)
        record(conn)
    assert value(conn, "select sum(run_sample_count) from eram_minutes") == 16


def test_two_samples_are_merged_by_their_weights(conn):
    merged = value(conn, "select _eram_merge_times('{1 s,2 s,3 s}', 1, '{5 s,6 s,7 s}', 3)")
    assert [time.total_seconds() for time in merged] == [4, 5, 6]
    kept = value(conn, "select _eram_merge_times('{1 s}', 1, null, 0)")
    assert [time.total_seconds() for time in kept] == [1]
    first = value(conn, "select _eram_merge_times(null, 0, '{1 s}', 2)")
    assert [time.total_seconds() for time in first] == [1]


def test_what_the_prune_has_named_anew_is_not_completed_again(conn):
    write_completed(conn, 5)
    conn.execute(
        "insert into eram_completions (queue, finalized_at, ids, is_repeated)"
        " select queue, finalized_at, ids, true from eram_completions"
    )
    assert stats(conn).completed_per_minute == 5
    assert value(conn, "select sample_count from eram_latency") == 5


def test_failures_are_told_by_handler(conn):
    write_completed(conn, 2)
    write_failures(conn, 3)
    conn.execute(
        """
        insert into eram_job_errors (job_id, run, attempt, errored_at, error, detail)
        select min(job_id), 1, 1, now() + interval '1 second', 'the last', '{}'::jsonb
        from eram_job_specs
        union all
        select min(job_id), 2, 2, now() + interval '2 seconds', 'by order', '{"type": "cancelled"}'
        from eram_job_specs
        union all
        select min(job_id), 3, 3, now() - interval '61 minutes', 'long ago', '{}'
        from eram_job_specs
        """
    )
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.failed_count, seen.last_error, seen.is_estimate) == (4, "the last", False)
    conn.execute("truncate eram_job_errors")


def test_as_many_as_are_looked_up_are_an_estimate(conn):
    write_completed(conn, 12_000, a_row=300)
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.completed_count, seen.is_estimate) == (10_000, True)
    # Named in rows of 300.
    assert value(conn, "select sample_count from eram_latency") == 1000
    assert (stats(conn).completed_per_minute, stats(conn).is_estimate) == (12_000, False)


def test_more_failures_than_are_looked_up_are_an_estimate(conn):
    write_completed(conn, 1)
    write_failures(conn, 12_000)
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.failed_count, seen.is_estimate) == (10_000, True)
    # The newest are of some seconds, and there are sixty.
    seen = stats(conn)
    assert seen.failed_per_minute > 10_500
    assert seen.is_estimate
    conn.execute("truncate eram_job_errors")


def test_more_completions_than_are_looked_up_are_an_estimate(conn):
    write_completed(conn, 12_000, a_row=1)
    seen = stats(conn)
    assert seen.completed_per_minute > 10_500
    assert seen.is_estimate


def test_a_part_of_what_runs_is_taken_for_its_share(conn):
    conn.execute(
        """
        insert into eram_running_jobs (job_id, worker, attempted_at, run, attempt, lane, queue)
        select -number, 1, now(), 1, 1, 1, 'default' from generate_series(1, 20000) as number
        """
    )
    assert stats(conn).running_count == 20_000
    with half_read(conn, "eram_running_jobs"):
        seen = stats(conn)
        assert 13_000 < seen.running_count < 27_000
        assert seen.is_estimate
    conn.execute("truncate eram_running_jobs")


def test_a_part_of_what_was_removed_is_taken_for_its_share(conn):
    conn.execute(
        """
        insert into eram_removal_counts (queue, finalized_at, job_count, failed_count)
        select 'default', now(), 1, 0 from generate_series(1, 40000)
        """
    )
    assert stats(conn).completed_per_minute == minutes(conn)[0] == 40_000
    with half_read(conn, "eram_removal_counts"):
        seen = stats(conn)
        assert 27_000 < seen.completed_per_minute < 53_000
        assert seen.is_estimate
        assert 27_000 < minutes(conn)[0] < 53_000


def test_who_serves_a_queue(conn):
    start_worker(conn, "mail")
    twice = start_worker(conn, "mail")
    ended = start_worker(conn, "mail")
    conn.execute("select eram_stop_worker(%s)", [ended])
    conn.execute("update eram_workers set queues = '{mail,mail}' where id = %s", [twice])
    assert stats(conn, "mail").worker_count == 2


def test_what_waits_is_noted_by_one_recorder_at_a_time(conn, connect):
    enqueue_many(conn, 3)
    recorder = connect(autocommit=False)
    record(recorder)
    conn.execute("select _eram_record_places()")
    assert value(conn, "select count(*) from eram_minutes") == 0
    recorder.commit()
    conn.execute("select _eram_record_places()")
    assert value(conn, "select waiting_count from eram_minutes") == 3
