"""Keep eram under a steady load of all kinds, watch it, account for each job, and judge."""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from environments import Environment, UnavailableError

from soak.plan import Plan
from soak.run import SoakError, run
from soak.show import Shown, text

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
MINUTES = 3.0
RATE = 2000.0
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak; return the exit code."""
    chosen = _parser().parse_args(argv)
    plan = Plan(chosen.minutes * 60, chosen.rate)
    # Either one unwinds what was started; a shell may have had the first ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print(f"a soak of {chosen.minutes:g} minutes at {plan.rate:,.0f} jobs/s ...", flush=True)
    try:
        result, findings = run(plan, Shown(plan))
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is written", flush=True)
        return INTERRUPTED
    except SoakError as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    path = _write(result, chosen.output)
    print(f"\n{text(findings)}\n\nwritten to {path}")
    if not chosen.no_plots:
        _draw(path)
    failed = [finding.title for finding in findings if not finding.is_met]
    print(f"FAILED: {'; '.join(failed)}" if failed else "all of it held")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=_positive, default=MINUTES, help=f"how long (default: {MINUTES:g})")
    add("--rate", type=_positive, default=RATE, help=f"jobs a second (default: {RATE:g})")
    add("--output", type=Path, default=RESULTS, metavar="DIRECTORY", help="where results go")
    add("--no-plots", action="store_true", help="draw nothing")
    return parser


def _positive(word: str) -> float:
    value = float(word)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"it must be more than 0, got {word}")
    return value


def _write(result: dict[str, Any], folder: Path) -> Path:
    moment = datetime.fromisoformat(result["setup"]["date"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{moment:%Y-%m-%dT%H%M%SZ}.soak.json"
    # A line for each entry, else each of thousands of numbers would have its own.
    series = result.pop("series")
    entries = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in result.items()]
    groups = [
        f"  {json.dumps(group)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {json.dumps(names[name])}" for name in sorted(names))
        + "\n  }"
        for group, names in series.items()
    ]
    entries.append('"series": {\n' + ",\n".join(groups) + "\n}")
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    return path


def _draw(path: Path) -> None:
    """Have plots.py draw the plots, in the environment that has matplotlib."""
    environment = Environment.at(HERE / "plots.py")
    if not environment.is_made:
        print("installing what draws the plots, once ...", flush=True)
    try:
        environment.make()
    except UnavailableError as error:
        print(f"no plots: {error}")
        return
    subprocess.run((environment.python, environment.file, path), check=True)


if __name__ == "__main__":
    sys.exit(main())
