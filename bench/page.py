"""How results are shown: as a table in the terminal, and as a part of a page of the docs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ERAM, YARDSTICK = "eram", "yardstick"
BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"


class Figure(NamedTuple):
    """A figure by its name in the results."""

    title: str
    form: str
    is_better_higher: bool


FIGURES = {
    "jobs_per_second": Figure("jobs/s", ",.0f", is_better_higher=True),
    "server_cpu_us": Figure("CPU of the server a job, µs", ".1f", is_better_higher=False),
    "worker_cpu_us": Figure("CPU of the worker a job, µs", ".1f", is_better_higher=False),
    "wal_bytes": Figure("WAL a job, bytes", ",.0f", is_better_higher=False),
    "p50_ms": Figure("p50, ms", ".1f", is_better_higher=False),
    "p95_ms": Figure("p95, ms", ".1f", is_better_higher=False),
    "p99_ms": Figure("p99, ms", ".1f", is_better_higher=False),
    "last_to_first": Figure("last wave to first", ".2f", is_better_higher=True),
}

HEADINGS = ("measured", "figure", "eram", "yardstick", "ratio")


def text_table(result: dict[str, Any]) -> str:
    """Make the table for the terminal."""
    lines = [HEADINGS, *_rows(result)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column < 2 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def brief(figures: dict[str, Any]) -> str:
    """Make one line of the figures of one measurement."""
    said = (
        f"{FIGURES[key].title} {figures[key]:{FIGURES[key].form}}"
        for key in figures
        if key in FIGURES
    )
    return "; ".join(said)


def rewrite(path: Path, result: dict[str, Any]) -> None:
    """Replace what a page says was measured."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{path} has no part between {BEGIN} and {END}")
    part = "\n".join([BEGIN, "", *_markdown(result), "", END])
    path.write_text(f"{before}{part}{after}", encoding="utf-8")


def _markdown(result: dict[str, Any]) -> Iterator[str]:
    setup = result["setup"]
    settings = ", ".join(f"{name} {value}" for name, value in setup["settings"].items())
    yield (
        f"eram {setup['eram']} on PostgreSQL {setup['server']}, {setup['cores']} cores"
        f" ({setup['system']}, {setup['machine']}), Python {setup['python']},"
        f" psycopg {setup['psycopg']}, {setup['date'][:10]}. Load before the run:"
        f" {setup['load_before']}. {result['rounds']} rounds; medians."
    )
    if setup["load_before"] > setup["cores"] / 2:
        yield ""
        yield "The machine was busy with other things: only the ratios can hold, and roughly."
    yield ""
    yield f"Settings: {settings}."
    yield ""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---|---|--:|--:|--:|"
    for row in _rows(result):
        yield f"| {' | '.join(row)} |"
    waves = result["measures"].get("waves")
    if waves:
        yield ""
        yield "The waves one by one, in jobs/s:"
        yield ""
        by_side = {side: by_wave(runs) for side, runs in waves["sides"].items()}
        count = len(by_side[ERAM])
        yield f"| | {' | '.join(f'wave {number}' for number in range(1, count + 1))} |"
        yield f"|---|{'--:|' * count}"
        for side, rates in by_side.items():
            yield f"| {side} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |"


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for measure in result["measures"].values():
        sides = measure["sides"]
        title = f"{measure['title']} ({measure['jobs']:,} jobs)"
        for key, figure in FIGURES.items():
            if not all(key in run for side in (ERAM, YARDSTICK) for run in sides[side]):
                continue
            own, bare = (_median(sides[side], key) for side in (ERAM, YARDSTICK))
            yield (
                title,
                figure.title,
                f"{own:{figure.form}}",
                f"{bare:{figure.form}}",
                f"{ratio(sides, key):.2f}",
            )
            title = ""


def ratio(sides: dict[str, list[dict[str, float]]], key: str) -> float:
    """Compare eram with the yardstick: the median of what the rounds say."""
    pairs = zip(sides[ERAM], sides[YARDSTICK], strict=True)
    return statistics.median(
        own[key] / bare[key] if bare[key] else float("nan") for own, bare in pairs
    )


def by_wave(runs: Sequence[dict[str, Any]]) -> list[float]:
    """Return the jobs/s of each wave."""
    waves = zip(*(run["jobs_per_second_by_wave"] for run in runs), strict=True)
    return [statistics.median(wave) for wave in waves]


def _median(runs: Sequence[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)
