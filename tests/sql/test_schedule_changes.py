"""What becomes of entries that are removed, paused and resumed."""

from __future__ import annotations

import pytest

from .helpers import Threads, value, wait_for_lock_wait
from .schedule_helpers import (
    ENTRY_COUNT,
    HISTORY,
    HUGE,
    call,
    entry,
    handed_out,
    history,
    make_due,
    schedule,
    schedule_sql,
    tick,
)


def test_unscheduling_says_whether_there_was_one(shared):
    schedule(shared, "mail")
    make_due(shared, "mail")
    tick(shared, 0)
    assert call(shared, "eram_unschedule", name="mail") is True
    assert call(shared, "eram_unschedule", name="mail") is False
    assert call(shared, "eram_unschedule", name=None) is False
    assert call(shared, "eram_unschedule", name=HUGE) is False
    assert value(shared, ENTRY_COUNT) == 0
    assert value(shared, "select count(*) from eram_jobs") == 1


def test_a_name_that_was_removed_starts_anew(shared):
    schedule(shared, "mail")
    make_due(shared, "mail", ago="5 minutes")
    shared.execute(HISTORY, ["mail"])
    call(shared, "eram_unschedule", name="mail")
    next_run_at = schedule(shared, "mail")
    assert next_run_at > value(shared, "select clock_timestamp()")
    assert history(shared, "mail")[:4] == (None, None, None, 0)


@pytest.mark.parametrize("function", ["eram_unschedule", "eram_pause_schedule"])
def test_a_command_that_is_due_is_forgotten(shared, function):
    schedule_sql(shared, "tidy", "select 1/0")
    call(shared, "eram_run_schedule", name="tidy")
    assert value(shared, "select count(*) from eram_schedule_runs") == 1
    call(shared, function, name="tidy")
    assert value(shared, "select count(*) from eram_schedule_runs") == 0
    assert handed_out(shared, 10) == []


@pytest.mark.parametrize("function", ["eram_unschedule", "eram_pause_schedule"])
def test_a_command_that_runs_at_top_level_is_not_forgotten(shared, function):
    """It would overlap with itself when the entry goes on, and its error would be lost."""
    schedule_sql(shared, "tidy", "select 1", is_top_level=True)
    call(shared, "eram_run_schedule", name="tidy")
    (given,) = handed_out(shared, 10)
    call(shared, function, name="tidy")
    assert call(shared, "eram_finish_command", run_id=given.run_id) is True


def test_a_pause(shared):
    schedule(shared, "mail")
    make_due(shared, "mail", ago="5 minutes")
    assert call(shared, "eram_pause_schedule", name="mail") is True
    assert call(shared, "eram_pause_schedule", name="mail") is False
    assert (entry(shared, "mail").is_paused, entry(shared, "mail").next_run_at) == (True, None)
    tick(shared, 0)
    assert value(shared, "select count(*) from eram_jobs") == 0


def test_what_fell_into_a_pause_is_not_made_up_for(shared):
    schedule(shared, "mail", missed="all")
    make_due(shared, "mail", ago="10 hours")
    call(shared, "eram_pause_schedule", name="mail")
    assert call(shared, "eram_resume_schedule", name="mail") is True
    assert call(shared, "eram_resume_schedule", name="mail") is False
    seen = entry(shared, "mail")
    assert seen.is_paused is False
    assert seen.next_run_at > value(shared, "select clock_timestamp()")
    tick(shared, 0)
    assert value(shared, "select count(*) from eram_jobs") == 0


def test_to_resume_what_is_not_paused_keeps_its_phase(shared):
    schedule(shared, "mail")
    due = make_due(shared, "mail")
    assert call(shared, "eram_resume_schedule", name="mail") is False
    assert entry(shared, "mail").next_run_at == due


@pytest.mark.parametrize("was_there", [True, False])
def test_a_command_that_was_due_when_its_entry_became_a_job_is_not_run(shared, connect, was_there):
    """Whoever makes it a job waits for the one who makes it a command, and saw neither before."""
    if was_there:
        schedule(shared, "tidy")
    first, second = connect(autocommit=False), connect()
    schedule_sql(first, "tidy", "select 1/0")
    call(first, "eram_run_schedule", name="tidy")
    threads = Threads()
    threads.start(lambda: schedule(second, "tidy"))
    wait_for_lock_wait(shared, second)
    first.commit()
    threads.join()
    assert entry(shared, "tidy").action == "job"
    assert value(shared, "select count(*) from eram_schedule_runs") == 0
