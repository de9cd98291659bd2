"""Measure eram on a PostgreSQL of its own, side by side with a yardstick, in one run.

The yardstick is what the same storage can do at best, moved by the barest worker (yardstick.py).
Both take turns, so that what else the machine does hits both alike; what counts are the ratios.
A run prints a table and writes one JSON file, and plots if matplotlib is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import page
import plots
from lab import Lab
from measures import MEASURES

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
FULL = {"rounds": 3, "scale": 1.0}
QUICK = {"rounds": 1, "scale": 0.4}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    chosen = _parser().parse_args(argv)
    defaults = QUICK if chosen.quick else FULL
    rounds = chosen.rounds or int(defaults["rounds"])
    scale = chosen.scale or defaults["scale"]
    names = chosen.only or list(MEASURES)

    begun_at = time.monotonic()
    print("starting PostgreSQL ...", flush=True)
    with Lab.open() as lab:
        result: dict[str, Any] = {
            "format": FORMAT,
            "setup": lab.setup(),
            "rounds": rounds,
            "scale": scale,
            "measures": _measure(lab, names, rounds, scale),
        }
    result["seconds"] = round(time.monotonic() - begun_at, 1)

    moment = datetime.fromisoformat(result["setup"]["date"])
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / f"{moment:%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{page.text_table(result)}\n\nwritten to {path}")
    for plot in plots.draw(result, path):
        print(f"written to {plot}")
    if chosen.page:
        page.rewrite(chosen.page, result)
        print(f"written to {chosen.page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="smaller, and once instead of three times")
    add("--only", choices=MEASURES, action="append", help="measure only this; can be repeated")
    add("--rounds", type=int, metavar="N", help="how often to measure each")
    add("--scale", type=float, metavar="FACTOR", help="how many jobs, compared with a full run")
    add("--output", type=Path, default=RESULTS, metavar="DIRECTORY", help="where results go")
    add("--page", type=Path, metavar="FILE", help="also put the table into this page of the docs")
    return parser


def _measure(lab: Lab, names: Sequence[str], rounds: int, scale: float) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    total = rounds * sum(len(MEASURES[name].sides) for name in names)
    number = 0
    for round_number in range(rounds):
        for name in names:
            measure = MEASURES[name]
            size = measure.size(scale)
            entry = measured.setdefault(name, {"title": measure.title, "jobs": size, "sides": {}})
            # Whoever goes first in one round goes last in the next.
            sides = measure.sides[:: -1 if round_number % 2 else 1]
            for side in sides:
                number += 1
                print(
                    f"[{number:>2}/{total}] {measure.title}: {side.label} ... ", end="", flush=True
                )
                figures = measure.run(lab, side, size)
                entry["sides"].setdefault(side.label, []).append(figures)
                print(page.brief(figures), flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main())
