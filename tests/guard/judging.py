"""What is too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg

from . import limits
from .moves import Costs

# A machine that is held up makes one sweep dear, and the next calls of a fetch are none: they move
# the cursor, each of them, which takes a lock more. What is too much is measured again.
TRIES = 8


def least(group: Callable[[psycopg.Connection], Costs], conn: psycopg.Connection) -> Costs:
    """Measure statements until nothing is too dear, or has been each time."""
    costs = group(conn)
    for _ in range(TRIES - 1):
        if not too_dear(costs):
            break
        again = group(conn)
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
