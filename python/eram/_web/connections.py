"""The connections of the server: how many there are, and how long each may take for what.

A time for each read would let a slow client begin anew with each byte. Here each thing that a
client does has an end, and a thread that shuts down whoever is past it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CONNECTIONS = 128
# Of a connection that has nothing to ask.
IDLE_SECONDS = 30.0
# For a request to arrive whole, and for an answer to be taken.
READ_SECONDS = 10.0
WRITE_SECONDS = 30.0
# The database ends what takes long; this is for what nobody has thought of.
WORK_SECONDS = 120.0

LOOK_SECONDS = 0.5
_USER_TIMEOUT_MILLISECONDS = 30_000


@dataclass(eq=False, slots=True)
class Connection:
    """One connection, and when its client must have done what it does."""

    socket: socket.socket
    ends_at: float
    idle_since: float | None

    def idle(self) -> None:
        """Wait for a request; meanwhile the connection may have to make room for others."""
        now = time.monotonic()
        self.idle_since = now
        self.ends_at = now + IDLE_SECONDS

    def busy(self, seconds: float) -> None:
        """Do something that may take so long."""
        self.idle_since = None
        self.ends_at = time.monotonic() + seconds

    def shut(self) -> None:
        """End what its thread waits for."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """All of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_closed(self) -> bool:
        """Whether each connection is to end once it is answered."""
        return self._is_closed

    def admit(self, wire: socket.socket) -> Connection | None:
        """Take a connection in; None when there is no room, and nobody idle who could make it."""
        now = time.monotonic()
        with self._lock:
            if self._is_closed:
                return None
            if len(self._open) >= MAX_CONNECTIONS:
                idle = [each for each in self._open if each.idle_since is not None]
                if not idle:
                    return None
                oldest = min(idle, key=lambda each: each.ends_at)
                self._open.discard(oldest)
                oldest.shut()
            conn = Connection(wire, now + READ_SECONDS, now)
            self._open.add(conn)
        _mind_the_network(wire)
        return conn

    def dismiss(self, conn: Connection) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.discard(conn)

    def close(self) -> None:
        """Take no more in, and shut down who has nothing to ask: he may ask another server next.

        Who waits for an answer gets it first.
        """
        with self._lock:
            self._is_closed = True
            for conn in self._open:
                if conn.idle_since is not None:
                    conn.shut()

    def watch(self, stopped: threading.Event) -> None:
        """Shut down whoever is too slow, until the server stops."""
        while not stopped.wait(LOOK_SECONDS):
            for conn in self._late():
                conn.shut()

    def _late(self) -> Iterator[Connection]:
        now = time.monotonic()
        with self._lock:
            late = [each for each in self._open if each.ends_at < now]
        return iter(late)


def _mind_the_network(wire: socket.socket) -> None:
    """Have the system notice a client that has vanished without a word."""
    with contextlib.suppress(OSError):
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLISECONDS)
