"""The worker's connections for async handlers."""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow

from eram._base import statements
from eram._base.connection import keep_from_children, session_options
from eram._base.session_check import is_session_direct


async def open_async_connection(dsn: str, name: str) -> psycopg.AsyncConnection[TupleRow]:
    """Connect as `open_session` does, for the event loop that this runs in."""
    conn = await psycopg.AsyncConnection[TupleRow].connect(dsn, **session_options(dsn, name))
    keep_from_children(conn)
    try:
        row = await (await conn.execute(statements.SESSION)).fetchone()
        if is_session_direct(conn.info.backend_pid, row):
            conn.prepare_threshold = 0
            await conn.execute(statements.SET_UP_SESSION)
    except BaseException:
        conn.pgconn.finish()
        raise
    return conn
