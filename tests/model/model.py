"""The state machine of jobs as one would explain it, without a database.

Each public function has a method of its name. It is told `at` which moment it was called, changes
the model, and returns what the function returns, or raises RefusedError when the call is a
caller's mistake. Here: what producers, workers and the maintenance call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .administration import Administration
from .defaults import DAY, TAKEN, UNKNOWN, WRONG_STATE, RefusedError, delay_after, seconds
from .jobs import ENDED, RUNNING, WAITING, Job, Worker, unique_key
from .moments import Moment, UnsettledError


class Model(Administration):
    """All jobs, workers, keys and settings."""

    # -- producers

    def eram_enqueue_jobs(
        self, at: Moment, jobs: list[dict[str, Any]], new_ids: Iterator[int]
    ) -> list[tuple[int, bool]]:
        """Enqueue each job, or meet the one that has its key."""
        return [self.enqueue(at, self.complete(job), new_ids) for job in jobs]

    def enqueue(self, at: Moment, spec: dict[str, Any], new_ids: Iterator[int]) -> tuple[int, bool]:
        """Return the job's id, and whether it was there before."""
        unique = spec.pop("unique")
        delay, wanted = spec.pop("delay"), spec.pop("scheduled_at")
        scheduled = (wanted or at) if delay is None else at + seconds(delay)
        scheduled = scheduled.but_not_before(at)

        key, until = None, None
        if unique is not False:
            key = unique_key(spec, unique)
            holder = self.holder(key, at)
            if holder is not None:
                return self.meet(self.jobs.get(holder), holder, spec, scheduled, unique)
            if unique.get("period") is not None:
                until = at + seconds(unique["period"])
        job_id = next(new_ids, None)
        assert job_id is not None, "the model enqueues a job, the database none"
        job = Job(job_id, scheduled=scheduled, key=key, until=until, **spec)
        assert job.id > max((0, *self.jobs, *self.gone)), f"the id {job.id} is not new"
        self.jobs[job.id] = job
        if key is not None:
            self.keys[key] = (job.id, until)
        return job.id, False

    def meet(
        self,
        job: Job | None,
        holder: int,
        spec: dict[str, Any],
        scheduled: Moment,
        unique: dict[str, Any],
    ) -> tuple[int, bool]:
        """Do with a second job what its producer wants."""
        conflict = unique.get("on_conflict")
        if conflict == "raise":
            raise RefusedError(TAKEN, f"job {holder} has the key")
        if conflict == "replace" and job is not None and job.place == WAITING:
            for name in ("args", "meta", "tags", "priority"):
                setattr(job, name, spec[name])
            job.max_attempts = max(spec["max_attempts"], job.attempt + 1)
            job.wait(scheduled)
        return holder, True

    # -- workers and what they hold

    def eram_start_worker(
        self, at: Moment, session: int, name: str, queues: list[str], worker: int
    ) -> int:
        """Add a worker that its session proves to live."""
        self.workers[worker] = Worker(name, queues, session)
        return worker

    def eram_heartbeat(
        self, at: Moment, session: int, worker: int
    ) -> tuple[bool, list[int], list[int]]:
        """Take a lost lock, and tell which runs were cancelled."""
        known = self.workers.get(worker)
        if known is None or known.ended:
            return False, [], []
        if known.session is None:
            known.session = session
        known.missing = None
        told, known.cancelled = sorted(known.cancelled), set()
        return True, [job_id for job_id, _ in told], [run for _, run in told]

    def eram_stop_worker(self, at: Moment, worker: int) -> int:
        """End a worker and release what it holds."""
        if worker not in self.workers:
            raise RefusedError(UNKNOWN, f"worker {worker}")
        known = self.workers[worker]
        known.ended = known.ended or at
        known.cancelled.clear()
        return len([self.release(job, at) for job in self.held_by(worker)])

    def held_by(self, worker: int) -> list[Job]:
        """Return the jobs that a worker runs."""
        return [job for job in self.jobs.values() if job.place == RUNNING and job.worker == worker]

    def release(self, job: Job, at: Moment) -> int:
        """Give a job back unstarted."""
        job.attempt -= 1
        job.wait(at, is_back=True)
        return job.id

    def eram_fetch(self, at: Moment, queue: str, demand: int, worker: int) -> list[Job]:
        """Claim the best jobs, and return them, best first."""
        if worker not in self.workers:
            raise RefusedError(UNKNOWN, f"worker {worker}")
        if self.workers[worker].ended:
            raise RefusedError(WRONG_STATE, f"worker {worker} has ended")
        settings = self.queue(queue)
        if settings.is_paused:
            return []
        here = [job for job in self.jobs.values() if job.queue == queue]
        if settings.global_limit is not None:
            running = sum(job.place == RUNNING for job in here)
            demand = min(demand, max(settings.global_limit - running, 0))
        due = [job for job in here if job.place == WAITING and job.scheduled.has_come(at)]
        due.sort(key=lambda job: (job.lane(), job.scheduled.earliest, job.id))
        for job in due[:demand]:
            job.place, job.worker, job.attempted = RUNNING, worker, at
            job.run, job.attempt = job.run + 1, job.attempt + 1
        return due[:demand]

    def eram_complete_jobs(
        self, at: Moment, ids: list[int], runs: list[int], results: list[Any] | None = None
    ) -> list[int]:
        """Complete the runs that are still the caller's."""
        done = []
        for job_id, run, result in zip(ids, runs, results or [None] * len(ids), strict=True):
            job = self.running(job_id, run)
            if job is not None:
                self.end(job, "completed", at)
                job.result = result
                done.append(job_id)
                if self.queue(job.queue).keeps_for("completed") == 0:
                    self.remove(job)
        return sorted(done)

    def eram_fail_job(
        self,
        at: Moment,
        id: int,  # noqa: A002
        run: int,
        error: str,
        delay: Any = None,
    ) -> str | None:
        """Retry a job after its backoff, or give it up."""
        job = self.running(id, run)
        if job is None:
            return None
        job.record(error)
        if job.attempt >= job.max_attempts:
            self.end(job, "discarded", at)
            return "discarded"
        own = None if delay is None else (seconds(delay), seconds(delay))
        job.wait(at.plus(*(own or delay_after(job.attempt, job.backoff))))
        return "retryable"

    def eram_snooze_job(self, at: Moment, id: int, run: int, delay: Any) -> bool:  # noqa: A002
        """Put a job off; the attempt does not count."""
        job = self.running(id, run)
        if job is None:
            return False
        job.attempt -= 1
        job.wait(at + seconds(delay))
        return True

    def eram_discard_job(
        self,
        at: Moment,
        id: int,  # noqa: A002
        run: int,
        reason: str | None = None,
    ) -> bool:
        """Give a job up."""
        job = self.running(id, run)
        if job is None:
            return False
        job.record(reason or "discarded by its handler", "discarded")
        self.end(job, "discarded", at)
        return True

    def eram_release_jobs(self, at: Moment, ids: list[int], runs: list[int]) -> list[int]:
        """Give back the runs that are still the caller's."""
        held = [self.running(*asked) for asked in set(zip(ids, runs, strict=True))]
        return sorted(self.release(job, at) for job in held if job is not None)

    def eram_release_other_jobs(
        self, at: Moment, worker: int, queue: str, ids: list[int], runs: list[int]
    ) -> list[int]:
        """Give back what a worker holds of a queue, but for these runs."""
        kept = set(zip(ids, runs, strict=True))
        return sorted(
            self.release(job, at)
            for job in self.held_by(worker)
            if job.queue == queue and (job.id, job.run) not in kept
        )

    # -- maintenance

    def eram_rescue_jobs(self, at: Moment, rescue_after: Any = None) -> int:
        """Take the jobs of the dead back. Who has lost its session is dead when asked again."""
        for worker in self.workers.values():
            if worker.ended or worker.session is not None:
                continue
            if worker.missing is None:
                worker.missing = at
            elif (worker.missing + 31).has_come(at):
                worker.ended = at
                worker.cancelled.clear()
            else:
                raise UnsettledError("a worker is missing, and may or may not be dead")
        lost = [job for job in self.jobs.values() if self.is_lost(job, at, rescue_after)]
        for job in lost:
            job.record("rescued", "rescued")
            if job.attempt >= job.max_attempts:
                self.end(job, "discarded", at)
            else:
                job.wait(at, is_back=True)
        return len(lost)

    def is_lost(self, job: Job, at: Moment, rescue_after: Any) -> bool:
        """Say whether a rescue takes this job back."""
        if job.place != RUNNING:
            return False
        worker = self.workers.get(job.worker)
        if worker is None or worker.ended:
            return True
        if rescue_after is None or worker.session is not None:
            return False
        after = self.queue(job.queue).rescue_after or rescue_after
        return job.attempted is not None and (job.attempted + seconds(after)).has_come(at)

    def prunable(self, at: Moment, max_age: Any = None) -> list[Job]:
        """Return the jobs that were kept long enough."""
        general = None if max_age is None else seconds(max_age)
        return [
            job
            for job in self.jobs.values()
            if job.place in ENDED and self.is_old(job, general, at)
        ]

    def is_old(self, job: Job, general: float | None, at: Moment) -> bool:
        """Say whether a job ended so long ago that nobody needs it."""
        keep = self.queue(job.queue).keeps_for(job.place, general)
        return job.ended is not None and math.isfinite(keep) and (job.ended + keep).has_come(at)

    def forget_workers(self, at: Moment) -> None:
        """Remove workers that ended a week ago, as a prune does."""
        for number, worker in list(self.workers.items()):
            if worker.ended and (worker.ended + 7 * DAY).has_come(at):
                del self.workers[number]

    def eram_prune_jobs(
        self, at: Moment, max_age: Any, max_count: int, still_there: set[int]
    ) -> int:
        """Remove what was kept long enough; which of too many is the database's choice."""
        self.forget_workers(at)
        old = self.prunable(at, max_age)
        removed = [job for job in old if job.id not in still_there]
        for job in removed:
            self.remove(job)
        assert len(removed) == min(len(old), max_count), "as many as there are, or as allowed"
        return len(removed)

    def eram_why(self, at: Moment, id: int) -> set[str]:  # noqa: A002
        """Return what the answer should say, out of all that it could."""
        if id in self.gone:
            return {"There is no such job"}
        if id not in self.jobs:
            return {"There never was"}
        job = self.jobs[id]
        if job.place == RUNNING:
            return {"It is executing"}
        if job.place in ENDED:
            return {f"It was {job.place}"}
        return self.reasons(job, at) or {"It is due since"}

    def reasons(self, job: Job, at: Moment) -> set[str]:
        """Return why a job that waits is not the next one."""
        reasons = set()
        settings = self.queue(job.queue)
        running = [one for one in self.jobs_in(RUNNING) if one.queue == job.queue]
        serving = [one for one in self.workers.values() if job.queue in one.queues]
        living = [worker for worker in serving if not worker.ended]
        if not job.scheduled.has_come(at):
            has_failed = any(
                run == job.run and kind != "cancelled" for run, _, _, kind in job.errors
            )
            reasons.add(
                "It waits for its retry"
                if has_failed
                else "It was put off until"
                if job.run
                else "It is scheduled for"
            )
        elif settings.global_limit is not None and len(running) >= settings.global_limit:
            reasons.add("The global limit")
        if settings.is_paused:
            reasons.add("is paused")
        if not living:
            reasons.add("No worker serves")
        elif all(worker.session is None for worker in living):
            reasons.add("give no sign of life")
        return reasons


WORDS = {
    *("There is no such job", "There never was", "It is executing"),
    *(f"It was {state}" for state in ENDED),
    *("It waits for its retry", "It was put off until", "It is scheduled for"),
    *("is paused", "The global limit", "No worker serves", "give no sign of life"),
    "It is due since",
}
