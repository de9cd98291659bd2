"""Maintenance that an application's configuration declares."""

from __future__ import annotations

from typing import Any

import pytest

from .declared_helpers import LIFELINE, MAIL, PRUNE, maintenance, register
from .helpers import column, contents
from .schedule_helpers import HISTORY, MAINTENANCE, call, entry, history, make_due, tick

DEFAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "prune": (
        "30 seconds",
        "Etc/UTC",
        {
            "limit": 10000,
            "max_age": {"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"},
        },
    ),
    "lifeline": ("60 seconds", "Etc/UTC", {"rescue_after": "1 hour"}),
    "recorder": ("60 seconds", "Etc/UTC", {"sample": 10000}),
    "reindexer": (
        "@midnight",
        "Etc/UTC",
        {"indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"], "timeout": 15},
    ),
}
WITH_FIVE = DEFAULTS["prune"][2] | {"limit": 5}
REMOVALS = "select queue from eram_removals"


@pytest.mark.parametrize("is_first", [True, False])
def test_it_is_done_as_declared(shared, is_first):
    if not is_first:
        tick(shared, 0)
    reindexer = {
        "maintenance": "reindexer",
        "schedule": "0 3 * * SUN",
        "timezone": "Europe/Berlin",
        "options": {"timeout": 60, "indexes": None},
    }
    changes = {"eram:prune": "changed", "eram:lifeline": "changed", "eram:reindexer": "changed"}
    assert register(shared, PRUNE, LIFELINE, reindexer) == changes
    tick(shared, 0)
    assert register(shared, reindexer, PRUNE, LIFELINE) == {}
    assert maintenance(shared, "prune") == ("30 seconds", "Etc/UTC", WITH_FIVE, "app")
    assert maintenance(shared, "lifeline") == ("5 minutes", *DEFAULTS["lifeline"][1:], "app")
    indexes = DEFAULTS["reindexer"][2]["indexes"]
    assert maintenance(shared, "reindexer") == (
        "0 3 * * sun",
        "Europe/Berlin",
        {"indexes": indexes, "timeout": 60},
        "app",
    )


def test_what_a_declaration_leaves_out_is_the_default(shared):
    """Not what an earlier one said."""
    register(shared, PRUNE | {"schedule": "5 minutes"})
    shorter = {"maintenance": "prune", "options": {"max_age": 60}}
    assert register(shared, shorter) == {"eram:prune": "changed"}
    options = {"limit": 10000, "max_age": 60}
    assert maintenance(shared, "prune") == ("30 seconds", "Etc/UTC", options, "app")


def test_a_change_keeps_phase_history_and_pause(shared):
    register(shared, PRUNE)
    due = make_due(shared, "eram:prune")
    shared.execute(HISTORY, ["eram:prune"])
    before = history(shared, "eram:prune")
    register(shared, PRUNE | {"options": {"limit": 6}})
    assert (history(shared, "eram:prune"), entry(shared, "eram:prune").next_run_at) == (before, due)
    call(shared, "eram_pause_schedule", name="eram:prune")
    assert register(shared, PRUNE) == {"eram:prune": "changed"}
    assert entry(shared, "eram:prune").is_paused
    assert register(shared) == {"eram:prune": "restored"}
    assert entry(shared, "eram:prune").is_paused


@pytest.mark.parametrize("name", MAINTENANCE)
def test_what_is_no_longer_declared_is_the_default_again(shared, name):
    task = name.removeprefix("eram:")
    register(shared, {"maintenance": task, "schedule": "7 minutes"}, MAIL)
    assert maintenance(shared, task)[0] == "7 minutes"
    assert register(shared, MAIL) == {name: "restored"}
    assert maintenance(shared, task) == (*DEFAULTS[task], None)
    assert register(shared, MAIL) == {}


# The administrator.


def test_an_administrators_change_holds_until_the_declaration_changes(shared):
    register(shared, PRUNE)
    call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 77})
    before = contents(shared)
    assert register(shared, PRUNE) == {}
    assert contents(shared) == before
    assert register(shared, PRUNE | {"schedule": "1 minute"}) == {"eram:prune": "changed"}
    assert maintenance(shared, "prune") == ("1 minute", "Etc/UTC", WITH_FIVE, "app")


def test_an_administrators_change_outlives_the_declaration(shared):
    register(shared, PRUNE)
    call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 77})
    assert register(shared) == {}
    options = DEFAULTS["prune"][2] | {"limit": 77}
    assert maintenance(shared, "prune") == ("30 seconds", "Etc/UTC", options, None)
    # It is his now.
    assert register(shared, PRUNE) == {"eram:prune": "refused"}


