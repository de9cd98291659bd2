"""What a look at health and metrics reads: bounded by queues, not by jobs."""

from __future__ import annotations

import psycopg

from .helpers import shared_buffers

HEALTH = "select * from eram_health()"
METRICS = "select * from eram_metrics"
QUEUE_COUNT = 200
# With a row for each job that there is or was, or for each hundred.
LONG_TABLES = ["eram_job_specs", "eram_finished_jobs", "eram_completions", "eram_job_errors"]

WAITING = """
    with specs as (
        insert into eram_job_specs
            (handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
        select
            'app:run', '{}', '{}', 'queue ' || number %% %(queues)s, 0, 20,
            now() - interval '1 minute', now() - interval '1 minute'
        from generate_series(1, %(jobs)s) as number
        returning job_id, queue, scheduled_at
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
    select job_id, scheduled_at, 0, 0, 1, queue
    from specs
"""
FINISHED = """
    with tickets as (
        delete from eram_queued_jobs
        returning job_id, queue
    ),
    finished as (
        insert into eram_finished_jobs
            (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
        select
            job_id, 1, now() - interval '3 hours', now() - interval '3 hours', 1, 1, 'completed',
            queue
        from tickets
        returning job_id, queue, finalized_at
    )
    insert into eram_completions (queue, finalized_at, ids)
    select queue, finalized_at, array_agg(job_id)
    from finished
    group by queue, finalized_at, job_id / 100
"""


def cost(conn: psycopg.Connection) -> tuple[int, int]:
    """Return the buffers of both looks, when everything is known to the session."""
    for query in (HEALTH, METRICS):
        conn.execute(query)
    return shared_buffers(conn, HEALTH), shared_buffers(conn, METRICS)


def read_in_passing(conn: psycopg.Connection, query: str) -> dict[str, int]:
    """Return how many rows of each table a look reads that no index led it to."""
    counts = """
        select name, pg_stat_get_xact_tuples_returned(name::regclass)
        from unnest(%s::text[]) as name
    """
    with conn.transaction():
        before = dict(conn.execute(counts, [LONG_TABLES]).fetchall())
        conn.execute(query)
        after = dict(conn.execute(counts, [LONG_TABLES]).fetchall())
    return {name: after[name] - before[name] for name in LONG_TABLES}


def make(conn: psycopg.Connection, jobs: int) -> None:
    conn.execute(WAITING, {"queues": QUEUE_COUNT, "jobs": jobs})
    conn.execute("vacuum (analyze) eram_queued_jobs, eram_job_specs")


def test_jobs_that_wait_or_have_ended_are_not_looked_through(conn):
    make(conn, 20_000)
    waiting = cost(conn)
    conn.execute(FINISHED)
    make(conn, 400)
    conn.execute("vacuum (analyze) eram_queued_jobs, eram_finished_jobs, eram_completions")
    history = cost(conn)
    for query, *measured in zip((HEALTH, METRICS), waiting, history, strict=True):
        assert read_in_passing(conn, query) == dict.fromkeys(LONG_TABLES, 0)
        assert max(measured) <= 2000 + 20 * QUEUE_COUNT


def test_a_queue_costs_a_few_steps(conn):
    for number in range(QUEUE_COUNT):
        conn.execute("select eram_pause_queue(%s)", [f"queue {number}"])
    few = cost(conn)
    make(conn, QUEUE_COUNT)
    many = cost(conn)
    # Each is looked into by lanes, once for health, and for metrics once more.
    for before, after, looks in zip(few, many, (1, 2), strict=True):
        assert after - before <= looks * 200 * QUEUE_COUNT
