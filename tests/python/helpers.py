"""What tests of the runtime share: waiting for what only asking can tell."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

# Longer than anything takes on a busy machine; a test that waits for so long has failed.
PATIENCE = 30

# Free-threaded, no thread can look where another one is.
CAN_LOOK = getattr(sys, "_is_gil_enabled", lambda: True)()


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds that only asking can tell, mostly one in the database."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        pause.wait(0.01)


def job_of(conn: psycopg.Connection, job_id: int) -> dict[str, Any]:
    """Read a job as a dict."""
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute("select * from eram_jobs where id = %s", (job_id,))
        return cursor.fetchone() or {}


def wait_for_state(conn: psycopg.Connection, job_id: int, *states: str) -> dict[str, Any]:
    """Wait until a job is in one of the states, and return it."""
    eventually(lambda: job_of(conn, job_id)["state"] in states)
    return job_of(conn, job_id)


def schedule_of(conn: psycopg.Connection, name: str) -> dict[str, Any]:
    """Read an entry of the scheduler table as a dict."""
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute("select * from eram_schedules where name = %s", (name,))
        return cursor.fetchone() or {}


def value(conn: psycopg.Connection, query: str, *parameters: Any) -> Any:
    """Return the first value of the first row."""
    return conn.execute(query, parameters).fetchone()[0]


def assert_completed_by_their_effects(conn: psycopg.Connection) -> None:
    """Fail unless the transactions that wrote the rows of "effects" have completed the jobs."""
    written_by, completed_by = conn.execute(
        "select (select array_agg(xmin::text order by xmin::text) from effects),"
        " (select array_agg(xmin::text order by xmin::text) from eram_finished_jobs)"
    ).fetchone()
    assert written_by
    assert written_by == completed_by
