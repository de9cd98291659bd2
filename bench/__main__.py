"""Measure eram on a PostgreSQL of its own, side by side with a yardstick and peers, in one run.

The yardstick is what the same storage can do at best, moved by the barest worker (yardstick.py);
the peers are other job queues on PostgreSQL (peers/). All take turns, so that what else the machine
does hits all alike; what counts are the ratios. A run prints tables and writes one JSON file; one
with peers also draws plots.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import environments
import page
from environments import Environment, UnavailableError
from lab import Lab
from measures import MEASURES, Measure
from peer import Peer
from progress import Progress
from sides import Side

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
FORMAT = 3
BRIEF = 0.5  # a run of this scale or more is a full one
FULL = {"rounds": 3, "scale": 1.0}
QUICK = {"rounds": 1, "scale": 0.02}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = _parser()
    chosen = parser.parse_args(argv)
    try:
        peers = [Peer.named(name) for name in dict.fromkeys(chosen.peers.split())]
    except LookupError as exc:
        parser.error(f"--peers: {exc}")
    defaults = QUICK if chosen.quick else FULL
    rounds = chosen.rounds or int(defaults["rounds"])
    scale = chosen.scale or defaults["scale"]

    begun_at = time.monotonic()
    there, away = _make(peers)
    print("starting PostgreSQL ...", flush=True)
    with Lab.open() as lab:
        setup = lab.setup()
        plan = _plan(chosen.only or list(MEASURES), there)
        away |= _install(lab, plan)
        result: dict[str, Any] = {
            "format": FORMAT,
            "setup": setup,
            "rounds": rounds,
            "scale": scale,
            "sides": _describe(plan),
            "away": away,
            "measures": _measure(lab, plan, rounds, scale),
        }
    result["seconds"] = round(time.monotonic() - begun_at, 1)

    moment = datetime.fromisoformat(result["setup"]["date"])
    name = "record" if chosen.record else f"{moment:%Y-%m-%dT%H%M%SZ}"
    path = chosen.output / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if chosen.record and chosen.only and path.exists():
        result = _renew(json.loads(path.read_text(encoding="utf-8")), result)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{page.text(result)}\n\nwritten to {path}")
    _show(path, chosen.page or (PAGE if chosen.record else None), may_install=bool(peers))
    return 0


def _renew(record: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Put the measurements of a run into a record that has others, and say when they were made."""
    again = dict.fromkeys(result["measures"], result["setup"]["date"])
    return {
        **record,
        "sides": record["sides"] | result["sides"],
        "measures": record["measures"] | result["measures"],
        "again": record.get("again", {}) | again,
    }


def _show(path: Path, page_file: Path | None, *, may_install: bool) -> None:
    """Draw what a run has written to a file, and put it into a page."""
    plots = f"{path.stem}.*.png"
    for plot in path.parent.glob(plots):
        plot.unlink()
    _draw(path, may_install=may_install)
    if page_file:
        result = json.loads(path.read_text(encoding="utf-8"))
        page.rewrite(page_file, result, path.parent.glob(plots))
        print(f"written to {page_file}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    there = " ".join(file.stem for file in environments.find())
    add = parser.add_argument
    add("--quick", action="store_true", help="smaller, and once instead of three times")
    add("--peers", default="", metavar="NAMES", help=f"measure these as well: '{there}'")
    add("--only", choices=MEASURES, action="append", help="measure only this; can be repeated")
    add("--rounds", type=int, metavar="N", help="how often to measure each")
    add("--scale", type=float, metavar="FACTOR", help="how many jobs, compared with a full run")
    add("--output", type=Path, default=RESULTS, metavar="DIRECTORY", help="where results go")
    add("--page", type=Path, metavar="FILE", help="also put the tables into this page of the docs")
    add("--record", action="store_true", help="keep it in results/record.*, and in the docs' page")
    return parser


def _make(peers: Sequence[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """Make the environments; return the peers that have one, and why the others have none."""
    return _try(peers, "making the environment of", Peer.make)


def _plan(names: Sequence[str], peers: Sequence[Peer]) -> dict[str, list[Side]]:
    """Say who takes part in what."""
    return {
        name: [*MEASURES[name].sides, *(peers if MEASURES[name].has_peers else ())]
        for name in names
    }


def _install(lab: Lab, plan: dict[str, list[Side]]) -> dict[str, str]:
    """Make everybody's tables; who cannot is left out of the plan."""
    sides = {side.name: side for sides in plan.values() for side in sides}
    _, away = _try(list(sides.values()), "making the tables of", lab.install)
    for sides_of_one in plan.values():
        sides_of_one[:] = [side for side in sides_of_one if side.name not in away]
    return away


def _try(sides: Sequence[Any], what: str, act: Callable[[Any], None]) -> tuple[Any, dict[str, str]]:
    there, away = [], {}
    for side in sides:
        try:
            print(f"{what} {side.name} ...", flush=True)
            act(side)
            there.append(side)
        except UnavailableError as exc:
            away[side.name] = str(exc)
            print(f"{side.name} is left out: {exc}", flush=True)
    return there, away


def _describe(plan: dict[str, list[Side]]) -> dict[str, dict[str, str]]:
    return {side.label: side.describe() for sides in plan.values() for side in sides}


def _draw(path: Path, *, may_install: bool) -> None:
    """Have plots.py draw the plots, in an environment of its own as it needs matplotlib."""
    environment = Environment.at(HERE / "plots.py")
    if not environment.is_made and not may_install:
        print("no plots: a run with --peers makes the environment that draws them")
        return
    try:
        environment.make()
    except UnavailableError as exc:
        print(f"no plots: {exc}")
        return
    subprocess.run((environment.python, environment.file, path), check=True)


def _measure(
    lab: Lab, plan: dict[str, list[Side]], rounds: int, scale: float
) -> dict[str, dict[str, Any]]:
    measured = {
        name: {
            "title": MEASURES[name].title,
            "jobs": {side.label: MEASURES[name].size(scale, side.share) for side in sides},
            "sides": {side.label: [] for side in sides if name not in side.without},
            "without": {side.label: side.without[name] for side in sides if name in side.without},
        }
        for name, sides in plan.items()
    }
    lab.is_brief = scale < BRIEF
    progress = Progress(
        sum(
            min(rounds, MEASURES[name].most_rounds) * len(entry["sides"])
            for name, entry in measured.items()
        )
    )
    for round_number in range(rounds):
        for name, sides in plan.items():
            if round_number >= MEASURES[name].most_rounds:
                continue
            able = [side for side in sides if name not in side.without]
            # Whoever goes first in one round goes last in the next.
            for side in able[:: -1 if round_number % 2 else 1]:
                progress.begin(f"{MEASURES[name].title}: {side.label}")
                progress.end(_measure_one(lab, MEASURES[name], side, measured[name]))
    return measured


def _measure_one(lab: Lab, measure: Measure, side: Side, entry: dict[str, Any]) -> str:
    """Measure once; a peer that fails is left out, with the reason, and not tried again."""
    if side.label in entry["without"]:
        return "left out"
    try:
        figures = measure.run(lab, side, entry["jobs"][side.label])
    except Exception as exc:
        if not isinstance(side, Peer):
            raise
        entry["without"][side.label] = f"it failed: {exc}"
        entry["sides"].pop(side.label, None)
        return entry["without"][side.label]
    entry["sides"][side.label].append(figures)
    return page.brief(figures)


if __name__ == "__main__":
    sys.exit(main())
