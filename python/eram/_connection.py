"""The worker's connections: how their sessions are set up, and how one comes back after a loss."""

from __future__ import annotations

import logging
import os
import random
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

from eram import _sql

# A server that vanished without a word is noticed within about 15 seconds.
_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

# What a session of maintenance sets, whatever its role's own limits are: they are meant for other
# sessions, and a tick that they cut off would be cut off for ever.
_MAINTENANCE_SETTINGS = {
    # Within the ten minutes of silence after which a worker counts as stalled.
    "statement_timeout": "5min",
    # What waits for a lock holds up the heartbeats and every other schedule: it is tried again.
    # A hundred schedules, as many as a tick does, can wait for so long within the above.
    "lock_timeout": "2s",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Warnings say which schedule has failed.
    "client_min_messages": "warning",
}
# A command has a timeout of its own. Whether it waits for locks is its owner's business.
_COMMAND_SETTINGS = {"client_min_messages": "warning"}
TRANSACTION_TIMEOUT_VERSION = 170_000

logger = logging.getLogger(__name__)

_opened: weakref.WeakSet[psycopg.Connection[TupleRow]] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Session:
    """A connection in autocommit, and whether it is one session of the server throughout."""

    conn: psycopg.Connection[TupleRow]
    is_direct: bool


def open_session(dsn: str, name: str) -> Session:
    """Connect, in READ COMMITTED whatever the role's default is.

    Behind a pooler in transaction mode nothing that a session keeps can be relied on: neither
    prepared statements nor settings, locks and notifications.
    """
    given = conninfo_to_dict(dsn)
    options: dict[str, Any] = {key: each for key, each in _DEFAULTS.items() if key not in given}
    conn = psycopg.connect(
        dsn,
        autocommit=True,
        row_factory=tuple_row,
        client_encoding="utf8",
        application_name=name,
        prepare_threshold=None,
        **options,
    )
    _opened.add(conn)
    try:
        row = conn.execute(_sql.BACKEND_PID).fetchone()
        is_direct = row is not None and row[0] == conn.info.backend_pid
        if is_direct:
            conn.prepare_threshold = 0
            conn.execute(_sql.READ_COMMITTED)
    except BaseException:
        conn.close()
        raise
    return Session(conn, is_direct)


def open_maintenance_session(dsn: str, name: str) -> Session:
    """Connect for a tick or a report, with limits of our own; what is said goes to the log."""
    session = open_session(dsn, name)
    session.conn.add_notice_handler(_log_notice)
    if session.is_direct:
        set_maintenance_limits(session.conn)
    return session


def set_maintenance_limits(conn: psycopg.Connection[Any], *, is_local: bool = False) -> None:
    """Set what sessions of maintenance have, for the session or for the transaction."""
    _set(conn, _MAINTENANCE_SETTINGS, is_local=is_local)


def set_command_limits(conn: psycopg.Connection[Any], *, timeout_milliseconds: int) -> None:
    """Set what the session of a command has."""
    _set(conn, {**_COMMAND_SETTINGS, "statement_timeout": str(timeout_milliseconds)})


def _set(
    conn: psycopg.Connection[Any], settings: Mapping[str, str], *, is_local: bool = False
) -> None:
    wanted = dict(settings)
    if conn.info.server_version >= TRANSACTION_TIMEOUT_VERSION:
        wanted["transaction_timeout"] = "0"
    # Not prepared: several statements cannot be.
    conn.execute(
        sql.SQL("; ").join(
            sql.SQL("set {} {} = {}").format(
                sql.SQL("local" if is_local else "session"), sql.Identifier(name), value
            )
            for name, value in wanted.items()
        ),
        prepare=False,
    )


def job_cursor(conn: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """Make a cursor that leaves undecoded what Job decodes when it is asked for."""
    cursor = conn.cursor(binary=True)
    cursor.adapters.register_loader("jsonb", ByteaBinaryLoader)
    cursor.adapters.register_loader("timestamptz", Int8BinaryLoader)
    return cursor


def is_warning(notice: psycopg.errors.Diagnostic) -> bool:
    """Say whether the server means something to be heard."""
    return notice.severity_nonlocalized == "WARNING"


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    if is_warning(notice):
        logger.warning("%s", notice.message_primary)
    elif notice.severity_nonlocalized == "INFO":
        logger.info("%s", notice.message_primary)


def _let_go() -> None:
    """Keep no session alive in a process that a handler forked.

    As long as any process has a session's socket, the server takes the session for alive, and with
    it a worker that was killed. Nothing may be sent either: the parent is in the middle of it.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for conn in list(_opened):
        if not conn.closed:
            os.dup2(nowhere, conn.fileno(), inheritable=False)
    os.close(nowhere)


os.register_at_fork(after_in_child=_let_go)


class Backoff:
    """How long to wait before the next try: at once, then longer and longer, never in step."""

    def __init__(self, *, longest_seconds: float) -> None:
        self._longest = longest_seconds
        self._tries = 0

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._tries = 0

    def next_seconds(self) -> float:
        """Say how long to wait this time."""
        self._tries += 1
        if self._tries == 1:
            return 0.0
        return jittered(min(0.05 * 2.0 ** min(self._tries, 20), self._longest))


def brief(error: psycopg.Error) -> str:
    """Say in one line what went wrong."""
    return error.diag.message_primary or str(error).partition("\n")[0]


def jittered(seconds: float) -> float:
    """Vary a duration by a quarter either way, so that workers do not act in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
