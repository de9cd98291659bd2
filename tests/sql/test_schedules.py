"""What recurs: declaring entries, once and again, with and without a name."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest

from .helpers import Threads, column, contents, row, rows, value, wait_for_lock_wait
from .schedule_helpers import (
    ENTRY_COUNT,
    HISTORY,
    HOUR,
    JOBS,
    call,
    entry,
    history,
    make_due,
    schedule,
    schedule_sql,
    tick,
)

# Declaring.


def test_an_entry_is_what_was_declared(shared):
    next_run_at = call(
        shared,
        "eram_schedule",
        name="mail",
        schedule="30 8 * * *",
        handler="app.mail:send",
        args={"to": ["a", "b"]},
        timezone="Europe/Berlin",
        missed="all",
        options={
            "queue": "mail",
            "priority": 3,
            "max_attempts": 5,
            "tags": ["x", "y"],
            "meta": {"a": None},
            "backoff": {"strategy": "fixed", "base": 1},
            "delay": 60,
            "overlap": False,
        },
    )
    seen = entry(shared, "mail")
    assert (seen.action, seen.schedule, seen.timezone) == ("job", "30 8 * * *", "Europe/Berlin")
    assert (seen.missed, seen.allows_overlap, seen.is_paused) == ("all", False, False)
    assert seen.job == {
        "handler": "app.mail:send",
        "args": {"to": ["a", "b"]},
        "queue": "mail",
        "priority": 3,
        "max_attempts": 5,
        "tags": ["x", "y"],
        "meta": {"a": None},
        "backoff": {"strategy": "fixed", "base": 1},
        "delay": 60,
    }
    assert (seen.last_run_at, seen.last_job_id, seen.last_error, seen.run_count) == (
        *[None] * 3,
        0,
    )
    assert seen.next_run_at == next_run_at
    local = value(shared, "select (%s at time zone 'Europe/Berlin')::time", next_run_at)
    assert local == dt.time(8, 30)
    assert next_run_at > value(shared, "select clock_timestamp()")


def test_its_job_is_what_was_declared(shared):
    options = {"queue": "mail", "priority": 3, "max_attempts": 5, "tags": ["x"], "delay": 60}
    schedule(shared, "mail", args={"to": 1}, options=options)
    make_due(shared, "mail")
    tick(shared, 0)
    job = row(shared, JOBS)
    assert (job.queue, job.priority, job.max_attempts, job.tags) == ("mail", 3, 5, ["x"])
    assert (job.handler, job.args, job.state) == ("app:run", {"to": 1}, "scheduled")
    assert (job.scheduled_at - job.inserted_at).total_seconds() == pytest.approx(60, abs=5)


def test_null_is_the_default(shared):
    schedule(shared, "plain", args=None, timezone=None, missed=None, options=None)
    nothing = {"queue": None, "priority": None, "tags": None, "meta": None, "overlap": None}
    schedule(shared, "nulls", options=nothing)
    for name in ("plain", "nulls"):
        seen = entry(shared, name)
        assert (seen.timezone, seen.missed, seen.allows_overlap) == ("UTC", "once", True)
        assert seen.job == {"handler": "app:run", "args": {}}


def test_a_command_is_what_was_declared(shared):
    next_run_at = call(
        shared,
        "eram_schedule_sql",
        name="tidy",
        schedule="@daily",
        command="delete from things",
        timezone="asia/tokyo",
        missed="skip",
        timeout="5 minutes",
        is_top_level=True,
    )
    seen = entry(shared, "tidy")
    assert (seen.action, seen.command) == ("top_level", "delete from things")
    assert (seen.timezone, seen.missed, seen.timeout) == (
        "Asia/Tokyo",
        "skip",
        dt.timedelta(minutes=5),
    )
    assert seen.next_run_at == next_run_at
    call(shared, "eram_schedule_sql", name="plain", schedule="1 hour", command="select 1")
    seen = entry(shared, "plain")
    assert (seen.action, seen.timeout, seen.missed, seen.timezone) == ("sql", HOUR, "once", "UTC")


def test_a_huge_command_is_kept_whole(shared):
    command = f"select {'x' * 1_000_000!r}"
    schedule_sql(shared, "huge", command)
    assert entry(shared, "huge").command == command


def test_to_declare_again_keeps_phase_and_history(shared):
    """Every start of an application declares its entries again."""
    schedule(shared, "mail")
    due = make_due(shared, "mail", ago="5 minutes")
    shared.execute(HISTORY, ["mail"])
    before = history(shared, "mail")
    assert schedule(shared, "mail", args={"new": 1}, missed="skip", options={"queue": "q"}) == due
    seen = entry(shared, "mail")
    assert (seen.next_run_at, seen.missed) == (due, "skip")
    assert seen.job == {"handler": "app:run", "args": {"new": 1}, "queue": "q"}
    assert history(shared, "mail") == before
    assert schedule(shared, "mail", " 1  HOUR ") == due
    assert schedule(shared, "mail", timezone="utc") == due


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"every": "1 hour"}, {"every": "2 hours"}),
        ({"every": "0 8 * * *"}, {"every": "0 9 * * *"}),
        ({"every": "0 8 * * *"}, {"every": "0 8 * * *", "timezone": "Asia/Tokyo"}),
    ],
)
def test_another_schedule_has_another_phase(shared, first, second):
    schedule(shared, "mail", **first)
    due = make_due(shared, "mail", ago="5 minutes")
    shared.execute(HISTORY, ["mail"])
    before = history(shared, "mail")
    next_run_at = schedule(shared, "mail", **second)
    assert next_run_at > value(shared, "select clock_timestamp()") > due
    assert entry(shared, "mail").next_run_at == next_run_at
    assert history(shared, "mail") == before


def test_to_declare_again_keeps_a_pause(shared):
    schedule(shared, "mail")
    call(shared, "eram_pause_schedule", name="mail")
    assert schedule(shared, "mail") is None
    assert schedule(shared, "mail", "2 hours") is None
    assert entry(shared, "mail").is_paused
    call(shared, "eram_resume_schedule", name="mail")
    next_run_at = entry(shared, "mail").next_run_at
    assert HOUR < next_run_at - value(shared, "select clock_timestamp()") <= 2 * HOUR


def test_a_name_can_become_something_else(shared):
    schedule(shared, "thing")
    shared.execute(HISTORY, ["thing"])
    before = history(shared, "thing")
    schedule_sql(shared, "thing", "select 1", is_top_level=True)
    seen = entry(shared, "thing")
    assert (seen.action, seen.job, seen.command) == ("top_level", None, "select 1")
    schedule(shared, "thing", options={"overlap": False})
    seen = entry(shared, "thing")
    assert (seen.action, seen.command, seen.timeout) == ("job", None, None)
    assert history(shared, "thing") == before
    assert value(shared, ENTRY_COUNT) == 1


def test_a_declaration_is_part_of_its_transaction(shared):
    before = contents(shared)
    with shared.transaction(force_rollback=True):
        schedule(shared, "mail")
        assert contents(shared) != before
    assert contents(shared) == before


def test_two_that_declare_at_once_make_one_entry(shared, connect):
    one, two = connect(autocommit=False), connect()
    schedule(one, "mail", args={"of": 1})
    threads = Threads()
    threads.start(lambda: schedule(two, "mail", args={"of": 2}))
    wait_for_lock_wait(shared, two)
    one.commit()
    threads.join(10)
    assert entry(shared, "mail").job["args"] == {"of": 2}
    assert value(shared, ENTRY_COUNT) == 1


# Entries without a name.

LINES: list[list] = [
    ["* * * * * ", "app.jobs:minute"],
    ["0 * * * * ", "app.jobs:hourly", {"custom": "arg"}],
    ["@midnight", "app.jobs:minute"],
]


def declare_lines(conn: psycopg.Connection) -> None:
    for expression, handler, *args in LINES:
        call(
            conn,
            "eram_schedule",
            name=None,
            schedule=expression,
            handler=handler,
            args=args[0] if args else None,
        )


def test_lines_without_names(shared):
    declare_lines(shared)
    names = column(shared, "select name from eram_schedules order by name")
    assert len(names) == 3
    declare_lines(shared)
    assert column(shared, "select name from eram_schedules order by name") == names
    assert column(shared, "select schedule from eram_schedules order by schedule") == [
        "* * * * *",
        "0 * * * *",
        "@midnight",
    ]
    make_due(shared, *names)
    tick(shared, 0)
    seen = rows(shared, "select handler, args from eram_jobs order by handler, args")
    assert [tuple(job) for job in seen] == [
        ("app.jobs:hourly", {"custom": "arg"}),
        ("app.jobs:minute", {}),
        ("app.jobs:minute", {}),
    ]


MINUTES = ",".join(map(str, range(60)))


def test_names_are_made_of_what_an_entry_is(shared):
    """What differs has another name; what is the same, however written, has the same."""
    different: list[dict] = [
        {},
        {"handler": "app:other"},
        {"schedule": "0 9 * * *"},
        {"args": {"a": 1}},
        {"args": {"a": 2}},
        {"options": {"queue": "a"}},
        {"options": {"queue": "b"}},
        {"timezone": "Europe/Berlin"},
        {"timezone": "America/New_York"},
        {"handler": "a" * 100},
        {"handler": "a" * 101},
        {"handler": "a" * 101 + "b"},
        {"handler": "h" * 500, "schedule": f"{MINUTES} * * * *"},
        {"handler": "h" * 500, "schedule": f"{MINUTES} 1 * * *"},
    ]
    usual = {"name": None, "schedule": "0 8 * * *", "handler": "app:run"}
    for _ in range(2):
        for options in different:
            call(shared, "eram_schedule", **usual | options)
    assert value(shared, ENTRY_COUNT) == len(different)
    same: list[dict] = [
        {"schedule": " 0  8 * * * "},
        {"args": {}},
        {"options": {}},
        {"options": {"queue": None}},
        {"timezone": "utc"},
    ]
    for options in same:
        call(shared, "eram_schedule", **usual | options)
    assert value(shared, ENTRY_COUNT) == len(different)


@pytest.mark.parametrize("every", ["30 seconds", "0 3 * * *"])
def test_a_clock_that_ran_ahead_stops_no_entry_that_is_declared_again(shared, every):
    wanted = schedule(shared, "ahead", every)
    shared.execute("update eram_schedules set next_run_at = '2136-01-01'")
    assert schedule(shared, "ahead", every) - wanted < dt.timedelta(minutes=1)


def test_the_zone_of_an_interval_does_not_change_its_phase(shared):
    schedule(shared, "interval", "1 hour")
    due_at = make_due(shared, "interval")
    assert schedule(shared, "interval", "1 hour", timezone="Europe/Berlin") == due_at


def test_a_name_made_of_an_entry_is_that_of_what_it_means(shared):
    for every in ("0 8 * jan *", "0  8 * JAN *"):
        schedule(shared, None, every, args={"x": 1})
    assert value(shared, "select count(*) from eram_schedules") == 1
