"""The server's connections: a few, in short transactions that the database itself bounds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from eram._base.connection import Connection, keep_from_children, session_options
from eram._base.outage import is_outage
from eram._web.failures import busy, explain

# More at a time would make each other slow; who comes later waits.
MAX_CONNECTIONS = 4
MAX_WAIT_SECONDS = 5.0
# Of the actions, which do more than look.
ACTION_SECONDS = 20.0
# A statement that waits for a lock tells its user so.
LOCK_SECONDS = 3.0
# How long the end of the process waits for that of a statement.
CANCEL_SECONDS = 1.0
# Whoever begins a transaction goes on at once; this is for a network that does not.
IDLE_SECONDS = 30.0
# The server ends a statement by itself; so much later nothing will come any more.
SPARE_SECONDS = 10.0

# With one call, because each costs a way there and back. Behind a pooler only what is local holds.
_BEGIN = sql.SQL(
    "begin isolation level {isolation} {mode};"
    " set local statement_timeout = {statement};"
    " set local lock_timeout = {lock};"
    " set local idle_in_transaction_session_timeout = {idle};"
    " set local timezone = 'UTC';"
    " set local jit = off"
)


class Transaction:
    """What a route does with the database: it asks for one value after the other."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def row(self, query: LiteralString, *parameters: object) -> tuple[Any, ...]:
        """Return the first row of a statement that has one."""
        row = self._conn.execute(query, parameters or None).fetchone()
        if row is None:
            raise LookupError(query)
        return tuple(row)

    def row_named(self, query: LiteralString, **parameters: object) -> tuple[Any, ...]:
        """Return the first row of a statement whose parameters have names."""
        row = self._conn.execute(query, parameters).fetchone()
        if row is None:
            raise LookupError(query)
        return tuple(row)

    def rows(self, query: LiteralString, *parameters: object) -> list[Any]:
        """Return all rows of a statement."""
        return self._conn.execute(query, parameters or None).fetchall()

    def value(self, query: LiteralString, *parameters: object) -> Any:
        """Return the first value of the first row."""
        return self.row(query, *parameters)[0]

    def text(self, query: LiteralString, *parameters: object) -> str:
        """Return a JSON text; that of nothing is null."""
        value = self.value(query, *parameters)
        return "null" if value is None else str(value)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Do something that may fail, without harm to the rest of the transaction."""
        self._conn.execute("savepoint attempt")
        try:
            yield
        except psycopg.Error:
            self._conn.execute("rollback to savepoint attempt")
            raise
        self._conn.execute("release savepoint attempt")


class Database:
    """Where eram is.

    Args:
        dsn: of the database.
        statement_seconds: how long a look may take.
    """

    def __init__(self, dsn: str, statement_seconds: float) -> None:
        self._dsn = dsn
        self._read = _begin("repeatable read", "read only", statement_seconds)
        self._act = _begin("read committed", "", ACTION_SECONDS)
        self._patience = max(statement_seconds, ACTION_SECONDS) + SPARE_SECONDS
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._is_closed = False

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """Look at one moment's state; whatever is called, nothing can be changed.

        Raises:
            HttpError: the database does not answer, or refuses.
        """
        with self._transaction(self._read, "read") as transaction:
            yield transaction

    @contextlib.contextmanager
    def act(self) -> Iterator[Transaction]:
        """Change something, all or nothing.

        Raises:
            HttpError: the database does not answer, or refuses.
        """
        with self._transaction(self._act, "admin") as transaction:
            yield transaction

    def connect(self) -> Connection:
        """Open a connection that belongs to the caller."""
        conn = Connection.connect(self._dsn, **session_options(self._dsn, "eram web"))
        keep_from_children(conn)
        conn.patience = lambda: self._patience
        return conn

    def close(self) -> None:
        """End all that runs, and close what is open."""
        with self._lock:
            self._is_closed = True
            idle, busy_ones = self._idle, list(self._busy)
            self._idle = []
        for conn in busy_ones:
            with contextlib.suppress(psycopg.Error):
                conn.cancel_safe(timeout=CANCEL_SECONDS)
        for conn in idle:
            conn.close()

    @contextlib.contextmanager
    def _transaction(self, begin: sql.Composed, grant: str) -> Iterator[Transaction]:
        if not self._slots.acquire(timeout=MAX_WAIT_SECONDS):
            raise busy()
        try:
            conn = self._begin(begin)
            try:
                yield Transaction(conn)
                conn.execute("commit")
            finally:
                self._put_back(conn)
        except psycopg.Error as error:
            raise explain(error, grant) from error
        finally:
            self._slots.release()

    def _begin(self, begin: sql.Composed) -> Connection:
        """Begin on a connection that is there; if that has died, on a new one."""
        while True:
            is_new = not self._idle
            conn = self._take()
            try:
                conn.execute(begin)
            except BaseException as error:
                self._put_back(conn)
                if is_new or not is_outage(error):
                    raise
            else:
                return conn

    def _take(self) -> Connection:
        with self._lock:
            if self._is_closed:
                raise psycopg.OperationalError("the page has ended")
            conn = self._idle.pop() if self._idle else None
        if conn is None:
            conn = self.connect()
        with self._lock:
            self._busy.add(conn)
        return conn

    def _put_back(self, conn: Connection) -> None:
        try:
            if not conn.closed and conn.info.transaction_status != _IDLE:
                conn.execute("rollback")
        except psycopg.Error:
            conn.close()
        with self._lock:
            self._busy.discard(conn)
            is_kept = not conn.closed and not self._is_closed
            if is_kept:
                self._idle.append(conn)
        if not is_kept:
            conn.close()


_IDLE = psycopg.pq.TransactionStatus.IDLE


def _begin(isolation: LiteralString, mode: LiteralString, seconds: float) -> sql.Composed:
    return _BEGIN.format(
        isolation=sql.SQL(isolation),
        mode=sql.SQL(mode),
        statement=f"{max(1, round(seconds * 1000))}ms",
        lock=f"{round(LOCK_SECONDS * 1000)}ms",
        idle=f"{round(IDLE_SECONDS * 1000)}ms",
    )
