"""Running a handler inside the transaction that completes its job."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from eram import _executor, _sql
from eram._connection import Backoff, brief, open_session
from eram._executor import Executor
from eram._handlers import Handler
from eram._job import Job
from eram._outcome import Completed, Outcome, Released, Settled
from eram.errors import HandlerTransactionError

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 5.0
CANCEL_SECONDS = 2.0

_ENDED = "the handler ended the transaction that was to complete its job"
_UNREAD = (
    "the handler left a query running on its connection; read cursor.stream() and copy() to their"
    " end, or close them"
)
_NOT_ITS_OWN = (
    "there was nothing to complete: the handler ended its own job by SQL, which is rolled back with"
    " all that it did; return eram.Cancel, eram.Discard or eram.Snooze instead"
)


class TransactionRunner:
    """Runs handlers on a connection of one thread, opened for the first of them.

    What the handler did and the completion of its job are committed together, or neither is: when
    the handler fails, snoozes or gives up, and when the job was no longer this run's.
    """

    def __init__(self, dsn: str, name: str, stopping: threading.Event) -> None:
        self._dsn = dsn
        self._name = name
        self._stopping = stopping
        self._conn: psycopg.Connection[TupleRow] | None = None
        self._backoff = Backoff(longest_seconds=LONGEST_BACKOFF_SECONDS)
        # Whose work the connection is at. Whoever cuts it off must not meet the next one's.
        self._job: Job | None = None
        self._cutting = threading.Lock()
        self._is_cut = False

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def __call__(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run the job's handler; what is `Settled` then, the server knows already.

        While there is no server the job waits, and goes back unstarted when the worker stops.
        """
        while True:
            outcome: Outcome | None = None
            try:
                conn = self._conn = self._conn or open_session(self._dsn, self._name).conn
                self._job = job
                # While it waited for the connection its time has run out, or it was cancelled.
                # Asked after the above, so that whoever marks it and then looks there sees it.
                if job.cancelled:
                    return Released(job)
                with conn.transaction() as transaction:
                    # Not by a query, so that the handler may still choose its isolation level.
                    conn.execute(_sql.MARK_TRANSACTION.format(_mark(job)), prepare=False)
                    self._backoff.reset()
                    outcome = executor.run(job, handler, conn)
                    outcome = _end(conn, outcome)
                    transaction.force_rollback = not isinstance(outcome, Settled)
            # The commit failed, or there was nothing left to roll back.
            except psycopg.Error as error:
                if isinstance(outcome, Completed | Settled):
                    outcome = _executor.failed(job, error)
                elif outcome is None:
                    logger.warning("no connection for job %s: %s", job.id, brief(error))
            finally:
                with self._cutting:
                    self._job = None
                self._tidy()
            if outcome is not None:
                return outcome
            if self._stopping.wait(self._backoff.next_seconds()):
                return Released(job)

    def cut(self, job: Job) -> None:
        """Cut a job that has timed out off from its transaction, which is in vain.

        What it has locked may be what the report of it needs. This returns at once.
        """
        if self._job is not job:
            return
        # A thread, because to cancel is to connect.
        thread = threading.Thread(target=self._cut, args=(job,), name="eram-cut", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("job %s cannot be cut off from its transaction: %s", job.id, error)

    def _cut(self, job: Job) -> None:
        with self._cutting:
            conn = self._conn
            if self._job is not job or conn is None:
                return
            self._is_cut = True
            with contextlib.suppress(psycopg.Error):
                conn.cancel_safe(timeout=CANCEL_SECONDS)
            # Beneath the connection, which is its handler's thread's: that finds it lost.
            with (
                contextlib.suppress(psycopg.Error, OSError),
                socket.socket(fileno=os.dup(conn.fileno())) as wire,
            ):
                wire.shutdown(socket.SHUT_RDWR)

    def _tidy(self) -> None:
        if self._conn is None:
            return
        if self._is_cut:
            self._is_cut = False
            self.close()
        elif self._conn.info.transaction_status == TransactionStatus.IDLE:
            self._conn.row_factory = tuple_row
        else:
            self.close()


def _end(conn: psycopg.Connection[Any], outcome: Outcome) -> Outcome:
    if conn.info.transaction_status == TransactionStatus.ACTIVE:
        # Whatever the handler left open keeps psycopg's lock, for which everything else would wait,
        # even close(): the connection ends beneath it, and its transaction with it.
        conn.pgconn.finish()
        return _refused(outcome.job, _UNREAD) if isinstance(outcome, Completed) else outcome
    # An attempt that took too long counts as timed out, though nobody may have said so yet.
    is_late = time.monotonic() >= outcome.job.late_at
    return _complete(conn, outcome) if isinstance(outcome, Completed) and not is_late else outcome


def _complete(conn: psycopg.Connection[Any], outcome: Completed) -> Outcome:
    job, result = outcome
    match conn.info.transaction_status:
        case TransactionStatus.INTRANS:
            pass
        case TransactionStatus.INERROR:
            return _refused(
                job,
                "the handler caught a database error, but its transaction cannot go on after it;"
                ' put what may fail into "with conn.transaction():"',
            )
        case TransactionStatus.UNKNOWN:
            return _refused(job, "the handler's connection was closed or lost")
        case _:
            return _refused(job, _ENDED)
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        mark, ids = cursor.execute(_sql.COMPLETE_JOB, (job.id, job.run, result)).fetchone() or (
            "",
            [],
        )
    if mark != _mark(job):
        return _refused(job, _ENDED)
    # Where the run was ended from outside, this is reported in vain, and logged as lost.
    return Settled(job, result) if ids else _refused(job, _NOT_ITS_OWN)


def _refused(job: Job, message: str) -> Outcome:
    return _executor.failed(job, HandlerTransactionError(message))


def _mark(job: Job) -> str:
    return f"{job.id}.{job.run}"
