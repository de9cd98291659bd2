"""The record of a run as a whole: what processes wrote down, and what the database says at last.

All times are nanoseconds of the machine's monotonic clock, those of the server converted to it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from chaos.evidence import Event

SECOND = 1_000_000_000
ENDED = frozenset({"completed", "discarded", "cancelled"})


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a producer, and what it was told."""

    name: str
    tokens: tuple[str, ...]
    begun_at: float
    came_to: str = "unknown"  # or committed, rolled back
    ended_at: float = math.inf
    answers: tuple[tuple[int, bool], ...] = ()  # ids, and whether each is a duplicate
    key: str | None = None
    period: float | None = None  # seconds; None when the key holds until the job ends
    is_noted: bool = False  # whether a row of its own tells if it was committed


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a handler, as its process put it on record."""

    job: int
    number: int
    pid: int
    begun_at: float
    token: str = ""
    queue: str = "default"
    how: str | None = None  # returned, raised, snoozed, ...; None when its process was killed
    ended_at: float = math.inf  # for one that was killed, when that was


@dataclass(frozen=True, slots=True)
class Told:
    """A worker was told that the server has taken how a job ended."""

    job: int
    run: int
    state: str
    at: float


@dataclass(frozen=True, slots=True)
class Act:
    """What an administrator did to jobs."""

    kind: str
    jobs: frozenset[int]
    begun_at: float
    ended_at: float = math.inf
    came_to: str = "unknown"  # or done, refused


@dataclass(frozen=True, slots=True)
class Harm:
    """What was done to processes, or to all of them."""

    kind: str
    begun_at: float
    ended_at: float = math.inf
    pids: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """What the database says of a job in the end, or said when it was removed."""

    id: int
    token: str
    state: str
    run: int
    attempt: int
    max_attempts: int
    handler: str = "plain"
    due_at: float = -math.inf  # not before then, as its producer said
    schedule: str | None = None
    scheduled_for: datetime | None = None
    removed_by: str | None = None  # prune or delete
    why: str | None = None  # for one that has not ended
    errors: tuple[tuple[int, str, float], ...] = ()  # run, type, time


@dataclass(frozen=True, slots=True)
class Occurrences:
    """The times of a schedule: from the first until before the last, so far apart."""

    first: datetime
    after_last: datetime
    apart: timedelta


@dataclass(frozen=True, slots=True)
class Final:
    """What is in the database in the end."""

    jobs: tuple[JobRow, ...] = ()
    effects: tuple[tuple[int, int], ...] = ()  # job, run
    committed: frozenset[str] = frozenset()  # calls
    schedules: dict[str, Occurrences] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)  # global limits that nobody changes


@dataclass(frozen=True)
class History:
    """Everything that the judge is to know."""

    calls: tuple[Call, ...] = ()
    runs: tuple[Run, ...] = ()
    told: tuple[Told, ...] = ()
    acts: tuple[Act, ...] = ()
    harms: tuple[Harm, ...] = ()
    final: Final = Final()
    complaints: tuple[str, ...] = ()  # of processes and of the server

    @cached_property
    def job_rows(self) -> dict[int, JobRow]:
        return {row.id: row for row in self.final.jobs}

    @cached_property
    def rows_by_token(self) -> dict[str, list[JobRow]]:
        found = defaultdict(list)
        for row in self.final.jobs:
            found[row.token].append(row)
        return found

    @cached_property
    def runs_by_job(self) -> dict[int, list[Run]]:
        """The runs of each job, in the order of their numbers."""
        found = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: (run.job, run.number, run.begun_at)):
            found[run.job].append(run)
        return found

    @cached_property
    def acts_by_job(self) -> dict[int, list[Act]]:
        found = defaultdict(list)
        for act in self.acts:
            for job in act.jobs:
                found[job].append(act)
        return found

    def may_have(self, kind: str, job: int, after: float, before: float) -> bool:
        """Say whether an administrator may have done so to a job in this time."""
        return any(
            act.kind == kind
            and act.came_to != "refused"
            and act.begun_at < before
            and act.ended_at > after
            for act in self.acts_by_job.get(job, ())
        )

    def error_of(self, job: int, run: int) -> str | None:
        """Return the type of the error that is recorded for a run, if one is."""
        row = self.job_rows.get(job)
        found = (kind for number, kind, _ in (row.errors if row else ()) if number == run)
        return next(found, None)


def read(events: Iterable[Event], final: Final, complaints: Iterable[str] = ()) -> History:
    """Make a history of events, in whatever order they come."""
    begun: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    ended: dict[tuple[Any, ...], Event] = {}
    told, kills = [], {}
    for event in events:
        match event["event"].split():
            case [what, "begun"]:
                begun[(what, *_identity(what, event))].append(event)
            case [what, "ended"]:
                ended[(what, *_identity(what, event))] = event
            case ["told"]:
                told.append(Told(event["job"], event["run"], event["state"], event["at"]))
            case ["killed"]:
                kills[event["victim"]] = event["at"]
            case _:
                raise ValueError(f"there is no such event: {event}")
    made: dict[str, list[Any]] = defaultdict(list)
    for (what, *identity), each in begun.items():
        for event in each:
            made[what].append(_MAKE[what](event, ended.get((what, *identity), {}), kills))
    return History(
        calls=tuple(made["call"]),
        runs=tuple(made["run"]),
        told=tuple(told),
        acts=tuple(made["act"]),
        harms=tuple(made["harm"]),
        final=final,
        complaints=tuple(complaints),
    )


def _identity(what: str, event: Event) -> tuple[Any, ...]:
    if what == "run":
        return event["job"], event["run"], event["pid"]
    return (event[what],)


def _make_call(begun: Event, ended: Event, _kills: dict[int, float]) -> Call:
    return Call(
        name=begun["call"],
        tokens=tuple(begun["tokens"]),
        begun_at=begun["at"],
        came_to=ended.get("came_to", "unknown"),
        ended_at=ended.get("at", math.inf),
        answers=tuple((job, is_duplicate) for job, is_duplicate in ended.get("answers", ())),
        key=begun.get("key"),
        period=begun.get("period"),
        is_noted=begun.get("is_noted", False),
    )


def _make_run(begun: Event, ended: Event, kills: dict[int, float]) -> Run:
    return Run(
        job=begun["job"],
        number=begun["run"],
        pid=begun["pid"],
        begun_at=begun["at"],
        token=begun["token"],
        queue=begun["queue"],
        how=ended.get("how"),
        ended_at=ended.get("at", kills.get(begun["pid"], math.inf)),
    )


def _make_act(begun: Event, ended: Event, _kills: dict[int, float]) -> Act:
    return Act(
        kind=begun["kind"],
        jobs=frozenset(begun["jobs"]),
        begun_at=begun["at"],
        ended_at=ended.get("at", math.inf),
        came_to=ended.get("came_to", "unknown"),
    )


def _make_harm(begun: Event, ended: Event, _kills: dict[int, float]) -> Harm:
    victims = begun["victims"]
    return Harm(
        kind=begun["kind"],
        begun_at=begun["at"],
        ended_at=ended.get("at", math.inf),
        pids=None if victims is None else frozenset(victims),
    )


_MAKE = {"call": _make_call, "run": _make_run, "act": _make_act, "harm": _make_harm}
