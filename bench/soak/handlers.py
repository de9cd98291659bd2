"""What the workers of a soak run, and what they put on record of it: the evidence.

A line `ran ID RUN HANDLER BEGUN ENDED NOTE` is written when a run of a handler is over, a line
`ended ID STATE HANDLER TOLD` when the server has taken how the job ended. Times are nanoseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import psycopg

import eram

EVIDENCE = "ERAM_SOAK_EVIDENCE"  # the environment's name for the file to write to
SHORT_SLEEP_SECONDS = 0.02


class ExpectedError(Exception):
    """A failure that belongs to the load."""


@eram.job
def plain(job: eram.Job, n: int) -> dict[str, int] | None:
    """Return a result now and then."""
    del job
    return {"n": n} if n % 10 == 0 else None


@eram.job
def flaky(job: eram.Job, n: int) -> int:
    """Fail at first."""
    if job.attempt == 1:
        raise ExpectedError("it fails at first")
    return n


@eram.job
def hopeless(job: eram.Job, n: int) -> None:
    """Fail always."""
    raise ExpectedError(f"job {job.id} fails always: {n}")


@eram.job
def snoozed(job: eram.Job, n: int) -> int | eram.Snooze:
    """Put itself off once."""
    return eram.Snooze(1) if job.run == 1 else n


@eram.job
def given_up(job: eram.Job, n: int) -> eram.Discard:
    """Give itself up for good."""
    del job
    return eram.Discard(f"{n} is of no use")


@eram.job
def called_off(job: eram.Job, n: int) -> eram.Cancel:
    """Find out that it is no longer wanted."""
    del job
    return eram.Cancel(f"{n} is no longer wanted")


@eram.job(transaction=True)
def in_transaction(job: eram.Job, conn: psycopg.Connection, n: int) -> int:
    """Complete together with what it does in the database."""
    del job
    return int(conn.execute("select %s::integer", (n,)).fetchall()[0][0])


@eram.job
def unique(job: eram.Job, key: str) -> None:
    """Take long enough for another job with its key to be seen beside it."""
    del job, key
    time.sleep(SHORT_SLEEP_SECONDS)


@eram.job
def occur(job: eram.Job) -> None:
    """Be enqueued by a schedule."""


@contextlib.contextmanager
def witness(job: eram.Job) -> Iterator[None]:
    """Put a run on record, as middleware around every handler."""
    begun_at = time.time_ns()
    try:
        yield
    finally:
        note = f"{job.meta['schedule']}@{job.meta['scheduled_for']}" if "cron" in job.meta else "-"
        _write("ran", job.id, job.run, _name(job), begun_at, time.time_ns(), note)


def _hear(job: eram.Job, outcome: eram.Outcome) -> None:
    """Put an end on record, as a listener."""
    _write("ended", job.id, outcome.state, _name(job), time.time_ns())


def _name(job: eram.Job) -> str:
    return job.handler.rpartition(":")[2]


def _write(*words: object) -> None:
    # One write to a file that is only appended to: no thread can come between.
    os.write(_file, f"{' '.join(map(str, words))}\n".encode())


def _end_with_parent() -> None:
    """Stop the worker when its input ends, which it does when the soak does, however that ends."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if EVIDENCE in os.environ:  # in a worker of a soak
    _file = os.open(os.environ[EVIDENCE], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    eram.on_success(None, _hear)
    eram.on_failure(None, _hear)
    threading.Thread(target=_end_with_parent, name="soak-parent", daemon=True).start()
