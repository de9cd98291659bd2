"""Waiting until a job has ended.

Where the job's queue announces the ends of its jobs, the session listens: first that, then a look,
so that no end falls between the two. Everywhere else, and in any transaction, it polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import selectors
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from eram import _sql
from eram._connection import jittered
from eram._ear import AnyConnection, Ear
from eram.errors import WaitError, WaitTimeoutError

SHORTEST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 1.0
# A net under what is announced: the job may be moved to a queue that announces elsewhere.
NET_SECONDS = 4.0
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job has ended.

    Attributes:
        state: `completed`, `discarded` or `cancelled`; None when nothing is left of the job, so
            that it cannot be told any more.
        result: what the handler of a completed job returned.
        error: why the job was discarded or cancelled, if that was said.
    """

    state: str | None
    result: Any = None
    error: str | None = None


def wait(
    conn: psycopg.Connection[Any], job_id: int, /, timeout: float | timedelta | None = None
) -> Outcome:
    """Wait until a job has ended, and return how.

    Args:
        conn: a psycopg connection, best in autocommit and direct: then it can listen.
        job_id: the job's id. Its enqueue must have been committed.
        timeout: how long to wait at most, in seconds or as a timedelta; None is for ever.

    Raises:
        WaitTimeoutError: the job has not ended within the timeout.
        WaitError: the connection is in a transaction that cannot see what others commit.
        psycopg.errors.UndefinedObject: no job ever had that id.
    """
    if not isinstance(conn, psycopg.Connection):
        raise TypeError(_wrong_connection(conn, "psycopg.Connection", "wait_async"))
    watch = _Watch(conn, job_id, timeout)
    try:
        while True:
            outcome = watch.read(_execute(conn, watch, *watch.question()))
            if outcome is not None:
                return outcome
            seconds = watch.pause()
            if (statement := watch.tune()) is not None:
                _execute(conn, watch, statement)
            elif watch.ear.channel is None:
                time.sleep(seconds)
            else:
                _listen(conn, watch.ear, seconds)
    finally:
        try:
            if (statement := watch.ear.leave()) is not None and not conn.closed:
                _execute(conn, watch, statement)
        finally:
            watch.ear.close()


async def wait_async(
    conn: psycopg.AsyncConnection[Any],
    job_id: int,
    /,
    timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the error says what it is about
) -> Outcome:
    """Wait until a job has ended, on an async connection; otherwise like `wait`."""
    if not isinstance(conn, psycopg.AsyncConnection):
        raise TypeError(_wrong_connection(conn, "psycopg.AsyncConnection", "wait"))
    watch = _Watch(conn, job_id, timeout)
    cancel_count = _cancel_count()
    try:
        while True:
            outcome = watch.read(await _execute_async(conn, watch, *watch.question()))
            if outcome is not None:
                return outcome
            if _cancel_count() > cancel_count:
                # Python 3.11 can lose it within a statement, by way of asyncio.wait_for().
                raise asyncio.CancelledError
            seconds = watch.pause()
            if (statement := watch.tune()) is not None:
                await _execute_async(conn, watch, statement)
            elif watch.ear.channel is None:
                await asyncio.sleep(seconds)
            else:
                await _listen_async(conn, watch.ear, seconds)
    finally:
        try:
            if (statement := watch.ear.leave()) is not None and not conn.closed:
                await _execute_async(conn, watch, statement)
        finally:
            watch.ear.close()


class _Row(NamedTuple):
    """What the statement OUTCOME returns."""

    state: str | None
    result: str | None
    error: str | None
    is_final: bool
    channel: str | None
    is_heard: bool
    backend_pid: int
    is_in_recovery: bool
    isolation: str


