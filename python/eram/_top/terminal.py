"""A terminal that is drawn on, and that is left as it was found, whatever ends the program.

Sequences of ANSI and termios, and nothing else: curses is not in every build of Python.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from eram._top.table import Line, styled
from eram._top.text import width_of

# The other screen, no cursor, and no new line when a line is full.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_NAMES = {"A": "up", "B": "down", "H": "home", "F": "end"}
# A key that sends several bytes, as far as it has come.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*([@-~])|O(.))")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?$")
_READ_BYTES = 4096


class Terminal:
    """The terminal of the standard streams, while it is drawn on.

    Args:
        has_colours: whether it may be sent styles.
    """

    def __init__(self, *, has_colours: bool) -> None:
        self._has_colours = has_colours
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._encoding = sys.stdout.encoding
        self._unread = ""
        self._is_entered = False
        self._is_suspended = False
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self.has_ended = False

    def __enter__(self) -> Self:
        sys.stdout.flush()
        # Whatever a handler notes wakes the wait.
        self._news, self._pen = os.pipe()
        os.set_blocking(self._news, False)
        os.set_blocking(self._pen, False)
        self._before = termios.tcgetattr(self._input)
        try:
            for number in _STOP_SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_stop)
            self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._on_change)
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._on_suspend)
            self._enter()
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def is_in_a_key(self) -> bool:
        """Whether the bytes of a key are still to come."""
        return bool(self._unread)

    def size(self) -> tuple[int, int]:
        """Say how many columns and lines there are."""
        with contextlib.suppress(OSError):
            packed = fcntl.ioctl(self._output, termios.TIOCGWINSZ, b"\0" * 8)
            lines, columns = struct.unpack("HHHH", packed)[:2]
            if lines and columns:
                return columns, lines
        return 80, 24

    def show(self, lines: Sequence[Line]) -> None:
        """Draw the screen anew."""
        parts = []
        for number, line in enumerate(lines, 1):
            parts.append(f"\x1b[{number};1H")
            column, is_sure = 1, True
            for span in line:
                # Terminals differ in how wide a character is that they do not know.
                if not is_sure:
                    parts.append(f"\x1b[{column}G")
                parts.append(styled([span], has_colours=self._has_colours))
                is_sure = is_sure and span.text.isascii()
                column += width_of(span.text)
            parts.append("\x1b[K")
        parts.append("\x1b[J")
        self._write("".join(parts))

    def ring(self) -> None:
        """End the wait of another thread."""
        # So many unread ones end it anyway; and after the end nobody waits.
        with contextlib.suppress(OSError):
            os.write(self._pen, b"\0")

    def wait(self, seconds: float | None) -> list[str]:
        """Wait for keys, for news, or for so long; return the keys."""
        ready, _, _ = select.select([self._input, self._news], [], [], seconds)
        if self._news in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._news, _READ_BYTES)
        if self._is_suspended:
            self._suspend()
        if self._input not in ready:
            # Nothing has followed: it was the key itself.
            unread, self._unread = self._unread, ""
            return ["escape"] if unread else []
        try:
            said = os.read(self._input, _READ_BYTES)
        except OSError:
            said = b""
        # Nobody sits there any more.
        self.has_ended = self.has_ended or not said
        keys, self._unread = keys_of(self._unread + said.decode(errors="replace"))
        return keys

    def _enter(self) -> None:
        mode = termios.tcgetattr(self._input)
        # Keys come one by one and are not shown. Ctrl-C is still a signal; Ctrl-S stops nothing.
        mode[0] &= ~(termios.IXON | termios.ICRNL)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._input, termios.TCSADRAIN, mode)
        self._is_entered = True
        self._write(_ENTER)

    def _leave(self) -> None:
        if not self._is_entered:
            return
        self._is_entered = False
        # It may be gone.
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSAFLUSH, self._before)

    def _restore(self) -> None:
        self._leave()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        os.close(self._news)
        os.close(self._pen)

    def _suspend(self) -> None:
        """Give the terminal back, stop, and take it again."""
        self._is_suspended = False
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, errors="backslashreplace")
        while data:
            data = data[os.write(self._output, data) :]

    def _on_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        if self.has_ended:
            self._leave_at_once()
        self.has_ended = True
        self.ring()

    def _on_change(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self.ring()

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self._is_suspended = True
        self.ring()

    def _leave_at_once(self) -> NoReturn:
        """End at a second signal: the terminal may not take what is written to it."""
        with contextlib.suppress(termios.error):
            termios.tcflush(self._output, termios.TCOFLUSH)
        self._leave()
        os._exit(1)


def keys_of(text: str) -> tuple[list[str], str]:
    """Say which keys have sent this; return what is not finished, too."""
    unfinished = _UNFINISHED.search(text)
    rest = unfinished[0] if unfinished else ""
    text = text[: len(text) - len(rest)]
    keys = []
    while text:
        if found := _SEQUENCE.match(text):
            keys.append(_NAMES.get(found[1] or found[2], "?unknown"))
            text = text[found.end() :]
        else:
            keys.append("escape" if text[0] == "\x1b" else text[0])
            text = text[1:]
    return keys, rest
