"""What is too much."""

from __future__ import annotations

from collections.abc import Mapping

from . import limits
from .moves import Costs


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
