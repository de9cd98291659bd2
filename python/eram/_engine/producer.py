"""Enqueueing for the threads of an application, over connections that are kept for the next."""

from __future__ import annotations

from typing import Any

from eram._engine.spare_connections import SpareConnections
from eram._jobs import enqueueing
from eram._jobs.enqueueing import Enqueued
from eram._transactions.driver import Drivers
from eram._transactions.thread_drivers import ThreadDrivers


class Producer:
    """Enqueues by the driver if there is one; nothing is opened before the first job.

    Args:
        dsn: where the database is, without a driver.
        drivers: what was configured.
    """

    def __init__(self, dsn: str, drivers: Drivers | None) -> None:
        self._spare = SpareConnections(dsn, "eram enqueue")
        self._drivers = None if drivers is None else ThreadDrivers(drivers)

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue in a session's transaction, or so that the job is there at once.

        Raises:
            Exception: the server refuses, or there is none, as the library of the session says it.
        """
        if self._drivers is not None:
            return self._drivers.enqueue(session, document)
        if session is not None:
            return enqueueing.send(session, document)[0]
        return self._spare.use(lambda conn: enqueueing.send(conn, document)[0])

    def close(self) -> None:
        """Close what is not in use; whoever enqueues again opens it anew."""
        self._spare.close()
        if self._drivers is not None:
            self._drivers.close()
