"""What the tests of uniqueness share: enqueues that tell duplicates, keys, time that has passed."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from .helpers import enqueue, fetch, row, rows, start_worker, value

HOUR = {"period": 3600}
# The two ways in which a key can be in force: until the job ends, and for a window.
KINDS = {"until the end": {}, "window": HOUR}
TAKEN = "select count(*) from eram_unique_keys"
# Two jobs that live and have one key; with windows this is normal, once the first is over.
TWINS = """
    select tickets.unique_key, array_agg(tickets.job_id)
    from (
        select unique_key, job_id from eram_queued_jobs
        union all
        select unique_key, job_id from eram_running_jobs
    ) as tickets
    where tickets.unique_key is not null
    group by tickets.unique_key
    having count(*) > 1
"""


def document(handler: str = "app:run", *, unique: Any = True, **options: Any) -> dict[str, Any]:
    """Make a job's document, of a job that is unique unless told otherwise."""
    return {"handler": handler, "unique": unique, **options}


def put(conn: psycopg.Connection, handler: str = "app:run", **options: Any) -> Any:
    """Enqueue a unique job; return its id and whether it is a duplicate."""
    return row(conn, "select * from eram_enqueue_jobs(%s)", Jsonb(document(handler, **options)))


def put_all(conn: psycopg.Connection, *documents: Any) -> list[Any]:
    """Enqueue several jobs by one call."""
    return rows(conn, "select * from eram_enqueue_jobs(%s)", Jsonb(list(documents)))


def key_of(conn: psycopg.Connection, job_id: int) -> bytes | None:
    """Return the unique key of a job."""
    return value(conn, "select unique_key from eram_job_specs where job_id = %s", job_id)


def key(conn: psycopg.Connection, handler: str = "app:run", **options: Any) -> bytes:
    """Return the key that such a job would have, and leave no job behind."""
    with conn.transaction(force_rollback=True):
        found = key_of(conn, enqueue(conn, **document(handler, **options)))
        assert found is not None
        return found


def pass_window(conn: psycopg.Connection, *ids: int) -> None:
    """Let the windows of these jobs, or of all, be over."""
    conn.execute(
        """
        update eram_unique_keys set expires_at = clock_timestamp() - interval '1 second'
        where expires_at is not null and (%(ids)s::bigint[] is null or job_id = any (%(ids)s));
        """,
        {"ids": list(ids) or None},
    )
    conn.execute(
        """
        update eram_job_specs set unique_until = clock_timestamp() - interval '1 second'
        where unique_until is not null and (%(ids)s::bigint[] is null or job_id = any (%(ids)s))
        """,
        {"ids": list(ids) or None},
    )


def claim(conn: psycopg.Connection, job_id: int, queue: str = "default") -> Any:
    """Claim this job, the only one that is due; the session registers a worker for it."""
    (job,) = fetch(conn, start_worker(conn, queue), 100, queue)
    assert job.id == job_id
    return job
