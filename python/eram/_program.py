"""What the programs that run until a signal have in common: `eram.worker` and `eram.tick`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
# Sent to a process and to its group, as `timeout` does, a signal comes twice.
SAME_SIGNAL_SECONDS = 0.5


class Signals:
    """Waiting for SIGTERM or SIGINT. A second one, moments later, ends the process at once."""

    def __init__(self) -> None:
        # The handler may be called at any moment, also while the main thread holds a lock: it
        # writes a byte.
        self._news, self._pen = os.pipe()
        self._process = os.getpid()
        self._signalled_at: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        """Wait for the first signal, or for `ring`."""
        os.read(self._news, 1)

    def ring(self) -> None:
        """End the wait without a signal."""
        os.write(self._pen, b"\0")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        if os.getpid() != self._process:
            # A process that a handler forked has this function too, and the worker's end of the
            # pipe: the signal is meant for the child alone.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._signalled_at is None:
            self._signalled_at = time.monotonic()
            self.ring()
        elif time.monotonic() - self._signalled_at > SAME_SIGNAL_SECONDS:
            os._exit(1)


def end_process(code: int) -> NoReturn:
    """End the process without the interpreter's goodbye, which unfinished threads could hold up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
