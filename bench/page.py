"""How results are shown: as tables in the terminal, and as a part of a page of the docs.

The first table compares eram with the yardstick, the second with the peers. A ratio is the median
of what the rounds say.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ERAM, YARDSTICK = "eram", "yardstick"
BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"
FEWER = 0.95  # what is within a twentieth counts as equal

Result = dict[str, Any]
Row = tuple[str, ...]


class Figure(NamedTuple):
    """A figure by its name in the results."""

    title: str
    form: str
    is_better_higher: bool


FIGURES = {
    "jobs_per_second": Figure("jobs/s", ",.0f", is_better_higher=True),
    "server_cpu_us": Figure("CPU of the server a job, µs", ",.1f", is_better_higher=False),
    "worker_cpu_us": Figure("CPU of the worker a job, µs", ",.1f", is_better_higher=False),
    "wal_bytes": Figure("WAL a job, bytes", ",.0f", is_better_higher=False),
    "disk_bytes": Figure("on disk afterwards a job, bytes", ",.0f", is_better_higher=False),
    "p50_ms": Figure("p50, ms", ".1f", is_better_higher=False),
    "p95_ms": Figure("p95, ms", ".1f", is_better_higher=False),
    "p99_ms": Figure("p99, ms", ".1f", is_better_higher=False),
    "last_to_first": Figure("last wave to first", ".2f", is_better_higher=True),
    "pinned_p50_ms": Figure("then commit to start, p50, ms", ".1f", is_better_higher=False),
    "pinned_p99_ms": Figure("then commit to start, p99, ms", ".1f", is_better_higher=False),
}

HEADINGS = ("measured", "figure", "eram", "yardstick", "ratio")


def text(result: Result) -> str:
    """Make the tables for the terminal."""
    parts = [_text_table([HEADINGS, *_rows(result)])]
    if peers(result):
        parts.append(_text_table(list(_peer_rows(result))))
    if left_out := list(_left_out(result)):
        parts.append("Left out:\n" + "\n".join(f"- {line}" for line in left_out))
    return "\n\n".join(parts)


def brief(figures: dict[str, Any]) -> str:
    """Make one line of the figures of one measurement."""
    said = (
        f"{FIGURES[key].title} {figures[key]:{FIGURES[key].form}}"
        for key in figures
        if key in FIGURES
    )
    return "; ".join(said)


def rewrite(path: Path, result: Result) -> None:
    """Replace what a page says was measured."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{path} has no part between {BEGIN} and {END}")
    part = "\n".join([BEGIN, "", *_markdown(result), "", END])
    path.write_text(f"{before}{part}{after}", encoding="utf-8")


def peers(result: Result) -> list[str]:
    """Name the peers that have any figures."""
    named = [label for label, about in result["sides"].items() if "version" in about]
    measures = result["measures"].values()
    return [label for label in named if any(label in each["sides"] for each in measures)]


def _markdown(result: Result) -> Iterator[str]:
    setup = result["setup"]
    settings = ", ".join(f"{name} {value}" for name, value in setup["settings"].items())
    yield (
        f"eram {setup['eram']} on PostgreSQL {setup['server']}, {setup['cores']} cores"
        f" ({setup['system']}, {setup['machine']}), Python {setup['python']},"
        f" psycopg {setup['psycopg']}, {setup['date'][:10]}. Load before the run:"
        f" {setup['load_before']}. {result['rounds']} rounds; medians."
    )
    if setup["load_before"] > setup["cores"] / 2:
        yield from ("", "The machine was busy with other things: the ratios hold only roughly.")
    yield from ("", f"Settings: {settings}.")
    yield from ("", *_markdown_table([HEADINGS, *_rows(result)], left=2))
    if peers(result):
        yield from _markdown_peers(result)
    for name, title in (("waves", "by one session"), ("worker_waves", "by a worker process")):
        if name in result["measures"]:
            yield from ("", f"The waves {title}, one by one, in jobs/s:", "")
            yield from _markdown_waves(result["measures"][name]["sides"])


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


def _markdown_waves(sides: dict[str, Any]) -> Iterator[str]:
    rates = {side: by_wave(runs) for side, runs in sides.items()}
    count = len(rates[ERAM])
    heading = ("", *(f"wave {number}" for number in range(1, count + 1)))
    rows = [(side, *(f"{rate:,.0f}" for rate in own)) for side, own in rates.items()]
    yield from _markdown_table([heading, *rows], left=1)


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
                f"{ratio(sides, key, YARDSTICK, own):.2f}" if has_yardstick else "-",
            )


def _peer_rows(result: Result) -> Iterator[Row]:
    """Make a column for each peer: its figure, and how many times better eram's is."""
    named = peers(result)
    yield ("measured", "figure", ERAM, *named)
    for measure, key, figure, title in _figures(result, ERAM):
        sides = measure["sides"]
        there = [label for label in named if sides.get(label) and key in sides[label][0]]
        for own in _variants(sides, key) if there else ():
            cells = (
                f"{median(sides[label], key):{figure.form}} ({better(sides, key, label, own):.2f})"
                if label in there
                else "-"
                for label in named
            )
            yield (
                title if own == ERAM else "",
                _variant(figure, own),
                f"{median(sides[own], key):{figure.form}}",
                *cells,
            )


def _variants(sides: dict[str, Any], key: str) -> list[str]:
    """Name the sides that are eram, in one way or another."""
    return [label for label in sides if label.startswith(ERAM) and key in sides[label][0]]


def _variant(figure: Figure, label: str) -> str:
    return figure.title if label == ERAM else f"{figure.title} ({label.removeprefix('eram, ')})"


def _figures(result: Result, label: str) -> Iterator[tuple[dict[str, Any], str, Figure, str]]:
    """Go through what was measured of a side; the title stands on the first of its figures."""
    for measure in result["measures"].values():
        title = f"{measure['title']} ({measure['jobs'][label]:,} jobs)"
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


def ratio(sides: dict[str, Any], key: str, other: str, own: str = ERAM) -> float:
    """Divide eram's figure by another's: the median of what the rounds say."""
    # One that failed in a round has fewer of them.
    pairs = zip(sides[own], sides[other], strict=False)
    return statistics.median(
        mine[key] / its[key] if its[key] else float("nan") for mine, its in pairs
    )


def better(sides: dict[str, Any], key: str, other: str, own: str = ERAM) -> float:
    """Say how many times better eram is: above 1 is ahead, whatever the figure."""
    quotient = ratio(sides, key, other, own)
    return quotient if FIGURES[key].is_better_higher or not quotient else 1 / quotient


def by_wave(runs: Sequence[dict[str, Any]]) -> list[float]:
    """Return the jobs/s of each wave."""
    waves = zip(*(run["jobs_per_second_by_wave"] for run in runs), strict=True)
    return [statistics.median(wave) for wave in waves]


def median(runs: Sequence[dict[str, float]], key: str) -> float:
    """Return the median of the rounds."""
    return statistics.median(run[key] for run in runs)


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
