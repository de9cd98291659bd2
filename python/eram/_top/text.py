"""Text on a terminal: how wide it is, what may be in it, and how numbers look.

Names come from whoever may enqueue. What could steer the terminal that shows them, or turn the
order of what is beside them around, is shown by its number instead.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence

# Control and format characters, lines and paragraphs, halves of pairs, and what has no meaning yet.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COMBINING = frozenset({"Mn", "Me"})
# More marks than any script has on one letter are there to cover the lines above and below.
MAX_MARKS = 4

_BLOCKS = "▁▂▃▄▅▆▇█"
_ELLIPSIS, _TIMES = "…", "\N{MULTIPLICATION SIGN}"
_PLAIN_BLOCKS = "_.,:-=+#"

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_MANY = 100_000
_FEW = 10


class Script:
    """How text is written in the encoding of a terminal.

    Args:
        encoding: as Python calls it.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self.is_rich = self._can_write(_BLOCKS + _ELLIPSIS + _TIMES)
        self.ellipsis = _ELLIPSIS if self.is_rich else "~"
        self.times = _TIMES if self.is_rich else "x"
        self._blocks = _BLOCKS if self.is_rich else _PLAIN_BLOCKS

    def visible(self, text: str) -> str:
        """Return text that can be shown as it is."""
        if text.isascii() and text.isprintable():
            return text
        shown, marks = [], 0
        for each in text:
            category = unicodedata.category(each)
            marks = marks + 1 if category in _COMBINING else 0
            if category in _ESCAPED or not self._can_write(each):
                shown.append(each.encode("unicode_escape").decode())
            elif marks <= MAX_MARKS:
                shown.append(each)
        return "".join(shown)

    def cut(self, text: str, width: int) -> str:
        """Return visible text that is at most so wide."""
        if width_of(text) <= width:
            return text
        kept, room = "", width - 1
        for each in text:
            room -= width_of(each)
            if room < 0:
                break
            kept += each
        return (kept + self.ellipsis)[: max(0, width)]

    def fit(self, text: str, width: int, *, is_number: bool = False) -> str:
        """Return visible text that is exactly so wide, numbers on the right."""
        text = self.cut(text, width)
        room = " " * (width - width_of(text))
        return room + text if is_number else text + room

    def chart(self, values: Sequence[float], width: int) -> str:
        """Draw numbers as bars from the lowest line up, the latest on the right."""
        values = _narrowed(values, width)
        most = max(values, default=0)
        steps = len(self._blocks) - 1
        # Whatever is not zero can be told from zero.
        heights = [-int(-steps * value // most) if most else 0 for value in values]
        return "".join(self._blocks[height] for height in heights)

    def _can_write(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True


def width_of(text: str) -> int:
    """Say how many columns visible text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def count(number: float, *, is_estimate: bool = False) -> str:
    """Write a number so that it is no wider than six characters, or seven if it is an estimate."""
    text = f"{number:,.0f}" if number < _MANY else _short(number)
    return f"~{text}" if is_estimate else text


def _short(number: float) -> str:
    for unit in "kMGT":
        number /= 1000
        if number < 1000:  # noqa: PLR2004 - that of all units
            return f"{number:.1f}{unit}" if number < _FEW else f"{number:.0f}{unit}"
    return "many"


def duration(seconds: float | None) -> str:
    """Write a duration in its two largest units, no wider than six characters."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def _width(each: str) -> int:
    if unicodedata.category(each) in _COMBINING:
        return 0
    return 2 if unicodedata.east_asian_width(each) in {"W", "F"} else 1


def _narrowed(values: Sequence[float], width: int) -> Sequence[float]:
    """Return at most so many values; of those that fall together, the largest."""
    if len(values) <= width:
        return values
    edges = [round(place * len(values) / max(1, width)) for place in range(width + 1)]
    return [max(values[start:end]) for start, end in itertools.pairwise(edges)]
