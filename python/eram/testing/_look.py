"""What has been enqueued, and what has not."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict, Unpack

from eram._base import json_text
from eram._base.suggest import nearest
from eram._jobs.handlers import ConfiguredHandler, Handler
from eram._jobs.options import check_options, encode_options, strings
from eram.testing import _sql
from eram.testing._session import session_of

STATES = (
    "scheduled",
    "available",
    "executing",
    "retryable",
    "completed",
    "discarded",
    "cancelled",
)
AnyHandler: TypeAlias = str | Handler[..., Any] | ConfiguredHandler[Any]
WAITING = ("scheduled", "available", "retryable")
# So many jobs are shown.
MOST_SHOWN = 5
MAX_SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A job as it is stored. The attributes are the columns of `eram_jobs`."""

    id: int
    state: str
    queue: str
    handler: str
    args: dict[str, Any]
    meta: dict[str, Any]
    tags: tuple[str, ...]
    attempt: int
    max_attempts: int
    priority: int
    errors: list[dict[str, Any]]
    inserted_at: datetime
    scheduled_at: datetime
    result: Any


class Criteria(TypedDict, total=False):
    """What a job must be like; what is left out, or None, may be anything.

    Attributes:
        queue: the queue that it waits in, or ran in.
        priority: from 0 to 9.
        max_attempts: how often it may be tried.
        tags: tags that it has; there may be more.
        meta: what its meta contains.
        delay: how long after it was enqueued it is due, to within a second; as a timedelta or in
            seconds.
        scheduled_at: when it is due, to within a second; with a time zone.
        state: a state, or several, instead of those of jobs that wait: `scheduled`, `available` and
            `retryable`.
        committed: whether jobs count that others have committed, or that were there before.
    """

    queue: str | None
    priority: int | None
    max_attempts: int | None
    tags: Sequence[str] | None
    meta: Mapping[str, Any] | None
    delay: float | timedelta | None
    scheduled_at: datetime | None
    state: str | Collection[str] | None
    committed: bool


def enqueued(
    conn: Any,
    handler: AnyHandler | None = None,
    args: Mapping[str, Any] | None = None,
    **criteria: Unpack[Criteria],
) -> list[FoundJob]:
    """List the jobs that the test's transaction has enqueued and that wait, the oldest first.

    Args:
        conn: the test's connection.
        handler: a decorated handler, or the path `module:function` of one; None is any.
        args: what the job's args contain; there may be more in them.
        criteria: `queue`, `priority`, `max_attempts`, `tags`, `meta`, `delay`, `scheduled_at`,
            `state` and `committed`; see `Criteria`.
    """
    return _Look(conn, handler, args, criteria).found


def assert_enqueued(
    conn: Any,
    handler: AnyHandler | None = None,
    args: Mapping[str, Any] | None = None,
    *,
    count: int | None = None,
    **criteria: Unpack[Criteria],
) -> FoundJob:
    """Fail unless the test's transaction has enqueued such a job; return the first one.

    What it fails with says what the jobs are like that come nearest.

    Args:
        conn: the test's connection.
        handler: a decorated handler, or the path `module:function` of one; None is any.
        args: what the job's args contain; there may be more in them.
        count: how many such jobs there must be, from 1; None is any number.
        criteria: as for `enqueued`.

    Raises:
        AssertionError: there is none, or their number is another.
    """
    __tracebackhide__ = True
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError(f"count must be a number from 1, got {count!r}; see refute_enqueued")
    look = _Look(conn, handler, args, criteria)
    if not look.found:
        raise AssertionError(f"no such job was enqueued: {look}\n{look.misses()}")
    if count not in {None, len(look.found)}:
        problem = f"{len(look.found)} such jobs were enqueued, not {count}"
        raise AssertionError(f"{problem}: {look}\n{look.hits()}")
    return look.found[0]


def refute_enqueued(
    conn: Any,
    handler: AnyHandler | None = None,
    args: Mapping[str, Any] | None = None,
    **criteria: Unpack[Criteria],
) -> None:
    """Fail if the test's transaction has enqueued such a job; the arguments are as for `enqueued`.

    Raises:
        AssertionError: there is one; the message shows it.
    """
    __tracebackhide__ = True
    look = _Look(conn, handler, args, criteria)
    if look.found:
        problem = "such a job was enqueued"
        if len(look.found) > 1:
            problem = f"{len(look.found)} such jobs were enqueued"
        raise AssertionError(f"{problem}: {look}\n{look.hits()}")


