"""What the tests of pruning share: jobs that ended, time that has passed."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from .helpers import column, complete, enqueue, enqueue_many, fetch, value

STATES = ("completed", "cancelled", "discarded")
# Where anything of a job can be.
OF_JOBS = ("eram_job_specs", "eram_finished_jobs", "eram_job_errors")


def ended(
    conn: psycopg.Connection, worker: int, state: str = "completed", queue: str = "default"
) -> int:
    """Make a job that has ended so, with a result or an error."""
    job_id = enqueue(conn, queue=queue)
    (job,) = fetch(conn, worker, 1, queue)
    assert job.id == job_id
    match state:
        case "completed":
            finish = "select eram_complete_jobs(array[%s::bigint], array[%s], '{7}'::jsonb[])"
        case "cancelled":
            finish = "select eram_cancel_job(%s, 'not wanted', %s)"
        case _:
            finish = "select eram_discard_job(%s, %s)"
    conn.execute(finish, [job.id, job.run])
    return job_id


def completed_many(
    conn: psycopg.Connection, worker: int, count: int, batch: int = 100, queue: str = "default"
) -> list[int]:
    """Make jobs that were completed in batches."""
    ids = enqueue_many(conn, count, queue=queue)
    done: list[int] = []
    while len(done) < count:
        done += complete(conn, fetch(conn, worker, batch, queue))
    assert sorted(done) == ids
    return ids


def let_pass(conn: psycopg.Connection, time: str, *ids: int) -> None:
    """Move the ends of these jobs, or of all, into the past."""
    conn.execute(
        """
        update eram_finished_jobs set finalized_at = finalized_at - %(time)s::interval
        where %(ids)s::bigint[] is null or job_id = any (%(ids)s);
        """,
        {"time": time, "ids": list(ids) or None},
    )
    conn.execute(
        """
        update eram_completions set finalized_at = finalized_at - %(time)s::interval
        where %(ids)s::bigint[] is null or ids <@ %(ids)s::bigint[]
        """,
        {"time": time, "ids": list(ids) or None},
    )


def prune(
    conn: psycopg.Connection, max_age: str | None = None, max_count: int | None = None
) -> int:
    """Prune by hand."""
    return value(conn, "select eram_prune_jobs(%s, %s)", max_age, max_count)


def run_prune(conn: psycopg.Connection, **options: Any) -> bool:
    """Prune as the schedule does; say whether there may be more to do."""
    return value(conn, "select _eram_run_prune(%s)", Jsonb(options))


def kept(conn: psycopg.Connection) -> list[int]:
    """Return the ids of the jobs that are still there."""
    return column(conn, "select job_id from eram_job_specs order by job_id")


def violations(conn: psycopg.Connection) -> list[Any]:
    """Return what eram_check() finds."""
    return conn.execute("select * from eram_check()").fetchall()
