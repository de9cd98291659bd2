"""What is too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg

from . import limits
from .moves import Costs

# A machine that is held up makes one sweep dear, and the next calls of a fetch are none: they move
# the cursor, each of them, which takes a lock more. What is too much is measured again.
TRIES = 8

Group = Callable[[psycopg.Connection], Costs]
Afresh = Callable[[Group], Costs]


def least(group: Group, afresh: Afresh) -> Costs:
    """Measure statements until nothing is too dear, or has been each time.

    Each try is one of a session of its own in a database of its own: a session remembers for long
    what a sweep has cost, and in a queue that was filled twice the trees are higher.
    """
    costs = afresh(group)
    for _ in range(TRIES - 1):
        if not too_dear(costs):
            break
        again = afresh(group)
        costs = {name: cost.least(again[name]) for name, cost in costs.items()}
    return costs


def too_dear(costs: Costs) -> dict[str, str]:
    """Return what statements cost more than limits.py allows, by statement and kind of cost."""
    found: dict[str, str] = {}
    for name, cost in costs.items():
        allowed = limits.of_statement(name)
        found |= above(
            {f"{name}: {kind}": figure for kind, figure in cost.by_kind().items()},
            {f"{name}: {kind}": limit for kind, limit in allowed.items()},
        )
    return found


def above(figures: Mapping[str, float], allowed: Mapping[str, float]) -> dict[str, str]:
    """Return the figures that are above their limits, as text."""
    return {
        name: f"{figure:g}, and limits.py allows {allowed[name]:g}"
        for name, figure in figures.items()
        if figure > allowed[name]
    }
