"""The model's administration: what is done to jobs from outside."""

from __future__ import annotations

import contextlib
from typing import Any

from .defaults import BAD_RANGE, TAKEN, WRONG_STATE, RefusedError, given, seconds
from .jobs import ENDED, RUNNING, WAITING, Job, Store
from .moments import Moment

Filter = dict[str, Any]


class Administration(Store):
    """Acting on one job, or on all that a filter chooses."""

    def eram_cancel_job(
        self,
        at: Moment,
        id: int,  # noqa: A002
        reason: str | None = None,
        run: int | None = None,
    ) -> bool:
        """Cancel a job wherever it is; with a run, only that run."""
        if run is not None and self.running(id, run) is None:
            return False
        job = self.job(id)
        if job.place in ENDED:
            return False
        self.cancel(job, reason, at, is_told=run is None)
        return True

    def cancel(self, job: Job, reason: str | None, at: Moment, *, is_told: bool = True) -> None:
        """End a job; its worker is told, unless that was what the worker wanted."""
        if job.place == WAITING:
            job.run += 1
        elif is_told and job.worker in self.workers:
            self.workers[job.worker].cancelled.add((job.id, job.run))
        if reason is not None:
            job.record(reason, "cancelled")
        self.end(job, "cancelled", at)

    def eram_cancel_jobs(self, at: Moment, filter: Filter, reason: str | None = None) -> int:  # noqa: A002
        """Cancel what waits and runs."""
        jobs = [job for job in self.chosen(filter, at) if job.place not in ENDED]
        for job in jobs:
            self.cancel(job, reason, at)
        return len(jobs)

    def eram_retry_job(self, at: Moment, id: int) -> bool:  # noqa: A002
        """Run a job again that has ended, or one at once that waits for its next attempt."""
        job = self.job(id)
        if not self.is_retryable(job, at):
            return False
        self.retry(job, at)
        return True

    def eram_retry_jobs(self, at: Moment, filter: Filter) -> int:  # noqa: A002
        """Retry what has ended, and what waits for its next attempt; not what lost its key."""
        count = 0
        for job in self.chosen(filter, at):
            if self.is_retryable(job, at):
                with contextlib.suppress(RefusedError):
                    self.retry(job, at)
                    count += 1
        return count

    def is_retryable(self, job: Job, at: Moment) -> bool:
        """Say whether a retry changes anything."""
        return job.state(at) in (*ENDED, "retryable")

    def retry(self, job: Job, at: Moment) -> None:
        """Make a job due at once; one that had ended takes its key again."""
        if job.place in ENDED:
            self.take_key_again(job, at)
        job.max_attempts = max(job.max_attempts, job.attempt + 1)
        job.wait(at)

    def take_key_again(self, job: Job, at: Moment) -> None:
        """Have the key of a job in force, unless it is another's or its window is over."""
        if job.key is None or (job.until is not None and job.until.has_come(at)):
            return
        holder = self.holder(job.key, at)
        if holder is not None and holder != job.id:
            raise RefusedError(TAKEN, f"job {holder} has the key")
        self.keys[job.key] = (job.id, job.until)

    def eram_delete_job(self, at: Moment, id: int) -> bool:  # noqa: A002
        """Leave nothing of a job, but not of one that runs."""
        job = self.job(id)
        if job.place == RUNNING:
            raise RefusedError(WRONG_STATE, f"job {id} runs")
        self.give_up_key(job)
        self.remove(job)
        return True

    def eram_delete_jobs(self, at: Moment, filter: Filter) -> int:  # noqa: A002
        """Delete all but what runs."""
        jobs = [job for job in self.chosen(filter, at) if job.place != RUNNING]
        return sum(self.eram_delete_job(at, job.id) for job in jobs)

    def eram_update_job(self, at: Moment, id: int, **values: Any) -> bool:  # noqa: A002
        """Change a job that waits; its key stays what it was."""
        job = self.job(id)
        if job.place != WAITING:
            return False
        wanted = given(values)
        if wanted.get("max_attempts", job.attempt + 1) <= job.attempt:
            raise RefusedError(BAD_RANGE, "so many attempts are used up")
        scheduled = wanted.pop("scheduled_at", None)
        if "delay" in wanted:
            scheduled = at + seconds(wanted.pop("delay"))
        for name, value in wanted.items():
            setattr(job, name, value)
        # One that is due goes before the others of its priority.
        due = (scheduled or job.scheduled).but_not_before(at)
        job.wait(due, is_back=due.earliest <= at.latest)
        return True

    def eram_move_jobs(self, at: Moment, filter: Filter, queue: str) -> int:  # noqa: A002
        """Let what waits wait in another queue."""
        jobs = [
            job for job in self.chosen(filter, at) if job.place == WAITING and job.queue != queue
        ]
        for job in jobs:
            job.queue = queue
            job.wait(job.scheduled.but_not_before(at), is_back=job.is_back)
        return len(jobs)

    def eram_outcome(self, at: Moment, id: int) -> tuple[Any, ...]:  # noqa: A002
        """Return state, result, error and whether that is final."""
        if id in self.gone:
            return None, None, None, True
        job = self.job(id)
        error = next((error for run, _, error, _ in job.errors if run == job.run), None)
        is_failure = job.place in ("discarded", "cancelled")
        return job.state(at), job.result, error if is_failure else None, job.place in ENDED
