"""Connections for short statements of any thread, kept for the next one."""

from __future__ import annotations

import os
import select
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from eram._base.connection import Connection, call_seconds, open_session

Result = TypeVar("Result")

MAX_SPARE = 10


class SpareConnections:
    """Has as many connections as threads use at a time, and none before the first use.

    Args:
        dsn: where the database is.
        name: what administrators see.
    """

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._spare: deque[Connection] = deque(maxlen=None)
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._spare, self._process)

    def use(self, act: Callable[[psycopg.Connection[Any]], Result]) -> Result:
        """Do something on a connection in autocommit.

        A connection that was lost since its last use is replaced. So is one that the server ends
        instead of carrying out the statement; where it is not known whether it did, the error is
        raised.
        """
        conn = self._take()
        if conn is not None:
            try:
                return self._use(conn, act)
            except psycopg.OperationalError as error:
                # Whoever answers has not done it.
                if not conn.closed or error.sqlstate is None:
                    raise
        return self._use(open_session(self._dsn, self._name, patience=call_seconds).conn, act)

    def close(self) -> None:
        """Close those that are not in use."""
        _close_all(self._spare, self._process)

    def _take(self) -> Connection | None:
        # In a forked process they are cut off.
        if self._process != os.getpid():
            self._process = os.getpid()
            self._spare = deque()
        while True:
            try:
                conn = self._spare.pop()
            except IndexError:
                return None
            if _is_usable(conn):
                return conn
            conn.close()

    def _use(self, conn: Connection, act: Callable[[psycopg.Connection[Any]], Result]) -> Result:
        try:
            return act(conn)
        finally:
            if conn.closed or len(self._spare) >= MAX_SPARE:
                conn.close()
            else:
                self._spare.append(conn)


def _is_usable(conn: Connection) -> bool:
    """Say whether the server has said nothing since: to an idle session it says only farewell."""
    if conn.closed:
        return False
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return not poll.poll(0)


def _close_all(spare: deque[Connection], process: int) -> None:
    while spare and process == os.getpid():
        try:
            spare.pop().close()
        except IndexError:
            break
