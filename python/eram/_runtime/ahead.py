"""How many jobs a queue fetches ahead of its threads, and when it gives them back."""

from __future__ import annotations

import time
from collections.abc import Callable

from eram._runtime.rate import Rate
from eram._runtime.waking import NEVER

# What the executors finish in so long is fetched ahead, up to a bound.
AHEAD_SECONDS = 0.05
MAX_AHEAD_JOBS = 1_000
# Jobs fetched ahead that turn out to come after slow ones are given back after so long.
SURPLUS_SECONDS = 1.0


class Ahead:
    """Follows the pace of the executors."""

    def __init__(self) -> None:
        self._rate = Rate(AHEAD_SECONDS)
        self._surplus_since: float | None = None

    def finished(self, count: int) -> None:
        """Note that so many jobs were finished."""
        self._rate.add(count)

    def jobs(self) -> int:
        """Say how many jobs there may be in hand beyond those that run."""
        return min(self._rate.recent(), MAX_AHEAD_JOBS)

    def no_surplus(self) -> None:
        """Note that there are not more."""
        self._surplus_since = None

    def pause(self, surplus: int, buffered: int, give_back: Callable[[int], None]) -> float:
        """Note how many more there are, give them back in the end; say when to do so again."""
        if surplus <= 0:
            self.no_surplus()
        if not buffered:
            return NEVER
        # What is ahead of fast jobs becomes a surplus when no more of them are finished.
        return self._surplus_left(surplus, give_back) if surplus > 0 else AHEAD_SECONDS

    def _surplus_left(self, surplus: int, give_back: Callable[[int], None]) -> float:
        now = time.monotonic()
        self._surplus_since = self._surplus_since or now
        left = self._surplus_since + SURPLUS_SECONDS - now
        if left > 0:
            return left
        self._surplus_since = None
        give_back(surplus)
        return 0