class _Look:
    """One look at the jobs, and what it shows."""

    def __init__(self, conn: Any, handler: Any, args: Any, criteria: Criteria) -> None:
        check_options(criteria, Criteria.__annotations__)
        self._session = session_of(conn)
        self._committed = criteria.get("committed", False)
        if not self._committed:
            self._session.demand_transaction()
        self._wanted = _wanted(handler, args, criteria)
        self._compared = self._compare(committed=self._committed)
        self.found = [job for job, unmet in self._compared if not unmet]

    def __str__(self) -> str:
        """Say what was looked for."""
        said = {name: each for name, each in self._wanted.items() if each != list(WAITING)}
        return ", ".join(f"{name} {_short(each)}" for name, each in said.items()) or "any"

    def hits(self) -> str:
        """Show what was found."""
        names = ("handler", "args", "queue", "state")
        lines = [f"  job {job.id}: {_as_is(job, names)}" for job in self.found[:MOST_SHOWN]]
        if len(self.found) > MOST_SHOWN:
            lines.append(f"  and {len(self.found) - MOST_SHOWN} more")
        return "\n".join(lines)

    def misses(self) -> str:
        """Show the jobs that come nearest: of the same handler first, then by what they differ in.

        Say also what others have committed, for that is easily taken for the test's own.
        """
        missed = sorted(
            self._compared,
            key=lambda each: ("handler" in each[1], len(each[1]), -each[0].id),
        )
        lines = [
            f"  job {job.id} differs in {', '.join(unmet)}: {_as_is(job, unmet)}"
            for job, unmet in missed[:MOST_SHOWN]
        ]
        if len(missed) > MOST_SHOWN:
            lines.append(f"  and {len(missed) - MOST_SHOWN} more jobs")
        if not missed:
            lines.append("  there is no job at all")
        if not self._committed:
            count = sum(not unmet for _, unmet in self._compare(committed=True))
            if count:
                lines.append(
                    f"  not counted, because they were committed: {count} (committed=True counts"
                    " them)"
                )
        return "\n".join(lines)

    def _compare(self, *, committed: bool) -> list[tuple[FoundJob, list[str]]]:
        criteria = json_text.encode(self._wanted, "what the job must be like")
        rows = self._session.execute(_sql.COMPARE_JOBS, criteria, not committed)
        return [(_found(json.loads(job)), json.loads(unmet)) for job, unmet in rows]


def _wanted(handler: Any, args: Any, criteria: Criteria) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if handler is not None:
        if not isinstance(handler, str | Handler | ConfiguredHandler):
            raise TypeError(
                f"handler must be a path or a handler made by @eram.job, got {handler!r}"
            )
        wanted["handler"] = handler if isinstance(handler, str) else handler.path
    if args is not None:
        if not isinstance(args, Mapping):
            raise TypeError(f"args must be a mapping of names to values, got {args!r}")
        wanted["args"] = dict(args)
    options = {name: each for name, each in criteria.items() if name not in {"state", "committed"}}
    wanted.update(encode_options(options))
    state = criteria.get("state") or WAITING
    states = [state] if isinstance(state, str) else strings("state", state)
    for each in states:
        if each not in STATES:
            raise ValueError(f'there is no state "{each}"; {nearest(each, STATES)}')
    wanted["state"] = states
    return wanted


def _found(row: dict[str, Any]) -> FoundJob:
    columns = {name: row[name] for name in FoundJob.__slots__}
    columns["tags"] = tuple(row["tags"])
    columns["errors"] = row["errors"] or []
    columns["meta"] = row["meta"] or {}
    for name in ("inserted_at", "scheduled_at"):
        columns[name] = datetime.fromisoformat(row[name])
    return FoundJob(**columns)


def _as_is(job: FoundJob, names: Collection[str]) -> str:
    values: dict[str, Any] = {}
    for name in names:
        if name == "delay":
            values[name] = round((job.scheduled_at - job.inserted_at).total_seconds(), 1)
        else:
            values[name] = getattr(job, name)
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return f"{text[:MAX_SHOWN_CHARACTERS]}..."
