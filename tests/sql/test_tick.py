"""What one tick does: what is due, and what was missed. Time moves in the data."""

from __future__ import annotations

import datetime as dt

import pytest
from psycopg import errors

from .helpers import column, complete, contents, enqueue, fetch, rows, start_worker, value
from .schedule_helpers import (
    HOUR,
    JOB_COUNT,
    MINUTE,
    NOW,
    ORIGINS,
    SECOND,
    call,
    entry,
    handed_out,
    make_due,
    occurrences,
    refused,
    schedule,
    schedule_sql,
    scheduled_for,
    tick,
    tick_and_run,
)

# On time.


def test_what_is_due_is_done_once_and_advanced(ticker):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    for _ in range(3):
        tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    seen = entry(ticker, "mail")
    assert (seen.next_run_at, seen.run_count, seen.last_error) == (due + HOUR, 1, None)
    assert seen.last_job_id == value(ticker, "select id from eram_jobs")


def test_what_is_not_due_is_left_alone(ticker):
    schedule(ticker, "mail")
    before = contents(ticker)
    tick(ticker, 0)
    assert contents(ticker) == before


def test_cron_times_are_exact(ticker):
    """A tick that comes late does not shift what comes next."""
    schedule(ticker, "mail", "* * * * *")
    due = value(ticker, "select date_trunc('minute', clock_timestamp())")
    ticker.execute("update eram_schedules set next_run_at = %s", [due])
    tick(ticker, 0)
    # The later one if a minute has just begun.
    assert scheduled_for(ticker)[0] in (due, due + MINUTE)
    now = value(ticker, NOW)
    seen = entry(ticker, "mail")
    assert (seen.next_run_at.second, seen.next_run_at.microsecond) == (0, 0)
    assert seen.next_run_at > seen.last_run_at
    assert seen.next_run_at - now <= MINUTE


# What was missed.


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1), ("all", 11)])
def test_missed_runs_of_an_interval(ticker, missed, count):
    schedule(ticker, "mail", missed=missed)
    first = make_due(ticker, "mail", ago="10 hours 7 minutes")
    last = first + 10 * HOUR
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(last, HOUR, count)
    seen = entry(ticker, "mail")
    assert (seen.next_run_at, seen.run_count) == (last + HOUR, min(count, 1))
    assert (seen.last_run_at is None) == (count == 0)
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == count


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1), ("all", 7)])
def test_missed_runs_of_cron(ticker, missed, count):
    # Half a day away from now in both directions, whenever this runs.
    last = value(ticker, "select date_trunc('hour', clock_timestamp()) - interval '12 hours'")
    schedule(ticker, "mail", f"0 {last.astimezone(dt.UTC).hour} * * *", missed=missed)
    ticker.execute("update eram_schedules set next_run_at = %s", [last - 6 * 24 * HOUR])
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(last, 24 * HOUR, count)
    assert entry(ticker, "mail").next_run_at == last + 24 * HOUR


def test_all_of_them_are_at_most_a_hundred_and_the_latest(ticker):
    schedule(ticker, "mail", "1 minute", missed="all")
    first = make_due(ticker, "mail", ago="7 days 30 seconds")
    last = first + 7 * 24 * HOUR
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(last, MINUTE, 100)
    assert entry(ticker, "mail").next_run_at == last + MINUTE


@pytest.mark.parametrize("every", ["1 second", "* * * * *"])
def test_years_that_were_missed_take_no_time(ticker, every):
    schedule(ticker, "mail", every, missed="all")
    ticker.execute("update eram_schedules set next_run_at = '2001-01-01 00:00Z'")
    with ticker.transaction():
        ticker.execute("set local statement_timeout = '5s'")
        tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 100
    assert entry(ticker, "mail").next_run_at > value(ticker, NOW) - 2 * SECOND


def test_what_is_a_little_late_is_not_missed(ticker):
    schedule(ticker, "mail", missed="skip")
    due = make_due(ticker, "mail", ago="20 seconds")
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)


def test_an_interval_keeps_its_phase_whatever_the_session_takes_for_a_day(ticker):
    schedule(ticker, "mail", "1 day")
    first = dt.datetime(2026, 3, 7, 17, 0, 0, tzinfo=dt.UTC)
    ticker.execute("update eram_schedules set next_run_at = %s", [first])
    ticker.execute("set timezone to 'America/New_York'")
    try:
        tick(ticker, 0)
    finally:
        ticker.execute("reset timezone")
    assert (entry(ticker, "mail").next_run_at - first) % (24 * HOUR) == dt.timedelta()
    (only,) = scheduled_for(ticker)
    assert (only - first) % (24 * HOUR) == dt.timedelta()


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1), ("all", 3)])
def test_missed_commands(ticker, done, missed, count):
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')", missed=missed)
    make_due(ticker, "tidy", ago="2 hours 7 minutes")
    tick_and_run(ticker)
    assert column(ticker, done) == ["tidy"] * count
    assert entry(ticker, "tidy").run_count == min(count, 1)


