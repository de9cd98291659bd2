"""Who does the work: no ticker, silent workers, schedules that fail or wait for their owner."""

from __future__ import annotations

import pytest

from .health_helpers import act, check, level
from .helpers import rows, start_worker, value, wait_until
from .schedule_helpers import make_due, schedule, schedule_sql, without_maintenance

OVERDUE = [("119 seconds", "ok"), ("121 seconds", "warn"), ("301 seconds", "critical")]


# The ticker.


def test_nobody_ticks(conn):
    conn.execute("select * from eram_tick()")
    schedule(conn, "hourly")
    assert level(conn, "ticker") == "ok"
    for ago, expected in OVERDUE:
        make_due(conn, "hourly", ago=ago.replace("119", "90"))
        assert level(conn, "ticker") == expected, ago
    make_due(conn, "eram:prune", ago="10 minutes")
    found = check(conn, "ticker")
    assert found.finding.startswith('nobody ticks: schedules overdue: 2, "eram:prune" since 20')
    assert found.action == "python -m eram tick"
    assert 600 <= found.value < 700
    conn.execute("select * from eram_tick()")
    found = check(conn, "ticker")
    assert (found.level, found.value, found.action) == ("ok", 0, None)


def test_who_does_without_maintenance_needs_no_tick(conn):
    assert level(conn, "ticker") == "warn"
    without_maintenance(conn)
    assert level(conn, "ticker") == "ok"


def test_what_is_paused_is_not_overdue(conn):
    conn.execute("select * from eram_tick()")
    schedule(conn, "hourly")
    make_due(conn, "hourly", ago="1 hour")
    assert level(conn, "ticker") == "critical"
    conn.execute("select eram_pause_schedule('hourly')")
    assert level(conn, "ticker") == "ok"


# Schedules.


def test_a_schedule_that_fails(ticker):
    """By itself, until it goes well again."""
    schedule_sql(ticker, "count", "insert into counted values (1)")
    schedule_sql(ticker, "other", "select 1/0")
    make_due(ticker, "count")
    _tick_until(ticker, "select last_error is not null from eram_schedules where name = 'count'")
    found = check(ticker, "schedules")
    assert (found.level, found.value) == ("critical", 1)
    assert found.finding.startswith('schedule "count" failed at 20')
    assert found.finding.endswith('relation "counted" does not exist')
    assert found.action == "select public.eram_run_schedule('count');"

    make_due(ticker, "other")
    _tick_until(ticker, "select last_error is not null from eram_schedules where name = 'other'")
    assert check(ticker, "schedules").value == 2
    both = check(ticker, "schedules").finding
    assert both.startswith('schedule "other" failed')
    assert both.endswith("; such schedules: 2")
    # What is paused is known to its administrator.
    ticker.execute("select eram_pause_schedule('other')")
    assert check(ticker, "schedules").value == 1
    ticker.execute("select eram_unschedule('other')")

    ticker.execute("create table counted (number integer)")
    act(ticker, found)
    _tick_until(ticker, "select exists (select from counted)")
    assert level(ticker, "schedules") == "ok"
    ticker.execute("drop table counted")


def _tick_until(conn, query):
    def ticked() -> bool:
        conn.execute("select * from eram_tick()")
        return value(conn, query)

    wait_until(ticked, query)


@pytest.mark.parametrize("what", ["sql", "top_level", "reindexer"])
def test_commands_that_nobody_may_run(owner, open_as, home, what):
    """Others tick, and do what else is due."""
    if what == "reindexer":
        owner.execute("select eram_schedule_maintenance('reindexer')")
        name = "eram:reindexer"
    else:
        name = "it's"
        schedule_sql(owner, name, "select 1", is_top_level=what == "top_level")
    assert level(owner, "schedules") == "ok"
    for ago, expected in OVERDUE[1:]:
        make_due(owner, name, ago=ago)
        open_as(home.worker).execute("select * from eram_tick()")
        found = check(owner, "schedules")
        assert found.level == expected, ago
        assert found.finding.startswith(
            f'nobody who may runs commands: schedules overdue: 1, "{name}" since 20'
        )
        assert level(owner, "ticker") == "ok"
    # Where nobody ticks at all, that is what is wrong.
    schedule(owner, "hourly")
    make_due(owner, "hourly", ago="1 hour")
    assert (level(owner, "schedules"), level(owner, "ticker")) == ("ok", "critical")
    owner.execute("select * from eram_tick()")
    assert (level(owner, "schedules"), level(owner, "ticker")) == ("ok", "ok")


# Workers.


def age(conn, worker, ago):
    conn.execute(
        "update eram_workers set heartbeat_at = now() - %s::interval where id = %s", [ago, worker]
    )


def test_a_worker_that_goes_silent(conn, connect):
    sessions = connect(), connect()
    one, other = (start_worker(session) for session in sessions)
    assert check(conn, "workers").finding == "workers: 2"
    age(conn, one, "110 seconds")
    assert level(conn, "workers") == "ok"
    age(conn, one, "3 minutes")
    found = check(conn, "workers")
    assert (found.level, found.value) == ("warn", 1)
    assert found.finding.startswith(f'1 of 2 workers silent, worker {one} ("tester") since 20')
    age(conn, other, "150 seconds")
    found = check(conn, "workers")
    assert (found.level, found.value) == ("critical", 2)
    assert f"worker {one} " in found.finding
    for session, worker in zip(sessions, (one, other), strict=True):
        session.execute("select * from eram_heartbeat(%s)", [worker])
    assert level(conn, "workers") == "ok"


def test_what_is_to_be_done_about_silent_workers(conn):
    """Behind a pooler, silence is death."""
    conn.execute("select eram_start_worker('w', '{default}', 0)")
    conn.execute("update eram_workers set heartbeat_at = now() - interval '3 minutes'")
    # The server has just started, and those who come back are waited for.
    if value(conn, "select pg_postmaster_start_time() > now() - interval '2 minutes'"):
        conn.execute("update eram_workers set stalled_after = '1 second'")
    found = check(conn, "workers")
    assert (found.level, found.action) == ("critical", "select public.eram_rescue_jobs();")


def test_a_worker_that_lost_its_lock_long_ago(conn, connect):
    """Nobody has ticked since."""
    worker = start_worker(connect())
    conn.execute(
        "update eram_workers set missing_since = now() - interval '3 minutes' where id = %s",
        [worker],
    )
    found = check(conn, "workers")
    assert found.level == "critical"
    since = value(conn, "select _eram_when(missing_since) from eram_workers")
    assert found.finding.endswith(f" since {since}")
    conn.execute("update eram_workers set missing_since = null")
    assert level(conn, "workers") == "ok"


def test_workers_that_have_ended_are_not_missed(conn, worker):
    age(conn, worker, "3 minutes")
    conn.execute("select eram_stop_worker(%s)", [worker])
    assert check(conn, "workers").finding == "workers: 0"
    assert rows(conn, "select * from eram_health() where name = 'workers' and level <> 'ok'") == []
