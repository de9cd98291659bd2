"""When a queue's new session gives back what the lost one has claimed, but could not tell of."""

from __future__ import annotations

import time

# The server gives up a client that vanished within so long (eram_start_worker() sets it).
LAST_SECONDS = 15.0
AGAIN_SECONDS = 1.0


class LookBack:
    """Keeps the times: at once, and when the server has surely read all that it was sent."""

    def __init__(self) -> None:
        self._has_served = False
        self._times: list[float] = []

    def begin(self) -> None:
        """Note that there is a session; the first one has nothing to look back at."""
        if self._has_served:
            now = time.monotonic()
            self._times = [now + LAST_SECONDS, now]
        self._has_served = True

    @property
    def is_due(self) -> bool:
        """Whether it is time."""
        return bool(self._times) and time.monotonic() >= self._times[-1]

    def done(self) -> None:
        """Note that it has been done."""
        self._times.pop()

    def failed(self) -> None:
        """Note that someone was in the way."""
        self._times[-1] = time.monotonic() + AGAIN_SECONDS
