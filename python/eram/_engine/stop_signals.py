"""SIGTERM and SIGINT while an engine runs in the main thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from eram._programs.program import SAME_SIGNAL_SECONDS, StopHandler

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals(StopHandler):
    """Within its block the first signal is noted; a second one is what it would be otherwise.

    Only the main thread can have signals: in others this does nothing.

    Args:
        on_signal: called in the signal handler, for the first one.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._process = os.getpid()
        self._signalled_at: float | None = None
        self._previous: dict[int, Any] = {}
        self._raised: BaseException | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def has_come(self) -> bool:
        """Whether there was one."""
        return self._signalled_at is not None

    def raise_again(self) -> None:
        """Raise what a second signal has raised: somewhere in a handler, where it was caught."""
        if self._raised is not None:
            raise self._raised

    def _restore(self) -> None:
        while self._previous:
            number, previous = self._previous.popitem()
            # None is a handler that was not made by Python.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != self._process:
            # It came for a process that has just been forked: the signal is for it alone.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._signalled_at is None:
            self._signalled_at = now
            self._on_signal()
        # Sent to a process and to its group, the same one comes twice.
        elif now - self._signalled_at > SAME_SIGNAL_SECONDS:
            previous = self._previous.get(number)
            self._restore()
            if not callable(previous):
                os.kill(os.getpid(), number)
                return
            try:
                previous(number, frame)
            except BaseException as error:
                self._raised = error
                raise
