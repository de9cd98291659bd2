"""A bar for how far a run has got, on a terminal; a line for each measurement anywhere else."""

from __future__ import annotations

import sys
import time

WIDTH = 24


class Progress:
    """Counts measurements, and guesses from those that are done how long the rest will take."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._begun_at = time.monotonic()

    def begin(self, what: str) -> None:
        """Say what is measured now."""
        self._what = f"[{self._done + 1:>3}/{self._total}] {what}"
        if sys.stdout.isatty():
            filled = WIDTH * self._done // self._total
            bar = "#" * filled + "-" * (WIDTH - filled)
            print(f"\r\x1b[K{bar} {self._left()}{self._what} ... ", end="", flush=True)

    def end(self, figures: str) -> None:
        """Say what came of it."""
        self._done += 1
        start = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{start}{self._what}: {figures}", flush=True)

    def _left(self) -> str:
        if not self._done:
            return ""
        took = time.monotonic() - self._begun_at
        left = round(took / self._done * (self._total - self._done))
        return f"{left // 60}:{left % 60:02} left "
