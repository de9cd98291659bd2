"""Running a handler inside a driver's transaction, which completes its job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from eram._base import sessions, statements
from eram._base.connection import keep_from_children
from eram._base.outage import Part
from eram._base.session_state import SessionState
from eram._jobs.handlers import Handler
from eram._jobs.job import Job
from eram._jobs.outcome import Completed, Outcome, Released, Settled
from eram._runtime import execution
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor, Runner
from eram._transactions import completion
from eram._transactions.cutter import Cutter, beneath, end_unread
from eram._transactions.driver import RUNS, Drivers
from eram._transactions.losses import as_outage
from eram._transactions.runner import TransactionRunner, doubtful

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0


class RolledBackError(Exception):
    """Makes a driver roll back."""


def open_runner(
    drivers: Drivers | None, dsn: str, name: str, *, stopping: threading.Event, part: Part
) -> Runner:
    """Make what runs handlers in transactions, for one thread.

    Args:
        drivers: what was configured; None is psycopg.
        dsn: where the database is.
        name: what administrators see.
        stopping: set when the worker stops.
        part: this thread's part in an outage.
    """
    if drivers is None or drivers.is_psycopg:
        url = dsn if drivers is None else drivers.postgresql_url
        return TransactionRunner(url, name, stopping=stopping, part=part)
    return DriverRunner(drivers, stopping=stopping, part=part)


class _Attempt:
    """One try of a job, and what has come of it."""

    def __init__(self, job: Job, handler: Handler[..., Any]) -> None:
        self.job = job
        self.handler = handler
        # None until the handler has been called.
        self.outcome: Outcome | None = None
        self.before = SessionState(None)


class DriverRunner:
    """Runs handlers with the sessions of a driver of one thread, built for the first of them.

    Args:
        drivers: builds it.
        stopping: set when the worker stops.
        part: this thread's part in an outage.
    """

    def __init__(self, drivers: Drivers, *, stopping: threading.Event, part: Part) -> None:
        self._drivers = drivers
        self._stopping = stopping
        self._part = part
        self._loop: EventLoop | None = None
        self._cutter = Cutter()
        self.cut = self._cutter.cut

    def close(self) -> None:
        """Let the driver close what it has opened."""
        self._part.leave()
        # Its code is another's.
        try:
            if self._loop is not None and hasattr(driver := self._drivers.here(), "close_async"):
                self._loop.call(driver.close_async, CLOSE_SECONDS)
            self._drivers.close_here()
        except Exception as error:
            logger.warning("driver %s could not be closed: %s", self._drivers.name, error)

    def __call__(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run the job's handler; what is `Settled` then, the server knows already.

        While there is no server the job waits, and goes back unstarted when the worker stops.
        """
        # That of the calling thread, which is another one for handlers of the main thread.
        driver = self._drivers.here()
        if not callable(getattr(driver, RUNS[handler.is_async], None)):
            return self._run_outside(job, handler, executor)
        self._cutter.url = driver.postgresql_url
        try:
            while True:
                attempt = _Attempt(job, handler)
                if handler.is_async:
                    self._loop = executor.loop
                    coroutine = functools.partial(self._try_async, attempt, driver, executor)
                    # Cancelled before it has begun, maybe.
                    with contextlib.suppress(asyncio.CancelledError):
                        executor.loop.run(job, coroutine)
                else:
                    self._try(attempt, driver, executor)
                if attempt.outcome is not None:
                    return attempt.outcome
                if job.cancelled:
                    return Released(job)
                self._part.wait(self._stopping.is_set)
                if self._stopping.is_set():
                    return Released(job)
        finally:
            # A job that was cancelled while it waited leaves nobody who does.
            self._part.leave()

    def _run_outside(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run a handler of a kind that the driver has no transactions for."""
        if handler.takes_session:
            kind = "async" if handler.is_async else "plain"
            return completion.refused(
                job,
                f'the driver "{self._drivers.name}" has no transactions for {kind} handlers, so'
                " this one cannot have a session",
            )
        if handler.is_async:
            return executor.loop.run(job, lambda: executor.run_async(job, handler))
        return executor.run(job, handler)

    def _try(self, attempt: _Attempt, driver: Any, executor: Executor) -> None:
        job = attempt.job
        execute = getattr(driver, "execute", sessions.execute)

        def run(session: Any) -> None:
            attempt.outcome = None
            execute(session, completion.marking(job), ())
            conn = self._begin(attempt, session)
            attempt.outcome = executor.run(job, attempt.handler, session)
            with _completing(attempt, conn) as completed:
                if completed is not None:
                    rows = execute(
                        session, statements.COMPLETE_JOB, completion.parameters(completed)
                    )
                    attempt.outcome = completion.settle(completed, rows)
            if not isinstance(attempt.outcome, Settled):
                raise RolledBackError

        try:
            driver.run_in_transaction(run)
        except Exception as error:
            self._after(attempt, error)
        else:
            _check_ran(attempt)
        finally:
            self._cutter.end()

    async def _try_async(self, attempt: _Attempt, driver: Any, executor: Executor) -> None:
        """Do the same in the event loop; its task may be cancelled wherever it waits."""
        job = attempt.job
        execute = getattr(driver, "execute_async", sessions.execute_async)

        async def run(session: Any) -> None:
            attempt.outcome = None
            await execute(session, completion.marking(job), ())
            conn = self._begin(attempt, session)
            attempt.outcome = await executor.run_async(job, attempt.handler, session)
            with _completing(attempt, conn) as completed:
                if completed is not None:
                    parameters = completion.parameters(completed)
                    rows = await execute(session, statements.COMPLETE_JOB, parameters)
                    attempt.outcome = completion.settle(completed, rows)
            if not isinstance(attempt.outcome, Settled):
                raise RolledBackError

        try:
            await driver.run_in_transaction_async(run)
        except (Exception, asyncio.CancelledError) as error:
            self._after(attempt, error)
        else:
            _check_ran(attempt)
        finally:
            self._cutter.end()

    def _begin(self, attempt: _Attempt, session: Any) -> Any:
        """Note what is about to run; return the driver's connection if it can be found."""
        conn = beneath(session)
        if conn is not None:
            keep_from_children(conn)
        attempt.before = SessionState(conn)
        self._cutter.begin(attempt.job, conn)
        # While it waited for the connection its time has run out, or it was cancelled.
        # Asked after the above, so that whoever marks it and then looks there sees it.
        if attempt.job.cancelled:
            attempt.outcome = Released(attempt.job)
            raise RolledBackError
        self._part.back()
        return conn

    def _after(self, attempt: _Attempt, error: BaseException) -> None:
        """Say what comes of a run when its transaction was not begun, or has not ended well."""
        match attempt.outcome:
            case None if isinstance(error, asyncio.CancelledError):
                pass
            case None:
                loss = as_outage(error)
                if loss is None:
                    attempt.outcome = execution.failed(attempt.job, error)
                else:
                    self._part.lost(loss)
            # The commit failed, or it is not known whether it did.
            case Settled(job):
                attempt.outcome = doubtful(job, error)
            # It was to be rolled back.
            case _:
                pass


@contextlib.contextmanager
def _completing(attempt: _Attempt, conn: Any) -> Iterator[Completed | None]:
    """Give what the transaction is to complete, if it is to and if it can."""
    outcome = attempt.outcome
    objection = None
    attempt.before.restore(conn)
    if isinstance(conn, psycopg.Connection | psycopg.AsyncConnection):
        status = conn.info.transaction_status
        if status == TransactionStatus.ACTIVE:
            end_unread(conn)
        # What comes after the end of a transaction is a matter of the library, and of the mark.
        if status in {TransactionStatus.ACTIVE, TransactionStatus.INERROR}:
            objection = completion.objection(status)
    if not isinstance(outcome, Completed):
        yield None
    elif objection is not None:
        attempt.outcome = completion.refused(attempt.job, objection)
        yield None
    elif not completion.is_due(outcome):
        yield None
    else:
        try:
            yield outcome
        # The session is lost, or its library knows that the transaction cannot go on.
        except (Exception, asyncio.CancelledError) as error:
            attempt.outcome = execution.failed(attempt.job, error)
            raise


def _check_ran(attempt: _Attempt) -> None:
    if attempt.outcome is None:
        attempt.outcome = completion.refused(
            attempt.job, "the driver has not run what it was given to run in a transaction"
        )
    elif not isinstance(attempt.outcome, Settled):
        logger.error(
            "job %s: the driver has ended a transaction as if it had not been to roll it back",
            attempt.job.id,
            extra={"job_id": attempt.job.id},
        )
