"""How a soak is shown in a terminal: one line that changes while it runs, and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from progress import WIDTH

from soak.plan import Plan
from soak.samples import Series
from soak.verdict import Finding

MEGABYTE = 1024 * 1024


class Shown:
    """Shows each sample: on a terminal in one line, elsewhere a line for each cycle."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cycle = 0

    def __call__(self, passed: float, series: Series) -> None:
        """Show the last sample."""
        is_terminal = sys.stdout.isatty()
        cycle = int(passed / self._plan.cycle_seconds)
        if not is_terminal and cycle == self._cycle:
            return
        self._cycle = cycle
        hold = f", a {series.holds[-1]} is open" if series.holds[-1] else ""
        line = (
            f"{_minutes(passed)} of {_minutes(self._plan.seconds)}: "
            f"{series.last('rates', 'ended per second'):,.0f} jobs/s, "
            f"{series.last('jobs', 'due'):,.0f} due, "
            f"started after {series.last('latency', 'p50 ms'):.1f} ms (p50), "
            f"{series.last('bytes', 'database') / MEGABYTE:,.0f} MB{hold}"
        )
        if is_terminal:
            filled = min(WIDTH, int(WIDTH * passed / self._plan.seconds))
            print(f"\r\x1b[K{'#' * filled}{'-' * (WIDTH - filled)} {line}", end="", flush=True)
        else:
            print(line, flush=True)


def text(findings: Sequence[Finding]) -> str:
    """Write the verdict, a line for each thing that was to hold, and what was wrong below it."""
    lines = []
    for finding in findings:
        note = f" ({finding.note})" if finding.note else ""
        lines.append(f"{'ok    ' if finding.is_met else 'FAILED'} {finding.title}{note}")
        lines += [f"         {detail}" for detail in finding.details]
    return "\n".join(lines)


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
