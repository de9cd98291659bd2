"""Lines of styled text, and tables that give up columns where there is no room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eram._top.text import Script, width_of

GAP = 2

# What terminals call the styles.
_STYLES = {
    "title": "1",
    "faint": "2",
    "good": "32",
    "warning": "33",
    "bad": "31",
    "chosen": "7",
}


class Span(NamedTuple):
    """A piece of a line: visible text, and one of the styles that the terminal knows."""

    text: str
    style: str = ""


Line = list[Span]


def styled(line: Line, *, has_colours: bool) -> str:
    """Return a line as a terminal wants it, or without any of its sequences."""
    return "".join(
        f"\x1b[{_STYLES[span.style]}m{span.text}\x1b[0m"
        if has_colours and span.style
        else span.text
        for span in line
    )


def cut(line: Line, width: int, script: Script) -> Line:
    """Return what of a line there is room for."""
    kept = []
    for span in line:
        if width > 0:
            kept.append(Span(script.cut(span.text, width), span.style))
        width -= width_of(span.text)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Args:
        title: what stands above it.
        cell: what to show of a row.
        width: how wide it is; the first column takes what the others leave, and so does the last
            one if it has no width.
        rank: those with the highest number go first where it is narrow; 0 stays.
        style: how to show a row's cell.
        is_number: whether it stands on the right.
    """

    title: str
    cell: Callable[[Any], str]
    width: int = 0
    rank: int = 0
    style: Callable[[Any], str] = lambda _: ""
    is_number: bool = True


def table(
    columns: Sequence[Column],
    rows: Sequence[Any],
    *,
    width: int | None,
    script: Script,
    least: int,
    chosen: object = None,
) -> list[Line]:
    """Lay out a table: a line of titles, and one for each row.

    Args:
        columns: from left to right.
        rows: from top to bottom.
        width: how much room there is; None if there is no end of it.
        script: how text is written.
        least: what the first column keeps, at the cost of others.
        chosen: the row that is marked.
    """
    columns = _that_fit(columns, width, least)
    cells = [[script.visible(column.cell(row)) for column in columns] for row in rows]
    widths = [column.width for column in columns]
    if columns[-1].width == 0 and len(columns) > 1:
        widths[-1] = _widest(columns[-1].title, [row[-1] for row in cells])
    widths[0] = _widest(columns[0].title, [row[0] for row in cells])
    if width is not None:
        # The first column is as wide as it must be, at most half where the last one wants room.
        others = sum(widths[1:]) + GAP * (len(columns) - 1)
        if columns[-1].width == 0 and len(columns) > 1:
            others -= widths[-1]
            widths[0] = min(widths[0], max(least, (width - others) // 2))
            widths[-1] = max(0, width - others - widths[0])
        else:
            widths[0] = max(1, width - others)
    titles = [column.title for column in columns]
    lines = [_line(columns, titles, widths, script, lambda _: "title")]
    for row, texts in zip(rows, cells, strict=True):

        def style(column: Column, row: Any = row) -> str:
            return "chosen" if chosen is not None and row is chosen else column.style(row)

        lines.append(_line(columns, texts, widths, script, style))
    return lines


def _that_fit(columns: Sequence[Column], width: int | None, least: int) -> list[Column]:
    kept = list(columns)
    while width is not None and len(kept) > 1:
        if least + sum(GAP + column.width for column in kept[1:]) <= width:
            break
        last = max(kept, key=lambda column: column.rank)
        if not last.rank:
            break
        kept.remove(last)
    return kept


def _widest(title: str, texts: Sequence[str]) -> int:
    return max(map(width_of, [title, *texts]))


def _line(
    columns: Sequence[Column],
    texts: Sequence[str],
    widths: Sequence[int],
    script: Script,
    style: Callable[[Column], str],
) -> Line:
    line = []
    for place, (column, text, width) in enumerate(zip(columns, texts, widths, strict=True)):
        is_last = place == len(columns) - 1
        cell = script.fit(text, width, is_number=column.is_number and bool(column.width))
        line.append(Span(cell if is_last else cell + " " * GAP, style(column)))
    return line
