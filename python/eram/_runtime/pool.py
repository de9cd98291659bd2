"""The executor threads of a queue, between a deque of jobs and a deque of outcomes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from eram._jobs.job import Job
from eram._jobs.outcome import Outcome
from eram._runtime import execution
from eram._runtime.deadlines import Deadlines
from eram._runtime.execution import Executor, Runner

logger = logging.getLogger(__name__)


class ExecutorPool:
    """Runs jobs in `limit` threads.

    A thread without work lies on a stack with a lock of its own, which whoever brings work
    releases. The stack keeps as few threads awake as there is work for, and costs nothing per job.
    """

    def __init__(
        self,
        queue: str,
        *,
        limit: int,
        executor: Executor,
        deadlines: Deadlines,
        open_runner: Callable[[], Runner],
        on_finished: Callable[[Outcome], None],
    ) -> None:
        self._queue = queue
        self._executor = executor
        self._deadlines = deadlines
        self._open_runner = open_runner
        self._on_finished = on_finished
        self._buffer: deque[Job] = deque()
        self._idle: deque[threading.Lock] = deque()
        self._is_closed = False
        # Daemons: the process must be able to end before a job does that outlives the grace period.
        self._threads = [
            threading.Thread(target=self._run, name=f"eram-exec-{queue}-{number}", daemon=True)
            for number in range(1, limit + 1)
        ]

    def start(self) -> None:
        """Start the threads.

        Raises:
            RuntimeError: there are not so many to be had.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self.close()
            raise RuntimeError(
                f'queue "{self._queue}" cannot have {len(self._threads)} threads here: {error}'
            ) from error

    def close(self) -> None:
        """Let each thread end once it has nothing to do."""
        self._is_closed = True
        self._wake(len(self._threads))

    def join(self, timeout: float) -> None:
        """Wait, up to so many seconds, until the threads have ended, after `close`."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def buffered(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._buffer)

    def feed(self, jobs: Iterable[Job]) -> None:
        """Hand jobs to the threads, in this order."""
        self._buffer.extend(jobs)
        self._wake(len(self._buffer))

    def take_back(self, count: int) -> list[Job]:
        """Take up to `count` jobs that no thread has begun, the last ones first."""
        jobs: list[Job] = []
        try:
            while len(jobs) < count:
                jobs.append(self._buffer.pop())
        except IndexError:
            pass
        return jobs

    def take_back_one(self, job: Job) -> bool:
        """Take this job, and say whether no thread had begun it."""
        try:
            self._buffer.remove(job)
        except ValueError:
            return False
        return True

    def _wake(self, count: int) -> None:
        try:
            for _ in range(count):
                self._idle.pop().release()
        except IndexError:
            pass

    def _run(self) -> None:
        buffer, executor, on_finished = self._buffer, self._executor, self._on_finished
        alarm = threading.Lock()
        alarm.acquire()
        runner = self._open_runner()
        while True:
            try:
                job = buffer.popleft()
            except IndexError:
                if self._is_closed:
                    break
                # Lie down first and look again then: work that comes in between is not missed.
                self._idle.append(alarm)
                if buffer or self._is_closed:
                    self._wake(1)
                alarm.acquire()
                continue
            try:
                if job.timeout_seconds is not None:
                    self._deadlines.begin(job, runner.cut)
                outcome = executor.execute(job, runner)
            # One of the two loops that must survive anything: an error of eram's own fails the job.
            except BaseException as error:
                failure = outcome = execution.failed(job, error)
                # The text is made there, where nothing that the error does can end the thread.
                logger.error(  # noqa: TRY400
                    "job %s could not be run: %s",
                    job.id,
                    failure.detail["traceback"],
                    extra={"job_id": job.id},
                )
            if job.timeout_seconds is not None:
                self._deadlines.note_end(job)
            on_finished(outcome)
        runner.close()
