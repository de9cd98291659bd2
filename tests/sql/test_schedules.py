"""What recurs: declaring entries, changing them, and running one now. Time moves in the data."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    column,
    complete,
    contents,
    enqueue,
    fetch,
    row,
    rows,
    start_worker,
    value,
    wait_for_lock_wait,
)
from .schedule_helpers import (
    MAINTENANCE,
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

HOUR = dt.timedelta(hours=1)
COUNT = "select count(*) from eram_schedules where name !~ '^eram:'"
JOBS = "select * from eram_jobs order by id"
HISTORY = """
    update eram_schedules
    set
        last_run_at = '2026-01-01 00:00Z',
        last_job_id = 5,
        last_error = 'an error',
        run_count = 7,
        inserted_at = '2025-01-01 00:00Z'
    where name = %s
"""


def history(conn: psycopg.Connection, name: str) -> tuple:
    seen = entry(conn, name)
    return (seen.last_run_at, seen.last_job_id, seen.last_error, seen.run_count, seen.inserted_at)


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
    assert value(shared, COUNT) == 1


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
    assert value(shared, COUNT) == 1


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
    assert value(shared, COUNT) == len(different)
    same: list[dict] = [
        {"schedule": " 0  8 * * * "},
        {"args": {}},
        {"options": {}},
        {"options": {"queue": None}},
        {"timezone": "utc"},
    ]
    for options in same:
        call(shared, "eram_schedule", **usual | options)
    assert value(shared, COUNT) == len(different)


# Bad input: a clear error, and nothing changed.

HUGE = "x" * 100_000
NULL, BAD = errors.NullValueNotAllowed, errors.InvalidParameterValue
UNKNOWN, TOO_LONG = errors.UndefinedObject, errors.NameTooLong


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ({"name": ""}, NULL, "schedule must not be null or empty"),
        ({"name": "x" * 256}, TOO_LONG, "256 characters"),
        ({"name": HUGE}, TOO_LONG, "100000 characters"),
        ({"name": " mail"}, errors.InvalidName, "invalid schedule"),
        ({"name": "a\nb"}, errors.InvalidName, "invalid schedule"),
        ({"name": "eram:prune"}, errors.ReservedName, "reserved"),
        ({"name": "eram:mine"}, errors.ReservedName, "reserved"),
        ({"missed": "never"}, BAD, "missed"),
        ({"missed": ""}, BAD, "missed"),
        ({"missed": HUGE}, BAD, "missed"),
        ({"handler": None}, NULL, "handler"),
        ({"handler": ""}, NULL, "handler"),
        ({"handler": HUGE}, TOO_LONG, "handler"),
        ({"handler": "a\tb"}, errors.InvalidName, "handler"),
        ({"handler": '{"a": 1}'}, errors.InvalidName, "handler"),
        ({"args": []}, BAD, "args must be a JSON object, got array"),
        ({"args": Jsonb("x")}, BAD, "args must be a JSON object, got string"),
        ({"args": Jsonb(5)}, BAD, "args must be a JSON object, got number"),
        ({"options": []}, BAD, "options must be a JSON object, got array"),
        ({"options": Jsonb("x")}, BAD, "options must be a JSON object, got string"),
        ({"options": Jsonb(None)}, BAD, "options must be a JSON object, got null"),
        ({"options": {"quue": "mail"}}, BAD, 'unknown key "quue" in options'),
        ({"options": {HUGE: 1}}, BAD, "unknown key"),
        ({"options": {"handler": "app:other"}}, BAD, 'unknown key "handler"'),
        ({"options": {"args": {}}}, BAD, 'unknown key "args"'),
        ({"options": {"scheduled_at": "2030-01-01T00:00:00Z"}}, BAD, '"scheduled_at"'),
        ({"options": {"overlap": 1}}, BAD, "overlap must be true or false, got 1"),
        ({"options": {"overlap": "false"}}, BAD, "overlap must be true or false"),
        ({"options": {"queue": 5}}, BAD, "queue must be a string"),
        ({"options": {"queue": ""}}, NULL, "queue"),
        ({"options": {"priority": 10}}, errors.NumericValueOutOfRange, "priority"),
        ({"options": {"priority": "1"}}, BAD, "priority must be an integer"),
        ({"options": {"max_attempts": 0}}, errors.NumericValueOutOfRange, "max_attempts"),
        ({"options": {"tags": "x"}}, BAD, "tags"),
        ({"options": {"meta": []}}, BAD, "meta"),
        ({"options": {"backoff": {"strategy": "never"}}}, BAD, "backoff"),
        ({"options": {"delay": -1}}, errors.NumericValueOutOfRange, "delay"),
        ({"options": {"delay": "soon"}}, errors.InvalidDatetimeFormat, "delay"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_job_that_cannot_be(shared, given, error, part, is_new):
    usual = {"name": "mail", "schedule": "1 hour", "handler": "app:run"}
    if not is_new:
        call(shared, "eram_schedule", **usual)
    with refused(shared, error, part):
        call(shared, "eram_schedule", **usual | given)


def test_a_misspelt_option_is_told_what_was_meant(shared):
    with refused(shared, BAD, "quue") as caught:
        schedule(shared, "mail", options={"quue": 1})
    assert caught.value.diag.message_hint == 'Did you mean "queue"?'


SCHEDULES = [
    None,
    "",
    "  ",
    "nonsense",
    "* * * *",
    "* * * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
    "* * * foo *",
    "*/0 * * * *",
    "5-1 * * * *",
    "1,,2 * * * *",
    "0 0 31 2 *",
    "0 0 31 4,6,9,11 *",
    "0 0 L * *",
    "0 0 ? * *",
    "@reboot",
    "@fortnightly",
    "0 seconds",
    "-1 hour",
    "1 hour ago",
    "0.5 seconds",
    "1 month",
    "1 year",
    "100 years",
    "1 hour 1 month",
    "5",
    HUGE,
    "* " * 100_000,
    "1," * 50_000 + "1 * * * *",
]


@pytest.mark.parametrize("bad", SCHEDULES, ids=lambda bad: repr(bad)[:24])
@pytest.mark.parametrize("function", ["eram_schedule", "eram_schedule_sql"])
def test_a_schedule_that_cannot_be(shared, function, bad):
    what = {"handler": "app:run"} if function == "eram_schedule" else {"command": "select 1"}
    call(shared, function, name="mail", schedule="1 hour", **what)
    error = BAD if bad and bad.strip() else NULL
    for name in ("mail", "new"):
        with refused(shared, error, ""):
            call(shared, function, name=name, schedule=bad, **what)


@pytest.mark.parametrize(
    "bad", ["Europe/Berln", "+01:00", "UTC+1", "Mars", "EST5EDT4", HUGE], ids=lambda b: b[:12]
)
@pytest.mark.parametrize("function", ["eram_schedule", "eram_schedule_sql"])
def test_a_time_zone_that_is_not(shared, function, bad):
    what = {"handler": "app:run"} if function == "eram_schedule" else {"command": "select 1"}
    with refused(shared, BAD, "time"):
        call(shared, function, name="mail", schedule="0 8 * * *", timezone=bad, **what)


@pytest.mark.parametrize("bad", ["", " "])
def test_an_empty_time_zone(shared, bad):
    with refused(shared, NULL if not bad else BAD, "time zone"):
        schedule(shared, "mail", timezone=bad)


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ({"name": None}, NULL, "schedule must not be null or empty"),
        ({"name": ""}, NULL, "schedule must not be null or empty"),
        ({"name": HUGE}, TOO_LONG, "100000 characters"),
        ({"name": "eram:reindexer"}, errors.ReservedName, "reserved"),
        ({"command": None}, NULL, "command"),
        ({"command": ""}, NULL, "command"),
        ({"command": " ;\n; "}, NULL, "command"),
        ({"missed": "never"}, BAD, "missed"),
        ({"timeout": "0"}, errors.NumericValueOutOfRange, "timeout"),
        ({"timeout": "-1 second"}, errors.NumericValueOutOfRange, "timeout"),
        ({"timeout": "25 days"}, errors.NumericValueOutOfRange, "timeout"),
        ({"timeout": "178000000 years"}, errors.NumericValueOutOfRange, "timeout"),
    ],
)
def test_a_command_that_cannot_be(shared, given, error, part):
    usual = {"name": "tidy", "schedule": "1 hour", "command": "select 1"}
    call(shared, "eram_schedule_sql", **usual)
    with refused(shared, error, part):
        call(shared, "eram_schedule_sql", **usual | given)


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ({"task": None}, UNKNOWN, "null"),
        ({"task": "pruner"}, UNKNOWN, "pruner"),
        ({"task": "eram:prune"}, UNKNOWN, "eram:prune"),
        ({"task": HUGE}, UNKNOWN, "x" * 100),
        ({"task": "prune", "schedule": "sometimes"}, BAD, "schedule"),
        ({"task": "prune", "timezone": "Mars"}, BAD, "time"),
        ({"task": "prune", "options": []}, BAD, "options must be a JSON object"),
        ({"task": "prune", "options": {"limits": 5}}, BAD, "limits"),
        ({"task": "prune", "options": {"max_age": {"done": 5}}}, BAD, "done"),
        ({"task": "prune", "options": {"rescue_after": 5}}, BAD, "rescue_after"),
        ({"task": "lifeline", "options": {"rescue_aftr": 5}}, BAD, "rescue_aftr"),
        ({"task": "reindexer", "options": {"index": []}}, BAD, "index"),
        ({"task": "reindexer", "options": {"indexes": "x"}}, BAD, "indexes"),
    ],
)
@pytest.mark.parametrize("is_removed", [True, False])
def test_maintenance_that_cannot_be(shared, given, error, part, is_removed):
    tick(shared, 0)
    if is_removed:
        without_maintenance(shared)
    with refused(shared, error, part):
        call(shared, "eram_schedule_maintenance", **given)


@pytest.mark.parametrize(
    "function", ["eram_pause_schedule", "eram_resume_schedule", "eram_run_schedule"]
)
def test_what_does_not_exist_cannot_be_changed(shared, function):
    with refused(shared, UNKNOWN, 'schedule "mail" does not exist'):
        call(shared, function, name="mail")
    schedule(shared, "nightly mail")
    for unknown, part in (("nightly_mail", "nightly_mail"), (None, "null"), (HUGE, "xxx")):
        with refused(shared, UNKNOWN, part) as caught:
            call(shared, function, name=unknown)
        if unknown == "nightly_mail":
            assert caught.value.diag.message_hint == 'Did you mean "nightly mail"?'


# Removing, pausing, resuming.


def test_unscheduling_says_whether_there_was_one(shared):
    schedule(shared, "mail")
    make_due(shared, "mail")
    tick(shared, 0)
    assert call(shared, "eram_unschedule", name="mail") is True
    assert call(shared, "eram_unschedule", name="mail") is False
    assert call(shared, "eram_unschedule", name=None) is False
    assert call(shared, "eram_unschedule", name=HUGE) is False
    assert value(shared, COUNT) == 0
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


# Running one now.


@pytest.mark.parametrize("is_paused", [False, True])
def test_run_now(shared, is_paused):
    schedule(shared, "mail", args={"a": 1}, options={"meta": {"mine": 1, "cron": "no"}})
    if is_paused:
        call(shared, "eram_pause_schedule", name="mail")
    before = entry(shared, "mail")
    job_id = call(shared, "eram_run_schedule", name="mail")
    job = row(shared, JOBS)
    assert (job.id, job.handler, job.args) == (job_id, "app:run", {"a": 1})
    assert job.meta.keys() == {"mine", "cron", "schedule", "scheduled_for"}
    assert (job.meta["mine"], job.meta["cron"], job.meta["schedule"]) == (1, True, "mail")
    scheduled_for = dt.datetime.fromisoformat(job.meta["scheduled_for"])
    assert abs((job.inserted_at - scheduled_for).total_seconds()) < 5
    seen = entry(shared, "mail")
    assert (seen.last_job_id, seen.run_count, seen.last_error) == (job_id, 1, None)
    assert seen.last_run_at >= job.inserted_at
    assert (seen.next_run_at, seen.is_paused) == (before.next_run_at, is_paused)


def test_run_now_refuses_to_overlap(shared):
    schedule(shared, "mail", options={"overlap": False})
    job_id = call(shared, "eram_run_schedule", name="mail")
    for _ in range(2):
        with refused(shared, errors.ObjectInUse, 'schedule "mail" must not overlap'):
            call(shared, "eram_run_schedule", name="mail")
    worker = start_worker(shared)
    jobs = fetch(shared, worker)
    with refused(shared, errors.ObjectInUse, "must not overlap"):
        call(shared, "eram_run_schedule", name="mail")
    complete(shared, jobs)
    assert call(shared, "eram_run_schedule", name="mail") > job_id


def test_run_now_may_overlap(shared):
    schedule(shared, "mail")
    assert call(shared, "eram_run_schedule", name="mail") is not None
    assert call(shared, "eram_run_schedule", name="mail") is not None
    assert value(shared, "select count(*) from eram_jobs") == 2


def test_run_a_command_now(shared):
    shared.execute("create table done (at timestamptz default clock_timestamp())")
    try:
        schedule_sql(shared, "tidy", "insert into done default values")
        next_run_at = entry(shared, "tidy").next_run_at
        assert call(shared, "eram_run_schedule", name="tidy") is None
        assert value(shared, "select count(*) from done") == 0
        with refused(shared, errors.ObjectInUse, "must not overlap"):
            call(shared, "eram_run_schedule", name="tidy")
        tick_and_run(shared)
        assert value(shared, "select count(*) from done") == 1
        assert entry(shared, "tidy").next_run_at == next_run_at
        assert call(shared, "eram_run_schedule", name="tidy") is None
    finally:
        shared.execute("drop table done")


def test_run_maintenance_now(shared):
    tick(shared, 0)
    job_id = enqueue(shared)
    shared.execute("select eram_cancel_job(%s)", [job_id])
    shared.execute("update eram_finished_jobs set finalized_at = now() - interval '2 days'")
    before = entry(shared, "eram:prune")
    assert call(shared, "eram_run_schedule", name="eram:prune") is None
    assert value(shared, "select count(*) from eram_jobs") == 0
    seen = entry(shared, "eram:prune")
    assert (seen.run_count, seen.next_run_at) == (before.run_count + 1, before.next_run_at)


def test_run_now_tells_the_caller_what_is_wrong(shared):
    schedule(shared, "mail")
    shared.execute("update eram_schedules set job = '{\"handler\": 5}' where name = 'mail'")
    with refused(shared, BAD, "handler must be a string"):
        call(shared, "eram_run_schedule", name="mail")


# A cron job says where it came from.


def test_the_meta_of_a_cron_job(shared):
    schedule(shared, "every quarter", "*/15 * * * *", options={"meta": {"mine": [1]}})
    shared.execute("update eram_schedules set next_run_at = '2026-03-01 10:45:00Z'")
    shared.execute("update eram_schedules set missed = 'all'")
    tick(shared, 0)
    meta = value(shared, "select meta from eram_jobs order by id limit 1")
    assert meta.keys() == {"mine", "cron", "schedule", "scheduled_for"}
    assert (meta["mine"], meta["cron"], meta["schedule"]) == ([1], True, "every quarter")
    seen = rows(shared, ORIGINS)
    assert all(job.scheduled_for.minute % 15 == 0 for job in seen)
    assert all(job.scheduled_for.second == 0 for job in seen)


def test_the_time_in_the_meta_is_the_same_in_every_session(shared):
    schedule(shared, "mail", missed="skip")
    due = make_due(shared, "mail")
    shared.execute("set timezone to 'Asia/Kolkata'; set datestyle to 'German, DMY'")
    try:
        shared.execute("do $$ begin perform eram_tick(0); end $$")
    finally:
        shared.execute("reset timezone; reset datestyle")
    expected = due.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    assert row(shared, JOBS).meta["scheduled_for"] == expected


# What people see.


def test_the_table_shows_how_things_stand(shared):
    schedule(shared, "mail", "15 * * * *", timezone="Europe/Berlin")
    due = make_due(shared, "mail", ago="10 seconds")
    tick(shared, 0)
    seen = entry(shared, "mail")
    assert (seen.schedule, seen.timezone) == ("15 * * * *", "Europe/Berlin")
    assert seen.next_run_at > seen.last_run_at > due
    assert (seen.last_error, seen.run_count, seen.is_paused) == (None, 1, False)
    assert seen.last_job_id == value(shared, "select id from eram_jobs")


# eram's own maintenance.

DEFAULTS: dict[str, tuple[str, dict]] = {
    "eram:lifeline": ("60 seconds", {"rescue_after": "1 hour"}),
    "eram:prune": (
        "30 seconds",
        {
            "limit": 10000,
            "max_age": {"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"},
        },
    ),
    "eram:reindexer": (
        "@midnight",
        {"indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"], "timeout": 15},
    ),
}


def maintenance(conn: psycopg.Connection) -> dict:
    found = rows(conn, "select name, schedule, options from eram_schedules where name ~ '^eram:'")
    return {seen.name: (seen.schedule, seen.options) for seen in found}


def test_maintenance_appears_on_the_first_tick(shared):
    assert maintenance(shared) == {}
    tick(shared, 0)
    assert maintenance(shared) == DEFAULTS
    assert set(column(shared, "select timezone from eram_schedules")) == {"Etc/UTC"}
    before = contents(shared)
    tick(shared, 0)
    assert contents(shared) == before


@pytest.mark.parametrize("name", MAINTENANCE)
def test_maintenance_that_was_removed_stays_removed(shared, name):
    tick(shared, 0)
    assert call(shared, "eram_unschedule", name=name) is True
    assert call(shared, "eram_unschedule", name=name) is False
    for _ in range(2):
        tick(shared, 0)
    assert maintenance(shared) == {key: DEFAULTS[key] for key in DEFAULTS.keys() - {name}}


@pytest.mark.parametrize("name", MAINTENANCE)
def test_maintenance_can_be_removed_before_the_first_tick(shared, name):
    assert call(shared, "eram_unschedule", name=name) is True
    tick(shared, 0)
    assert maintenance(shared).keys() == DEFAULTS.keys() - {name}


@pytest.mark.parametrize("name", MAINTENANCE)
def test_maintenance_that_was_removed_can_be_brought_back(shared, name):
    tick(shared, 0)
    call(shared, "eram_schedule_maintenance", task=name[5:], schedule="1 hour")
    call(shared, "eram_unschedule", name=name)
    next_run_at = call(shared, "eram_schedule_maintenance", task=name[5:])
    assert next_run_at > value(shared, "select clock_timestamp()")
    tick(shared, 0)
    assert maintenance(shared) == DEFAULTS
    assert call(shared, "eram_unschedule", name=name) is True


@pytest.mark.parametrize("name", MAINTENANCE)
def test_maintenance_that_was_paused_stays_paused(shared, name):
    tick(shared, 0)
    call(shared, "eram_pause_schedule", name=name)
    for _ in range(2):
        tick(shared, 0)
    seen = entry(shared, name)
    assert (seen.is_paused, seen.next_run_at) == (True, None)
    call(shared, "eram_resume_schedule", name=name)
    assert entry(shared, name).next_run_at is not None


@pytest.mark.parametrize("is_first", [True, False])
def test_a_change_of_maintenance_sticks(shared, is_first):
    if not is_first:
        tick(shared, 0)
    call(
        shared,
        "eram_schedule_maintenance",
        task="prune",
        schedule="10 minutes",
        options={"limit": 5},
    )
    call(shared, "eram_schedule_maintenance", task="lifeline", options={"rescue_after": 90})
    call(
        shared,
        "eram_schedule_maintenance",
        task="reindexer",
        schedule="0 3 * * sun",
        timezone="Europe/Berlin",
        options={"timeout": "1 minute"},
    )
    changed = {
        "eram:prune": ("10 minutes", DEFAULTS["eram:prune"][1] | {"limit": 5}),
        "eram:lifeline": ("60 seconds", {"rescue_after": 90}),
        "eram:reindexer": ("0 3 * * sun", DEFAULTS["eram:reindexer"][1] | {"timeout": "1 minute"}),
    }
    for _ in range(2):
        tick(shared, 0)
    assert maintenance(shared) == changed
    assert entry(shared, "eram:reindexer").timezone == "Europe/Berlin"
    # What is left out, or null, stays as it is.
    call(shared, "eram_schedule_maintenance", task="prune", options={"limit": None})
    call(shared, "eram_schedule_maintenance", task="reindexer")
    assert maintenance(shared) == changed
    assert entry(shared, "eram:reindexer").timezone == "Europe/Berlin"


def test_a_change_of_maintenance_keeps_phase_pause_and_history(shared):
    tick(shared, 0)
    due = make_due(shared, "eram:prune", ago="1 second")
    shared.execute(HISTORY, ["eram:prune"])
    before = history(shared, "eram:prune")
    assert call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 5}) == due
    assert history(shared, "eram:prune") == before
    call(shared, "eram_pause_schedule", name="eram:prune")
    assert call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 6}) is None
    assert entry(shared, "eram:prune").is_paused


def test_an_administrator_who_is_faster_than_the_first_tick(shared, connect):
    admin = connect(autocommit=False)
    call(admin, "eram_schedule_maintenance", task="prune", schedule="10 minutes")
    tick(shared, 0)
    admin.commit()
    tick(shared, 0)
    assert maintenance(shared)["eram:prune"][0] == "10 minutes"


def test_maintenance_is_done(shared):
    """Pruning and rescue by ticks; what they do exactly is their own tests' affair."""
    tick(shared, 0)
    old, lost = enqueue(shared), enqueue(shared)
    fetch(shared, start_worker(shared))
    shared.execute("select eram_cancel_job(%s)", [old])
    shared.execute("update eram_finished_jobs set finalized_at = now() - interval '2 days'")
    shared.execute("delete from eram_workers")
    make_due(shared, *MAINTENANCE[:2])
    tick(shared, 0)
    assert column(shared, "select id from eram_jobs") == [lost]
    assert value(shared, "select state from eram_jobs") == "available"
    for name in MAINTENANCE[:2]:
        assert entry(shared, name).run_count == 1
        assert entry(shared, name).last_error is None


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


