"""Telling the server how jobs ended: completions in batches, everything else one by one.

An outcome leaves the backlog when the server has taken it. What it refuses for its contents is
narrowed down to the job at fault, which fails with the server's message; the others complete.
What someone has locked is put aside for a while, and the others are reported.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, cast

import psycopg

from eram._base.connection import brief
from eram._jobs.job import Job
from eram._jobs.outcome import Completed, Failed, Outcome, Released, Settled
from eram._runtime import execution, report_calls
from eram._runtime.aside import Aside, Group
from eram._runtime.notifier import Notifier

logger = logging.getLogger(__name__)

MAX_BATCH_JOBS = 1_000
MAX_BATCH_CHARACTERS = 16_000_000

# Errors about what was sent, as opposed to the state that the server is in.
_REFUSALS = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)
# Someone is in the way: the call has done nothing, and can be made again.
IN_THE_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


class Reporter:
    """Holds what is not yet reported, and reports it over whatever connection there is."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._completed: deque[Completed] = deque()
        self._released: deque[Released] = deque()
        self._others: deque[Outcome] = deque()
        # To be sent next. The first one stays there until it is known what came of it.
        self._groups: deque[Group] = deque()
        self._aside = Aside()
        # The server may have taken these: the connection was lost before it could say so.
        self._in_doubt: set[Job] = set()
        # And these may have been completed by their own transactions: the errors of their commits.
        self._uncommitted: dict[Job, str] = {}

    def __bool__(self) -> bool:
        return self._is_urgent or bool(self._aside)

    @property
    def jobs(self) -> set[Job]:
        """The jobs that are not yet reported; any thread may ask."""
        # Each copied in one step, because it changes meanwhile.
        groups: list[Iterable[Outcome]] = [
            self._completed,
            self._released,
            self._others,
            *list(self._groups),
            self._aside,
        ]
        return {outcome.job for group in groups for outcome in list(group)}

    def seconds_left(self) -> float:
        """Say after how long there is something to be sent."""
        return 0.0 if self._is_urgent else self._aside.seconds_left()

    def add(self, outcome: Outcome) -> None:
        """Take an outcome to be reported."""
        match outcome:
            case Completed():
                self._completed.append(outcome)
            case Released():
                self._released.append(outcome)
            case Settled(job, result):
                self._notifier.completed(job, result)
            case Failed(job, is_in_doubt=True):
                self._uncommitted[job] = outcome.error
                self._others.append(outcome)
            case _:
                self._others.append(outcome)

    def send(self, conn: psycopg.Connection[Any]) -> bool:
        """Report everything, and say whether a job may have been put off by it.

        It ends when it had to wait in vain: other things are to be done, and it is called again.

        Raises:
            psycopg.Error: the server cannot take it now; what it has not taken is kept.
        """
        was_put_off = False
        while (group := self._next()) is not None:
            try:
                was_put_off |= self._send(conn, group)
            except IN_THE_WAY:
                self._aside.put(group)
                self._groups.popleft()
                break
            except _REFUSALS as refusal:
                self._groups.popleft()
                self._narrow_down(group, refusal)
            except psycopg.Error:
                if conn.closed:
                    self._in_doubt.update(outcome.job for outcome in group)
                raise
        if not self:
            self._in_doubt.clear()
        return was_put_off

    @property
    def _is_urgent(self) -> bool:
        return bool(self._completed or self._released or self._others or self._groups)

    def _next(self) -> Group | None:
        if not self._groups:
            group: Group | None
            if self._completed:
                group = self._next_batch()
            elif self._released:
                group = _popped(self._released, MAX_BATCH_JOBS)
            elif self._others:
                group = _popped(self._others, 1)
            else:
                group = self._aside.take()
            if group is None:
                return None
            self._groups.append(group)
        return self._groups[0]

    def _next_batch(self) -> Sequence[Completed]:
        count = characters = 0
        for outcome in islice(self._completed, MAX_BATCH_JOBS):
            characters += len(outcome.result or "")
            if count and characters > MAX_BATCH_CHARACTERS:
                break
            count += 1
        return _popped(self._completed, count)

    def _send(self, conn: psycopg.Connection[Any], group: Group) -> bool:
        """Report a group; say whether its job may have been put off."""
        match group[0]:
            case Completed():
                self._complete(conn, cast("Sequence[Completed]", group))
            case Released():
                report_calls.release(conn, [outcome.job for outcome in group])
                self._groups.popleft()
            case outcome:
                self._report(conn, outcome)
                return True
        return False

    def _complete(self, conn: psycopg.Connection[Any], batch: Sequence[Completed]) -> None:
        ids = report_calls.complete(conn, batch)
        self._groups.popleft()
        taken = batch if len(ids) == len(batch) else self._taken(batch, ids)
        for job, result in taken:
            self._notifier.completed(job, result)

    def _taken(self, batch: Sequence[Completed], ids: Collection[int]) -> list[Completed]:
        """Pick the completions that the server has taken; the others are lost."""
        # Two runs of one job can meet here, of which the later one is meant.
        latest = {each.job.id: each for each in sorted(batch, key=lambda each: each.job.run)}
        taken: list[Completed] = []
        for each in batch:
            if each.job.id in ids and each is latest[each.job.id]:
                taken.append(each)
            else:
                self._log_lost(each.job)
        return taken

    def _report(self, conn: psycopg.Connection[Any], outcome: Outcome) -> None:
        try:
            state, error = report_calls.report(conn, outcome)
        except _REFUSALS as refusal:
            failed = Failed(outcome.job, _in_ascii(refusal), {"type": type(refusal).__name__})
            state, error = report_calls.report(conn, failed)
        self._groups.popleft()
        if state == "discarded":
            self._notifier.discarded(outcome.job, error)
        elif state is None:
            self._log_lost(outcome.job)
        self._uncommitted.pop(outcome.job, None)

    def _narrow_down(self, group: Group, refusal: psycopg.Error) -> None:
        if len(group) > 1:
            # By halves, until the one at fault is alone.
            half = len(group) // 2
            self._groups.extendleft((group[half:], group[:half]))
        else:
            self._others.append(execution.failed(group[0].job, refusal))

    def _log_lost(self, job: Job) -> None:
        extra = {"job_id": job.id, "run": job.run}
        if job.timed_out:
            logger.info(
                "job %s: run %s was over already when it timed out", job.id, job.run, extra=extra
            )
        elif (error := self._uncommitted.get(job)) is not None:
            logger.warning(
                "job %s: run %s is over, so its transaction was committed, or someone else has"
                " ended the run; the commit said: %s",
                job.id,
                job.run,
                error,
                extra=extra,
            )
        elif job in self._in_doubt:
            logger.warning(
                "job %s: the connection was lost during the report of run %s, and now there is none"
                " to make: it was taken then, or someone else has ended the run",
                job.id,
                job.run,
                extra=extra,
            )
        else:
            logger.error(
                "lost job %s: run %s is no longer this worker's, and its outcome was not stored",
                job.id,
                job.run,
                extra=extra,
            )


def _popped(outcomes: deque[Any], most: int) -> list[Any]:
    return [outcomes.popleft() for _ in range(min(most, len(outcomes)))]


def _in_ascii(refusal: psycopg.Error) -> str:
    """Say why: the text itself can be at fault, where the database knows fewer characters."""
    return brief(refusal).encode("ascii", "backslashreplace").decode()
