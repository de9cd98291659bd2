"""The judge is judged: a clean history passes, and each broken one is found out."""

from __future__ import annotations

import pytest

from chaos.checker import RULES, check
from chaos.histories import (
    ALIVE,
    CLEAN,
    KILLED,
    MINUTE,
    NOON,
    act,
    all_of,
    call,
    row,
    run,
    with_final,
    with_more,
    with_more_rows,
    with_row,
    with_run,
    without,
    without_row,
)
from chaos.history import SECOND, Harm, Told
from chaos.run import Report
from chaos.show import command, text

LOST = "nothing acknowledged is lost"
REFUSED = "what was refused is not there"
WHOLE = "a call is stored as a whole or not at all"
ONCE = "a job is stored once"
ENDS = "every job ends"
REASON = "a job ends for a reason"
TOLD = "what a worker was told holds"
HANDED = "a run is handed out once"
DUE = "no job runs before it is due"
AGAIN = "a job runs again for a reason"
OVERLAP = "runs of a job overlap only after a rescue"
EFFECTS = "a transaction has its effect exactly once"
LIVING = "a living worker is not rescued from"
LIMIT = "a global limit holds"
KEYS = "a unique key is one job's"
DUPLICATES = "a duplicate is one of a job that has the key"
OCCURRENCES = "each occurrence is enqueued once"
INVARIANTS = "eram_check() finds nothing"
WELL = "processes and the server are well"

BROKEN = {
    "an acknowledged job is not there": ({LOST}, without_row(9)),
    "an acknowledged job is another": ({LOST, ONCE}, with_row(9, token="other")),
    "the original of a duplicate is not there": (
        {LOST},
        with_more("calls", call("again", 9, (99, True), key="held")),
    ),
    "a job is there that was rolled back": (
        {REFUSED, WHOLE},
        with_more_rows(row(30, "undone0", "available", removed_by="delete", attempt=0)),
    ),
    "a duplicate was stored": (
        {REFUSED},
        all_of(with_more_rows(row(30, "refused0")), with_more("runs", run(30, 1, 7, 8))),
    ),
    "half of a transaction": ({WHOLE, LOST, AGAIN, EFFECTS}, without_row(3)),
    "a row without its jobs": (
        {WHOLE},
        with_final(committed=frozenset({"money", "there", "doubtful"})),
    ),
    "jobs without their row": ({WHOLE}, with_final(committed=frozenset({"money"}))),
    "a job twice": (
        {ONCE},
        all_of(with_more_rows(row(30, "plain0")), with_more("runs", run(30, 1, 7, 8))),
    ),
    "a job that nobody has enqueued": (
        {ONCE},
        all_of(with_more_rows(row(30, "nobody")), with_more("runs", run(30, 1, 7, 8))),
    ),
    "a job waits for ever": ({ENDS}, with_row(6, state="available", why="no worker")),
    "a job runs for ever": ({ENDS}, with_row(6, state="executing")),
    "a pruned job had not ended": ({ENDS}, with_row(6, state="scheduled", removed_by="prune")),
    "completed by a run that never began": ({REASON}, with_row(9, state="completed")),
    "completed by a run that failed": ({REASON}, with_run(6, 1, how="raised")),
    "completed by a run that was killed": ({REASON}, with_run(6, 1, how=None)),
    "discarded with attempts left": ({REASON}, with_row(11, max_attempts=3)),
    "cancelled by nobody": ({REASON, AGAIN, EFFECTS, TOLD}, without("acts")),
    "a completion that was told is undone": (
        {TOLD},
        with_more("told", Told(6, 2, "completed", 19 * SECOND)),
    ),
    "what was told to be discarded is completed": (
        {TOLD},
        with_more("told", Told(6, 1, "discarded", 19 * SECOND)),
    ),
    "what was told to be completed is gone": (
        {TOLD},
        with_more("told", Told(99, 1, "completed", 19 * SECOND)),
    ),
    "a run twice": ({HANDED}, with_more("runs", run(6, 1, 20, 21, pid=KILLED))),
    "a run before its time": ({DUE}, with_row(6, due_at=18 * SECOND)),
    "a run after a completion": ({AGAIN}, all_of(with_more("runs", run(6, 2, 20, 21)))),
    "a rescue that nobody has recorded": ({AGAIN}, with_row(4, errors=[])),
    "a failure that nobody has recorded": ({AGAIN}, with_row(2, errors=[])),
    "a retry before the completion": (
        {AGAIN},
        all_of(with_more("runs", run(6, 2, 20, 21)), with_more("acts", act("retry", 1, 2, 6))),
    ),
    "a retry that was refused": ({AGAIN}, with_more("runs", run(8, 2, 15, 16))),
    "a run of a job that never was": ({AGAIN}, with_more("runs", run(99, 1, 20, 21))),
    "a run beside one that failed": ({OVERLAP}, with_run(2, 1, ended_at=9)),
    "a run beside one that snoozed": ({OVERLAP}, with_run(3, 1, ended_at=9)),
    "no effect": ({EFFECTS}, with_final(effects=((2, 3), (12, 1), (12, 2)))),
    "an effect twice": ({EFFECTS}, with_final(effects=((2, 3), (3, 2), (3, 2), (12, 1), (12, 2)))),
    "an effect of a run that failed": (
        {EFFECTS},
        with_final(effects=((2, 1), (2, 3), (3, 2), (12, 1), (12, 2))),
    ),
    "an effect of a run that snoozed": (
        {EFFECTS},
        with_final(effects=((2, 3), (3, 1), (3, 2), (12, 1), (12, 2))),
    ),
    "an effect of a job that is not there": (
        {EFFECTS},
        with_final(effects=((2, 3), (3, 2), (12, 1), (12, 2), (99, 1))),
    ),
    "an effect of a job that is cancelled": (
        {EFFECTS},
        all_of(with_row(2, state="cancelled"), with_more("acts", act("cancel", 5, 8, 2))),
    ),
    "rescued without harm": ({LIVING}, without("harms")),
    "rescued from another than was harmed": (
        {LIVING},
        all_of(without("harms"), with_more("harms", Harm("kill", 1, 2, frozenset({ALIVE})))),
    ),
    "rescued before the harm": ({LIVING}, with_row(4, errors=[(1, "rescued", 9)])),
    "rescued because it was stopped": (
        {LIVING},
        all_of(
            without("harms"),
            with_more("harms", Harm("stop", 1, 20 * SECOND, frozenset({KILLED}))),
        ),
    ),
    "more run than the limit says": ({LIMIT}, with_final(limits={"narrow": 1})),
    "a second job in the window": (
        {KEYS},
        all_of(
            with_more("calls", call("early", 4, (30, False), key="windowed", period=10)),
            with_more_rows(row(30, "early0")),
            with_more("runs", run(30, 1, 7, 8)),
        ),
    ),
    "a second job while the first runs": (
        {KEYS},
        all_of(
            with_more("calls", call("early", 4, (30, False), key="held")),
            with_more_rows(row(30, "early0")),
            with_more("runs", run(30, 1, 9, 10)),
        ),
    ),
    "refused after the window": (
        {DUPLICATES},
        with_more("calls", call("late", 14, (5, True), key="windowed", period=10)),
    ),
    "refused after the end": (
        {DUPLICATES},
        with_more("calls", call("late", 12, (7, True), key="held")),
    ),
    "refused for a job with another key": (
        {DUPLICATES},
        with_more("calls", call("other", 5, (5, True), key="held")),
    ),
    "an occurrence is missing": ({OCCURRENCES, AGAIN}, without_row(21)),
    "an occurrence twice": (
        {OCCURRENCES},
        all_of(
            with_more_rows(row(30, "noon", schedule="cron", scheduled_for=NOON)),
            with_more("runs", run(30, 1, 7, 8)),
        ),
    ),
    "an occurrence that was not due": (
        {OCCURRENCES},
        all_of(
            with_more_rows(row(30, "odd", schedule="cron", scheduled_for=NOON + MINUTE / 2)),
            with_more("runs", run(30, 1, 7, 8)),
        ),
    ),
    "a violated invariant": ({INVARIANTS}, with_final(violations=("job in two places",))),
    "a complaint": ({WELL}, with_more("complaints", "worker-0 ended by itself")),
}


