"""What one tick does: what is due, what was missed, and what fails. Time moves in the data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from .helpers import (
    column,
    complete,
    contents,
    enqueue,
    fetch,
    rows,
    start_worker,
    value,
    wait_until,
)
from .schedule_helpers import (
    ORIGINS,
    call,
    entry,
    handed_out,
    make_due,
    refused,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
    without_maintenance,
)

HOUR, MINUTE, SECOND = dt.timedelta(hours=1), dt.timedelta(minutes=1), dt.timedelta(seconds=1)
NOW = "select clock_timestamp()"
JOB_COUNT = "select count(*) from eram_jobs"


@pytest.fixture
def ticker(conn: psycopg.Connection) -> psycopg.Connection:
    """A session that ticks, where nothing is due but what the test makes."""
    without_maintenance(conn)
    return conn


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


@pytest.fixture
def done(ticker: psycopg.Connection) -> Iterator[str]:
    """A table where commands leave their mark."""
    ticker.execute("create table done (what text, at timestamptz default clock_timestamp())")
    yield "select what from done order by at"
    ticker.execute("drop table done")


def scheduled_for(conn: psycopg.Connection) -> list[dt.datetime]:
    return [job.scheduled_for for job in rows(conn, ORIGINS)]


def occurrences(last: dt.datetime, every: dt.timedelta, count: int) -> list[dt.datetime]:
    """So many times up to the last, to the second, as a job's meta tells them."""
    found = [last - n * every for n in reversed(range(count))]
    return [moment.replace(microsecond=0) for moment in found]


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


# What fails.

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


# Several tickers.


def test_what_another_ticker_is_at_is_passed_over(ticker, connect):
    schedule(ticker, "mail")
    make_due(ticker, "mail")
    first, second = connect(autocommit=False), connect()
    tick(first, 0)
    second.execute("set lock_timeout = '5s'")
    tick(second, 0)
    assert value(second, JOB_COUNT) == 0
    first.commit()
    tick(second, 0)
    assert value(second, JOB_COUNT) == 1


def test_what_another_ticker_did_not_finish_is_done(ticker, connect):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    first = connect(autocommit=False)
    tick(first, 0)
    first.rollback()
    assert entry(ticker, "mail").next_run_at == due
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)


def test_one_locked_entry_holds_up_no_other(ticker, connect):
    for name in ("one", "two", "three"):
        schedule(ticker, name)
    make_due(ticker, "one", "two", "three")
    blocker = connect(autocommit=False)
    blocker.execute("select from eram_schedules where name = 'two' for update")
    ticker.execute("set lock_timeout = '5s'")
    (given,) = tick(ticker, 0)
    ticker.execute("reset lock_timeout")
    assert {job.schedule for job in rows(ticker, ORIGINS)} == {"one", "three"}
    assert given.next_tick_at <= value(ticker, NOW)
    blocker.rollback()
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 3


# Transactions of all kinds.


def test_a_tick_that_is_rolled_back_did_nothing(ticker, done):
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "mail", "tidy")
    before = contents(ticker)
    with ticker.transaction(force_rollback=True):
        tick(ticker)
        assert contents(ticker) != before
    assert contents(ticker) == before
    tick_and_run(ticker)
    assert value(ticker, JOB_COUNT) == 1
    assert column(ticker, done) == ["tidy"]


def test_a_command_whose_tick_is_rolled_back_is_run_again(ticker, done):
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "tidy")
    tick(ticker)
    with ticker.transaction(force_rollback=True):
        tick(ticker)
        assert column(ticker, done) == ["tidy"]
    assert column(ticker, done) == []
    tick_and_run(ticker)
    assert column(ticker, done) == ["tidy"]
    assert entry(ticker, "tidy").last_error is None


@pytest.mark.parametrize(
    "block",
    [
        "begin; {0}; {0}; {0}; {0}; commit",
        "do $$ begin for i in 1 .. 4 loop perform eram_tick(); end loop; end $$",
        "select from generate_series(1, 4) as n, lateral (select eram_tick() where n > 0) as t",
        "begin; savepoint a; {0}; rollback to a; {0}; release a; {0}; {0}; commit",
    ],
    ids=["block", "do", "select", "savepoint"],
)
def test_ticks_in_one_transaction_lose_no_command(ticker, done, block):
    """None of them is run there: that it was taken is not yet on record."""
    names = ["one", "two", "three"]
    schedule(ticker, "mail")
    for name in names:
        schedule_sql(ticker, name, f"insert into done values ('{name}')")
    make_due(ticker, "mail", *names)
    ticker.execute(block.format("select * from eram_tick()"))
    assert column(ticker, done) == []
    assert value(ticker, JOB_COUNT) == 1
    wait_until(lambda: tick(ticker) and len(column(ticker, done)) == 3, "all commands", seconds=5)
    assert sorted(column(ticker, done)) == sorted(names)
    assert column(ticker, "select last_error from eram_schedules where last_error <> ''") == []
    assert value(ticker, "select count(*) from eram_schedule_runs") == 0


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_tick_at_any_isolation(ticker, done, level):
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    due = make_due(ticker, "mail", "tidy")
    ticker.execute(f"set default_transaction_isolation to '{level}'")
    try:
        tick_and_run(ticker)
    finally:
        ticker.execute("reset default_transaction_isolation")
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    assert column(ticker, done) == ["tidy"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_tick_with_an_old_snapshot_does_nothing_twice(ticker, connect, level):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    old = connect(autocommit=False)
    old.execute(f"set transaction isolation level {level}")
    assert value(old, JOB_COUNT) == 0
    tick(ticker, 0)
    with pytest.raises(errors.SerializationFailure):
        tick(old, 0)
    old.rollback()
    tick(old, 0)
    old.commit()
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    assert entry(ticker, "mail").run_count == 1


def test_a_tick_in_a_read_only_session_changes_nothing(ticker):
    schedule(ticker, "mail")
    make_due(ticker, "mail")
    before = contents(ticker)
    ticker.execute("set default_transaction_read_only to on")
    try:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            tick(ticker, 0)
    finally:
        ticker.execute("reset default_transaction_read_only")
    assert contents(ticker) == before


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


def test_the_settings_of_the_session_are_as_before(ticker, done):
    """A tick leaves a session as it was, but for what is eram's own."""
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "mail", "tidy")
    settings = "select name, setting from pg_settings where source = 'session' order by name"
    before = [tuple(setting) for setting in rows(ticker, settings)]
    tick_and_run(ticker)
    assert [tuple(setting) for setting in rows(ticker, settings)] == before
    assert value(ticker, "select count(*) from pg_locks where locktype = 'advisory'") == 0


def test_an_entry_that_is_due_since_ever_goes_on(shared):
    schedule(shared, "ever", "1 hour")
    shared.execute("update eram_schedules set next_run_at = '-infinity' where name = 'ever'")
    tick(shared, 0)
    assert value(shared, "select next_run_at > now() from eram_schedules where name = 'ever'")


def test_what_others_hold_does_not_keep_the_rest_from_being_done(shared, connect):
    for number in range(120):
        schedule(shared, f"held {number}")
    schedule(shared, "free")
    shared.execute("update eram_schedules set next_run_at = now() - interval '1 hour'")
    make_due(shared, "free")
    holder = connect(autocommit=False)
    holder.execute("select from eram_schedules where name like 'held %' for update")
    tick(shared, 0)
    assert entry(shared, "free").run_count == 1