class _Watch:
    """What is known of the job, and what to do next."""

    def __init__(self, conn: AnyConnection, job_id: int, timeout: float | timedelta | None) -> None:
        if isinstance(job_id, bool) or not isinstance(job_id, int):
            raise TypeError(f"job_id must be the id of a job, got {job_id!r}")
        self.ear = Ear(conn, job_id)
        self._conn = conn
        self._job_id = job_id
        self._timeout = _seconds(timeout)
        self._deadline = time.monotonic() + self._timeout
        self._poll = SHORTEST_POLL_SECONDS
        self._row: _Row | None = None
        status = conn.info.transaction_status
        self._is_idle = status == TransactionStatus.IDLE
        # Each statement has a transaction of its own then, so that none is left open.
        self.is_transactional = self._is_idle and not conn.autocommit

    def question(self) -> tuple[LiteralString, int]:
        """Return the statement that looks, and its parameter."""
        # Before it: what is heard together with the answer may have happened after the look.
        self.ear.has_news = False
        return _sql.OUTCOME, self._job_id

    def read(self, values: tuple[Any, ...] | None) -> Outcome | None:
        """Take in what a look has found; return how the job ended if it has."""
        row = self._row = _Row(*values or ())
        if not self._is_idle and row.isolation not in {"read committed", "read uncommitted"}:
            raise WaitError(
                f"a transaction in {row.isolation.upper()} never sees the end of a job that has not"
                " ended before it began; wait outside of it, or in READ COMMITTED"
            )
        if not row.is_final:
            return None
        result = None if row.result is None else json.loads(row.result)
        # A job that was removed as it was completed leaves nothing but its announcement.
        return Outcome(row.state or self.ear.announced, result, row.error)

    def pause(self) -> float:
        """Say how long to wait before the next look.

        Raises:
            WaitTimeoutError: there is no time left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            state = self._row.state if self._row else None
            raise WaitTimeoutError(self._job_id, state, self._timeout)
        if self._row is not None and self.ear.channel == self._row.channel is not None:
            return min(left, jittered(NET_SECONDS))
        seconds = jittered(self._poll)
        self._poll = min(2 * self._poll, LONGEST_POLL_SECONDS)
        return min(left, seconds)

    def tune(self) -> sql.Composed | None:
        """Return the statement by which to hear of the job's end, if there is any to be sent."""
        row = self._row
        if row is None or row.channel is None or not self._can_listen(row):
            return None
        return self.ear.tune(row.channel, is_shared=row.is_heard)

    def _can_listen(self, row: _Row) -> bool:
        return (
            self._is_idle
            and not row.is_in_recovery
            # A pooler hands out a server process other than the one that the client began with.
            and row.backend_pid == self._conn.info.backend_pid
            and self._conn.pgconn.pipeline_status == PipelineStatus.OFF
        )


def _execute(
    conn: psycopg.Connection[Any], watch: _Watch, statement: Any, *params: Any
) -> tuple[Any, ...] | None:
    scope = conn.transaction() if watch.is_transactional else contextlib.nullcontext()
    # A cursor of our own making, and nothing prepared: it works behind every pooler.
    with scope, psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(statement, params or None, prepare=False)
        return cursor.fetchone() if cursor.description else None


async def _execute_async(
    conn: psycopg.AsyncConnection[Any], watch: _Watch, statement: Any, *params: Any
) -> tuple[Any, ...] | None:
    scope = conn.transaction() if watch.is_transactional else contextlib.nullcontext()
    async with scope, psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(statement, params or None, prepare=False)
        return await cursor.fetchone() if cursor.description else None


def _listen(conn: psycopg.Connection[Any], ear: Ear, seconds: float) -> None:
    """Wait until there is news of the job, or time is up."""
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(conn.fileno(), selectors.EVENT_READ)
        while True:
            # Notifications can have come in together with the last answer.
            with conn.lock:
                ear.drain()
            left = until - time.monotonic()
            if ear.has_news or left <= 0:
                return
            selector.select(left)


async def _listen_async(conn: psycopg.AsyncConnection[Any], ear: Ear, seconds: float) -> None:
    """Wait until there is news of the job, or time is up, while other tasks use the connection."""
    until = time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    # A loop has one reader for a number, and that of the connection's own is psycopg's.
    number = os.dup(conn.fileno())
    try:
        while True:
            async with conn.lock:
                ear.drain()
            left = until - time.monotonic()
            if ear.has_news or left <= 0:
                return
            is_readable = asyncio.Event()
            loop.add_reader(number, is_readable.set)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await is_readable.wait()
            finally:
                loop.remove_reader(number)
    finally:
        os.close(number)


def _cancel_count() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _seconds(timeout: float | timedelta | None) -> float:
    if timeout is None:
        return NEVER
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a timeout is a timedelta or a number of seconds, got {timeout!r}")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"a timeout must not be negative, got {timeout!r}")
    return seconds


def _wrong_connection(conn: object, wanted: str, other: str) -> str:
    hint = ""
    if isinstance(conn, psycopg.Connection | psycopg.AsyncConnection):
        hint = f"; for this one call {other}"
    kind = type(conn)
    return f"conn must be a {wanted}, got {kind.__module__}.{kind.__qualname__}{hint}"
