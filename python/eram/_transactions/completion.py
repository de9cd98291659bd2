"""Completing a job in the transaction that its handler ran in: what to say, and what to check.

The same for every kind of connection; whoever has one does the talking.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.pq import TransactionStatus

from eram._base import statements
from eram._jobs.job import Job
from eram._jobs.outcome import Completed, Outcome, Settled
from eram._runtime import execution
from eram.errors import HandlerTransactionError

_ENDED = "the handler ended the transaction that was to complete its job"
_BROKEN = (
    "the handler caught a database error, but its transaction cannot go on after it; put what may"
    " fail into a savepoint"
)
_UNREAD = (
    "the handler left a query running on its connection; read cursor.stream() and copy() to their"
    " end, or close them"
)
_NOT_ITS_OWN = (
    "there was nothing to complete: the handler ended its own job by SQL, which is rolled back with"
    " all that it did; return eram.Cancel, eram.Discard or eram.Snooze instead"
)
_OBJECTIONS = {
    TransactionStatus.IDLE: _ENDED,
    TransactionStatus.ACTIVE: _UNREAD,
    TransactionStatus.INERROR: _BROKEN,
    TransactionStatus.UNKNOWN: "the handler's connection was closed or lost",
}


def mark_of(job: Job) -> str:
    """Return what marks the transaction of this run."""
    return f"{job.id}.{job.run}"


def marking(job: Job) -> LiteralString:
    """Return the statement that marks the transaction of this run, its first one."""
    # Numbers, so nothing in it needs quotes.
    return statements.MARK_TRANSACTION.format(mark_of(job))


def is_due(outcome: Outcome) -> bool:
    """Say whether the transaction is to complete the job.

    An attempt that took too long counts as timed out, though nobody may have said so yet.
    """
    return isinstance(outcome, Completed) and time.monotonic() < outcome.job.late_at


def objection(status: TransactionStatus) -> str | None:
    """Say why a transaction that is in this state cannot complete its job, if that is so."""
    return _OBJECTIONS.get(status)


def parameters(outcome: Completed) -> tuple[int, int, str | None, str]:
    """Return the parameters of COMPLETE_JOB."""
    job, result = outcome
    return job.id, job.run, result, mark_of(job)


def settle(outcome: Completed, rows: Sequence[tuple[Any, ...]]) -> Outcome:
    """Make an outcome of the answer of COMPLETE_JOB."""
    job, result = outcome
    mark, ids = rows[0] if rows else (None, None)
    if mark != mark_of(job):
        return refused(job, _ENDED)
    # Where the run was ended from outside, this is reported in vain, and logged as lost.
    return Settled(job, result) if ids else refused(job, _NOT_ITS_OWN)


def refused(job: Job, message: str, cause: BaseException | None = None) -> Outcome:
    """Make an outcome of a handler that has spoilt its transaction."""
    error = HandlerTransactionError(message)
    error.__cause__ = cause
    return execution.failed(job, error)
