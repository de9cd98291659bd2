"""Entries that cannot be: a clear error, and nothing changed."""

from __future__ import annotations

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .schedule_helpers import HUGE, call, refused, schedule, tick, without_maintenance

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