# Overlap.


def test_a_job_does_not_overlap_where_the_entry_forbids_it(ticker):
    schedule(ticker, "mail", options={"overlap": False})
    make_due(ticker, "mail")
    tick(ticker, 0)
    before = entry(ticker, "mail")
    due = make_due(ticker, "mail")
    tick(ticker, 0)
    seen = entry(ticker, "mail")
    assert value(ticker, JOB_COUNT) == 1
    assert (seen.run_count, seen.last_run_at) == (1, before.last_run_at)
    assert (seen.next_run_at, seen.last_error) == (due + HOUR, None)

    jobs = fetch(ticker, start_worker(ticker))
    make_due(ticker, "mail")
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 1

    complete(ticker, jobs)
    make_due(ticker, "mail")
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 2


@pytest.mark.parametrize("end", ["cancelled", "discarded", "deleted"])
def test_a_job_that_ended_in_any_way_is_no_overlap(ticker, end):
    schedule(ticker, "mail", options={"overlap": False, "max_attempts": 1})
    job_id = call(ticker, "eram_run_schedule", name="mail")
    if end == "cancelled":
        call(ticker, "eram_cancel_job", id=job_id)
    elif end == "discarded":
        fetch(ticker, start_worker(ticker))
        ticker.execute("select eram_fail_job(%s, 1, 'x')", [job_id])
        assert value(ticker, "select state from eram_jobs") == "discarded"
    else:
        ticker.execute("delete from eram_job_specs; delete from eram_queued_jobs")
    make_due(ticker, "mail")
    tick(ticker, 0)
    assert entry(ticker, "mail").last_job_id > job_id


def test_another_job_of_the_same_handler_is_no_overlap(ticker):
    enqueue(ticker)
    schedule(ticker, "mail", options={"overlap": False})
    schedule(ticker, "other", options={"overlap": False})
    make_due(ticker, "mail", "other")
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 3


def test_all_that_was_missed_does_not_overlap_either(ticker):
    schedule(ticker, "mail", missed="all", options={"overlap": False})
    make_due(ticker, "mail", ago="10 hours")
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 1


def test_a_job_overlaps_by_default(ticker):
    schedule(ticker, "mail")
    for _ in range(2):
        make_due(ticker, "mail")
        tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 2


# When to come back.


def test_the_next_tick_is_when_something_is_due(ticker):
    now = value(ticker, NOW)
    (idle,) = tick(ticker, 0)
    assert idle[:3] == (None, None, None)
    assert MINUTE <= idle.next_tick_at - now < 2 * MINUTE
    schedule(ticker, "far", "2 hours")
    assert tick(ticker, 0)[0].next_tick_at > now + MINUTE
    near = schedule(ticker, "near", "30 seconds")
    assert tick(ticker, 0)[0].next_tick_at == near
    call(ticker, "eram_pause_schedule", name="near")
    assert tick(ticker, 0)[0].next_tick_at > now + MINUTE


def test_a_call_does_at_most_a_hundred(ticker):
    ticker.execute(
        "select eram_schedule(n::text, '1 hour', 'app:run') from generate_series(1, 150) as n"
    )
    names = column(ticker, "select name from eram_schedules where name !~ '^eram:'")
    make_due(ticker, *names)
    (again,) = tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 100
    assert again.next_tick_at <= value(ticker, NOW)
    (later,) = tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 150
    assert later.next_tick_at > value(ticker, NOW)


def test_the_earliest_comes_first(ticker):
    names = [f"entry {n}" for n in range(5)]
    for n, name in enumerate(names):
        schedule(ticker, name)
        make_due(ticker, name, ago=f"{10 - n} seconds")
    tick(ticker, 0)
    assert [job.schedule for job in rows(ticker, ORIGINS)] == names


@pytest.mark.parametrize("bad", [-1, -(2**31)])
def test_a_negative_number_of_commands(ticker, bad):
    with refused(ticker, errors.NumericValueOutOfRange, "max_commands"):
        tick(ticker, bad)


def test_no_command_is_handed_out_to_who_wants_none(ticker):
    schedule_sql(ticker, "tidy", "select 1")
    schedule_sql(ticker, "vacuum", "vacuum", is_top_level=True)
    make_due(ticker, "tidy", "vacuum")
    before = contents(ticker)
    assert handed_out(ticker, 0) == []
    assert contents(ticker) == before


def test_an_entry_that_is_due_since_ever_goes_on(shared):
    schedule(shared, "ever", "1 hour")
    shared.execute("update eram_schedules set next_run_at = '-infinity' where name = 'ever'")
    tick(shared, 0)
    assert value(shared, "select next_run_at > now() from eram_schedules where name = 'ever'")
