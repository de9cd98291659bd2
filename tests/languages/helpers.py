"""What the tests of the workers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from .programs import PATIENCE, Worker

LIVING = "select count(*) from eram_workers where ended_at is null"
# Those in which the worker itself speaks, not those of its handlers.
TERMINATE = """
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where
        datname = current_database()
        and backend_type = 'client backend'
        and pid <> pg_backend_pid()
        and query ~ 'eram_(tick|heartbeat|fetch|start_waiting)'
"""


def eventually(condition: Callable[[], object], *workers: Worker) -> Any:
    """Wait until a condition holds that only asking can tell; show what workers said otherwise."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r}; {workers}"
        pause.wait(0.01)
    return value


def value(conn: psycopg.Connection, query: str, *parameters: Any) -> Any:
    return conn.execute(query, parameters or None).fetchone()[0]


def enqueue(conn: psycopg.Connection, handler: str, **options: Any) -> int:
    document = Jsonb({"handler": handler, **options})
    return value(conn, "select eram_enqueue_job(%s)", document)


def job_of(conn: psycopg.Connection, job_id: int) -> dict[str, Any]:
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute("select * from eram_jobs where id = %s", (job_id,))
        return cursor.fetchone() or {}


def wait_for_state(
    conn: psycopg.Connection, job_id: int, state: str, *workers: Worker
) -> dict[str, Any]:
    """Wait until a job is in a state, and return it."""
    eventually(lambda: job_of(conn, job_id)["state"] == state, *workers)
    return job_of(conn, job_id)


def wait_for_workers(conn: psycopg.Connection, count: int, *workers: Worker) -> list[int]:
    """Wait until so many workers live, and return their ids."""
    eventually(lambda: value(conn, LIVING) == count, *workers)
    rows = conn.execute("select id from eram_workers where ended_at is null order by id").fetchall()
    return [row[0] for row in rows]


def wait_for_a_held_up_handler(conn: psycopg.Connection, *workers: Worker) -> None:
    """Wait until a handler waits for the table that a test has locked: it has begun then."""
    waiting = "select count(*) from pg_locks where not granted and locktype = 'relation'"
    eventually(lambda: value(conn, waiting), *workers)


def let_the_dead_be_found(conn: psycopg.Connection, *workers: Worker) -> None:
    """Have workers whose lock is absent taken for dead now, not in some seconds."""
    missing = "select count(*) from eram_workers where missing_since is not null"
    eventually(lambda: value(conn, missing), *workers)
    conn.execute(
        "update eram_workers set missing_since = missing_since - interval '1 minute'"
        " where missing_since is not null"
    )
