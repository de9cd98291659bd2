"""The judge: every rule that a history breaks, as a sentence. It only reads the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from chaos import rules_of_jobs, rules_of_keys, rules_of_runs, rules_of_schedules
from chaos.history import History

Rule = Callable[[History], Iterator[str]]


class Fault(NamedTuple):
    """A rule that was broken, and how."""

    rule: str
    text: str


def _invariants_hold(history: History) -> Iterator[str]:
    yield from history.final.violations


def _nobody_complains(history: History) -> Iterator[str]:
    yield from history.complaints


RULES: dict[str, Rule] = {
    "nothing acknowledged is lost": rules_of_jobs.nothing_is_lost,
    "what was refused is not there": rules_of_jobs.nothing_is_there_that_was_refused,
    "a call is stored as a whole or not at all": rules_of_jobs.calls_are_whole,
    "a job is stored once": rules_of_jobs.nothing_is_stored_twice,
    "every job ends": rules_of_jobs.nothing_is_stuck,
    "a job ends for a reason": rules_of_jobs.ends_have_reasons,
    "what a worker was told holds": rules_of_jobs.what_was_told_holds,
    "a run is handed out once": rules_of_runs.runs_are_handed_out_once,
    "no job runs before it is due": rules_of_runs.runs_are_due,
    "a job runs again for a reason": rules_of_runs.runs_again_for_a_reason,
    "runs of a job overlap only after a rescue": rules_of_runs.runs_do_not_overlap,
    "a transaction has its effect exactly once": rules_of_runs.effects_are_there_once,
    "a living worker is not rescued from": rules_of_runs.rescues_have_causes,
    "a global limit holds": rules_of_runs.limits_hold,
    "a unique key is one job's": rules_of_keys.keys_are_held_by_one,
    "a duplicate is one of a job that has the key": rules_of_keys.duplicates_are_duplicates,
    "each occurrence is enqueued once": rules_of_schedules.occurrences_are_enqueued_once,
    "eram_check() finds nothing": _invariants_hold,
    "processes and the server are well": _nobody_complains,
}


def check(history: History) -> list[Fault]:
    """Return every fault of a history, by all rules."""
    return [Fault(name, text) for name, rule in RULES.items() for text in rule(history)]
