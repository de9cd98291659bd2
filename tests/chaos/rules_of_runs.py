"""Rules of runs: when a job may run again, beside itself, and with which effects."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chaos.history import SECOND, History, Run

RESCUED = "rescued"
TIMED_OUT = "timeout"
# Harm by which a worker may look dead. A stopped one keeps its session, and so does a slow one.
DEADLY = frozenset(
    {"kill", "freeze", "terminate", "crash", "restart", "cut", "silence", "deaf"}
    | {"fill", "timeouts", "failover"}
)
# How long after the end of a harm a rescue may come of it; rescues are due after half a minute.
AFTERMATH = 120 * SECOND
# How far the server's clock may drift from the other one in a run.
CLOCKS_APART = SECOND / 20


def runs_are_handed_out_once(history: History) -> Iterator[str]:
    for job, runs in history.runs_by_job.items():
        for number, count in Counter(run.number for run in runs).items():
            if count > 1:
                pids = ", ".join(str(run.pid) for run in runs if run.number == number)
                yield f"run {number} of job {job} began {count} times, in processes {pids}"


def runs_again_for_a_reason(history: History) -> Iterator[str]:
    """There is a failure, rescue, snooze or retry between any two runs of a job."""
    for job, runs in history.runs_by_job.items():
        if job not in history.job_rows:
            yield f"job {job} ran, and is not there"
        for one, other in pairwise(runs):
            is_retried = history.may_have("retry", job, one.begun_at, other.begun_at)
            has_reason = history.error_of(job, one.number) or one.how == "snoozed" or is_retried
            if one.number != other.number and not has_reason:
                how = one.how or "was killed"
                yield (
                    f"run {other.number} of job {job} began though nothing is recorded of"
                    f" run {one.number}, which {how}"
                )


def runs_are_due(history: History) -> Iterator[str]:
    """No job runs before its producer wants it to, unless an administrator retries it."""
    for job, runs in history.runs_by_job.items():
        row, begun_at = history.job_rows.get(job), runs[0].begun_at
        if row is None or history.may_have("retry", job, -math.inf, begun_at):
            continue
        if (early := row.due_at - begun_at) > CLOCKS_APART:
            yield f"job {job} ran {early / SECOND:.3f} s before it was due"


def runs_do_not_overlap(history: History) -> Iterator[str]:
    """Two runs are under way at a time only if the earlier was taken away from its worker.

    A worker that does not know it yet may even begin it then.
    """
    for job, runs in history.runs_by_job.items():
        for one, other in pairwise(sorted(runs, key=lambda run: run.begun_at)):
            if one.ended_at < other.begun_at:
                continue
            earlier = min(one, other, key=lambda run: run.number)
            is_taken_away = history.error_of(job, earlier.number) in {RESCUED, TIMED_OUT}
            if is_taken_away or history.may_have("cancel", job, one.begun_at, other.begun_at):
                continue
            yield f"run {other.number} of job {job} began while run {one.number} was under way"


def effects_are_there_once(history: History) -> Iterator[str]:
    """A transactional job has one effect for each time that it was completed, and no other."""
    effects = defaultdict(list)
    for job, number in history.final.effects:
        effects[job].append(number)
    for row in history.final.jobs:
        if row.handler != "transactional":
            continue
        found = sorted(effects.pop(row.id, ()))
        if row.state == "completed" and found.count(row.run) != 1:
            yield f"job {row.id} is completed by run {row.run}, with effects of runs {found}"
        # One that was retried has been completed before.
        earlier = [number for number in found if (number, row.state) != (row.run, "completed")]
        if len(earlier) != len(set(earlier)):
            yield f"job {row.id} has several effects of one run: {found}"
        for number in earlier:
            if not history.may_have("retry", row.id, _begin(history, row.id, number), math.inf):
                yield f"job {row.id} has an effect of run {number} as well as of {row.run}"
            if history.error_of(row.id, number):
                yield f"job {row.id} has an effect of run {number}, which has failed"
    for job, numbers in effects.items():
        yield f"job {job} has effects of runs {numbers}, and is not there"


def _begin(history: History, job: int, number: int) -> float:
    runs = history.runs_by_job.get(job, ())
    return next((run.begun_at for run in runs if run.number == number), -math.inf)


def rescues_have_causes(history: History) -> Iterator[str]:
    """Something was done to a worker that others took for dead."""
    for row in history.final.jobs:
        runs = {run.number: run for run in history.runs_by_job.get(row.id, ())}
        for number, kind, at in row.errors:
            run = runs.get(number)
            if kind == RESCUED and run is not None and not _has_cause(history, run, at):
                yield f"run {number} of job {row.id} was rescued from a living process, {run.pid}"


def _has_cause(history: History, run: Run, at: float) -> bool:
    return any(
        harm.kind in DEADLY
        and (harm.pids is None or run.pid in harm.pids)
        and harm.begun_at <= at <= harm.ended_at + AFTERMATH
        for harm in history.harms
    )


def limits_hold(history: History) -> Iterator[str]:
    """No more jobs of a queue run at a time than its limit says, but for runs taken away."""
    for queue, limit in history.final.limits.items():
        changes = []
        for run in history.runs:
            if run.queue == queue:
                end = _count_until(history, run)
                changes += [(run.begun_at, 1, run), (end, -1, run)]
        running = 0
        # At one moment, ends go first.
        for at, change, run in sorted(changes, key=lambda each: each[:2]):
            running += change
            if running > limit and at < math.inf:
                yield f"{running} jobs of queue {queue} ran when job {run.job} began"


def _count_until(history: History, run: Run) -> float:
    """Say until when a run counts: one that was taken away may go on."""
    row = history.job_rows.get(run.job)
    errors = row.errors if row else ()
    ends = [at for number, _, at in errors if number == run.number]
    acts = history.acts_by_job.get(run.job, ())
    ends += [act.begun_at for act in acts if act.kind == "cancel" and act.ended_at > run.begun_at]
    return max(run.begun_at, min([run.ended_at, *ends]))
