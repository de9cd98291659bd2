"""The driver for psycopg itself: handlers get a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from eram._base.async_connection import open_async_connection
from eram._base.connection import open_session
from eram._jobs import enqueueing
from eram._jobs.enqueueing import Enqueued
from eram.errors import ConfigError

Result = TypeVar("Result")

NAME = "eram jobs"


class PsycopgDriver:
    """Runs jobs in transactions of psycopg connections.

    Args:
        config: `dsn`, and any parameters of a connection that libpq knows.

    Raises:
        ConfigError: libpq cannot read it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            self.postgresql_url = make_conninfo(
                config.get("dsn", ""),
                **{key: value for key, value in config.items() if key != "dsn"},
            )
        except psycopg.ProgrammingError as error:
            raise ConfigError(str(error).strip()) from error
        self._conn: psycopg.Connection[TupleRow] | None = None
        self._aconn: psycopg.AsyncConnection[TupleRow] | None = None
        self._own: psycopg.Connection[TupleRow] | None = None

    def run_in_transaction(self, fn: Callable[[psycopg.Connection[TupleRow]], Result]) -> Result:
        """Call a function with a connection that is in a transaction."""
        conn = self._conn = self._opened(self._conn)
        with conn.transaction():
            return fn(conn)

    async def run_in_transaction_async(
        self, fn: Callable[[psycopg.AsyncConnection[TupleRow]], Awaitable[Result]]
    ) -> Result:
        """Await a function that is given an async connection, which is in a transaction."""
        if self._aconn is None or self._aconn.closed:
            self._aconn = await open_async_connection(self.postgresql_url, NAME)
        async with self._aconn.transaction():
            return await fn(self._aconn)

    def enqueue(self, session: psycopg.Connection[Any] | None, document: str) -> Enqueued:
        """Enqueue in a connection's transaction, or in one of its own."""
        if session is None:
            session = self._own = self._opened(self._own)
        return enqueueing.send(session, document)[0]

    def close(self) -> None:
        """Close the connections, wherever they were opened."""
        for conn in (self._conn, self._aconn, self._own):
            if conn is not None:
                conn.pgconn.finish()
        self._conn = self._aconn = self._own = None

    def _opened(self, conn: psycopg.Connection[TupleRow] | None) -> psycopg.Connection[TupleRow]:
        if conn is not None and not conn.closed:
            return conn
        return open_session(self.postgresql_url, NAME).conn
