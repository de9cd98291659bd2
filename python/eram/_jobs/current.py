"""Which job's handler runs here: known to whatever it calls, also to tasks that it starts."""

from __future__ import annotations

from contextvars import ContextVar

from eram._jobs.job import Job

running: ContextVar[Job | None] = ContextVar("eram_job", default=None)


def current_job() -> Job | None:
    """Return the job whose handler calls this, directly or through others, or None.

    It follows `contextvars`: tasks of an async handler have it, threads that a handler starts do
    not unless they are given a copy of its context.
    """
    return running.get()
