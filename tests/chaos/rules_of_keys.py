"""Rules of unique keys: one job has a key at a time, and only while it has it others are refused.

A call takes a while, and what is sure about the moment when a job was stored is only that it lies
between the call and its return. Whatever could be right counts as right.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from chaos.history import SECOND, Call, History

# Acts by which a job may give up its key, or take it again.
ENDING_ACTS = ("cancel", "delete", "retry")


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that was stored with a key, by a call."""

    job: int
    call: Call


def keys_are_held_by_one(history: History) -> Iterator[str]:
    """No job is stored while another surely has its key."""
    for key, holders in _holders(history).items():
        for one, other in combinations(holders, 2):
            held = _surely_held(history, one)
            if held is None:
                continue
            since, until = held
            if other.call.begun_at >= since and other.call.ended_at <= until:
                yield f"job {other.job} was stored while job {one.job} had key {key!r}"


def duplicates_are_duplicates(history: History) -> Iterator[str]:
    """A job is refused in favour of one with its key, which has not given it up long before."""
    holders = {holder.job: holder for each in _holders(history).values() for holder in each}
    keys_of_tokens = {call.tokens[0]: call.key for call in history.calls if call.key}
    for call in history.calls:
        for job, is_duplicate in call.answers:
            row = history.job_rows.get(job)
            if not is_duplicate or row is None:
                continue
            if keys_of_tokens.get(row.token) != call.key:
                yield f"call {call.name} was refused for job {job}, which has another key"
            elif job in holders and _is_surely_free(history, holders[job], call.begun_at):
                yield f"call {call.name} was refused for job {job}, whose key was free"


def _holders(history: History) -> dict[str, list[Holder]]:
    """Return the jobs that were stored with each key, in order of time."""
    found: dict[str, list[Holder]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda call: call.begun_at):
        if call.key is not None and call.answers and not call.answers[0][1]:
            found[call.key].append(Holder(call.answers[0][0], call))
    return found


def _surely_held(history: History, holder: Holder) -> tuple[float, float] | None:
    """Say from when until when a job had its key at least."""
    if any(_has_act(history, kind, holder.job) for kind in ENDING_ACTS):
        return None
    row = history.job_rows.get(holder.job)
    since = holder.call.ended_at
    if holder.call.period is not None:
        if row is None or row.state in {"cancelled", "discarded"}:
            return None  # it has given its key up before its time
        return since, holder.call.begun_at + holder.call.period * SECOND
    last = [run for run in history.runs_by_job.get(holder.job, ()) if row and run.number == row.run]
    if not last:
        return None
    # It has the key until the server has heard how its last run ended.
    until = last[0].ended_at if row and row.state == "completed" else last[0].begun_at
    return since, until


def _is_surely_free(history: History, holder: Holder, at: float) -> bool:
    if _has_act(history, "retry", holder.job):
        return False
    if holder.call.period is not None:
        return at > holder.call.ended_at + holder.call.period * SECOND
    told = [told.at for told in history.told if told.job == holder.job]
    return bool(told) and at > min(told)


def _has_act(history: History, kind: str, job: int) -> bool:
    return history.may_have(kind, job, -math.inf, math.inf)
