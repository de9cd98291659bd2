"""The drivers by which threads of the application enqueue, one for each of them."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any

from eram._jobs.enqueueing import Enqueued
from eram._transactions.driver import Drivers


class ThreadDrivers:
    """Builds a driver for each thread that asks, and closes it with the thread.

    Args:
        drivers: what was configured.
    """

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._own = threading.local()
        self._all: weakref.WeakSet[_Holder] = weakref.WeakSet()

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue by the calling thread's driver.

        Raises:
            ConfigError: it cannot be built.
            Exception: whatever the driver raises.
        """
        holder: _Holder | None = getattr(self._own, "holder", None)
        if holder is None:
            holder = self._own.holder = _Holder(self._drivers)
            self._all.add(holder)
        return holder.enqueue(session, document)

    def close(self) -> None:
        """Close those that are not in use; whoever enqueues again has a new one."""
        for holder in list(self._all):
            holder.close()


class _Holder:
    """The driver of one thread, which another one may close."""

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._driver: Any = None
        self._using = threading.Lock()
        self._process = os.getpid()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        with self._using:
            if self._driver is None:
                self._driver = self._drivers.build()
            enqueued: Enqueued = self._driver.enqueue(session, document)
            return enqueued

    def close(self) -> None:
        # It may be a signal handler, in the midst of its use: nobody would let go of it then.
        if not self._using.acquire(blocking=False):
            return
        try:
            driver, self._driver = self._driver, None
        finally:
            self._using.release()
        # In a forked process it is the parent's.
        if hasattr(driver, "close") and self._process == os.getpid():
            driver.close()
