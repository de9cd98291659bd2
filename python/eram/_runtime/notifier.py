"""Telling listeners how jobs ended, in a thread of its own, so that a slow one holds up no jobs."""

from __future__ import annotations

import json
import logging
import os
import threading
from queue import SimpleQueue
from typing import NamedTuple

from eram._base import wording
from eram._jobs import listeners
from eram._jobs.job import Job
from eram._jobs.listeners import Subscription
from eram._jobs.watch import Outcome

logger = logging.getLogger(__name__)

MAX_TRACEBACK_ENTRIES = 40
# They are kept, however many; but whoever is so slow should hear of it.
LONG_BACKLOG = 10_000


class _Ended(NamedTuple):
    """The end of a job, and who is to hear of it."""

    subscriptions: list[Subscription]
    job: Job
    state: str
    result: str | None
    error: str | None


class Notifier:
    """Calls the listeners of one worker, in the order in which the server took the outcomes.

    The thread is started for the first of them: without listeners there is none.
    """

    def __init__(self) -> None:
        self._backlog: SimpleQueue[_Ended | None] = SimpleQueue()
        self._long_backlog = LONG_BACKLOG
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_calling = False
        self._has_ended = threading.Event()
        # What ends the thread is no job.
        self._is_closing = False

    @property
    def pending(self) -> int:
        """How many jobs there are whose end is not yet told."""
        return max(0, self._backlog.qsize() - self._is_closing) + self._is_calling

    def completed(self, job: Job, result: str | None) -> None:
        """Tell, soon, that a job was completed; its result is JSON."""
        if subscriptions := listeners.of_success(job.handler):
            self._put(_Ended(subscriptions, job, "completed", result, None))

    def discarded(self, job: Job, error: str) -> None:
        """Tell, soon, that a job was discarded."""
        if subscriptions := listeners.of_failure(job.handler):
            self._put(_Ended(subscriptions, job, "discarded", None, error))

    def close(self) -> None:
        """End once all is told."""
        self._is_closing = True
        self._backlog.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the end, and say whether it has come."""
        if self._thread is None:
            return True
        # A listener may stop its own worker, but cannot wait for itself.
        if self._thread is threading.current_thread():
            return False
        # A join() that a signal handler interrupts would have the thread pass for ended.
        if not self._has_ended.wait(timeout):
            return False
        self._thread.join()
        return True

    def _put(self, ended: _Ended) -> None:
        self._backlog.put(ended)
        if self._thread is None:
            self._start()
        if self._backlog.qsize() > self._long_backlog:
            logger.warning("listeners are slow: %s jobs wait for them", self._backlog.qsize())
            self._long_backlog *= 2

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                # A daemon: the process must be able to end before a listener does.
                thread = threading.Thread(target=self._run, name="eram-listeners", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        try:
            while (ended := self._backlog.get()) is not None:
                self._is_calling = True
                _tell(ended)
                self._is_calling = False
        finally:
            self._has_ended.set()


def _tell(ended: _Ended) -> None:
    try:
        result = None if ended.result is None else json.loads(ended.result)
    # It is as deep as the interpreter allows, or of numbers too long for it.
    except (ValueError, RecursionError) as error:
        logger.warning("listeners cannot be told the result of job %s: %s", ended.job.id, error)
        return
    outcome = Outcome(ended.state, result, ended.error)
    for subscription in ended.subscriptions:
        # Someone may have unsubscribed meanwhile.
        if subscription.is_active:
            _call(subscription, ended.job, outcome)


def _call(subscription: Subscription, job: Job, outcome: Outcome) -> None:
    process = os.getpid()
    try:
        try:
            job.forget_changes()
            subscription.listener(job, outcome)
        finally:
            # The listener forked, and this is the child, which has nobody to go back to.
            if os.getpid() != process:
                os._exit(1)
    # Whatever a listener raises, the job has ended as it has, and the others are to hear of it.
    except BaseException as error:
        # The text is made there, where nothing that the error does can end the thread.
        logger.error(  # noqa: TRY400
            "a listener failed over job %s: %s",
            job.id,
            wording.trace(error, MAX_TRACEBACK_ENTRIES),
            extra={"job_id": job.id},
        )
