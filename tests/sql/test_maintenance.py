"""eram's own maintenance: there by itself, and as one wants it."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    Threads,
    column,
    contents,
    enqueue,
    fetch,
    rows,
    start_worker,
    value,
    wait_for_lock_wait,
)
from .schedule_helpers import HISTORY, MAINTENANCE, call, entry, history, make_due, tick

DEFAULTS: dict[str, tuple[str, dict]] = {
    "eram:lifeline": ("60 seconds", {"rescue_after": "1 hour"}),
    "eram:prune": (
        "30 seconds",
        {
            "limit": 10000,
            "max_age": {"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"},
        },
    ),
    "eram:recorder": ("60 seconds", {"sample": 10000}),
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
        "eram:recorder": DEFAULTS["eram:recorder"],
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
    assert set(maintenance(shared)) == {"eram:lifeline", "eram:recorder", "eram:reindexer"}


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


def test_two_who_bring_a_task_back_at_a_time_both_have_what_they_change(shared, connect):
    tick(shared, 0)
    call(shared, "eram_unschedule", name="eram:prune")
    first, second = connect(autocommit=False), connect()
    change = "select eram_schedule_maintenance('prune', options => %s)"
    first.execute(change, ['{"limit": 7}'])
    threads = Threads()
    threads.start(lambda: second.execute(change, ['{"max_age": "2 days"}']))
    wait_for_lock_wait(shared, second)
    first.commit()
    threads.join()
    options = maintenance(shared)["eram:prune"][1]
    assert (options["limit"], options["max_age"]) == (7, "2 days")
    assert value(shared, "select count(*) from eram_unscheduled") == 0
