"""A real pseudo-terminal with a program in it, and a screen that shows what a person would see."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pyte

# Longer than anything takes on a busy machine; a test that waits for so long has failed.
PATIENCE = 40
TIMES = "\N{MULTIPLICATION SIGN}"
# The terminal is the one from which signals come, as a shell has it. What a script runs in the
# background, these tests perhaps, has to ignore an interrupt; what a person starts has not.
IN_CHARGE = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def environ(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS"}}
    return {**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **changes}


class Screen:
    """Runs a program of Python in a terminal of its own.

    Args:
        arguments: of the interpreter.
        columns: how wide the terminal is.
        lines: how high it is.
        changes: what is different in the environment.
    """

    def __init__(
        self, *arguments: str, columns: int = 100, lines: int = 30, **changes: str
    ) -> None:
        self._ours, self._theirs = os.openpty()
        self._emulator = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._emulator)
        self.raw = b""
        self._set_size(columns, lines)
        self.mode_before = self.mode
        self._process = subprocess.Popen(
            [sys.executable, "-c", IN_CHARGE, *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            env=environ(**changes),
            cwd=Path(__file__).parent,
        )

    @property
    def lines(self) -> list[str]:
        """What stands there, line by line."""
        return [line.rstrip() for line in self._emulator.display]

    @property
    def cells(self) -> list[list[str]]:
        """What stands in each column of each line; the second one of a wide character is empty."""
        buffer, columns = self._emulator.buffer, self._emulator.columns
        return [[buffer[n][c].data for c in range(columns)] for n in range(self._emulator.lines)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def mode(self) -> list[Any]:
        """How the terminal is set: whether it echoes, and so on."""
        return termios.tcgetattr(self._theirs)

    @property
    def has_cursor(self) -> bool:
        return not self._emulator.cursor.hidden

    def style_at(self, text: str) -> Any:
        """Return how the first character of a text is shown."""
        for number, line in enumerate(self._emulator.display):
            if text in line:
                return self._emulator.buffer[number][line.index(text)]
        raise AssertionError(f"not there: {text!r}\n{self.text}")

    def wait_for(self, *texts: str, without: str = "") -> str:
        """Wait until all of these can be read at once; return what stands there."""
        self.wait_until(
            lambda: (
                all(text in self.text for text in texts) and not (without and without in self.text)
            ),
            f"{texts} without {without!r}",
        )
        return self.text

    def wait_until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._read(0.05)
            assert time.monotonic() < deadline, f"never {what}:\n{self.text}"

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        # What is still to come is of the old size.
        self._read(0)
        self._emulator.resize(lines, columns)
        self._set_size(columns, lines)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        self.wait_until(lambda: self._process.poll() is not None, "an end")
        while self._read(0):
            pass
        return self._process.wait()

    @property
    def is_stopped(self) -> bool:
        """Whether it is suspended."""
        status = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        return status.rpartition(")")[2].split()[0] == "T"

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self, seconds: float) -> bool:
        """Show what has come; say whether anything has."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        data = os.read(self._ours, 65_536)
        self.raw += data
        self._stream.feed(data)
        return True

    def _set_size(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, size)
