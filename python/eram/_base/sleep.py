"""Sleeping until a connection has something to say, another thread rings, or time is up."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from typing import Any

import psycopg


class Sleeper:
    """Lets one thread sleep, and any other wake it; ringing costs nothing while it is awake."""

    def __init__(self) -> None:
        self._is_asleep = False
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)

    def ring(self) -> None:
        """Wake the sleeper. Leave what it is to find where it looks before this is called."""
        if self._is_asleep:
            self._is_asleep = False
            self._rope.send(b"\0")

    def sleep(
        self,
        conn: psycopg.Connection[Any],
        seconds: float | None,
        has_work: Callable[[], object],
    ) -> bool:
        """Sleep unless there is work, and say whether the server has notified the connection.

        Raises:
            psycopg.OperationalError: the connection is lost.
        """
        # Said first and looked then: who rings in between is heard.
        self._is_asleep = True
        try:
            # Notifications can have come in together with the last answer.
            if conn.pgconn.notifies() is not None:
                return True
            if not has_work():
                self._select(conn, seconds)
        finally:
            self._is_asleep = False
        conn.pgconn.consume_input()
        is_notified = False
        while conn.pgconn.notifies() is not None:
            is_notified = True
        return is_notified

    def close(self) -> None:
        """Give the sockets back."""
        self._selector.close()
        self._bell.close()
        self._rope.close()

    def _select(self, conn: psycopg.Connection[Any], seconds: float | None) -> None:
        number = conn.fileno()
        self._selector.register(number, selectors.EVENT_READ)
        try:
            ready = {key.fileobj for key, _ in self._selector.select(seconds)}
        finally:
            self._selector.unregister(number)
        if self._bell in ready:
            self._bell.recv(1024)
