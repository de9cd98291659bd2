"""Running a handler inside the transaction that completes its job, on a psycopg connection."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from eram._base import sessions, statements
from eram._base.async_connection import open_async_connection
from eram._base.connection import Connection, no_limit, open_session, tick_seconds
from eram._base.outage import Complaint, Part, is_outage
from eram._base.session_state import SessionState
from eram._jobs.handlers import Handler
from eram._jobs.job import Job
from eram._jobs.outcome import Completed, Failed, Outcome, Released, Settled
from eram._runtime import execution
from eram._runtime.execution import Executor
from eram._transactions import completion
from eram._transactions.cutter import Cutter, end_unread

_AnyConnection: TypeAlias = psycopg.Connection[TupleRow] | psycopg.AsyncConnection[TupleRow]


class TransactionRunner:
    """Runs handlers on connections of one thread, opened for the first of them.

    What the handler did and the completion of its job are committed together, or neither is: when
    the handler fails, snoozes or gives up, and when the job was no longer this run's. Plain
    handlers have one connection, async ones another, which belongs to the event loop.

    Args:
        dsn: where the database is.
        name: what administrators see.
        stopping: set when the worker stops.
        part: this thread's part in an outage.
    """

    def __init__(self, dsn: str, name: str, *, stopping: threading.Event, part: Part) -> None:
        self._dsn = dsn
        self._name = name
        self._stopping = stopping
        self._part = part
        self._complaint = Complaint(part.name)
        self._conn: Connection | None = None
        self._aconn: psycopg.AsyncConnection[TupleRow] | None = None
        self._cutter = Cutter()
        self.cut = self._cutter.cut

    def close(self) -> None:
        """Close the connections."""
        self._part.leave()
        for conn in (self._conn, self._aconn):
            if conn is not None:
                # Whatever thread asks, and though there may be no event loop any more.
                conn.pgconn.finish()
        self._conn = self._aconn = None

    def __call__(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run the job's handler; what is `Settled` then, the server knows already.

        While there is no server the job waits, and goes back unstarted when the worker stops.
        """
        try:
            while True:
                if handler.is_async:
                    try:
                        outcome = executor.loop.run(
                            job, lambda: self._attempt_async(job, handler, executor)
                        )
                    # Before it has begun.
                    except asyncio.CancelledError:
                        return Released(job)
                else:
                    outcome = self._attempt(job, handler, executor)
                if outcome is not None:
                    return outcome
                self._part.wait(self._stopping.is_set)
                if self._stopping.is_set():
                    return Released(job)
        finally:
            # A job that was cancelled while it waited leaves nobody who does.
            self._part.leave()

    def _open(self) -> Connection:
        return open_session(self._dsn, self._name, patience=tick_seconds).conn

    def _attempt(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome | None:
        """Run the handler, unless there is no connection for it."""
        outcome: Outcome | None = None
        before: SessionState | None = None
        try:
            conn = self._conn = self._conn or self._open()
            before = SessionState(conn)
            self._cutter.begin(job, conn)
            # While it waited for the connection its time has run out, or it was cancelled.
            # Asked after the above, so that whoever marks it and then looks there sees it.
            if job.cancelled:
                return Released(job)
            with conn.transaction() as transaction:
                conn.execute(completion.marking(job), prepare=False)
                self._part.back()
                # What the handler does there may take for ever, unlike what is done for it.
                conn.patience = no_limit
                outcome = executor.run(job, handler, conn)
                conn.patience = tick_seconds
                objection = _objection(conn, outcome)
                if isinstance(outcome, Completed) and objection is not None:
                    outcome = completion.refused(job, objection)
                elif isinstance(outcome, Completed) and completion.is_due(outcome):
                    parameters = completion.parameters(outcome)
                    rows = sessions.execute(conn, statements.COMPLETE_JOB, parameters)
                    outcome = completion.settle(outcome, rows)
                transaction.force_rollback = not isinstance(outcome, Settled)
        except psycopg.Error as error:
            outcome = self._after(error, outcome)
        finally:
            if not _is_reusable(self._conn, before, was_cut=self._cutter.end()):
                self._close_sync()
        return outcome

    async def _attempt_async(
        self, job: Job, handler: Handler[..., Any], executor: Executor
    ) -> Outcome | None:
        """Do the same in the event loop; its task may be cancelled wherever it waits."""
        outcome: Outcome | None = None
        before: SessionState | None = None
        try:
            if self._aconn is None:
                self._aconn = await open_async_connection(self._dsn, self._name)
            conn = self._aconn
            before = SessionState(conn)
            self._cutter.begin(job, conn)
            if job.cancelled:
                return Released(job)
            async with conn.transaction() as transaction:
                await conn.execute(completion.marking(job), prepare=False)
                self._part.back()
                outcome = await executor.run_async(job, handler, conn)
                objection = _objection(conn, outcome)
                if isinstance(outcome, Completed) and objection is not None:
                    outcome = completion.refused(job, objection)
                elif isinstance(outcome, Completed) and completion.is_due(outcome):
                    parameters = completion.parameters(outcome)
                    rows = await sessions.execute_async(conn, statements.COMPLETE_JOB, parameters)
                    outcome = completion.settle(outcome, rows)
                transaction.force_rollback = not isinstance(outcome, Settled)
        except (psycopg.Error, asyncio.CancelledError) as error:
            outcome = self._after(error, outcome)
            if outcome is None and job.cancelled:
                return Released(job)
        finally:
            if not _is_reusable(self._aconn, before, was_cut=self._cutter.end()):
                self._close_async()
        return outcome

    def _after(self, error: BaseException, outcome: Outcome | None) -> Outcome | None:
        """Say what comes of a run when its transaction could not be begun, or ended."""
        if isinstance(outcome, Completed):
            return execution.failed(outcome.job, error)
        # The commit failed, or it is not known whether it did.
        if isinstance(outcome, Settled):
            return doubtful(outcome.job, error)
        # There was nothing left to roll back.
        if outcome is not None:
            return outcome
        if isinstance(error, psycopg.Error):
            if is_outage(error):
                self._part.lost(error)
            else:
                self._complaint.say(error)
        return None

    def _close_sync(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _close_async(self) -> None:
        if self._aconn is not None:
            self._aconn.pgconn.finish()
            self._aconn = None


def doubtful(job: Job, error: BaseException) -> Failed:
    """Make the outcome of a transaction that may have been committed.

    The report of it counts only if that did not happen: the run is over otherwise.
    """
    return execution.failed(job, error)._replace(is_in_doubt=True)


def _objection(conn: _AnyConnection, outcome: Outcome) -> str | None:
    status = conn.info.transaction_status
    if status == TransactionStatus.ACTIVE:
        end_unread(conn)
    return completion.objection(status) if isinstance(outcome, Completed) else None


def _is_reusable(
    conn: _AnyConnection | None, before: SessionState | None, *, was_cut: bool
) -> bool:
    """Say whether a connection is as good as new, and make it so if a handler has changed it."""
    if conn is None or was_cut or conn.info.transaction_status != TransactionStatus.IDLE:
        return False
    return before is None or before.restore(conn)
