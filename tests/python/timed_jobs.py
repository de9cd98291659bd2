"""Handlers with timeouts, and others whose ends someone listens to."""

from __future__ import annotations

import threading
import time

from sample_jobs import PATIENCE, gates, seen, started

import eram

SHORT = 0.3
# A busy machine can stand still for a while.
LONG = 2.0
AT_ONCE = {"strategy": "fixed", "base": "0 seconds"}


@eram.job(timeout=60)
def look(job):
    return {"timeout": job.timeout.total_seconds(), "deadline": job.deadline.isoformat()}


@eram.job(timeout=SHORT, max_attempts=1)
def stay(job, name, end="return"):
    """Take no notice of the timeout, and end when the test opens the gate."""
    started[name].set()
    assert gates[name].wait(PATIENCE)
    seen.append((job.cancelled, job.timed_out))
    match end:
        case "raise":
            raise ValueError("too late")
        case "snooze":
            return eram.Snooze(1)
        case _:
            return {"too": "late"}


@eram.job(timeout=SHORT, backoff=AT_ONCE)
def stay_once(job, name):
    if job.attempt == 1:
        started[name].set()
        assert gates[name].wait(PATIENCE)
    return {"attempt": job.attempt}


@eram.job(timeout=SHORT, max_attempts=1)
def heed(job):
    deadline = time.monotonic() + PATIENCE
    while not job.cancelled and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    seen.append(job.timed_out)


@eram.job(timeout=LONG)
def be_quick(job):
    return "done"


@eram.job(transaction=True, timeout=SHORT, max_attempts=1)
def insert_slowly(job, conn, how, name=""):
    conn.execute("insert into effects values (%s)", (job.id,))
    match how:
        case "in a statement":
            started[name].set()
            conn.execute("select pg_sleep(600)")
        case "in python":
            started[name].set()
            assert gates[name].wait(PATIENCE)
        case "with its own job locked":
            conn.execute("select from eram_running_jobs where job_id = %s for update", (job.id,))
            started[name].set()
            assert gates[name].wait(PATIENCE)


@eram.job(transaction=True)
def insert_late(job, conn):
    conn.execute("insert into effects values (1)")
    time.sleep(0.05)


@eram.job(transaction=True)
def insert_quickly(job, conn):
    conn.execute("insert into effects values (0)")
    return {"inserted": True}


@eram.job(max_attempts=2)
def ask_again(job, after=0.01, reason=None):
    return eram.Retry(after, reason)


@eram.job
def say(job, what):
    return what
