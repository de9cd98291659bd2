"""What the tests of schedules share: entries, ticks, and clients that run what a tick hands out."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import contents, row, rows, value

HOUR, MINUTE, SECOND = dt.timedelta(hours=1), dt.timedelta(minutes=1), dt.timedelta(seconds=1)
NOW = "select clock_timestamp()"
HUGE = "x" * 100_000
MAINTENANCE = ["eram:lifeline", "eram:prune", "eram:recorder", "eram:reindexer"]

# What a worker calls, and nothing else.
WORKER_FUNCTIONS = [
    "eram_start_worker",
    "eram_heartbeat",
    "eram_stop_worker",
    "eram_fetch",
    "eram_complete_jobs",
    "eram_fail_job",
    "eram_release_jobs",
    "eram_tick",
]

# What a job tells about where it came from.
ORIGINS = """
    select
        meta ->> 'schedule' as schedule,
        (meta ->> 'scheduled_for')::timestamptz as scheduled_for
    from eram_jobs
    order by id
"""
JOBS = "select * from eram_jobs order by id"
JOB_COUNT = "select count(*) from eram_jobs"
ENTRY_COUNT = "select count(*) from eram_schedules where name !~ '^eram:'"

# Gives an entry a past.
HISTORY = """
    update eram_schedules
    set
        last_run_at = '2026-01-01 00:00Z',
        last_job_id = 5,
        last_error = 'an error',
        run_count = 7,
        inserted_at = '2025-01-01 00:00Z'
    where name = %s
"""


@dataclass(frozen=True, kw_only=True)
class Home:
    """A database that belongs to an ordinary role: the DSNs of its users, and their roles."""

    admin: str
    owner: str
    worker: str
    member: str
    owner_role: str
    worker_role: str
    member_role: str


def call(conn: psycopg.Connection, function: str, **arguments: Any) -> Any:
    """Call a function by named arguments, lists and objects as JSON, and return its value."""
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    values = {
        name: Jsonb(argument) if isinstance(argument, (dict, list)) else argument
        for name, argument in arguments.items()
    }
    found = conn.execute(f"select {function}({named})", values).fetchone()
    return found[0]


def schedule(
    conn: psycopg.Connection, name: str | None, every: str = "1 hour", **options: Any
) -> Any:
    """Declare an entry that enqueues a job."""
    return call(
        conn, "eram_schedule", **{"name": name, "schedule": every, "handler": "app:run"} | options
    )


def schedule_sql(
    conn: psycopg.Connection, name: str, command: str, every: str = "1 hour", **options: Any
) -> Any:
    """Declare an entry that runs SQL."""
    return call(conn, "eram_schedule_sql", name=name, schedule=every, command=command, **options)


def entry(conn: psycopg.Connection, name: str) -> Any:
    """Return the row of an entry."""
    return row(conn, "select * from eram_schedules where name = %s", name)


def history(conn: psycopg.Connection, name: str) -> tuple:
    """Return what an entry tells of its past."""
    seen = entry(conn, name)
    return (seen.last_run_at, seen.last_job_id, seen.last_error, seen.run_count, seen.inserted_at)


def next_run(conn: psycopg.Connection, schedule: str, zone: str, after: str) -> Any:
    """Return the next run as text in UTC, for there are years that Python does not know."""
    return value(
        conn,
        """
        select to_char(
            _eram_next_run(
                _eram_check_schedule(%s), _eram_check_timezone(%s), %s::timestamptz)
                at time zone 'UTC',
            'YYYY-MM-DD HH24:MI:SS')
        """,
        schedule,
        zone,
        after,
    )


def scheduled_for(conn: psycopg.Connection) -> list[dt.datetime]:
    """Return the times that the jobs were enqueued for."""
    return [job.scheduled_for for job in rows(conn, ORIGINS)]


def occurrences(last: dt.datetime, every: dt.timedelta, count: int) -> list[dt.datetime]:
    """So many times up to the last, to the second, as a job's meta tells them."""
    found = [last - n * every for n in reversed(range(count))]
    return [moment.replace(microsecond=0) for moment in found]


def make_due(conn: psycopg.Connection, *names: str, ago: str = "1 second") -> Any:
    """Move the next time of entries into the past, as if nobody had ticked since; return it."""
    found = conn.execute(
        """
        update eram_schedules
        set next_run_at = date_trunc('milliseconds', clock_timestamp()) - %s::interval
        where name = any (%s)
        returning next_run_at
        """,
        [ago, list(names)],
    ).fetchall()
    assert len(found) == len(names)
    return found[0][0]


def without_maintenance(conn: psycopg.Connection) -> None:
    """Have nothing due but what the test makes."""
    for name in MAINTENANCE:
        conn.execute("select eram_unschedule(%s)", [name])


def tick(conn: psycopg.Connection, *arguments: Any) -> list[Any]:
    """Tick once, and return the rows."""
    places = ", ".join(["%s"] * len(arguments))
    return rows(conn, f"select * from eram_tick({places})", *arguments)


def handed_out(conn: psycopg.Connection, *arguments: Any) -> list[Any]:
    """Tick once, and return the commands."""
    return [given for given in tick(conn, *arguments) if given.run_id is not None]


def tick_and_run(conn: psycopg.Connection) -> None:
    """Tick by a session that runs SQL itself, until nothing is left in its hand."""
    is_idle = False
    while not is_idle:
        is_idle = not has_in_hand(conn)
        conn.execute("select * from eram_tick()")
        is_idle = is_idle and not has_in_hand(conn)


def has_in_hand(conn: psycopg.Connection) -> bool:
    """Say whether the session's next tick will run a command."""
    return value(conn, "select coalesce(current_setting('eram.command', true), '') <> ''")


@contextlib.contextmanager
def refused(
    conn: psycopg.Connection, error: type[psycopg.Error], part: str
) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """Expect an error of this class that names this, with a hint, and that nothing was written."""
    before = contents(conn)
    with pytest.raises(error) as caught:
        yield caught
    assert part in (caught.value.diag.message_primary or "")
    assert caught.value.diag.message_hint
    assert len(str(caught.value)) < 2000, "a huge value is repeated"
    assert contents(conn) == before
