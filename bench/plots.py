"""Plots of a run, for those who have matplotlib (`pip install -r bench/requirements.txt`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import page


def draw(result: dict[str, Any], path: Path) -> list[Path]:
    """Draw what a run has measured, beside its JSON file; return the files that were written."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: they want pip install -r bench/requirements.txt")
        return []
    import matplotlib as mpl  # noqa: PLC0415 - wanted by few

    mpl.use("agg")
    drawn = []
    measures = result["measures"]
    if rates := {key: each for key, each in measures.items() if "jobs_per_second" in _first(each)}:
        drawn.append(_draw_ratios(rates, path.with_suffix(".ratios.png")))
    if "waves" in measures:
        drawn.append(_draw_waves(measures["waves"], path.with_suffix(".waves.png")))
    return drawn


def _draw_ratios(measures: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - wanted by few

    figure, axes = plt.subplots(figsize=(8, 0.6 * len(measures) + 1.2), layout="constrained")
    titles = [measure["title"] for measure in measures.values()]
    ratios = [page.ratio(measure["sides"], "jobs_per_second") for measure in measures.values()]
    bars = axes.barh(titles, ratios, color="#336791")
    axes.bar_label(bars, fmt=" %.2f")
    axes.axvline(1, color="#888888", linestyle="--")
    axes.invert_yaxis()
    axes.set_xlabel("jobs/s of eram, in those of the yardstick")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _draw_waves(measure: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - wanted by few

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for side, runs in measure["sides"].items():
        rates = page.by_wave(runs)
        axes.plot(range(1, len(rates) + 1), rates, marker="o", label=side)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"wave of {measure['jobs']:,} jobs, under an open snapshot")
    axes.set_ylabel("jobs/s")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _first(measure: dict[str, Any]) -> Any:
    return measure["sides"][page.ERAM][0]
