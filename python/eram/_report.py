"""Telling the server how jobs ended: completions in batches, everything else one by one.

An outcome leaves the backlog when the server has taken it. What it refuses for its contents is
narrowed down to the job at fault, which fails with the server's message; the others complete.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, LiteralString

import psycopg

from eram import _executor, _sql
from eram._job import Job
from eram._notifier import Notifier
from eram._outcome import (
    Cancelled,
    Completed,
    Discarded,
    Failed,
    Outcome,
    Released,
    Settled,
    Snoozed,
)

logger = logging.getLogger(__name__)

MAX_BATCH_JOBS = 1_000
MAX_BATCH_CHARACTERS = 16_000_000

# Errors about what was sent, as opposed to the state that the server is in.
_REFUSALS = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

_QUOTED = str.maketrans({'"': '\\"', "\\": "\\\\"})


class Reporter:
    """Holds what is not yet reported, and reports it over whatever connection there is."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._completed: deque[Completed] = deque()
        self._released: deque[Job] = deque()
        self._others: deque[Outcome] = deque()
        self._batch_jobs = MAX_BATCH_JOBS

    def __len__(self) -> int:
        return len(self._completed) + len(self._released) + len(self._others)

    def add(self, outcome: Outcome) -> None:
        """Take an outcome to be reported."""
        match outcome:
            case Completed():
                self._completed.append(outcome)
            case Released(job):
                self._released.append(job)
            case Settled(job, result):
                self._notifier.completed(job, result)
            case _:
                self._others.append(outcome)

    def send(self, conn: psycopg.Connection[Any]) -> bool:
        """Report everything, and say whether a job may have been put off by it.

        Raises:
            psycopg.Error: the server cannot take it now; what it has not taken is kept.
        """
        while self._completed:
            self._complete(conn, self._next_batch())
        while self._released:
            jobs = list(islice(self._released, MAX_BATCH_JOBS))
            _call_for_jobs(conn, _sql.RELEASE_JOBS, jobs)
            for _ in jobs:
                self._released.popleft()
        was_put_off = bool(self._others)
        while self._others:
            self._report(conn, self._others[0])
            self._others.popleft()
        return was_put_off

    def _next_batch(self) -> list[Completed]:
        batch: list[Completed] = []
        characters = 0
        for outcome in islice(self._completed, self._batch_jobs):
            characters += len(outcome.result or "")
            if batch and characters > MAX_BATCH_CHARACTERS:
                break
            batch.append(outcome)
        return batch

    def _complete(self, conn: psycopg.Connection[Any], batch: Sequence[Completed]) -> None:
        jobs = [outcome.job for outcome in batch]
        results = _text_array([outcome.result for outcome in batch])
        try:
            taken = _call_for_jobs(conn, _sql.COMPLETE_JOBS, jobs, results)
        except _REFUSALS as error:
            if len(batch) > 1:
                # By halves, until the one at fault is alone.
                self._batch_jobs = len(batch) // 2
                return
            self._others.append(_executor.failed(jobs[0], error))
            batch_taken: Sequence[Completed] = ()
        else:
            batch_taken = batch
            if len(taken) < len(jobs):
                batch_taken = _taken(batch, taken)
        self._batch_jobs = min(2 * self._batch_jobs, MAX_BATCH_JOBS)
        for _ in batch:
            self._completed.popleft()
        for job, result in batch_taken:
            self._notifier.completed(job, result)

    def _report(self, conn: psycopg.Connection[Any], outcome: Outcome) -> None:
        try:
            state, error = _report_one(conn, outcome)
        except _REFUSALS as refusal:
            # The text itself can be at fault, where the database's encoding knows fewer characters.
            text = ascii(str(refusal))
            failed = Failed(outcome.job, text, {"type": type(refusal).__name__})
            state, error = _report_one(conn, failed)
        if state == "discarded":
            self._notifier.discarded(outcome.job, error)
        elif state is None:
            _log_lost(outcome.job)


