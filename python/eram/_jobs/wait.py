"""Waiting until a job has ended.

Where the job's queue announces the ends of its jobs, the session listens: first that, then a look,
so that no end falls between the two. Everywhere else, and in any transaction, it polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import time
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eram._jobs.ear import Ear
from eram._jobs.watch import Outcome, Watch
from eram.errors import WaitTimeoutError


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
    watch = Watch(conn, job_id, timeout)
    try:
        while True:
            outcome = watch.read(_look(conn, watch))
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
    watch = Watch(conn, job_id, timeout)
    try:
        async with asyncio.timeout(watch.seconds_for_all()) as limit:
            # Another task may be at a statement of its own.
            async with conn.lock:
                watch.look_at_connection()
            if not watch.is_limited:
                limit.reschedule(None)
            return await _wait_on(conn, watch)
    except WaitTimeoutError:
        raise
    except TimeoutError as error:
        raise watch.is_late() from error
    finally:
        try:
            if (statement := watch.ear.leave()) is not None and not conn.closed:
                await _execute_async(conn, watch, statement)
        finally:
            watch.ear.close()


async def _wait_on(conn: psycopg.AsyncConnection[Any], watch: Watch) -> Outcome:
    cancel_count = _cancel_count()
    while True:
        outcome = watch.read(await _look_async(conn, watch))
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


def _look(conn: psycopg.Connection[Any], watch: Watch) -> tuple[Any, ...] | None:
    try:
        return _execute(conn, watch, *watch.question())
    except psycopg.errors.LockNotAvailable:
        if watch.is_limited:
            return None
        raise


async def _look_async(conn: psycopg.AsyncConnection[Any], watch: Watch) -> tuple[Any, ...] | None:
    try:
        return await _execute_async(conn, watch, *watch.question())
    except psycopg.errors.LockNotAvailable:
        if watch.is_limited:
            return None
        raise


def _execute(
    conn: psycopg.Connection[Any], watch: Watch, statement: Any, *params: Any
) -> tuple[Any, ...] | None:
    scope = conn.transaction() if watch.is_transactional else contextlib.nullcontext()
    # A cursor of our own making, and nothing prepared: it works behind every pooler.
    with scope, psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(statement, params or None, prepare=False)
        # What has parameters has an answer; in a pipeline nothing else would tell.
        return cursor.fetchone() if params else None


async def _execute_async(
    conn: psycopg.AsyncConnection[Any], watch: Watch, statement: Any, *params: Any
) -> tuple[Any, ...] | None:
    scope = conn.transaction() if watch.is_transactional else contextlib.nullcontext()
    async with scope, psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(statement, params or None, prepare=False)
        return await cursor.fetchone() if params else None


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


def _wrong_connection(conn: object, wanted: str, other: str) -> str:
    hint = ""
    if isinstance(conn, psycopg.Connection | psycopg.AsyncConnection):
        hint = f"; for this one call {other}"
    kind = type(conn)
    return f"conn must be a {wanted}, got {kind.__module__}.{kind.__qualname__}{hint}"
