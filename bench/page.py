"""How results are shown: as tables in the terminal, and as a part of a page of the docs.

The first table compares eram with the yardstick, others with what else takes part; the last one in
the terminal, and the first one on the page, says which bars are met. A ratio is the median of what
the rounds say.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bars
from figures import (
    ERAM,
    FIGURES,
    YARDSTICK,
    Figure,
    Result,
    Row,
    Sides,
    better,
    by_wave,
    median,
    peers,
    ratio,
)

BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"
FEWER = 0.95  # what is within a twentieth counts as equal

HEADINGS = ("measured", "figure", "eram", "yardstick", "ratio")
OTHER_HEADINGS = ("measured", "figure", "eram", "beside it", "its figure", "ratio")
SMALL = 0.5  # of a full run; the figures of a smaller one are rough
WAVES = {
    "waves": ("The waves by one session, one by one, in jobs/s:", "wave"),
    "worker_waves": ("The waves by a worker process, one by one, in jobs/s:", "wave"),
    "long_drain": ("The tenths of the drain under one snapshot, in jobs/s:", "tenth"),
}
PLOTS = {
    "rates": "Jobs a second of each who takes part, by measurement",
    "latency": "From commit to start at 50 jobs a second, p99",
    "pinned_latency": "The same, p50, and under a snapshot after a drain",
    "waves": "Waves under an open snapshot, by one session",
    "worker_waves": "Waves under an open snapshot, by a worker process",
    "long_drain": "A long drain under one snapshot, tenth by tenth",
}


def text(result: Result) -> str:
    """Make the tables for the terminal."""
    parts = [_text_table([HEADINGS, *_rows(result)])]
    if others := list(_other_rows(result)):
        parts.append(_text_table([OTHER_HEADINGS, *others]))
    if peers(result):
        parts.append(_text_table(list(_peer_rows(result))))
    if left_out := list(_left_out(result)):
        parts.append("Left out:\n" + "\n".join(f"- {line}" for line in left_out))
    parts += ["The bars\n\n" + _text_table(bars.rows(result)), _verdict(result)]
    return "\n\n".join(parts)


def brief(figures: dict[str, Any]) -> str:
    """Make one line of the figures of one measurement."""
    said = (
        f"{FIGURES[key].title} {figures[key]:{FIGURES[key].form}}"
        for key in figures
        if key in FIGURES
    )
    return "; ".join(said)


def rewrite(path: Path, result: Result, plots: Iterable[Path] = ()) -> None:
    """Replace what a page says was measured, and show plots of it."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{path} has no part between {BEGIN} and {END}")
    part = "\n".join([BEGIN, "", *_markdown(result), *_shown(plots, path.parent), "", END])
    path.write_text(f"{before}{part}{after}", encoding="utf-8")


def _markdown(result: Result) -> Iterator[str]:
    setup = result["setup"]
    settings = ", ".join(f"{name} {value}" for name, value in setup["settings"].items())
    yield (
        f"eram {setup['eram']} on PostgreSQL {setup['server']}, {setup['cores']} cores"
        f" ({setup['system']}, {setup['machine']}), Python {setup['python']},"
        f" psycopg {setup['psycopg']}, {setup['date'][:10]}. Load before the run:"
        f" {setup['load_before']}. Rounds: {result['rounds']}; medians."
    )
    if setup["load_before"] > setup["cores"] / 2:
        yield from ("", "The machine was busy with other things: the ratios hold only roughly.")
    yield from ("", f"Settings: {settings}.")
    for name, date in result.get("again", {}).items():
        title = result["measures"][name]["title"]
        yield from ("", f"Measured once more, all sides in one run ({date}): {title}.")
    yield from ("", "### The bars", "", _verdict(result), "")
    yield from _markdown_table(bars.rows(result), left=2)
    yield from ("", "### Beside the yardstick", "")
    yield from _markdown_table([HEADINGS, *_rows(result)], left=2)
    if others := list(_other_rows(result)):
        yield from ("", *_markdown_table([OTHER_HEADINGS, *others], left=2))
    for name, (title, word) in WAVES.items():
        if name in result["measures"]:
            yield from ("", title, "")
            yield from _markdown_waves(result["measures"][name]["sides"], word)
    if peers(result):
        yield from _markdown_peers(result)


def _markdown_peers(result: Result) -> Iterator[str]:
    yield from ("", "### Beside the peers", "")
    about = [
        (label, each["version"], each["settings"], each["history"])
        for label, each in result["sides"].items()
        if "version" in each
    ]
    yield from _markdown_table([("peer", "version", "settings", "finished jobs"), *about], left=4)
    yield from (
        "",
        "In brackets: how many times better eram is (above 1), or worse (below 1).",
        "",
    )
    yield from _markdown_table(list(_peer_rows(result)), left=2)
    if ahead := list(_ahead(result)):
        yield from ("", "Where a peer is ahead of eram:", "", *(f"- {line}" for line in ahead))
    if left_out := list(_left_out(result)):
        yield from ("", "Left out:", "", *(f"- {line}" for line in left_out))


def _markdown_waves(sides: dict[str, Any], word: str) -> Iterator[str]:
    rates = {side: by_wave(runs) for side, runs in sides.items()}
    count = len(rates[ERAM])
    heading = ("", *(f"{word} {number}" for number in range(1, count + 1)))
    rows = [(side, *(f"{rate:,.0f}" for rate in own)) for side, own in rates.items()]
    yield from _markdown_table([heading, *rows], left=1)