def _taken(batch: Sequence[Completed], ids: Collection[int]) -> list[Completed]:
    """Pick the completions that the server has taken; the others are lost."""
    # Two runs of one job can meet here, of which the later one is meant.
    latest = {each.job.id: each for each in sorted(batch, key=lambda each: each.job.run)}
    taken: list[Completed] = []
    for each in batch:
        if each.job.id in ids and each is latest[each.job.id]:
            taken.append(each)
        else:
            _log_lost(each.job)
    return taken


def release_others(
    conn: psycopg.Connection[Any],
    worker_id: int,
    queue: str,
    jobs: Collection[Job],
) -> list[int]:
    """Give back what the worker holds of a queue apart from these jobs; return the ids."""
    arrays = _id_arrays(jobs)
    rows = conn.execute(_sql.RELEASE_OTHER_JOBS, (worker_id, queue, *arrays)).fetchall()
    return [row[0] for row in rows]


def _report_one(conn: psycopg.Connection[Any], outcome: Outcome) -> tuple[str | None, str]:
    """Return the state that the job is in then, None if it was lost, and the error, if any."""
    job = outcome.job
    match outcome:
        case Failed(_, error, detail, delay):
            state = _call(conn, _sql.FAIL_JOB, job.id, job.run, error, json.dumps(detail), delay)
            if state is not None:
                logger.warning(
                    "job %s failed in attempt %s of %s and is %s: %s",
                    job.id,
                    job.attempt,
                    job.max_attempts,
                    state,
                    error,
                    extra={"job_id": job.id, "run": job.run, "handler": job.handler},
                )
            return state, error
        case Snoozed(_, delay):
            is_taken = _call(conn, _sql.SNOOZE_JOB, job.id, job.run, delay)
            return "scheduled" if is_taken else None, ""
        case Cancelled(_, reason):
            is_taken = _call(conn, _sql.CANCEL_JOB, job.id, reason, job.run)
            return "cancelled" if is_taken else None, ""
        case Discarded(_, reason):
            is_taken = _call(conn, _sql.DISCARD_JOB, job.id, job.run, reason)
            return "discarded" if is_taken else None, reason
        case _:
            raise TypeError(f"no single report for {outcome!r}")


def _call(conn: psycopg.Connection[Any], query: LiteralString, *params: object) -> Any:
    row = conn.execute(query, params).fetchone()
    return None if row is None else row[0]


def _call_for_jobs(
    conn: psycopg.Connection[Any],
    query: LiteralString,
    jobs: Collection[Job],
    *params: object,
) -> set[int]:
    with conn.cursor(binary=True) as cursor:
        cursor.execute(query, (*_id_arrays(jobs), *params))
        return {row[0] for row in cursor.fetchall()}


def _id_arrays(jobs: Collection[Job]) -> tuple[str, str]:
    # Literals made here cost a fraction of what psycopg's own way with lists does.
    ids = [str(job.id) for job in jobs]
    runs = [str(job.run) for job in jobs]
    return f"{{{','.join(ids)}}}", f"{{{','.join(runs)}}}"


def _text_array(elements: Sequence[str | None]) -> str | None:
    """Write an array literal; null stands for one that holds nothing but nulls."""
    if all(element is None for element in elements):
        return None
    quoted = ("null" if each is None else f'"{each.translate(_QUOTED)}"' for each in elements)
    return f"{{{','.join(quoted)}}}"


def _log_lost(job: Job) -> None:
    extra = {"job_id": job.id, "run": job.run}
    if job.timed_out:
        logger.info(
            "job %s: run %s was over already when it timed out", job.id, job.run, extra=extra
        )
    else:
        logger.error(
            "lost job %s: run %s is no longer this worker's, and its outcome was not stored",
            job.id,
            job.run,
            extra=extra,
        )
