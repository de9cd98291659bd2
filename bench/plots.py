# /// script
# dependencies = ["matplotlib==3.10.7"]
# ///
"""Plots of a run: `python plots.py RUN.json`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from figures import ERAM, YARDSTICK, by_wave, median
from matplotlib.figure import Figure

mpl.use("agg")
from matplotlib import pyplot as plt

RATES = (
    *("enqueue_documents", "enqueue_set", "enqueue_one", "enqueue_by_many"),
    *("drain", "drain_pair"),
)
WAVES = {"waves": "wave of", "worker_waves": "wave of", "long_drain": "tenth of"}
COLOURS = {ERAM: "#336791", YARDSTICK: "#bbbbbb", "plain": "#d5d5d5", "bare": "#d5d5d5"}


def draw(result: dict[str, Any], path: Path) -> list[Path]:
    """Draw what a run has measured, beside its JSON file; return the files that were written."""
    measures = result["measures"]
    drawn = [
        _draw_bars(
            {name: measures[name] for name in RATES if name in measures},
            "jobs_per_second",
            "jobs/s",
            path.with_suffix(".rates.png"),
        ),
        _draw_bars(
            {name: measures[name] for name in ("latency",) if name in measures},
            "p99_ms",
            "ms, p99",
            path.with_suffix(".latency.png"),
        ),
        _draw_pinned(measures, path.with_suffix(".pinned_latency.png")),
        *(
            _draw_waves(measures[name], what, path.with_suffix(f".{name}.png"))
            for name, what in WAVES.items()
            if name in measures
        ),
    ]
    return [file for file in drawn if file]


def _draw_bars(measures: dict[str, Any], key: str, unit: str, path: Path) -> Path | None:
    """Draw a panel for each measurement, and in it a bar for each side."""
    if not measures:
        return None
    count = max(len(measure["sides"]) for measure in measures.values())
    rows = -(-len(measures) // 2)
    figure, panels = plt.subplots(
        rows, 2, figsize=(12, rows * (0.28 * count + 1)), layout="constrained", squeeze=False
    )
    for panel in panels.flat:
        panel.set_visible(False)
    for panel, measure in zip(panels.flat, measures.values(), strict=False):
        sides = {label: runs for label, runs in measure["sides"].items() if runs}
        values = [median(runs, key) for runs in sides.values()]
        bars = panel.barh(list(sides), values, color=_colours(list(sides)))
        panel.bar_label(bars, fmt="{:,.0f}" if key == "jobs_per_second" else "{:.1f}", padding=3)
        panel.margins(x=0.15)
        panel.invert_yaxis()
        panel.set_title(f"{measure['title']}, {unit}", fontsize="small", loc="left")
        panel.set_visible(True)
    return _save(figure, path)


def _draw_pinned(measures: dict[str, Any], path: Path) -> Path | None:
    """Draw the latency without a snapshot, and under one that was open during a drain."""
    drains, waves = (
        measures.get(name, {"sides": {}})["sides"] for name in ("pinned_latency", "worker_waves")
    )
    free = measures.get("latency", {"sides": {}})["sides"]
    pairs = {
        label: (median(free[label], "p50_ms"), median(runs, "pinned_p50_ms"))
        for label, runs in waves.items()
        if runs and free.get(label)
    }
    for label, runs in drains.items():
        own = median(runs, "p50_ms")
        pairs[f"{label}, after a longer drain"] = (own, median(runs, "snapshot_p50_ms"))
        pairs[f"{label}, and a second worker"] = (own, median(runs, "pair_p50_ms"))
    if not pairs:
        return None
    figure, panel = plt.subplots(figsize=(12, 0.5 * len(pairs) + 1), layout="constrained")
    for shift, column, title, colour in (
        (-0.2, 0, "without a snapshot", "#bbbbbb"),
        (0.2, 1, "under a snapshot that was open during the drain", "#336791"),
    ):
        places = [place + shift for place in range(len(pairs))]
        drawn = panel.barh(
            places, [pair[column] for pair in pairs.values()], 0.38, label=title, color=colour
        )
        panel.bar_label(drawn, fmt="{:.1f}", padding=3)
    panel.set_yticks(range(len(pairs)), list(pairs))
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_xlabel("commit to start at 50 jobs/s, ms, p50")
    panel.legend(fontsize="small")
    return _save(figure, path)


def _draw_waves(measure: dict[str, Any], what: str, path: Path) -> Path:
    """Draw the rate of each wave as a part of the first one's: what counts is whether it falls."""
    figure, (absolute, relative) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for side, runs in measure["sides"].items():
        rates = by_wave(runs)
        style = {"color": COLOURS[side], "linewidth": 3} if side in COLOURS else {}
        numbers = range(1, len(rates) + 1)
        absolute.plot(numbers, rates, marker="o", label=side, **style)
        relative.plot(numbers, [rate / rates[0] for rate in rates], marker="o", **style)
    for panel in (absolute, relative):
        panel.set_ylim(bottom=0)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_xlabel(f"{what} {measure['jobs'][ERAM]:,} jobs, under an open snapshot")
    absolute.set_ylabel("jobs/s")
    relative.set_ylabel("jobs/s, in those of the first")
    absolute.legend()
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _colours(labels: Sequence[str]) -> list[str]:
    return [COLOURS.get(re.split(r"\W", label)[0], "#88a8c0") for label in labels]


if __name__ == "__main__":
    run = Path(sys.argv[1])
    for plot in draw(json.loads(run.read_text(encoding="utf-8")), run):
        print(f"written to {plot}")
