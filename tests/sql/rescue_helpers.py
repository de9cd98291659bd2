"""What the tests of rescue share: sessions that die, and time that has passed."""

from __future__ import annotations

import psycopg

from .helpers import row, value, wait_until

RESCUE = "select eram_rescue_jobs()"
WORKER = "select * from eram_workers where id = %s"


def kill(conn: psycopg.Connection, session: psycopg.Connection) -> None:
    """End a session as a crash of its client would, and wait until the server has noticed."""
    pid = session.info.backend_pid
    conn.execute("select pg_terminate_backend(%s)", [pid])
    wait_until(
        lambda: value(conn, "select not exists (select from pg_stat_activity where pid = %s)", pid),
        "the session has ended",
    )


def age(conn: psycopg.Connection, worker: int, seconds: float = 31) -> None:
    """Let the absence of a worker's lock, once noted, have begun earlier.

    More than the 30 s that hold while the server has just started, as the tests' server has.
    """
    conn.execute(
        """
        update eram_workers
        set missing_since = missing_since - make_interval(secs => %s)
        where id = %s
        """,
        [seconds, worker],
    )


def silence(conn: psycopg.Connection, worker: int, interval: str) -> None:
    """Let a worker's last heartbeat lie in the past, and the start of the server with it."""
    conn.execute(
        "update eram_workers set heartbeat_at = heartbeat_at - %s::interval where id = %s",
        [interval, worker],
    )


def declare_dead(conn: psycopg.Connection, session: psycopg.Connection, worker: int) -> int:
    """Kill a worker's session and rescue its jobs; return how many."""
    kill(conn, session)
    assert value(conn, RESCUE) == 0
    assert row(conn, WORKER, worker).missing_since is not None
    age(conn, worker)
    return value(conn, RESCUE)


def has_run_for(conn: psycopg.Connection, seconds: float) -> bool:
    return value(
        conn,
        "select clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => %s)",
        seconds,
    )
