"""A job in each state, and bulk functions, for the tests of what administrators do to jobs."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from .helpers import complete, enqueue, fetch, rows, value

STATES = (
    *("available", "scheduled", "retryable", "executing"),
    *("completed", "discarded", "cancelled"),
)
WAITING = ("available", "scheduled", "retryable")
ENDED = ("completed", "discarded", "cancelled")


def one_of_each(conn: psycopg.Connection, worker: int, **options: Any) -> dict[str, int]:
    """Enqueue seven jobs and bring each into another state; the queue must be empty."""
    queue = options.get("queue", "default")
    ran = {
        state: enqueue(conn, **options)
        for state in ("retryable", "executing", "completed", "discarded", "cancelled")
    }
    jobs = {job.id: job for job in fetch(conn, worker, queue=queue)}
    assert set(jobs) == set(ran.values())
    conn.execute("select eram_fail_job(%s, 1, 'boom', delay => '1 hour')", [ran["retryable"]])
    complete(conn, [jobs[ran["completed"]]])
    conn.execute("select eram_discard_job(%s, 1, 'no good')", [ran["discarded"]])
    conn.execute("select eram_cancel_job(%s, run => 1)", [ran["cancelled"]])
    found = {
        **ran,
        "available": enqueue(conn, **options),
        "scheduled": enqueue(conn, **options, delay=3600),
    }
    assert states(conn) == {**states(conn), **{job_id: state for state, job_id in found.items()}}
    return found


def states(conn: psycopg.Connection) -> dict[int, str]:
    """Return the state of each job."""
    return {job.id: job.state for job in rows(conn, "select id, state from eram_jobs")}


def bulk(conn: psycopg.Connection, function: str, filter_: Any, *args: Any) -> int:
    """Call a bulk function."""
    places = "".join(", %s" for _ in args)
    return value(conn, f"select eram_{function}_jobs(%s{places})", Jsonb(filter_), *args)


def matching(conn: psycopg.Connection, filter_: Any) -> set[int]:
    """Return the ids of the jobs that a filter matches, whatever their state."""
    found = rows(
        conn,
        "select job_id from _eram_matching_jobs(%s, %s)",
        Jsonb(filter_),
        list(STATES),
    )
    ids = {job.job_id for job in found}
    assert len(ids) == len(found)
    return ids
