"""Hearing of the end of one job on a connection that is someone else's.

What is announced on the job's channel is for us; everything else goes where it would have gone
anyway, to the caller's handlers or to what `notifies()` yields next. So psycopg's own handler stays
in its place, and ours stands before it for the time of the wait.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.pq.misc import PGnotify

AnyConnection: TypeAlias = "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]"

FINAL_STATES = frozenset({"completed", "discarded", "cancelled"})

# Connections on which somebody hears already. A second wait on the same one has to poll.
_taken: weakref.WeakSet[AnyConnection] = weakref.WeakSet()
_taking = threading.Lock()


class Ear:
    """Hears of the end of one job; `announced` is how it ended, by the last word on it."""

    def __init__(self, conn: AnyConnection, job_id: int) -> None:
        self.channel: str | None = None
        self.announced: str | None = None
        self.has_news = False
        self._conn = conn
        self._job_id = job_id
        # Whether the caller listens to the channel as well.
        self._is_shared = False
        self._next: Callable[[PGnotify], None] | None = None

    def tune(self, channel: str, *, is_shared: bool) -> sql.Composed | None:
        """Return what to send in order to hear this channel instead of any other; None if nothing.

        Args:
            channel: what to hear.
            is_shared: whether the session listens to it already.
        """
        if channel == self.channel or (self.channel is None and not self._take()):
            return None
        statements = [self.leave(), sql.SQL("listen {}").format(sql.Identifier(channel))]
        self.channel = channel
        self._is_shared = is_shared
        return sql.SQL("; ").join([each for each in statements if each])

    def leave(self) -> sql.Composed | None:
        """Return what to send before the end; None if nothing."""
        if self.channel is None or self._is_shared:
            return None
        return sql.SQL("unlisten {}").format(sql.Identifier(self.channel))

    def drain(self) -> None:
        """Deal with what has come in. Call it with the connection's lock.

        Raises:
            psycopg.OperationalError: the connection is lost.
        """
        pgconn = self._conn.pgconn
        pgconn.consume_input()
        while (notify := pgconn.notifies()) is not None:
            if pgconn.notify_handler:
                pgconn.notify_handler(notify)

    def close(self) -> None:
        """Give the connection back as it was."""
        self.channel = None
        if self._next is not None:
            self._conn.pgconn.notify_handler = self._next
            self._next = None
            _taken.discard(self._conn)

    def _take(self) -> bool:
        with _taking:
            if self._conn in _taken:
                return False
            _taken.add(self._conn)
        self._next = self._conn.pgconn.notify_handler
        self._conn.pgconn.notify_handler = self._hear
        return True

    def _hear(self, notify: PGnotify) -> None:
        is_ours = self.channel is not None and notify.relname == self.channel.encode()
        if is_ours:
            self._understand(notify.extra)
        if self._next is not None and not (is_ours and not self._is_shared):
            self._next(notify)

    def _understand(self, payload: bytes) -> None:
        # Anybody may notify anything: what is heard is only a reason to look.
        try:
            match json.loads(payload):
                case {"state": str(state), "ids": [*ids]} if self._job_id in ids:
                    self.has_news = True
                    self.announced = state if state in FINAL_STATES else None
        except (ValueError, RecursionError):
            pass