def test_nothing_is_found_in_a_clean_history():
    assert check(CLEAN) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_history_is_found_out_by_its_rules(name):
    expected, change = BROKEN[name]
    found = check(change(CLEAN))
    assert {fault.rule for fault in found} == expected, found


def test_each_rule_is_broken_by_a_history():
    assert set().union(*(expected for expected, _ in BROKEN.values())) == set(RULES)


def test_overlap_is_allowed_after_a_rescue():
    """The worker that was taken for dead may go on for as long as it likes."""
    assert check(with_run(4, 1, ended_at=30)(CLEAN)) == []


def test_a_run_may_begin_after_it_was_rescued():
    """Its worker was stopped in between, and does not know yet."""
    assert check(with_run(4, 1, begun_at=14.5, ended_at=30)(CLEAN)) == []


def test_a_cancelled_job_that_is_retried_runs_before_its_time():
    acts = with_more("acts", act("cancel", 3, 4, 6), act("retry", 4, 5, 6))
    assert check(all_of(with_row(6, due_at=18 * SECOND), acts)(CLEAN)) == []


def test_a_completion_may_be_undone_by_a_retry():
    """And the job be deleted then; what it has done stays."""
    change = with_row(12, state="available", run=2, removed_by="delete")
    assert check(all_of(change, with_more("acts", act("retry", 11, 12, 12)))(CLEAN)) == []


def test_a_report_tells_the_story_of_a_job_that_something_is_wrong_with():
    history = BROKEN["a rescue that nobody has recorded"][1](CLEAN)
    said = text(Report(7, check(history), history))
    assert f"FAILED  {AGAIN}" in said
    assert f"held    {LOST}" in said
    assert "the story of job 4:" in said
    assert "killed0" in said
    assert command(7, 60, ["kill"]) == "make chaos ARGS='--seed 7 --seconds 60 --harm kill'"
