"""Processes that declare their schedules at the same moment, and meet ticks and administrators."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .declared_helpers import LIFELINE, MAIL, PRUNE, REPORT, entry_or_none, names, register
from .helpers import Threads, at_once, column, contents, value, wait_for_lock_wait
from .schedule_helpers import call, entry, make_due, schedule, tick

Connect = Callable[..., psycopg.Connection]

PROCESSES = 8
MANY: list[dict[str, Any]] = [
    {"name": f"entry {n}", "schedule": "1 hour", "handler": f"app:{n}"} for n in range(20)
]


def waiting(
    observer: psycopg.Connection, conn: psycopg.Connection, *schedules: Any
) -> tuple[Threads, dict[str, Any]]:
    """Declare schedules in a thread, until that waits for a lock; return where the changes go."""
    threads, changes = Threads(), {}
    threads.start(lambda: changes.update(register(conn, *schedules)))
    wait_for_lock_wait(observer, conn)
    return threads, changes


def test_processes_that_start_together(conn, connect):
    """One of them makes the changes, the others find them made."""
    told: list[dict[str, Any]] = []
    conns = [connect() for _ in range(PROCESSES)]
    for given in (MANY, MANY[10:], [*MANY[:12], PRUNE, LIFELINE]):
        told.clear()
        at_once(*(lambda c=c, given=given: told.append(register(c, *given)) for c in conns))
        assert len([changes for changes in told if changes]) == 1
        assert names(conn) == sorted(g["name"] for g in given if "name" in g)


def test_the_order_of_the_list_does_not_matter(conn, connect):
    """Neither do ticks meanwhile, administrators, or another application."""
    forth, back = MANY, [m | {"priority": 1} for m in reversed(MANY)]
    conns = [connect() for _ in range(7)]
    rounds = 20

    def deploy(c: psycopg.Connection, versions: Any, application: str) -> Callable[[], object]:
        versions = itertools.islice(itertools.cycle(versions), rounds)
        return lambda: [register(c, *v, application=application) for v in versions]

    def tick_often() -> None:
        for _ in range(2 * rounds):
            conns[4].execute(
                """
                update eram_schedules
                set next_run_at = now()
                where
                    next_run_at is not null
                    and name = (
                        select name
                        from eram_schedules
                        order by random()
                        limit 1
                        for update skip locked
                    )
                """
            )
            tick(conns[4], 0)

    def administrate() -> None:
        for n in range(2 * rounds):
            name = f"entry {n % 20}"
            schedule(conns[5], name, "2 hours", handler="app:by_hand")
            call(conns[5], "eram_unschedule", name=f"entry {(n + 7) % 20}")
            call(conns[5], "eram_schedule_maintenance", task="prune", options={"limit": n + 1})

    other = [[{**PRUNE, "options": {"limit": n}}] for n in (100, 200)]
    at_once(
        deploy(conns[0], [[*forth, PRUNE], [*back, PRUNE]], "app"),
        deploy(conns[1], [[*back, LIFELINE], forth], "app"),
        deploy(conns[2], other, "other"),
        deploy(conns[3], [forth[:5], back[:3]], "app"),
        tick_often,
        administrate,
    )
    # The last one wins. What an administrator made by hand in between is his.
    last = {"name": "last", "schedule": "1 hour", "handler": "app:last"}
    changes = register(conn, *MANY, last)
    assert changes["last"] == "added"
    mine = column(conn, "select name from eram_schedules where declared_by = 'app' order by name")
    assert "refused" not in {changes.get(name) for name in mine}
    assert register(conn) == dict.fromkeys(mine, "removed")


def test_old_and_new_processes_in_turn(conn, connect):
    """During a deployment the last one to start wins, and nothing is ever in an error."""
    old, new = connect(), connect()
    register(old, MAIL, REPORT)
    for _ in range(3):
        assert register(new, MAIL | {"priority": 1}, LIFELINE) == {
            "eram:lifeline": "changed",
            "mail": "changed",
            "report": "removed",
        }
        assert register(old, MAIL, REPORT) == {
            "eram:lifeline": "restored",
            "mail": "changed",
            "report": "added",
        }
    assert names(conn) == ["mail", "report"]


def test_what_is_declared_as_before_waits_for_nobody(conn, connect):
    register(conn, MAIL, REPORT, PRUNE)
    holder = connect(autocommit=False)
    holder.execute("select from eram_schedules for update")
    # Another process is about to change something.
    holder.execute("select pg_advisory_xact_lock('eram_declared_schedules'::regclass::oid::int, 0)")
    conn.execute("set lock_timeout = '5s'")
    assert register(conn, PRUNE, REPORT, MAIL) == {}
    assert register(conn, MAIL, application="other") == {"mail": ("refused", "app")}


def test_what_is_left_alone_is_not_waited_for(conn, connect):
    register(conn, MAIL, REPORT, PRUNE)
    holder = connect(autocommit=False)
    call(holder, "eram_pause_schedule", name="mail")
    conn.execute("set lock_timeout = '5s'")
    assert register(conn, MAIL, REPORT | {"priority": 1}) == {
        "eram:prune": "restored",
        "report": "changed",
    }


def test_a_tick_that_is_at_an_entry(conn, connect):
    """It is waited for, and what it did stays done."""
    register(conn, MAIL, REPORT)
    make_due(conn, "mail", "report")
    ticker = connect(autocommit=False)
    tick(ticker, 0)
    registrar = connect()
    threads, changes = waiting(conn, registrar, MAIL | {"priority": 1})
    # Another tick does not wait for those two.
    tick(conn, 0)
    ticker.commit()
    threads.join(10)
    assert changes == {"mail": "changed", "report": "removed"}
    assert (entry(conn, "mail").run_count, entry(conn, "mail").job["priority"]) == (1, 1)
    assert value(conn, "select count(*) from eram_jobs") == 2


def test_a_tick_does_not_wait_for_a_registration(conn, connect):
    register(conn, MAIL, REPORT)
    make_due(conn, "mail", "report")
    registrar = connect(autocommit=False)
    register(registrar, MAIL | {"priority": 1}, PRUNE | {"options": {"max_age": 0}})
    conn.execute("set lock_timeout = '5s'")
    tick(conn, 0)
    registrar.commit()
    tick(conn, 0)
    assert column(conn, "select handler from eram_jobs") == ["app:mail"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_one_that_an_administrator_is_making(conn, connect, end):
    admin, registrar = connect(autocommit=False), connect()
    schedule(admin, "mail", "3 hours")
    threads, changes = waiting(conn, registrar, MAIL, REPORT)
    getattr(admin, end)()
    threads.join(10)
    is_his = end == "commit"
    assert changes == {"mail": "refused" if is_his else "added", "report": "added"}
    assert entry(conn, "mail").schedule == ("3 hours" if is_his else "1 hour")
    assert entry(conn, "mail").declared_by == (None if is_his else "app")
    # So it is the next time.
    assert register(conn, MAIL, REPORT) == ({"mail": "refused"} if is_his else {})


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_one_that_an_administrator_is_removing(conn, connect, end):
    """The declaration has changed, so it comes back."""
    register(conn, MAIL)
    admin, registrar = connect(autocommit=False), connect()
    call(admin, "eram_unschedule", name="mail")
    threads, changes = waiting(conn, registrar, MAIL | {"priority": 1})
    getattr(admin, end)()
    threads.join(10)
    assert changes == {"mail": "added" if end == "commit" else "changed"}
    assert entry(conn, "mail").job["priority"] == 1


def test_one_that_an_administrator_makes_a_command(conn, connect):
    register(conn, MAIL)
    admin, registrar = connect(autocommit=False), connect()
    call(admin, "eram_schedule_sql", name="mail", schedule="1 hour", command="select 1")
    threads, changes = waiting(conn, registrar)
    admin.commit()
    threads.join(10)
    assert changes == {}
    assert (entry(conn, "mail").command, entry(conn, "mail").declared_by) == ("select 1", None)


def test_maintenance_that_an_administrator_is_changing(conn, connect):
    """It is not put back over his change."""
    register(conn, PRUNE)
    admin, registrar = connect(autocommit=False), connect()
    call(admin, "eram_schedule_maintenance", task="prune", options={"limit": 77})
    threads, changes = waiting(conn, registrar)
    admin.commit()
    threads.join(10)
    assert changes == {}
    seen = entry(conn, "eram:prune")
    assert (seen.options["limit"], seen.declared_by) == (77, None)


def test_maintenance_that_was_never_made_and_is_being_removed(conn, connect):
    admin, registrar = connect(autocommit=False), connect()
    call(admin, "eram_unschedule", name="eram:prune")
    threads, changes = waiting(conn, registrar, PRUNE)
    admin.commit()
    threads.join(10)
    assert changes == {"eram:prune": "refused"}
    assert entry_or_none(conn, "eram:prune") is None


def test_an_old_snapshot_is_told_to_try_again(conn, connect):
    late = connect(autocommit=False)
    late.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    late.execute("select 1")
    register(conn, MAIL)
    before = contents(conn)
    with pytest.raises(errors.SerializationFailure):
        register(late, MAIL | {"priority": 1})
    late.rollback()
    assert contents(conn) == before
    assert register(late, MAIL | {"priority": 1}) == {"mail": "changed"}
    late.commit()
