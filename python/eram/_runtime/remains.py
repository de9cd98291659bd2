"""Saying what a worker leaves behind that could not end in time."""

from __future__ import annotations

import logging

from eram._runtime.worker import Worker

MAX_NAMED_JOBS = 20


def say_what_is_left(worker: Worker, logger: logging.Logger) -> None:
    """Log what becomes of the jobs, reports and listeners of a worker whose process ends now."""
    overrun, unreported, untold = worker.overrun, worker.unreported, worker.untold
    if (unfinished := worker.unfinished - overrun) > 0:
        logger.error("%s jobs did not end in time and are left to be rescued", unfinished)
    if unreported:
        ids = ", ".join(map(str, unreported[:MAX_NAMED_JOBS]))
        logger.error(
            "%s jobs ended, but it could not be reported, and they are left to be rescued: %s%s",
            len(unreported),
            ids,
            ", ..." if len(unreported) > MAX_NAMED_JOBS else "",
        )
    if overrun:
        logger.warning("%s handlers did not end though their runs are over", overrun)
    if untold:
        logger.warning("stopped, but listeners have not heard of %s jobs", untold)
    if not (unfinished or unreported or overrun or untold):
        logger.warning("stopped, but the server may not know it yet")
