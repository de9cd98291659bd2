"""The calls that tell the server how runs have ended.

None waits for longer than a moment for what someone has locked: it raises, and has done nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from typing import Any, LiteralString

import psycopg

from eram._base import statements
from eram._jobs.job import Job
from eram._jobs.outcome import Cancelled, Completed, Discarded, Failed, Outcome, Snoozed

logger = logging.getLogger(__name__)


def complete(conn: psycopg.Connection[Any], batch: Sequence[Completed]) -> set[int]:
    """Report jobs as done; return the ids that the server has taken."""
    results = _text_array([outcome.result for outcome in batch])
    return _call_for_jobs(conn, statements.COMPLETE_JOBS, [each.job for each in batch], results)


def release(conn: psycopg.Connection[Any], jobs: Collection[Job]) -> None:
    """Give back jobs that were not started."""
    _call_for_jobs(conn, statements.RELEASE_JOBS, jobs)


def release_others(
    conn: psycopg.Connection[Any],
    worker_id: int,
    queue: str,
    jobs: Collection[Job],
) -> list[int]:
    """Give back what the worker holds of a queue apart from these jobs; return the ids."""
    arrays = _id_arrays(jobs)
    rows = conn.execute(statements.RELEASE_OTHER_JOBS, (worker_id, queue, *arrays)).fetchall()
    return [row[0] for row in rows]


def report(conn: psycopg.Connection[Any], outcome: Outcome) -> tuple[str | None, str]:
    """Return the state that the job is in then, None if it was lost, and the error, if any."""
    job = outcome.job
    match outcome:
        case Failed(_, error, detail, delay):
            state = _call(
                conn, statements.FAIL_JOB, job.id, job.run, error, json.dumps(detail), delay
            )
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
            is_taken = _call(conn, statements.SNOOZE_JOB, job.id, job.run, delay)
            return "scheduled" if is_taken else None, ""
        case Cancelled(_, reason):
            is_taken = _call(conn, statements.CANCEL_JOB, job.id, reason, job.run)
            return "cancelled" if is_taken else None, ""
        case Discarded(_, reason):
            is_taken = _call(conn, statements.DISCARD_JOB, job.id, job.run, reason)
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
    return f"{{{','.join(map(_quoted, elements))}}}"


def _quoted(element: str | None) -> str:
    if element is None:
        return "null"
    # Not translate(), which takes a hundred times as long, and stops every thread for that.
    escaped = element.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
