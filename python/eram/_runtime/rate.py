"""How fast jobs are finished."""

from __future__ import annotations

import time
from collections import deque


class Rate:
    """How many jobs were finished in the last moments.

    Args:
        seconds: how long these moments are.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._counts: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        """Note that so many were finished now."""
        self._counts.append((time.monotonic(), count))

    def recent(self) -> int:
        """Say how many it were."""
        oldest = time.monotonic() - self._seconds
        while self._counts and self._counts[0][0] < oldest:
            self._counts.popleft()
        return sum(count for _, count in self._counts)
