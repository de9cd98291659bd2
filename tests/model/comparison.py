"""Compares what the database says with what the model says."""

from __future__ import annotations

from typing import Any

from .defaults import seconds
from .jobs import RUNNING, WAITING, Job
from .model import Model
from .moments import Moment, exactly


class DifferenceError(AssertionError):
    """The database and the model disagree."""


class Comparison:
    """One look at the database, beside the model. Moments that fit become exact in the model."""

    def __init__(self, seen: dict[str, Any], model: Model) -> None:
        self.seen = seen
        self.model = model
        self.now = exactly(seen["now"])
        self.found: list[str] = []

    def check(self) -> None:
        """Fail if there is any difference."""
        self.jobs(self.model.jobs, self.seen["jobs"] or {})
        self.keys()
        self.counts()
        self.handlers()
        for name in ("differing", "violations"):
            self.same(name, self.seen[name], None)
        self.fail()

    def check_queue(self, queue: str) -> None:
        """Fail if there is any difference in the jobs of a queue."""
        model = {number: job for number, job in self.model.jobs.items() if job.queue == queue}
        seen = {
            number: job
            for number, job in (self.seen["jobs"] or {}).items()
            if job["queue"] == queue
        }
        self.jobs(model, seen)
        self.fail()

    def fail(self) -> None:
        """Say all that was found."""
        if self.found:
            raise DifferenceError("\n".join(["the database and the model differ:", *self.found]))

    def same(self, what: str, seen: Any, expected: Any) -> None:
        """Compare two values."""
        if seen != expected:
            self.found.append(f"  {what}: the database says {seen}, the model {expected}")

    def moment(self, what: str, seen: int | None, expected: Moment | None) -> Moment | None:
        """Compare a time, and return it as it is known from now on."""
        if seen is None or expected is None or not expected.fits(seen):
            if seen is not None or expected is not None:
                self.same(what, seen, expected)
            return expected
        return exactly(seen)

    def jobs(self, model: dict[int, Job], jobs: dict[str, Any]) -> None:
        """Compare jobs one by one."""
        seen = {int(number): job for number, job in jobs.items()}
        self.same("ids", sorted(seen), sorted(model))
        for number in sorted(seen.keys() & model.keys()):
            self.job(model[number], seen[number])

    def job(self, job: Job, seen: dict[str, Any]) -> None:
        """Compare all that is known of a job."""
        name = f"job {job.id}"
        job.scheduled = (
            self.moment(
                f"{name}: scheduled",
                seen["scheduled"],
                job.scheduled if job.place == WAITING else None,
            )
            or job.scheduled
        )
        job.attempted = self.moment(f"{name}: attempted", seen["attempted"], job.attempted)
        job.ended = self.moment(f"{name}: ended", seen["ended"], job.ended)
        job.until = self.moment(f"{name}: until", seen["until"], job.until)
        for key, value in self.expected(job).items():
            self.same(f"{name}: {key}", seen[key], value)
        self.same(f"{name}: errors", errors_of(seen), [list(error) for error in job.errors])

    def expected(self, job: Job) -> dict[str, Any]:
        """Return what the database should say of a job."""
        worker = self.model.workers.get(job.worker or 0)
        return {
            "state": job.state(self.now),
            **{
                key: getattr(job, key)
                for key in ("queue", "handler", "args", "meta", "tags", "attempt", "run")
            },
            **{key: getattr(job, key) for key in ("max_attempts", "priority", "result", "backoff")},
            "timeout": None if job.timeout is None else float(seconds(job.timeout)),
            "attempted_by": worker.name if worker else None,
            "lane": job.lane() if job.place in (WAITING, RUNNING) else None,
            "is_unique": job.key is not None,
        }

    def keys(self) -> None:
        """Compare which keys are in force, whose they are and until when."""
        seen = {int(number): until for number, until in (self.seen["keys"] or {}).items()}
        held = {}
        for key, (number, until) in self.model.keys.items():
            if until is not None and number in seen:
                until = self.moment(f"key of job {number}", seen[number], until)  # noqa: PLW2901
                self.model.keys[key] = (number, until)
            if self.model.holder(key, self.now) is not None:
                held[number] = until and until.earliest
        self.same("keys by job", seen, held)

    def counts(self) -> None:
        """Compare the numbers of jobs and workers in each queue."""
        expected: dict[str, list[int]] = {}
        paused = sorted(name for name, queue in self.model.queues.items() if queue.is_paused)
        for job in self.model.jobs.values():
            count = expected.setdefault(job.queue, [0, 0, 0, 0])
            count[0] += job.place == WAITING
            count[1] += job.state(self.now) == "available"
            count[2] += job.place == RUNNING
        for worker in self.model.workers.values():
            for queue in worker.queues if not worker.ended else []:
                expected.setdefault(queue, [0, 0, 0, 0])[3] += 1
        seen = self.seen["counts"] or {}
        self.same(
            "waiting, due, running, workers by queue",
            {name: count for name, count in seen.items() if any(count)},
            {name: count for name, count in expected.items() if any(count)},
        )
        self.same("paused queues", self.seen["paused"] or [], paused)

    def handlers(self) -> None:
        """Compare what is declared and overridden."""
        seen = {
            name: (handler["alias_of"], declared(handler["declared"]), handler["overrides"])
            for name, handler in (self.seen["handlers"] or {}).items()
        }
        expected = {
            name: (handler.alias_of, declared(handler.declared), handler.overrides)
            for name, handler in self.model.handlers.items()
        }
        self.same("handlers", seen, expected)


def errors_of(seen: dict[str, Any]) -> list[list[Any]]:
    """Return run, attempt, message and type of each error."""
    return [
        [error["run"], error["attempt"], in_short(error["error"]), error["type"]]
        for error in seen["errors"] or []
    ]


def in_short(error: str | None) -> str | None:
    """Return a message as the model has it: that of a rescue has its own words."""
    return "rescued" if error and error.endswith("while it held this job") else error


def declared(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out the timeout, which the server writes in its own way; jobs show it."""
    return {key: value for key, value in options.items() if key != "timeout"}
