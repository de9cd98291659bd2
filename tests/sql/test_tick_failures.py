"""Entries that fail: they stop no other, and say what was wrong."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from .helpers import rows, value
from .schedule_helpers import (
    HOUR,
    JOB_COUNT,
    NOW,
    ORIGINS,
    entry,
    make_due,
    occurrences,
    schedule,
    scheduled_for,
    tick,
    tick_and_run,
)


@pytest.fixture
def warnings(ticker: psycopg.Connection) -> Iterator[list[str]]:
    """The warnings that the ticker's session is given."""
    heard: list[str] = []

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            heard.append(diagnostic.message_primary or "")

    ticker.add_notice_handler(hear)
    yield heard
    ticker.remove_notice_handler(hear)


BREAKS = {
    "a job that is none": """job = '{"handler": 5}'""",
    "a job without a handler": "job = '{}'",
    "a queue that is none": """job = job || '{"queue": ""}'""",
    "a time zone that is gone": "timezone = 'Mars/Olympus'",
    "a schedule that is none": "schedule = 'sometimes'",
    "a command that is none": "action = 'sql', job = null, command = 'x', timeout = '1s'",
    "options that are none": """action = 'prune', job = null, options = '{"limit": "x"}'""",
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS.keys())
def test_an_entry_that_fails_stops_no_other(ticker, warnings, broken):
    for name in ("early", "late"):
        schedule(ticker, name)
    schedule(ticker, "bad", "* * * * *")
    ticker.execute(f"update eram_schedules set {broken} where name = 'bad'")
    for ago, name in enumerate(("late", "bad", "early"), 1):
        make_due(ticker, name, ago=f"{ago} seconds")
    tick_and_run(ticker)
    assert [job.schedule for job in rows(ticker, ORIGINS)] == ["early", "late"]
    seen = entry(ticker, "bad")
    assert seen.last_error
    assert (len(warnings), seen.run_count) == (1, 1)
    assert 'schedule "bad" failed' in warnings[0]
    assert seen.last_error in warnings[0]
    assert seen.next_run_at > value(ticker, NOW)
    # It does not fail at every tick.
    tick_and_run(ticker)
    assert len(warnings) == 1


def test_an_entry_that_is_repaired_goes_on(ticker, warnings):
    schedule(ticker, "mail", "0 8 * * *")
    ticker.execute("update eram_schedules set timezone = 'Mars/Olympus'")
    make_due(ticker, "mail")
    tick(ticker, 0)
    assert "Mars/Olympus" in entry(ticker, "mail").last_error
    schedule(ticker, "mail", "0 8 * * *")
    make_due(ticker, "mail")
    tick(ticker, 0)
    seen = entry(ticker, "mail")
    assert (seen.last_error, seen.run_count, len(warnings)) == (None, 2, 1)
    assert value(ticker, JOB_COUNT) == 1


def test_an_error_is_kept_until_the_next_time(ticker):
    schedule(ticker, "mail")
    ticker.execute("update eram_schedules set job = '{}'")
    make_due(ticker, "mail")
    tick(ticker, 0)
    error = entry(ticker, "mail").last_error
    tick(ticker, 0)
    assert error
    assert entry(ticker, "mail").last_error == error


def test_an_error_of_any_length_is_kept_in_part(ticker):
    schedule(ticker, "mail")
    ticker.execute("update eram_schedules set job = jsonb_build_object(repeat('x', 1000000), 1)")
    make_due(ticker, "mail")
    tick(ticker, 0)
    assert 0 < len(entry(ticker, "mail").last_error) <= 10000


def test_what_will_pass_loses_no_occurrence(ticker, connect, warnings):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    blocker = connect(autocommit=False)
    blocker.execute("lock table eram_job_specs in share mode")
    ticker.execute("set lock_timeout = '50ms'")
    try:
        for _ in range(2):
            tick(ticker, 0)
            seen = entry(ticker, "mail")
            assert (seen.next_run_at, seen.run_count, seen.last_run_at) == (due, 0, None)
            assert "lock timeout" in seen.last_error
            assert seen.last_error.count("lock timeout") == 1, "errors of each try add up"
        blocker.rollback()
        tick(ticker, 0)
    finally:
        ticker.execute("reset lock_timeout")
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    seen = entry(ticker, "mail")
    assert (seen.last_error, seen.run_count, seen.next_run_at) == (None, 1, due + HOUR)
    assert len(warnings) == 2


def test_a_rescue_that_fails_stops_nothing(ticker, warnings):
    schedule(ticker, "mail")
    make_due(ticker, "mail")
    with ticker.transaction(force_rollback=True):
        ticker.execute(
            "create or replace function eram_rescue_jobs(rescue_after interval default null)"
            " returns bigint language plpgsql as $$ begin raise 'no luck'; end $$"
        )
        tick(ticker, 0)
        assert value(ticker, JOB_COUNT) == 1
    assert warnings == ["the rescue of jobs failed: no luck"]
