# /// script
# dependencies = ["matplotlib==3.10.7"]
# ///
"""Plots of a soak: `python plots.py RUN.soak.json`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

MEGABYTE = 1024 * 1024
MOST_LINES = 7  # in one panel; the smallest are left out
COLUMNS = 3
HEADROOM = 1.2  # for the legend
HOLDS = {"reader": "#f3e3c3", "writer": "#f0c4c0"}

Lines = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn in one place."""

    title: str
    lines: Lines
    unit: float = 1.0
    is_logarithmic: bool = False


def panels(series: Mapping[str, Lines]) -> list[Panel]:
    """Say what there is to draw."""

    def named(group: str, *names: str) -> Lines:
        return {name: series[group][name] for name in names if name in series.get(group, {})}

    sizes = series["bytes"]
    tables = [name for name in sizes if name in series["dead rows"]]
    indexes = [name for name in sizes if name not in {*tables, "database"}]
    return [
        Panel("jobs ended per second", series["rates"]),
        Panel("from commit to start, ms", series.get("latency", {}), is_logarithmic=True),
        Panel("jobs that are due or run", series["jobs"]),
        Panel("dead rows, by table", series["dead rows"]),
        Panel("size of tables, MB", named("bytes", *tables), MEGABYTE),
        Panel("size of indexes, MB", named("bytes", *indexes), MEGABYTE),
        Panel("WAL, bytes per job", named("per job", "WAL bytes")),
        Panel("CPU of the server, microseconds per job", named("per job", "server CPU us")),
        Panel("CPU, in cores", series.get("cpu", {})),
        Panel("age of the oldest job that is due, s", series["oldest due"]),
        Panel("memory of processes, MB", series.get("memory", {}), MEGABYTE),
        Panel("size of the database, MB", named("bytes", "database"), MEGABYTE),
    ]


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Draw a soak beside its JSON file; return the file that was written."""
    drawn = [panel for panel in panels(result["series"]) if _largest(panel.lines)]
    rows = -(-len(drawn) // COLUMNS)
    figure, places = plt.subplots(
        rows, COLUMNS, figsize=(19, 3.9 * rows), layout="constrained", sharex=True, squeeze=False
    )
    for place in places.flat[len(drawn) :]:
        place.set_visible(False)
    for place, panel in zip(places.flat, drawn, strict=False):
        _draw(place, panel, result["times"])
        for hold in result["plan"]["holds"]:
            colour = HOLDS[hold["kind"]]
            begun, ended = hold["from_seconds"] / 60, hold["to_seconds"] / 60
            place.axvspan(begun, ended, color=colour, linewidth=0)
    for place in places[-1]:
        place.set_xlabel("minutes")
    plan = result["plan"]
    figure.suptitle(
        f"{plan['seconds'] / 60:g} minutes at {plan['rate']:,.0f} jobs/s, kept for "
        f"{plan['keep_seconds']:.0f} s, PostgreSQL {result['setup']['server']}. "
        "Shaded: a snapshot is open (once, in red, a writing transaction)."
    )
    file = path.with_suffix(".png")
    figure.savefig(file, dpi=100)
    plt.close(figure)
    return file


def _draw(place: Axes, panel: Panel, times: Sequence[float]) -> None:
    largest = _largest(panel.lines)[:MOST_LINES]
    # In the order of the alphabet, so that a name has its colour from one run to the next.
    for name in sorted(largest):
        pairs = zip(times, panel.lines[name], strict=True)
        points = [
            (at / 60, math.nan if value is None else value / panel.unit) for at, value in pairs
        ]
        place.plot(*zip(*points, strict=True), label=name.removeprefix("eram_"), linewidth=1.2)
    if panel.is_logarithmic:
        place.set_yscale("log")
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_minor_formatter(NullFormatter())
    else:
        place.set_ylim(0, place.get_ylim()[1] * HEADROOM)
    place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    place.set_xlim(0, times[-1] / 60)
    place.set_title(panel.title, fontsize="medium", loc="left")
    place.grid(alpha=0.3)
    place.tick_params(labelbottom=True)
    place.legend(fontsize="x-small", loc="upper left", ncols=3)


def _largest(lines: Lines) -> list[str]:
    """Return the names of lines that are not all nothing, the largest first."""
    tops = {
        name: max((value for value in values if value is not None), default=0)
        for name, values in lines.items()
    }
    return sorted((name for name in tops if tops[name]), key=lambda name: -tops[name])


if __name__ == "__main__":
    run = Path(sys.argv[1])
    print(f"written to {draw(json.loads(run.read_text(encoding='utf-8')), run)}")
