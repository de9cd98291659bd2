"""Cutting handlers off from the database when their attempts have timed out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from typing import Any, cast

import psycopg

from eram._base import statements
from eram._base.connection import Connection, session_options
from eram._jobs.job import Job

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 2.0


class Cutter:
    """Knows what one thread is at, and over which connection; any thread may cut that off.

    What an attempt has locked may be what the report of it needs. Whoever cuts it off must not
    meet the next one's work.

    Attributes:
        url: where the connections go whose library has no way to cancel within bounds.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url
        self._job: Job | None = None
        self._conn: Any = None
        self._is_cut = False
        self._cutting = threading.Lock()

    def begin(self, job: Job, conn: Any) -> None:
        """Note what is begun, and the driver's connection for it if it is known."""
        self._conn = conn
        # Last: whoever has marked the job looks here then.
        self._job = job

    def end(self) -> bool:
        """Note that it has ended; say whether it was cut off."""
        with self._cutting:
            self._job = self._conn = None
            is_cut, self._is_cut = self._is_cut, False
            return is_cut

    def cut(self, job: Job) -> None:
        """Cut a job off from its transaction, which is in vain. This returns at once."""
        if self._job is not job or not can_be_cut(self._conn):
            return
        # A thread, because to cancel is to connect. What an async handler awaits was cancelled just
        # now, which ends its statement in the best way: this is for one that does not end.
        is_async = isinstance(self._conn, psycopg.AsyncConnection)
        thread = threading.Timer(CANCEL_SECONDS if is_async else 0.0, self._cut, (job,))
        thread.name, thread.daemon = "eram-cut", True
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("job %s cannot be cut off from its transaction: %s", job.id, error)

    def _cut(self, job: Job) -> None:
        with self._cutting:
            conn = self._conn
            if self._job is not job or conn is None:
                return
            self._is_cut = True
            # Whatever a library raises of a connection that another thread uses or closes.
            with contextlib.suppress(Exception):
                if isinstance(conn, psycopg.Connection | psycopg.AsyncConnection):
                    # Of an async one, too: this is no event loop, and its cancel() has no bound.
                    psycopg.Connection.cancel_safe(cast("Any", conn), timeout=CANCEL_SECONDS)
                else:
                    _cancel(self.url, conn.get_backend_pid())
            # Beneath the connection, which is its handler's thread's: that finds it lost.
            with (
                contextlib.suppress(Exception),
                socket.socket(fileno=os.dup(conn.fileno())) as wire,
            ):
                wire.shutdown(socket.SHUT_RDWR)


def _cancel(url: str, pid: int) -> None:
    """Cancel what a session of psycopg2 does: its own cancel() stops all threads, maybe for ever.

    Behind a pooler the number is another one, which no session has.
    """
    options = {**session_options(url, "eram cut"), "connect_timeout": CANCEL_SECONDS}
    with Connection.connect(url, **options) as conn:
        conn.patience = lambda: CANCEL_SECONDS
        conn.execute(statements.CANCEL_SESSION, (pid,))


def end_unread(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """End a connection that a handler has left a query running on, and its transaction with it.

    What was left open keeps psycopg's lock, for which everything else would wait, even close().
    """
    conn.pgconn.finish()
    # Nothing but to see that the connection has ended is left to do under another one.
    if isinstance(conn, psycopg.Connection):
        conn.lock = threading.Lock()
    else:
        conn.lock = asyncio.Lock()


def can_be_cut(conn: Any) -> bool:
    """Say whether it is a driver's connection that another thread can cancel and shut down."""
    return hasattr(conn, "fileno") and hasattr(conn, "cancel")


def beneath(session: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Find the connection of psycopg, or of another driver, that a session has now, or None."""
    # A session that is broken, or of a kind that nobody has thought of, has none to be found.
    with contextlib.suppress(Exception):
        if isinstance(session, psycopg.Connection | psycopg.AsyncConnection):
            return session
        # The first two are SQLAlchemy's async ones; the last one is Django's.
        for name in ("sync_session", "sync_connection"):
            if hasattr(session, name):
                return beneath(getattr(session, name))
        if hasattr(session, "exec_driver_sql"):
            return session.connection.driver_connection
        if hasattr(session, "get_bind"):
            return beneath(session.connection())
        if hasattr(session, "settings_dict"):
            return session.connection
        if can_be_cut(session) or type(session).__module__.startswith("asyncpg."):
            return session
    return None
