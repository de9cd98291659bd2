"""What the workers run. What a run does is said by its job, a letter for each run.

`.` returns, `f` fails, `s` snoozes, `c` cancels, `d` discards, `t` outlives the timeout; the last
letter is for all further runs. Each run puts its begin and its end on record.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

import eram
from chaos.evidence import DIRECTORY, Record

SNOOZE_SECONDS = 0.2
LATE_SECONDS = 0.3  # how much longer than its timeout a run takes that outlives it

# That of a worker; producers import this as well, and have none here.
_records: list[Record] = []


class ExpectedError(Exception):
    """A failure that belongs to the load."""


class Running:
    """One run, from its begin to its end."""

    def __init__(self, job: eram.Job, does: str) -> None:
        self.letter = does[min(job.run, len(does)) - 1]
        self._job = job
        self.how = "raised"

    def seconds(self, seconds: float) -> float:
        """Say how long this run takes."""
        if self.letter == "t" and self._job.timeout is not None:
            return self._job.timeout.total_seconds() + LATE_SECONDS
        return seconds

    def outcome(self) -> Any:
        """Return what the handler returns, or raise what it raises."""
        match self.letter:
            case "f":
                raise ExpectedError(f"run {self._job.run} was to fail")
            case "s":
                self.how = "snoozed"
                return eram.Snooze(SNOOZE_SECONDS)
            case "c":
                self.how = "cancelled"
                return eram.Cancel("the handler calls it off")
            case "d":
                self.how = "discarded"
                return eram.Discard("the handler gives it up")
        self.how = "returned"
        return {"run": self._job.run}


@contextlib.contextmanager
def on_record(job: eram.Job, token: str, does: str) -> Iterator[Running]:
    """Put a run on record."""
    running = Running(job, does)
    _write("run begun", job=job.id, run=job.run, token=token, queue=job.queue)
    try:
        yield running
    finally:
        _write("run ended", job=job.id, run=job.run, how=running.how)


@eram.job
def plain(job: eram.Job, token: str, does: str = ".", seconds: float = 0, key: str = "") -> Any:
    """Run at least once."""
    with on_record(job, token, does) as running:
        time.sleep(running.seconds(seconds))
        return running.outcome()


@eram.job
async def patient(job: eram.Job, token: str, does: str = ".", seconds: float = 0) -> Any:
    """Run at least once, on the event loop."""
    with on_record(job, token, does) as running:
        await asyncio.sleep(running.seconds(seconds))
        return running.outcome()


@eram.job(transaction=True)
def transactional(
    job: eram.Job,
    conn: psycopg.Connection[Any],
    token: str,
    does: str = ".",
    seconds: float = 0,
) -> Any:
    """Leave an effect in the database, exactly once."""
    with on_record(job, token, does) as running:
        conn.execute("insert into effects (job_id, run) values (%s, %s)", (job.id, job.run))
        time.sleep(running.seconds(seconds))
        return running.outcome()


@eram.job
def occur(job: eram.Job) -> None:
    """Be enqueued by a schedule."""
    with on_record(job, f"{job.meta['schedule']} {job.meta['scheduled_for']}", ".") as running:
        running.outcome()


def _hear(job: eram.Job, outcome: eram.Outcome) -> None:
    """Put on record that the server has taken how a job ended."""
    _write("told", job=job.id, run=job.run, state=outcome.state)


def _write(event: str, **fields: Any) -> None:
    if _records:
        _records[0].write(event, **fields)


def end_with_parent() -> None:
    """Stop this process when its input ends, which it does when chaos does, however that ends."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="chaos-parent", daemon=True).start()


def _be_a_worker() -> None:
    _records.append(Record(Path(os.environ[DIRECTORY])))
    eram.on_success(None, _hear)
    eram.on_failure(None, _hear)
    end_with_parent()


if DIRECTORY in os.environ:  # in a worker
    _be_a_worker()
