"""Whether a series of a soak grows without bound.

A table's size does not fall when its rows go, and how many dead rows there are depends on when
autovacuum last came by: single numbers say nothing. So each cycle of the soak counts as one number,
the cycles of the second half of what is judged are held against those of the first, and their
median against the others' largest. A series that has found its level passes, however it wavers
within a cycle or from one to the next; one that grows steadily from nothing is a third higher by
then (10.5 cycles' growth against 8).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from soak.plan import CYCLES, WARM_UP_CYCLES

# What a typical cycle of the second half may be above the highest of the first: less than a leak of
# a tenth of the whole a cycle makes of it, more than indexes are still filling up.
SLACK = 0.15
# What passes a second on is the machine's doing, too.
SLACK_OF_SPEED = 0.5

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """How the series of a group are judged.

    Args:
        of_cycle: what a cycle counts as.
        slack: by which part of the first half the second may be above it.
        floor: how much is never too much, in the unit of the series.
        counts_held: whether samples count that were taken while vacuum was held back.
    """

    of_cycle: Callable[[list[float]], float]
    slack: float
    floor: float
    counts_held: bool


# Dead rows may pile up while a snapshot is open, and the tables with them; when it is closed there
# must not be more of them than after the last one. Speed must not depend on it at all.
RULES = {
    "bytes": Rule(max, SLACK, MEGABYTE, counts_held=False),
    "dead rows": Rule(max, SLACK, 5_000, counts_held=False),
    "memory": Rule(max, SLACK, 4 * MEGABYTE, counts_held=False),
    "jobs": Rule(statistics.median, SLACK_OF_SPEED, 1_000, counts_held=True),
    "latency": Rule(statistics.median, SLACK_OF_SPEED, 50, counts_held=True),
    "oldest due": Rule(statistics.median, SLACK_OF_SPEED, 1, counts_held=True),
    "per job": Rule(statistics.median, SLACK_OF_SPEED, 200, counts_held=True),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """What the halves of a series come to."""

    first: float
    second: float
    is_too_much: bool


def judge(
    rule: Rule,
    cycle_seconds: float,
    times: Sequence[float],
    holds: Sequence[str | None],
    values: Sequence[float | None],
) -> Growth | None:
    """Compare the halves of a series; None where one of them has nothing."""
    cycles: dict[int, list[float]] = {}
    for at, hold, value in zip(times, holds, values, strict=True):
        if value is not None and (rule.counts_held or hold is None):
            cycles.setdefault(int(at / cycle_seconds), []).append(value)
    middle = (WARM_UP_CYCLES + CYCLES) // 2
    first, second = (
        [rule.of_cycle(cycles[number]) for number in numbers if number in cycles]
        for numbers in (range(WARM_UP_CYCLES, middle), range(middle, CYCLES))
    )
    if not first or not second:
        return None
    reference, typical = max(first), statistics.median(second)
    allowed = max(rule.floor, rule.slack * reference)
    return Growth(reference, typical, typical - reference > allowed)
