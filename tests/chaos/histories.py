"""A history in which everything is right, and what breaks it: each rule of the judge at least once.

Moments are seconds, so that they can be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.history import (
    SECOND,
    Act,
    Call,
    Final,
    Harm,
    History,
    JobRow,
    Occurrences,
    Run,
    Told,
)

Break = Callable[[History], History]

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALIVE, KILLED = 11, 12  # processes


def call(
    name: str, begun: float, *answers: tuple[int, bool], came_to: str = "committed", **more: Any
) -> Call:
    """A call that took a second, and whose jobs have tokens after its name."""
    count = max(1, len(answers))
    return Call(
        name=name,
        tokens=tuple(f"{name}{number}" for number in range(count)),
        begun_at=begun * SECOND,
        ended_at=math.inf if came_to == "unknown" else (begun + 1) * SECOND,
        came_to=came_to,
        answers=answers,
        **more,
    )


def run(
    job: int, number: int, begun: float, ended: float, how: str | None = "returned", **more: Any
) -> Run:
    more = {"pid": ALIVE} | more
    return Run(job, number, begun_at=begun * SECOND, ended_at=ended * SECOND, how=how, **more)


def row(job: int, token: str, state: str = "completed", **more: Any) -> JobRow:
    errors = tuple((number, kind, at * SECOND) for number, kind, at in more.pop("errors", ()))
    facts = {"run": 1, "attempt": 1, "max_attempts": 20} | more
    return JobRow(job, token, state, errors=errors, **facts)


def act(kind: str, begun: float, ended: float, *jobs: int, came_to: str = "done") -> Act:
    return Act(kind, frozenset(jobs), begun * SECOND, ended * SECOND, came_to)


CLEAN = History(
    calls=(
        call("plain", 1, (1, False)),
        call("money", 1, (2, False), (3, False), is_noted=True),
        call("killed", 2, (4, False)),
        call("windowed", 2, (5, False), key="windowed", period=10),
        call("refused", 5, (5, True), key="windowed", period=10),
        call("later", 15, (6, False), key="windowed", period=10),
        call("held", 2, (7, False), key="held"),
        call("held-later", 9, (8, False), key="held"),
        call("cancelled", 3, (9, False)),
        call("deleted", 3, (10, False)),
        call("hopeless", 3, (11, False)),
        call("retried", 3, (12, False)),
        call("undone", 4, came_to="rolled back", is_noted=True),
        call("doubtful", 4, came_to="unknown", is_noted=True),
        call("there", 4, came_to="unknown", is_noted=True),
    ),
    runs=(
        run(1, 1, 3, 4, queue="narrow"),
        run(2, 1, 3, 4, "raised"),
        run(2, 3, 6, 7),
        run(3, 1, 3, 4, "snoozed"),
        run(3, 2, 6, 7),
        run(4, 1, 3, 10, None, pid=KILLED, queue="narrow"),
        run(4, 2, 14, 15, queue="narrow"),
        run(5, 1, 4, 5),
        run(6, 1, 17, 18),
        run(7, 1, 4, 8),
        run(8, 1, 11, 12),
        run(11, 1, 5, 6, "raised"),
        run(11, 2, 7, 8, "raised"),
        run(12, 1, 5, 6),
        run(12, 2, 9, 10),
        run(13, 1, 5, 6),
        run(20, 1, 5, 6),
        run(21, 1, 65, 66),
    ),
    told=(
        Told(1, 1, "completed", 5 * SECOND),
        Told(7, 1, "completed", 9 * SECOND),
        Told(11, 2, "discarded", 9 * SECOND),
        Told(12, 1, "completed", 7 * SECOND),
        Told(12, 2, "completed", 11 * SECOND),
    ),
    acts=(
        act("cancel", 4, 5, 9),
        act("delete", 4, 5, 10),
        act("retry", 7, 8, 12),
        act("retry", 1, 20, 8, came_to="refused"),
    ),
    harms=(Harm("kill", 10 * SECOND, 11 * SECOND, frozenset({KILLED})),),
    final=Final(
        jobs=(
            row(1, "plain0"),
            row(2, "money0", run=3, attempt=2, errors=[(1, "E", 4)], handler="transactional"),
            row(3, "money1", run=2, handler="transactional"),
            row(4, "killed0", run=2, attempt=2, errors=[(1, "rescued", 13)]),
            row(5, "windowed0", removed_by="prune"),
            row(6, "later0", due_at=16.9 * SECOND),
            row(7, "held0"),
            row(8, "held-later0"),
            row(9, "cancelled0", "cancelled", attempt=0, errors=[(1, "cancelled", 5)]),
            row(10, "deleted0", "available", run=0, attempt=0, removed_by="delete"),
            row(
                *(11, "hopeless0", "discarded"),
                run=2,
                attempt=2,
                max_attempts=2,
                errors=[(1, "E", 6), (2, "E", 8)],
            ),
            row(12, "retried0", run=2, attempt=2, handler="transactional"),
            row(13, "there0"),
            row(20, "noon", schedule="cron", scheduled_for=NOON),
            row(21, "later", schedule="cron", scheduled_for=NOON + MINUTE),
        ),
        effects=((2, 3), (3, 2), (12, 1), (12, 2)),
        committed=frozenset({"money", "there"}),
        schedules={"cron": Occurrences(NOON, NOON + 2 * MINUTE, MINUTE)},
        limits={"narrow": 2},
    ),
)


def with_row(job: int, **changes: Any) -> Break:
    """Change what the database says of a job."""
    errors = changes.get("errors")
    if errors is not None:
        changes["errors"] = tuple((number, kind, at * SECOND) for number, kind, at in errors)

    def change(history: History) -> History:
        rows = [replace(each, **changes) if each.id == job else each for each in history.final.jobs]
        return _with_final(history, jobs=tuple(rows))

    return change


def without_row(job: int) -> Break:
    return lambda history: _with_final(
        history, jobs=tuple(each for each in history.final.jobs if each.id != job)
    )


def with_more_rows(*rows: JobRow) -> Break:
    return lambda history: _with_final(history, jobs=(*history.final.jobs, *rows))


def with_final(**changes: Any) -> Break:
    return lambda history: _with_final(history, **changes)


def with_more(what: str, *more: Any) -> Break:
    """Add calls, runs, told, acts, harms or complaints."""
    return lambda history: replace(history, **{what: (*getattr(history, what), *more)})


def with_run(job: int, number: int, **changes: Any) -> Break:
    """Change what is on record of a run; moments are seconds."""
    changes = {
        name: value * SECOND if name.endswith("_at") else value for name, value in changes.items()
    }

    def change(history: History) -> History:
        runs = [
            replace(each, **changes) if (each.job, each.number) == (job, number) else each
            for each in history.runs
        ]
        return replace(history, runs=tuple(runs))

    return change


def without(what: str) -> Break:
    """Remove all calls, runs, told, acts or harms."""
    return lambda history: replace(history, **{what: ()})


def all_of(*breaks: Break) -> Break:
    def change(history: History) -> History:
        for each in breaks:
            history = each(history)
        return history

    return change


def _with_final(history: History, **changes: Any) -> History:
    return replace(history, final=replace(history.final, **changes))