def test_changes_of_one_maintenance_task_at_a_time_are_both_kept(shared, connect):
    tick(shared, 0)
    first, second, threads = connect(autocommit=False), connect(), Threads()
    change = "select eram_schedule_maintenance('prune', options => %s)"
    first.execute(change, ['{"limit": 77}'])
    threads.start(second.execute, change, ['{"max_age": "5 days"}'])
    wait_for_lock_wait(shared, second)
    first.commit()
    threads.join(10)
    assert entry(shared, "eram:prune").options == {"limit": 77, "max_age": "5 days"}


def test_maintenance_that_is_being_removed_during_the_first_tick_is_gone(shared, connect):
    remover = connect(autocommit=False)
    remover.execute("select eram_unschedule('eram:prune')")
    # It does not wait for whatever else that transaction is about.
    tick(shared, 0)
    assert maintenance(shared) == {}
    remover.commit()
    tick(shared, 0)
    assert set(maintenance(shared)) == {"eram:lifeline", "eram:reindexer"}


def test_a_tick_does_not_wait_for_who_changes_what_is_kept(shared, connect):
    tick(shared, 0)
    call(shared, "eram_schedule_maintenance", task="prune", options={"max_age": 0})
    shared.execute("truncate eram_removals")
    changer = connect(autocommit=False)
    changer.execute("select eram_set_queue('other', max_age => '3600')")
    make_due(shared, "eram:prune")
    shared.execute("set lock_timeout = '5s'")
    tick(shared, 0)
    shared.execute("reset lock_timeout")
    assert entry(shared, "eram:prune").last_error is None
