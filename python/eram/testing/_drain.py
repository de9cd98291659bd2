"""Running the jobs of a test's transaction inside it, until none is left that is due."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eram._jobs.job import Job
from eram._jobs.outcome import Cancelled, Completed, Discarded, Failed, Outcome, Snoozed
from eram.engine import Engine
from eram.errors import EramError
from eram.testing import _sql
from eram.testing._run import (
    InlineRunner,
    Performed,
    Setting,
    as_fetched,
    performed,
    raise_if_unexpected,
    setting_of,
)
from eram.testing._session import Session, async_session_of, session_of


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did: what became of each run, in this order.

    Attributes:
        runs: one for each run; a job that was run several times is in it several times.
    """

    runs: tuple[Performed, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs ended in which way; what did not happen is not in it."""
        return dict(collections.Counter(each.outcome for each in self.runs))

    @property
    def results(self) -> list[Any]:
        """What the handlers of the jobs that were completed returned."""
        return [each.result for each in self.runs if each.outcome == "completed"]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Performed]:
        return iter(self.runs)

    def __repr__(self) -> str:
        return f"<Drained {self.counts}>"


def drain(
    conn: Any,
    queue: str | None = None,
    *,
    with_scheduled: bool = False,
    with_recursion: bool = True,
    committed: bool = False,
    max_jobs: int = 1_000,
    raises: bool = True,
    engine: Engine | None = None,
) -> Drained:
    """Run the jobs that are due, one after another, in the transaction of the test.

    They run in the order of priority, then time, then id, as a worker with one slot would run them,
    and with the same outcomes: what fails waits for its backoff, what is snoozed waits. A handler
    that takes a session gets `conn`; what it did is rolled back to where it began unless it
    completes. Timeouts are not enforced, paused queues are passed over.

    Args:
        conn: the test's psycopg connection, in whose transaction the jobs were enqueued.
        queue: the queue whose jobs to run; None is all.
        with_scheduled: whether jobs run that are not due yet, each once.
        with_recursion: whether jobs run that were enqueued by those that this runs.
        committed: whether jobs run that were there when the transaction began, or that others have
            committed. They stay locked until the transaction ends.
        max_jobs: after so many runs it is taken for endless.
        raises: whether the exception of a handler is raised, once its job is noted as failed,
            instead of going on with the next job.
        engine: whose handlers and middleware are meant; otherwise all handlers of `@eram.job` are.

    Raises:
        EramError: there is no transaction and so no job of its own, or no end of jobs.
    """
    return _drain(
        session_of(conn),
        queue,
        with_scheduled=with_scheduled,
        with_recursion=with_recursion,
        committed=committed,
        max_jobs=max_jobs,
        raises=raises,
        setting=setting_of(engine),
    )


async def drain_async(
    conn: Any,
    queue: str | None = None,
    *,
    with_scheduled: bool = False,
    with_recursion: bool = True,
    committed: bool = False,
    max_jobs: int = 1_000,
    raises: bool = True,
    engine: Engine | None = None,
) -> Drained:
    """Run the jobs that are due in the transaction of an async test; otherwise like `drain`.

    Async handlers run on the loop of the test, the others in a thread.

    Args:
        conn: the test's psycopg.AsyncConnection.
        queue: as for `drain`, like all that follows.
        with_scheduled: whether jobs run that are not due yet, each once.
        with_recursion: whether jobs run that were enqueued by those that this runs.
        committed: whether jobs run that others have committed.
        max_jobs: after so many runs it is taken for endless.
        raises: whether the exception of a handler is raised.
        engine: whose handlers and middleware are meant.
    """
    return await asyncio.to_thread(
        _drain,
        async_session_of(conn),
        queue,
        with_scheduled=with_scheduled,
        with_recursion=with_recursion,
        committed=committed,
        max_jobs=max_jobs,
        raises=raises,
        setting=setting_of(engine),
    )


def _drain(
    session: Session,
    queue: str | None,
    *,
    with_scheduled: bool,
    with_recursion: bool,
    committed: bool,
    max_jobs: int,
    raises: bool,
    setting: Setting,
) -> Drained:
    if queue is not None and not isinstance(queue, str):
        raise TypeError(f"queue must be the name of one, or None for all, got {queue!r}")
    if type(max_jobs) is not int or max_jobs < 1:
        raise ValueError(f"max_jobs must be a number from 1, got {max_jobs!r}")
    if not session.has_transaction and not committed:
        raise EramError(
            "there is no transaction, so it has no jobs to run: enqueue and drain inside one, such"
            " as that of the fixture eram_conn, or pass committed=True"
        )
    session.demand_transaction(or_begin=committed)
    runs: list[Performed] = []
    upto = None if with_recursion else session.execute(_sql.NEWEST_JOB)[0][0]
    names = json.dumps([queue or "default"]).replace("[", "{").replace("]", "}")
    worker = session.execute(_sql.START_WORKER, names)[0][0]
    try:
        with InlineRunner(setting, session, lambda each: _report(session, each)) as runner:
            while True:
                ids = sorted({each.job.id for each in runs})
                rows = session.execute(
                    _sql.FETCH,
                    worker,
                    queue,
                    not committed,
                    with_scheduled,
                    upto,
                    f"{{{','.join(map(str, ids))}}}",
                )
                if not rows:
                    return Drained(tuple(runs))
                if len(runs) >= max_jobs:
                    raise EramError(
                        f"{max_jobs} runs, and there is still a job that is due, of handler"
                        f' "{rows[0][2]}": does it enqueue or snooze itself for ever?'
                    )
                outcome, state, raised = runner.run(_job(rows[0]))
                if raises:
                    raise_if_unexpected(outcome, raised)
                runs.append(performed(outcome, state, raised))
    finally:
        # Where the transaction has ended or cannot go on, there is no worker to be ended.
        with contextlib.suppress(Exception):
            session.look()
            session.execute(_sql.STOP_WORKER, worker)


def _job(row: tuple[Any, ...]) -> Job:
    job_id, run, handler, args, meta, tags, *rest = row
    columns: Any = (job_id, run, handler, as_fetched(args), as_fetched(meta), tags, *rest)
    return Job(columns)


def _report(session: Session, outcome: Outcome) -> str | None:
    """Return the state of the job then, None if the outcome came too late."""
    ids = (outcome.job.id, outcome.job.run)
    match outcome:
        case Completed(_, result):
            rows = session.execute(_sql.COMPLETE_JOB, *ids, result)
        case Failed(_, error, detail, delay):
            seconds = None if delay is None else delay.total_seconds()
            rows = session.execute(_sql.FAIL_JOB, *ids, error, json.dumps(detail), seconds)
        case Snoozed(_, delay):
            rows = session.execute(_sql.SNOOZE_JOB, *ids, delay.total_seconds())
        case Cancelled(_, reason):
            rows = session.execute(_sql.CANCEL_JOB, *ids, reason)
        case Discarded(_, reason):
            rows = session.execute(_sql.DISCARD_JOB, *ids, reason)
        case _:
            raise TypeError(f"no handler ends with {outcome!r}")
    return str(rows[0][0]) if rows and rows[0][0] is not None else None
