"""Schedules that an application's configuration declares: what is done, and what is left alone."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from .declared_helpers import MAIL, REPORT, entry_or_none, names, register
from .helpers import contents, value
from .schedule_helpers import (
    HISTORY,
    call,
    entry,
    history,
    make_due,
    schedule,
    schedule_sql,
    tick,
)

FULL = {
    "schedule": "15 8 * * MON-fri",
    "handler": "app:full",
    "args": {"to": "a@b"},
    "timezone": "europe/berlin",
    "missed": "all",
    "overlap": False,
    "queue": "mail",
    "priority": 3,
    "max_attempts": 7,
    "delay": 5,
    "tags": ["a"],
    "meta": {"b": None},
    "backoff": {"strategy": "fixed", "base": 10},
    "timeout": 60,
    "unique": {"period": 30},
}
OWN = ("schedule", "handler", "args", "timezone", "missed", "name")


def by_hand(conn: psycopg.Connection, given: dict) -> None:
    """Make the same entry as an administrator does."""
    own = {key: given[key] for key in OWN if key in given}
    options = {key: given[key] for key in given.keys() - set(OWN)}
    call(conn, "eram_schedule", **{"name": None} | own, options=options)


def definition(conn: psycopg.Connection, name: str) -> dict:
    """Return what an entry is, whoever has made it."""
    found = entry(conn, name)._asdict()
    return {key: found[key] for key in found.keys() - {"declared_by", "inserted_at"}}


@pytest.mark.parametrize(
    "given",
    [
        MAIL,
        FULL,
        FULL | {"name": "full"},
        {"schedule": "@daily", "handler": "app:run"},
        {"schedule": " @DAILY", "handler": "app:run", "args": {"a": [1]}, "timezone": "Asia/Tokyo"},
        {"schedule": "5 * * * *", "handler": "app:run" * 30, "priority": 1},
    ],
)
def test_what_is_new_is_added_as_by_hand(shared, given):
    (name,) = changes = register(shared, given)
    assert changes == {name: "added"}
    assert entry(shared, name).declared_by == "app"
    declared = definition(shared, name)
    call(shared, "eram_unschedule", name=name)
    by_hand(shared, given)
    added = definition(shared, name)
    # A second may have begun in between.
    gap = abs(added.pop("next_run_at") - declared.pop("next_run_at"))
    assert gap < timedelta(minutes=5)
    assert added == declared
    assert entry(shared, name).declared_by is None


def test_all_is_told_by_name(shared):
    changes = register(shared, REPORT, FULL, MAIL)
    (full,) = changes.keys() - {"mail", "report"}
    assert set(changes.values()) == {"added"}
    assert register(shared, REPORT | {"missed": "all"}, FULL | {"name": "full"}) == {
        "full": "added",
        full: "removed",
        "mail": "removed",
        "report": "changed",
    }
    assert names(shared) == ["full", "report"]


@pytest.mark.parametrize(
    "again",
    [
        MAIL,
        dict(reversed(MAIL.items())),
        MAIL | {"schedule": " 1 HOUR"},
        MAIL | {"args": {}, "timezone": "UTC", "missed": "once", "overlap": True},
        MAIL | dict.fromkeys(["args", "timezone", "missed", "overlap", "queue", "maintenance"]),
    ],
)
def test_what_is_declared_as_before_is_left_alone(shared, again):
    register(shared, MAIL)
    make_due(shared, "mail", ago="5 minutes")
    before = contents(shared)
    assert register(shared, again) == {}
    assert contents(shared) == before


CHANGES = [
    {"schedule": "2 hours"},
    {"handler": "app:other"},
    {"args": {"a": 1}},
    {"missed": "skip"},
    {"overlap": False},
    {"queue": "other"},
    {"unique": True},
    {"meta": {"a": None}},
]


@pytest.mark.parametrize("change", [*CHANGES, {"timezone": "Asia/Tokyo"}])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_change_is_what_it_is_by_hand(shared, change, is_paused):
    """Phase, history and pause included."""
    usual = MAIL | {"schedule": "0 * * * *"} if "timezone" in change else MAIL
    found = []
    for declare in (lambda given: register(shared, given), lambda given: by_hand(shared, given)):
        call(shared, "eram_unschedule", name="mail")
        register(shared)
        declare(usual)
        due = make_due(shared, "mail", ago="5 minutes")
        shared.execute(HISTORY, ["mail"])
        if is_paused:
            call(shared, "eram_pause_schedule", name="mail")
        before = history(shared, "mail")
        assert declare(usual | change) in (None, {"mail": "changed"})
        assert history(shared, "mail") == before
        assert (entry(shared, "mail").next_run_at == due) == (
            not is_paused and not change.keys() & {"schedule", "timezone"}
        )
        found.append(definition(shared, "mail") | {"next_run_at": None})
    assert found[0] == found[1]
    assert found[0]["is_paused"] is is_paused


def test_an_administrators_change_holds_until_the_declaration_changes(shared):
    register(shared, MAIL, REPORT)
    schedule(shared, "mail", "3 hours")
    assert entry(shared, "mail").declared_by == "app"
    before = contents(shared)
    assert register(shared, MAIL, REPORT) == {}
    assert contents(shared) == before
    assert register(shared, MAIL | {"priority": 1}, REPORT) == {"mail": "changed"}
    assert (entry(shared, "mail").schedule, entry(shared, "mail").job["priority"]) == ("1 hour", 1)


def test_a_pause_holds_even_when_the_declaration_changes(shared):
    register(shared, MAIL)
    call(shared, "eram_pause_schedule", name="mail")
    assert register(shared, MAIL) == {}
    assert register(shared, MAIL | {"schedule": "2 hours"}) == {"mail": "changed"}
    assert (entry(shared, "mail").is_paused, entry(shared, "mail").next_run_at) == (True, None)


def test_a_removal_holds_until_the_declaration_changes(shared):
    register(shared, MAIL, REPORT)
    assert call(shared, "eram_unschedule", name="mail") is True
    for _ in range(2):
        assert register(shared, MAIL, REPORT) == {}
    assert names(shared) == ["report"]
    assert register(shared, MAIL | {"priority": 1}, REPORT) == {"mail": "added"}
    assert names(shared) == ["mail", "report"]
    assert register(shared, MAIL | {"priority": 1}, REPORT) == {}


def test_what_was_removed_twice_comes_back(shared):
    """Out of the configuration and in again is a change of it."""
    register(shared, MAIL)
    call(shared, "eram_unschedule", name="mail")
    assert register(shared) == {}
    assert register(shared, MAIL) == {"mail": "added"}


def test_what_is_no_longer_declared_is_removed(shared):
    register(shared, MAIL, REPORT)
    schedule(shared, "by hand")
    make_due(shared, "mail")
    tick(shared, 0)
    assert register(shared, REPORT) == {"mail": "removed"}
    assert names(shared) == ["by hand", "report"]
    assert value(shared, "select count(*) from eram_jobs where handler = 'app:mail'") == 1
    assert register(shared) == {"report": "removed"}
    assert register(shared) == {}
    assert value(shared, "select count(*) from eram_declared_schedules") == 0


def test_what_an_administrator_has_changed_is_removed_too(shared):
    """Its handler may be gone with the declaration."""
    register(shared, MAIL)
    schedule(shared, "mail", "3 hours", handler="app:mail")
    assert register(shared) == {"mail": "removed"}


# What belongs to someone else.


def test_an_entry_made_by_hand_is_not_touched(shared):
    schedule(shared, "mail", "3 hours")
    before = contents(shared)
    for given in (MAIL, MAIL, MAIL | {"priority": 1}):
        assert register(shared, given) == {"mail": "refused"}
    assert register(shared) == {}
    assert contents(shared) == before
    assert register(shared, MAIL, REPORT) == {"mail": "refused", "report": "added"}
    call(shared, "eram_unschedule", name="mail")
    assert register(shared, MAIL, REPORT) == {"mail": "added"}


def test_an_entry_of_another_application_is_not_touched(shared):
    register(shared, MAIL, application="other")
    before = contents(shared)
    for given in (MAIL, MAIL | {"priority": 1}):
        assert register(shared, given) == {"mail": ("refused", "other")}
    assert register(shared) == {}
    assert contents(shared) == before
    assert register(shared, REPORT) == {"report": "added"}
    assert register(shared, application="other") == {"mail": "removed"}
    assert register(shared, MAIL, REPORT) == {"mail": "added"}


@pytest.mark.parametrize("is_top_level", [False, True])
def test_a_command_in_its_place_is_the_administrators(shared, is_top_level):
    """Who declares jobs must not remove what the owner runs."""
    register(shared, MAIL)
    schedule_sql(shared, "mail", "select 1", is_top_level=is_top_level)
    assert entry(shared, "mail").declared_by is None
    assert register(shared, MAIL) == {"mail": "refused"}
    assert register(shared, MAIL | {"priority": 1}) == {"mail": "refused"}
    assert register(shared) == {}
    assert entry(shared, "mail").command == "select 1"


def test_one_made_by_hand_in_the_place_of_a_removed_one(shared):
    register(shared, MAIL)
    call(shared, "eram_unschedule", name="mail")
    schedule(shared, "mail", "3 hours")
    assert register(shared, MAIL) == {"mail": "refused"}
    assert entry(shared, "mail").schedule == "3 hours"
    # The application's was removed, and still is.
    call(shared, "eram_unschedule", name="mail")
    assert register(shared, MAIL) == {}
    assert register(shared, MAIL | {"priority": 1}) == {"mail": "added"}


def test_an_application_that_is_renamed_can_be_cleared_away(shared):
    register(shared, MAIL, application="myapp")
    assert register(shared, MAIL, application="myapp,more") == {"mail": ("refused", "myapp")}
    assert register(shared, application="myapp") == {"mail": "removed"}
    assert register(shared, MAIL, application="myapp,more") == {"mail": "added"}


def test_a_declaration_that_is_rolled_back_never_was(shared, connect):
    before = contents(shared)
    with connect(autocommit=False) as conn:
        assert register(conn, MAIL, REPORT) == {"mail": "added", "report": "added"}
        assert register(conn, MAIL, REPORT) == {}
        assert register(conn, REPORT) == {"mail": "removed"}
        conn.rollback()
    assert contents(shared) == before
    assert entry_or_none(shared, "mail") is None
