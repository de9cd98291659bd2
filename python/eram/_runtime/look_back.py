"""When a queue's new session gives back what the lost one has claimed, but could not tell of."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

import psycopg

from eram._jobs.job import Job
from eram._runtime import report_calls
from eram._runtime.reporter import IN_THE_WAY

logger = logging.getLogger(__name__)

# The server gives up a client that vanished within so long (eram_start_worker() sets it).
LAST_SECONDS = 15.0
AGAIN_SECONDS = 1.0


class LookBack:
    """Keeps the times: at once, and when the server has surely read all that it was sent."""

    def __init__(self) -> None:
        self._has_served = False
        self._times: list[float] = []

    def begin(self) -> None:
        """Note that there is a session; the first one has nothing to look back at."""
        if self._has_served:
            now = time.monotonic()
            self._times = [now + LAST_SECONDS, now]
        self._has_served = True

    @property
    def is_due(self) -> bool:
        """Whether it is time."""
        return bool(self._times) and time.monotonic() >= self._times[-1]

    def look(
        self,
        conn: psycopg.Connection[Any],
        worker_id: int,
        queue: str,
        ours: Collection[Job],
    ) -> None:
        """Give back what the worker holds of a queue, apart from the jobs that it knows of.

        Raises:
            psycopg.Error: the server cannot do it now; it is still due.
        """
        try:
            ids = report_calls.release_others(conn, worker_id, queue, ours)
        except IN_THE_WAY:
            self._times[-1] = time.monotonic() + AGAIN_SECONDS
            return
        self._times.pop()
        if ids:
            logger.info("queue %s released %s jobs that it never saw", queue, len(ids))
