"""A report as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from chaos.checker import RULES
from chaos.history import SECOND, History
from chaos.plan import KINDS
from chaos.run import Report

MOST_FAULTS = 10  # of each rule
MOST_STORIES = 3


def text(report: Report) -> str:
    """Say what was done, what came of it, and which rules held."""
    done = [(kind, str(count)) for kind, count in sorted(report.steps.items())]
    came = [(what, f"{count:,}") for what, count in report.counts.items()]
    return "\n\n".join(
        [
            f"what was done with seed {report.seed}:\n{_table(done)}",
            f"what came of it:\n{_table(came)}",
            f"what must hold:\n{_verdict(report)}",
            *_stories(report),
        ]
    )


def command(seed: int, seconds: float, kinds: Iterable[str] = KINDS) -> str:
    """Return what does the same once more."""
    chosen = list(kinds)
    harm = "" if set(chosen) == set(KINDS) else "".join(f" --harm {kind}" for kind in chosen)
    return f"make chaos ARGS='--seed {seed} --seconds {seconds:g}{harm}'"


def _stories(report: Report) -> Iterator[str]:
    """Tell all that is known of the first jobs that something is wrong with."""
    text = " ".join(fault.text for fault in report.faults)
    jobs = dict.fromkeys(int(job) for job in re.findall(r"job (\d+)", text))
    for job in list(jobs)[:MOST_STORIES]:
        yield f"the story of job {job}:\n{_story(report.history, job)}"


def _story(history: History, job: int) -> str:
    row = history.job_rows.get(job)
    token = row.token if row else ""
    begin = min(call.begun_at for call in history.calls) if history.calls else 0.0
    calls = [call for call in history.calls if token in call.tokens or job in dict(call.answers)]
    known = [
        *[(each.begun_at, each) for each in calls],
        *[(each.begun_at, each) for each in history.runs_by_job.get(job, ())],
        *[(each.at, each) for each in history.told if each.job == job],
        *[(each.begun_at, each) for each in history.acts_by_job.get(job, ())],
        *[(at, f"error of run {run}: {kind}") for run, kind, at in (row.errors if row else ())],
    ]
    lines = [
        f"  {(at - begin) / SECOND:8.3f} s  {what}"
        for at, what in sorted(known, key=lambda each: each[0])
    ]
    return "\n".join([*lines, f"  in the end  {row}"])


def _verdict(report: Report) -> str:
    lines = []
    for rule in RULES:
        faults = [fault.text for fault in report.faults if fault.rule == rule]
        lines.append(f"  {'FAILED' if faults else 'held':8}{rule}")
        lines += [f"          {fault}" for fault in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            lines.append(f"          and {len(faults) - MOST_FAULTS:,} more")
    return "\n".join(lines)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {count:>8}  {what}" for what, count in rows)
