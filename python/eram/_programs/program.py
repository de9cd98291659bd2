"""What the programs that run until a signal have in common: `eram.worker` and `eram.tick`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import psycopg

from eram.errors import ConfigError

# Sent to a process and to its group, as `timeout` does, a signal comes twice.
SAME_SIGNAL_SECONDS = 0.5
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_READ_BYTES = 4096


def _leave() -> None:
    os._exit(1)


class StopHandler:
    """Whose methods handle the stop signals, but not in processes that are forked."""


class Signals(StopHandler):
    """Waiting for SIGTERM or SIGINT. A second one, moments later, ends the process at once.

    Args:
        on_second: called at the second one instead, on the main thread.
    """

    def __init__(self, on_second: Callable[[], None] = _leave) -> None:
        # The handler may be called at any moment, also while the main thread holds a lock: it
        # writes a byte.
        self._news, self._pen = os.pipe()
        os.set_blocking(self._pen, False)
        self._process = os.getpid()
        self._on_second = on_second
        self._signalled_at: float | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    @property
    def has_come(self) -> bool:
        """Whether there was a signal."""
        return self._signalled_at is not None

    def fileno(self) -> int:
        """Return what can be read from when a wait would end."""
        return self._news

    def wait(self) -> None:
        """Wait for the first signal, or for `ring`."""
        os.read(self._news, _READ_BYTES)

    def ring(self) -> None:
        """End the wait without a signal."""
        # With so many unread ones it ends anyway.
        with contextlib.suppress(BlockingIOError):
            os.write(self._pen, b"\0")

    def close(self) -> None:
        """Let go of the pipe, in a process that has inherited it and takes other `Signals`."""
        os.close(self._news)
        os.close(self._pen)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        if os.getpid() != self._process:
            # It came for a process that has just been forked: the signal is meant for it alone.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._signalled_at is None:
            self._signalled_at = time.monotonic()
            self.ring()
        elif time.monotonic() - self._signalled_at > SAME_SIGNAL_SECONDS:
            self._on_second()


def _give_back() -> None:
    """Have the stop signals end a process that a handler has forked, as they end others.

    At the fork, and not when one comes: where another thread than the main one has forked, Python
    3.13 does not call the child's handlers before the child calls something that can be
    interrupted.
    """
    for number in STOP_SIGNALS:
        if isinstance(getattr(signal.getsignal(number), "__self__", None), StopHandler):
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_give_back)


def signal_name(number: int) -> str:
    """Say what a signal is called."""
    try:
        return signal.Signals(number).name
    # Signals in real time have no names.
    except ValueError:
        return f"signal {number}"


def explain(error: ConfigError | psycopg.Error, what: str) -> tuple[int, str]:
    """Say why a program cannot start, and with which code it exits."""
    if isinstance(error, ConfigError):
        return 2, str(error)
    return 1, f"the {what} cannot start: {str(error).strip()}"


def open_streams() -> None:
    """Make up for standard streams that the process was started without.

    What is opened next would have their numbers, and hear what is meant for them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Never closed. The lowest number that is free is the one that is missing.
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123
            setattr(sys, name, stream)


def flush_streams() -> None:
    """Send what is still to be written to the standard streams, if that can be done."""
    for stream in (sys.stdout, sys.stderr):
        # Whoever reads it may be gone; and a handler may have put anything there.
        with contextlib.suppress(Exception):
            stream.flush()


def end_process(code: int) -> NoReturn:
    """End the process without the interpreter's goodbye, which unfinished threads could hold up."""
    logging.shutdown()
    flush_streams()
    os._exit(code)