def _shown(plots: Iterable[Path], folder: Path) -> Iterator[str]:
    """Link to the plots, in the order of what they show."""
    files = {file.suffixes[0].removeprefix("."): file for file in plots}
    if files:
        yield from ("", "### Plots")
    for name, title in PLOTS.items():
        if name in files:
            yield from ("", f"{title}:", "", f"![{title}]({os.path.relpath(files[name], folder)})")


def _verdict(result: Result) -> str:
    small = " This was a small run: its figures are rough." if result["scale"] < SMALL else ""
    return bars.summary(result) + small


def _rows(result: Result) -> Iterator[Row]:
    """Compare with the yardstick; a variant of eram has a row of its own."""
    for measure, key, figure, title in _figures(result, ERAM):
        sides = measure["sides"]
        has_yardstick = key in sides.get(YARDSTICK, [{}])[0]
        for own in _variants(sides, key):
            yield (
                title if own == ERAM else "",
                _variant(figure, own),
                f"{median(sides[own], key):{figure.form}}",
                f"{median(sides[YARDSTICK], key):{figure.form}}" if has_yardstick else "-",
                _cell(ratio(sides, key, YARDSTICK, own)) if has_yardstick else "-",
            )


def _other_rows(result: Result) -> Iterator[Row]:
    """Compare with what is neither a peer nor the yardstick as it is."""
    known = {YARDSTICK, *peers(result)}
    for measure, key, figure, title in _figures(result, ERAM):
        sides = measure["sides"]
        for label in sides:
            if label not in known and not label.startswith(ERAM) and key in sides[label][0]:
                yield (
                    f"{measure['title']}" if title else "",
                    figure.title,
                    f"{median(sides[ERAM], key):{figure.form}}",
                    label,
                    f"{median(sides[label], key):{figure.form}}",
                    _cell(ratio(sides, key, label)),
                )


def _peer_rows(result: Result) -> Iterator[Row]:
    """Make a column for each peer: its figure, and how many times better eram's is."""
    named = peers(result)
    yield ("measured", "figure", ERAM, *named)
    for measure, key, figure, title in _figures(result, ERAM):
        sides = measure["sides"]
        there = [label for label in named if sides.get(label) and key in sides[label][0]]
        for own in _variants(sides, key) if there else ():
            cells = (_beside(sides, key, label, own) if label in there else "-" for label in named)
            yield (
                title if own == ERAM else "",
                _variant(figure, own),
                f"{median(sides[own], key):{figure.form}}",
                *cells,
            )


def _beside(sides: Sides, key: str, label: str, own: str) -> str:
    figure = f"{median(sides[label], key):{FIGURES[key].form}}"
    return f"{figure} ({_cell(better(sides, key, label, own))})"


def _cell(quotient: float) -> str:
    """Write a ratio; there is none to nothing at all."""
    return "-" if math.isnan(quotient) else f"{quotient:.2f}"


def _variants(sides: dict[str, Any], key: str) -> list[str]:
    """Name the sides that are eram, in one way or another."""
    return [label for label in sides if label.startswith(ERAM) and key in sides[label][0]]


def _variant(figure: Figure, label: str) -> str:
    return figure.title if label == ERAM else f"{figure.title} ({label.removeprefix('eram, ')})"


def _figures(result: Result, label: str) -> Iterator[tuple[dict[str, Any], str, Figure, str]]:
    """Go through what was measured of a side; the title stands on the first of its figures."""
    for measure in result["measures"].values():
        jobs = measure["jobs"][label]
        title = f"{measure['title']} ({jobs:,} jobs)" if jobs else measure["title"]
        for key, figure in FIGURES.items():
            if all(key in run for run in measure["sides"][label]):
                yield measure, key, figure, title
                title = ""


def _ahead(result: Result) -> Iterator[str]:
    title = ""
    for measure, key, figure, own_title in _figures(result, ERAM):
        title = own_title or title
        sides = measure["sides"]
        said = [
            f"{label} {median(sides[label], key):{figure.form}}"
            for label in peers(result)
            if sides.get(label) and key in sides[label][0] and better(sides, key, label) < FEWER
        ]
        if said:
            own = f"{median(sides[ERAM], key):{figure.form}}"
            yield f"{title}, {figure.title}: {', '.join(said)}; eram {own}."


def _left_out(result: Result) -> Iterator[str]:
    yield from (f"{label}: {reason}." for label, reason in result["away"].items())
    for measure in result["measures"].values():
        by_reason: dict[str, list[str]] = {}
        for label, reason in measure["without"].items():
            by_reason.setdefault(reason, []).append(label)
        for reason, labels in by_reason.items():
            yield f"{measure['title']}: {', '.join(labels)}: {reason}."


def _text_table(lines: list[Row]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column < 2 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _markdown_table(lines: list[Row], left: int) -> Iterator[str]:
    """Make a table whose first columns stand on the left."""
    yield f"| {' | '.join(lines[0])} |"
    yield "|" + "|".join("---" if column < left else "--:" for column in range(len(lines[0]))) + "|"
    for line in lines[1:]:
        yield f"| {' | '.join(line)} |"
