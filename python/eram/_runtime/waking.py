"""Whom a queue tells that it waits, so that enqueues wake it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import psycopg

from eram._base import statements

NEVER = float("inf")


class Answer(NamedTuple):
    """What the server says to who waits."""

    is_declared: bool
    # Whether it was not before, on this session.
    is_new: bool
    is_settled: bool
    # When the next job is due, by our own clock.
    due_at: float
    is_limited: bool


class Waker(Protocol):
    """Declares a queue waiting, on some session."""

    def ask(self) -> Answer | None:
        """Declare it, if it is not, and ask how it stands; None where the answer comes later."""

    def stop(self) -> None:
        """Take the declaration back."""


class Declaration:
    """The declaration of one session that it waits for jobs of one queue."""

    def __init__(self, conn: psycopg.Connection[Any], queue: str) -> None:
        self._conn = conn
        self._queue = queue
        # What eram_start_waiting() returned; None while not declared.
        self._mark: str | None = None

    def ask(self) -> Answer:
        """Declare it, if it is not, and ask how it stands."""
        row = self._conn.execute(statements.START_WAITING, (self._queue, self._mark)).fetchone()
        mark, is_settled, due_in, is_limited = row or (None, False, None, False)
        is_new = self._mark is None and mark is not None
        self._mark = mark
        due_at = NEVER if due_in is None else time.monotonic() + due_in
        return Answer(mark is not None, is_new, is_settled, due_at, is_limited)

    def stop(self) -> None:
        """Take it back."""
        if self._mark is not None:
            self._conn.execute(statements.STOP_WAITING, (self._queue,))
        self._mark = None
