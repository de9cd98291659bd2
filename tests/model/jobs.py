"""The model's jobs, workers and unique keys, and what all its functions are made of."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from .defaults import UNIQUE_FIELDS, UNKNOWN, RefusedError, Settings, given
from .filters import matches
from .moments import Moment

WAITING, RUNNING = "waiting", "executing"
ENDED = ("completed", "discarded", "cancelled")


@dataclasses.dataclass
class Job:
    """A job, and all that is known of it."""

    id: int
    handler: str
    queue: str
    args: dict[str, Any]
    meta: dict[str, Any]
    tags: list[str]
    priority: int
    max_attempts: int
    backoff: Any
    timeout: Any
    scheduled: Moment
    key: str | None = None  # what makes it unique
    until: Moment | None = None  # the end of its key's window; none when that is its own end
    place: str = WAITING
    attempt: int = 0
    run: int = 0
    is_back: bool = False  # came back unstarted or rescued: goes first within its priority
    worker: int | None = None
    attempted: Moment | None = None
    ended: Moment | None = None
    result: Any = None
    errors: list[tuple[int, int, str, str | None]] = dataclasses.field(default_factory=list)

    def state(self, at: Moment) -> str:
        """Return the state as people see it."""
        if self.place != WAITING:
            return self.place
        if self.scheduled.has_come(at):
            return "available"
        return "retryable" if self.attempt else "scheduled"

    def lane(self) -> int:
        """Return where it stands within its queue."""
        return 2 * self.priority + (not self.is_back)

    def wait(self, scheduled: Moment, *, is_back: bool = False) -> None:
        """Go to its queue, to be run from then on."""
        self.place, self.scheduled, self.is_back = WAITING, scheduled, is_back
        self.worker = self.attempted = self.ended = self.result = None

    def record(self, error: str, kind: str | None = None) -> None:
        """Note that its run did not end well."""
        self.errors.append((self.run, self.attempt, error, kind))


@dataclasses.dataclass
class Worker:
    """A worker; `session` is the connection that proves its life, none when that is gone."""

    name: str
    queues: list[str]
    session: int | None
    missing: Moment | None = None
    ended: Moment | None = None
    cancelled: set[tuple[int, int]] = dataclasses.field(default_factory=set)


class Store(Settings):
    """All jobs, workers and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}
        self.workers: dict[int, Worker] = {}
        self.keys: dict[str, tuple[int, Moment | None]] = {}
        self.gone: set[int] = set()  # ids of jobs that nothing is left of

    # -- what the functions are made of

    def job(self, job_id: int) -> Job:
        """Return a job that the caller says is there."""
        if job_id not in self.jobs:
            raise RefusedError(UNKNOWN, f"job {job_id}")
        return self.jobs[job_id]

    def running(self, job_id: int, run: int) -> Job | None:
        """Return a job if this run of it is under way."""
        job = self.jobs.get(job_id)
        return job if job and job.place == RUNNING and job.run == run else None

    def holder(self, key: str | None, at: Moment) -> int | None:
        """Return whose this key is, if it is in force."""
        if key not in self.keys:
            return None
        job_id, until = self.keys[key]
        return None if until is not None and until.has_come(at) else job_id

    def give_up_key(self, job: Job, *, with_window: bool = True) -> None:
        """Let other jobs have the key of one that ended."""
        if job.key and self.keys.get(job.key, (None,))[0] == job.id:
            _, until = self.keys[job.key]
            if until is None or with_window:
                del self.keys[job.key]

    def end(self, job: Job, state: str, at: Moment) -> None:
        """Finish a job; the window of one that completes goes on."""
        job.place, job.ended = state, at
        self.give_up_key(job, with_window=state != "completed")

    def remove(self, job: Job) -> None:
        """Forget a job, as its prune does; a window goes on."""
        del self.jobs[job.id]
        self.gone.add(job.id)

    def chosen(self, filter: dict[str, Any], at: Moment) -> list[Job]:  # noqa: A002
        """Return the jobs that a filter is about, in order of id."""
        return [job for _, job in sorted(self.jobs.items()) if matches(job, filter, at)]

    def pass_time(self, seconds: float) -> None:
        """Move everything into the past."""

        def earlier(moment: Moment | None) -> Moment | None:
            return None if moment is None else moment + -seconds

        for thing in (*self.jobs.values(), *self.workers.values()):
            for field in dataclasses.fields(thing):
                if isinstance(value := getattr(thing, field.name), Moment):
                    setattr(thing, field.name, earlier(value))
        self.keys = {key: (job_id, earlier(until)) for key, (job_id, until) in self.keys.items()}

    def next_events(self) -> list[Moment]:
        """Return the moments at which something changes by itself."""
        waiting = [job.scheduled for job in self.jobs.values() if job.place == WAITING]
        return waiting + [until for _, until in self.keys.values() if until is not None]

    def lose_session(self, session: int) -> None:
        """Note that a session ended, and that it proves nobody's life any more."""
        for worker in self.workers.values():
            if worker.session == session:
                worker.session = None

    def adopt(self, other: Store, queue: str) -> None:
        """Take over a queue from a transaction that was committed."""
        mine = {job.id for job in self.jobs.values() if job.queue == queue}
        theirs = {job.id: job for job in other.jobs.values() if job.queue == queue}
        self.gone |= mine - theirs.keys()
        self.jobs = {key: job for key, job in self.jobs.items() if key not in mine} | theirs
        marked = f'"queue": "{queue}"'
        self.keys = {key: held for key, held in self.keys.items() if marked not in key}
        self.keys |= {key: held for key, held in other.keys.items() if marked in key}
        for number, worker in other.workers.items():
            self.workers[number].cancelled |= worker.cancelled

    def jobs_in(self, *places: str) -> list[Job]:
        """Return the jobs in these places, in order of id."""
        return [job for _, job in sorted(self.jobs.items()) if job.place in places]


def unique_key(spec: dict[str, Any], unique: dict[str, Any]) -> str:
    """Write down what must be unique."""
    options = given(unique)
    values = dict(spec)
    if "keys" in options:
        # Never the same as all of the args, were they equal to these.
        args = spec["args"]
        values["args"] = [{key: [args[key]] if key in args else [] for key in options["keys"]}]
    fields = options.get("fields", UNIQUE_FIELDS)
    return json.dumps({name: values[name] for name in fields}, sort_keys=True)
