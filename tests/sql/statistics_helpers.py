"""What the tests of statistics share: recordings, and jobs that were written by hand."""

from __future__ import annotations

from typing import Any

import psycopg

from .helpers import complete, enqueue_many, fetch, row, rows, value

RECORD = "select _eram_record(10000)"
COUNTS = ("completed_count", "failed_count", "discarded_count", "cancelled_count")


def record(conn: psycopg.Connection) -> None:
    """Count what is not counted."""
    conn.execute(RECORD)


def totals(conn: psycopg.Connection, queue: str = "default") -> tuple[int, ...]:
    """Return completed, failed, discarded, cancelled; nothing is no row."""
    query = f"select {', '.join(COUNTS)} from eram_totals where queue = %s"
    return conn.execute(query, [queue]).fetchone() or (0, 0, 0, 0)


def minutes(conn: psycopg.Connection, queue: str = "default") -> tuple[int, ...]:
    """Return the same, summed over the minutes of the view."""
    summed = ", ".join(f"coalesce(sum({count}), 0)::bigint" for count in COUNTS)
    query = f"select {summed} from eram_throughput where queue = %s"
    found = conn.execute(query, [queue]).fetchone()
    assert found is not None
    return found


def stats(conn: psycopg.Connection, queue: str = "default") -> Any:
    """Return the row of eram_queue_stats."""
    found = rows(conn, "select * from eram_queue_stats")
    (one,) = [each for each in found if each.queue == queue]
    return one


def run_jobs(conn: psycopg.Connection, worker: int, count: int, queue: str = "default") -> None:
    """Enqueue, claim and complete so many."""
    enqueue_many(conn, count, queue=queue)
    done = 0
    while done < count:
        done += len(complete(conn, fetch(conn, worker, 100, queue)))


def fill_waiting(
    conn: psycopg.Connection,
    queue: str,
    count: int,
    *,
    due_in: str = "-1 minute",
    attempt: int = 0,
    lane: int = 1,
) -> None:
    """Write tickets of jobs that wait, with ids of their own; there are no specs."""
    conn.execute(
        """
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select
            (select coalesce(max(job_id), 1000000) from eram_queued_jobs) + number,
            now() + %s::interval + number * interval '1 microsecond',
            %s, %s, %s, %s
        from generate_series(1, %s) as number
        """,
        [due_in, attempt, attempt, lane, queue, count],
    )


def prune(conn: psycopg.Connection, max_age: str = "0 seconds", max_count: int = 10000) -> int:
    """Prune by hand."""
    return value(conn, "select eram_prune_jobs(%s, %s)", max_age, max_count)


def age(conn: psycopg.Connection, by: str, *, of_snapshot: bool = True) -> None:
    """Let all that happened have happened so much earlier; all must have been recorded."""
    for table, column in (
        ("eram_completions", "finalized_at"),
        ("eram_finished_jobs", "finalized_at"),
        ("eram_job_errors", "errored_at"),
        ("eram_removal_counts", "finalized_at"),
        ("eram_recordings", "recorded_at"),
        ("eram_minutes", "minute"),
    ):
        conn.execute(f"update {table} set {column} = {column} - %s::interval", [by])
    if of_snapshot:
        conn.execute("update eram_recordings set snapshot = pg_current_snapshot()")


def buffers(conn: psycopg.Connection, query: str) -> int:
    """Return how many buffers a query touches once its plans are made."""
    for _ in range(2):
        conn.execute(query)
    (plan,) = value(conn, f"explain (analyze, buffers, format json) {query}")
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


def only(conn: psycopg.Connection, query: str, *params: Any) -> Any:
    """Return the only row of a query."""
    return row(conn, query, *params)
