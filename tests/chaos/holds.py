"""What somebody holds in the database while others work: locks, snapshots, all connections."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from chaos.database import FILLER_ROLE, connect_briefly

# Rows in order of id, as everybody locks them, so that no deadlock is of our making.
LOCKS = (
    "select from eram_running_jobs order by job_id for update",
    "select from eram_queued_jobs order by job_id limit 50 for update",
    "select from eram_finished_jobs order by job_id limit 500 for update",
    "select from eram_unique_keys order by key for update",
    "select from eram_workers order by id for update",
    "select from eram_schedules order by name for update",
    "lock table eram_queued_jobs in share mode",
    "lock table eram_job_specs in access exclusive mode",
    "lock table eram_workers in exclusive mode",
)
SNAPSHOTS = (
    "select count(*) from eram_job_specs",
    "select pg_current_xact_id()",
)
MOST_CONNECTIONS = 200

Undo = Callable[[], None]


def hold_lock(dsn: str, number: int) -> Undo:
    """Lock something until the undo."""
    return _hold(dsn, "begin", LOCKS[number % len(LOCKS)])


def hold_snapshot(dsn: str, number: int) -> Undo:
    """Keep a transaction open until the undo: one that reads, or one that has an id."""
    query = SNAPSHOTS[number % len(SNAPSHOTS)]
    return _hold(dsn, "begin isolation level repeatable read", query)


def _hold(dsn: str, *statements: str) -> Undo:
    conn = connect_briefly(dsn)

    def undo() -> None:
        # The server may have gone down meanwhile.
        with contextlib.suppress(psycopg.Error):
            conn.execute("rollback")
        conn.close()

    try:
        for statement in statements:
            conn.execute(statement)
    except psycopg.Error:  # it is locked already
        undo()
    return undo


class Filler:
    """Takes every connection that becomes free.

    Args:
        dsn: where; administrators' connections are left alone by the server.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = make_conninfo(dsn, user=FILLER_ROLE)
        self._stopping = threading.Event()
        self._conns: list[psycopg.Connection[Any]] = []
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        while not self._stopping.is_set() and len(self._conns) < MOST_CONNECTIONS:
            try:
                self._conns.append(psycopg.connect(self._dsn, connect_timeout=5))
            except psycopg.OperationalError:
                self._stopping.wait(0.02)

    def stop(self) -> None:
        """Give all of them back."""
        self._stopping.set()
        self._thread.join()
        for conn in self._conns:
            conn.close()
