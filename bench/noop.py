"""The handlers that the benchmark's worker runs."""

from __future__ import annotations

import threading
import time

import eram


@eram.job
def nothing(job: eram.Job) -> None:
    """Do nothing, so that all the time is that of the queue."""


@eram.job
def stamp(job: eram.Job) -> int:  # noqa: ARG001 - what it returns does not depend on the job
    """Say when it was started, in nanoseconds."""
    return time.monotonic_ns()


@eram.job
def hold(job: eram.Job) -> None:  # noqa: ARG001 - it never ends, whatever the job
    """Keep a thread of the worker busy until the worker is ended."""
    threading.Event().wait()
