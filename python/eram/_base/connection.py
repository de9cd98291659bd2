"""The worker's connections: how their sessions are set up, and how one comes back after a loss."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

from eram._base import statements
from eram._base.session_check import is_session_direct

# A server that vanished without a word is noticed within about 15 seconds.
NETWORK_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

# What goes astray without a word from the network (a firewall, a proxy) is noticed by this alone:
# a call is given up when there is no sign of the server for so long. It is nothing that a server
# takes for a call of ours, however busy it is.
CALL_SECONDS = 30.0
NEVER = float("inf")
STATEMENT_SECONDS = 300

# What a session of maintenance sets, whatever its role's own limits are: they are meant for other
# sessions, and a tick that they cut off would be cut off for ever.
_MAINTENANCE_SETTINGS = {
    # Within the ten minutes of silence after which a worker counts as stalled.
    "statement_timeout": f"{STATEMENT_SECONDS}s",
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

# Also those of other libraries, in whose transactions handlers run.
_opened: weakref.WeakSet[Any] = weakref.WeakSet()

T = TypeVar("T")


class Connection(psycopg.Connection[TupleRow]):
    """A connection that is given up when the server does not answer a call in time.

    Attributes:
        patience: says how many seconds that is; it is asked again and again during a call.
    """

    patience: Callable[[], float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.patience = call_seconds

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Do what psycopg does to talk to the server, within bounds.

        Raises:
            psycopg.OperationalError: there was no answer; the connection is closed.
        """
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        since = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # psycopg looks up about ten times a second when nothing happens.
                if ready:
                    since = time.monotonic()
                elif (silence := time.monotonic() - since) > self.patience():
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer for {silence:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def call_seconds() -> float:
    """Say how long a call may be without an answer that is short by nature."""
    return CALL_SECONDS


def tick_seconds() -> float:
    """Say how long a call may be without an answer that the server ends by its own timeout."""
    return STATEMENT_SECONDS + CALL_SECONDS


def no_limit() -> float:
    """Say that a call may take for ever, because it is somebody else's."""
    return NEVER


@dataclass(frozen=True, slots=True)
class Session:
    """A connection in autocommit, and whether it is one session of the server throughout."""

    conn: Connection
    is_direct: bool


def open_session(
    dsn: str,
    name: str,
    *,
    patience: Callable[[], float] = no_limit,
    only_reads: bool = False,
) -> Session:
    """Connect, in READ COMMITTED whatever the role's default is.

    Behind a pooler in transaction mode nothing that a session keeps can be relied on: neither
    prepared statements nor settings, locks and notifications.

    Args:
        dsn: where the database is.
        name: what administrators see.
        patience: says for how many seconds a call is left without an answer.
        only_reads: whether a standby will do.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: it is a standby, and has to be none.
    """
    conn = Connection.connect(dsn, **session_options(dsn, name))
    keep_from_children(conn)
    try:
        row = conn.execute(statements.SESSION).fetchone()
        is_direct = is_session_direct(conn.info.backend_pid, row, only_reads=only_reads)
        if is_direct:
            conn.prepare_threshold = 0
            conn.execute(statements.SET_UP_SESSION)
    except BaseException:
        conn.close()
        raise
    conn.patience = patience
    return Session(conn, is_direct)


def session_options(dsn: str, name: str) -> dict[str, Any]:
    """Say how the worker connects."""
    given = conninfo_to_dict(dsn)
    return {
        **{key: each for key, each in NETWORK_OPTIONS.items() if key not in given},
        "autocommit": True,
        "row_factory": tuple_row,
        "client_encoding": "utf8",
        "application_name": name,
        "prepare_threshold": None,
    }


def open_maintenance_session(
    dsn: str, name: str, *, patience: Callable[[], float] = tick_seconds
) -> Session:
    """Connect for a tick or a report, with limits of our own; what is said goes to the log."""
    session = open_session(dsn, name, patience=patience)
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
    """Say whether the server means something to be heard; that it goes down is heard anyway."""
    is_farewell = (notice.sqlstate or "").startswith("57P")
    return notice.severity_nonlocalized == "WARNING" and not is_farewell


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    if is_warning(notice):
        logger.warning("%s", notice.message_primary)
    elif notice.severity_nonlocalized == "INFO":
        logger.info("%s", notice.message_primary)


def keep_from_children(conn: Any) -> None:
    """Have a connection cut off in processes that handlers fork.

    Args:
        conn: a connection of psycopg, asyncpg or another library whose connections have fileno().
    """
    _opened.add(conn)


def _descriptor(conn: Any) -> int:
    """Return the socket of a connection, -1 if it has none any more."""
    # That it is closed every library says in its own way.
    with contextlib.suppress(Exception):
        # asyncpg has no other way to ask for it.
        wire = conn if hasattr(conn, "fileno") else conn._transport.get_extra_info("socket")  # noqa: SLF001
        return int(wire.fileno())
    return -1


def _let_go() -> None:
    """Keep no session alive in a process that a handler forked.

    As long as any process has a session's socket, the server takes the session for alive, and with
    it a worker that was killed. Nothing may be sent either: the parent is in the middle of it.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for conn in list(_opened):
        if (number := _descriptor(conn)) >= 0:
            os.dup2(nowhere, number, inheritable=False)
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