def test_a_change_that_was_taken_back_is_none(shared):
    register(shared, PRUNE)
    call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 77})
    call(shared, "eram_schedule_maintenance", task="prune", options={"limit": 5})
    assert register(shared) == {"eram:prune": "restored"}


def test_what_an_administrator_has_changed_before_is_not_touched(shared):
    call(shared, "eram_schedule_maintenance", task="prune", options={"max_age": "90 days"})
    before = contents(shared)
    for given in (PRUNE, PRUNE | {"schedule": "1 minute"}):
        assert register(shared, given) == {"eram:prune": "refused"}
    assert register(shared) == {}
    assert contents(shared) == before
    # Made the default again, it is free.
    call(shared, "eram_unschedule", name="eram:prune")
    assert register(shared, PRUNE) == {"eram:prune": "refused"}
    call(shared, "eram_schedule_maintenance", task="prune")
    assert register(shared, PRUNE) == {"eram:prune": "changed"}


@pytest.mark.parametrize("is_ticked", [True, False])
def test_what_an_administrator_has_removed_before_stays_removed(shared, is_ticked):
    if is_ticked:
        tick(shared, 0)
    call(shared, "eram_unschedule", name="eram:lifeline")
    for _ in range(2):
        assert register(shared, LIFELINE) == {"eram:lifeline": "refused"}
        tick(shared, 0)
    assert not column(shared, "select name from eram_schedules where name = 'eram:lifeline'")


def test_a_removal_holds_until_the_declaration_changes(shared):
    register(shared, LIFELINE)
    call(shared, "eram_unschedule", name="eram:lifeline")
    tick(shared, 0)
    assert register(shared, LIFELINE) == {}
    assert register(shared, LIFELINE | {"schedule": "6 minutes"}) == {"eram:lifeline": "added"}
    tick(shared, 0)
    assert maintenance(shared, "lifeline")[0] == "6 minutes"
    assert column(shared, "select name from eram_unscheduled") == []
    # And removed once more it stays so when nobody declares it.
    call(shared, "eram_unschedule", name="eram:lifeline")
    assert register(shared) == {}
    tick(shared, 0)
    assert not column(shared, "select name from eram_schedules where name = 'eram:lifeline'")


def test_one_that_was_removed_and_brought_back(shared):
    register(shared, LIFELINE)
    call(shared, "eram_unschedule", name="eram:lifeline")
    call(shared, "eram_schedule_maintenance", task="lifeline")
    assert register(shared, LIFELINE) == {}
    assert maintenance(shared, "lifeline") == (*DEFAULTS["lifeline"], None)
    assert register(shared, LIFELINE | {"schedule": "6 minutes"}) == {"eram:lifeline": "changed"}
    assert maintenance(shared, "lifeline")[3] == "app"


# Several applications.


def test_the_last_application_to_change_it_wins(shared):
    other = {"maintenance": "prune", "options": {"limit": 6}}
    register(shared, PRUNE)
    assert register(shared, other, application="other") == {"eram:prune": ("changed", "app")}
    # Restarts change nothing, whichever comes first.
    before = contents(shared)
    for _ in range(2):
        assert register(shared, PRUNE) == {}
        assert register(shared, other, application="other") == {}
    assert contents(shared) == before
    assert maintenance(shared, "prune")[2]["limit"] == 6
    changed = PRUNE | {"options": {"limit": 7}}
    assert register(shared, changed) == {"eram:prune": ("changed", "other")}
    assert maintenance(shared, "prune")[2:] == (WITH_FIVE | {"limit": 7}, "app")


def test_what_one_declares_no_more_is_done_as_the_other_declares(shared):
    others = [{"maintenance": "prune", "options": {"limit": limit}} for limit in (6, 7, 8)]
    for number, given in enumerate(others):
        register(shared, given, application=f"app {number}")
    assert register(shared, application="app 0") == {}
    assert register(shared, application="app 2") == {"eram:prune": ("restored", "app 1")}
    assert maintenance(shared, "prune")[2:] == (WITH_FIVE | {"limit": 7}, "app 1")
    assert register(shared, others[1], application="app 1") == {}
    assert register(shared, application="app 1") == {"eram:prune": "restored"}
    assert maintenance(shared, "prune") == (*DEFAULTS["prune"], None)


def test_completions_know_that_nothing_is_kept(shared):
    keep_none = {"maintenance": "prune", "options": {"max_age": 0}}
    register(shared, keep_none)
    assert column(shared, REMOVALS) == [""]
    register(shared)
    assert column(shared, REMOVALS) == []
    register(shared, keep_none)
    register(shared, PRUNE, application="other")
    assert column(shared, REMOVALS) == []
    assert register(shared, application="other") == {"eram:prune": ("restored", "app")}
    assert column(shared, REMOVALS) == [""]
