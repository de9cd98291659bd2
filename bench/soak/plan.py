"""When what happens in a soak, made from how long it takes.

A soak is twelve cycles, each a third calm, a third under a transaction that holds vacuum back, and
a third calm again. All that takes its time in a database (how long jobs are kept, how often the
prune and autovacuum look, when indexes are rebuilt) is a part of the cycle. So a few minutes show
in small what an hour shows with the times that PostgreSQL and eram have by default.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CYCLES = 12
WARM_UP_CYCLES = 4  # tables and caches reach their size
WRITER_CYCLE = 5  # in the first half of what is judged, so that what it leaves is in both
MOST_SAMPLES = 720

# In a shorter cycle autovacuum, which looks once a second at most, does not come round.
SHORTEST_JUDGED_CYCLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A transaction that stays open for a while."""

    kind: str  # "reader" or "writer"
    from_seconds: float
    to_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from how long a soak takes."""

    seconds: float
    rate: float

    @property
    def cycle_seconds(self) -> float:
        """How long a cycle is: five minutes in an hour."""
        return self.seconds / CYCLES

    @property
    def is_judged(self) -> bool:
        """Whether it is long enough to say what grows."""
        return self.cycle_seconds >= SHORTEST_JUDGED_CYCLE_SECONDS

    @property
    def keep_seconds(self) -> float:
        """How long finished jobs are kept."""
        return _between(1, self.cycle_seconds / 3, 100)

    @property
    def window_seconds(self) -> float:
        """How long the windows of unique jobs are."""
        return _between(1, self.cycle_seconds / 5, 30)

    @property
    def prune_seconds(self) -> int:
        """How often eram prunes; every 30 s by default."""
        return round(_between(1, self.cycle_seconds / 10, 30))

    @property
    def gone_seconds(self) -> float:
        """After how long a job that has ended must be gone, on a slow machine too."""
        return self.keep_seconds + max(30.0, 5.0 * self.prune_seconds)

    @property
    def reindex_seconds(self) -> int:
        """How often the indexes on args and meta are rebuilt; once a night by default."""
        return round(_between(5, self.cycle_seconds, 3600))

    @property
    def look_seconds(self) -> float:
        """How often somebody looks whether all is well, and whether a hold is due."""
        return _between(0.25, self.cycle_seconds / 6, 1)

    @property
    def sample_seconds(self) -> int:
        """How far samples are apart."""
        return max(1, round(self.seconds / MOST_SAMPLES))

    @property
    def settings(self) -> dict[str, str]:
        """PostgreSQL's own settings, durable ones, but for what must fit into a cycle."""
        return {
            "shared_buffers": "256MB",
            "autovacuum_naptime": f"{round(_between(1, self.cycle_seconds / 5, 60))}s",
            "checkpoint_timeout": f"{round(_between(30, self.cycle_seconds, 300))}s",
        }

    @property
    def holds(self) -> list[Hold]:
        """A transaction for the middle third of each cycle."""
        third = self.cycle_seconds / 3
        return [
            Hold(
                "writer" if number == WRITER_CYCLE else "reader",
                (3 * number + 1) * third,
                (3 * number + 2) * third,
            )
            for number in range(CYCLES)
        ]

    def describe(self) -> dict[str, Any]:
        """Write it down, for the result."""
        return {
            **asdict(self),
            "cycles": CYCLES,
            "warm_up_cycles": WARM_UP_CYCLES,
            "keep_seconds": self.keep_seconds,
            "prune_seconds": self.prune_seconds,
            "reindex_seconds": self.reindex_seconds,
            "sample_seconds": self.sample_seconds,
            "holds": [asdict(hold) for hold in self.holds],
        }


def _between(least: float, value: float, most: float) -> float:
    return min(most, max(least, value))
