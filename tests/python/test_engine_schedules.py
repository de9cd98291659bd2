"""The schedules of a configuration: declared at the start, removed when they leave it."""

from __future__ import annotations

import psycopg
import pytest
import sample_jobs
from helpers import eventually, schedule_of, value, wait_for_state

import eram
from eram._engine import schedule_registration

DAILY = {"name": "daily", "schedule": "@daily", "handler": "sample_jobs:nothing"}
HOURLY = {"name": "hourly", "schedule": "@hourly", "handler": "sample_jobs:nothing"}


def names(conn):
    query = "select name from eram_schedules where declared_by is not null order by name"
    return [name for (name,) in conn.execute(query)]


def restart(make_engine, **options):
    with make_engine(allow=["sample_jobs"], **options) as engine:
        assert engine.is_running


def test_what_leaves_the_configuration_is_removed_and_nothing_else(conn, make_engine):
    conn.execute("select eram_schedule('by hand', '@daily', 'sample_jobs:nothing')")
    restart(make_engine, cron=[DAILY, HOURLY], prune={"interval": 5_000})
    assert names(conn) == ["daily", "eram:prune", "hourly"]
    restart(make_engine, application="other", cron=[{**DAILY, "name": "theirs"}])
    assert names(conn) == ["daily", "eram:prune", "hourly", "theirs"]
    restart(make_engine, cron=[DAILY])
    assert names(conn) == ["daily", "theirs"]
    assert schedule_of(conn, "eram:prune")["schedule"] == "30 seconds"
    restart(make_engine)
    assert names(conn) == ["theirs"]
    assert schedule_of(conn, "by hand")


def test_worker_without_a_configuration_removes_nothing(conn, dsn, make_engine, spawn_worker):
    restart(make_engine, cron=[DAILY])
    spawn_worker().wait_for_log("registered")
    assert names(conn) == ["daily"]


def test_changes_are_logged_and_restarts_are_not(conn, make_engine, caplog):
    caplog.set_level("INFO", "eram")
    restart(make_engine, cron=[DAILY])
    assert 'schedule "daily" is added' in caplog.text
    caplog.clear()
    restart(make_engine, cron=[DAILY])
    assert "schedule" not in caplog.text
    restart(make_engine, cron=[{**DAILY, "schedule": "@weekly"}])
    assert 'schedule "daily" is changed' in caplog.text


def test_entries_of_others_are_left_alone_with_a_warning(conn, make_engine, caplog):
    conn.execute("select eram_schedule('daily', '@weekly', 'sample_jobs:echo')")
    restart(make_engine, application="other", cron=[HOURLY])
    restart(make_engine, cron=[DAILY, HOURLY])
    assert 'schedule "daily" is left as it is: an administrator' in caplog.text
    assert 'it belongs to the application "other", not to "sample_jobs"' in caplog.text
    assert schedule_of(conn, "daily")["schedule"] == "@weekly"


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        (["* * * *", "a:b"], r"schedules are refused .* schedule 2 of 3"),
        (["61 * * * *", "a:b"], "minute"),
        (["@dayly", "a:b"], "@daily"),
        ({**DAILY, "name": "x", "timezone": "Europe/Warsawa"}, "Europe/Warsaw"),
        ({**DAILY, "name": "x", "priority": 99}, "priority"),
        ({**DAILY}, 'schedules 1 and 2 are both named "daily"'),
    ],
)
def test_wrong_schedule_is_refused_before_anything_runs(conn, make_engine, cron, message):
    engine = make_engine(allow=["sample_jobs"], cron=[DAILY, cron, HOURLY])
    for _ in range(2):
        with pytest.raises(eram.ConfigError, match=message):
            engine.start()
    assert not engine.is_running
    assert names(conn) == []
    assert value(conn, "select count(*) from eram_workers where ended_at is null") == 0


def test_start_that_fails_declares_nothing(conn, make_engine):
    restart(make_engine, cron=[DAILY])
    worker = "function eram_start_worker"
    conn.execute(f"alter {worker} rename to away")
    engine = make_engine(allow=["sample_jobs"], cron=[HOURLY], prune={"interval": 5_000})
    with pytest.raises(eram.ConfigError, match="eram is not installed"):
        engine.start()
    assert names(conn) == ["daily"]
    conn.execute("alter function away rename to eram_start_worker")
    with engine:
        assert names(conn) == ["eram:prune", "hourly"]


def test_maintenance_that_another_application_declares_is_changed_with_a_warning(
    conn, make_engine, caplog
):
    restart(make_engine, application="one", prune={"interval": 10_000})
    restart(make_engine, application="two", prune={"interval": 20_000})
    said = 'schedule "eram:prune" is changed, which the application "one" declares otherwise'
    assert said in caplog.text
    assert schedule_of(conn, "eram:prune")["schedule"] == "20 seconds"


def test_role_without_the_right_is_told_which_it_needs(conn, dsn, make_engine):
    conn.execute("drop role if exists eram_engine_worker")
    conn.execute("create role eram_engine_worker login password 'x'")
    try:
        conn.execute("select eram_grant('eram_engine_worker', 'work')")
        theirs = psycopg.conninfo.make_conninfo(dsn, user="eram_engine_worker", password="x")
        with pytest.raises(
            eram.ConfigError, match=r"permission denied .*eram_grant\(role, 'admin'"
        ):
            make_engine(dsn=theirs, allow=["sample_jobs"], prune={"limit": 1}).start()
        with pytest.raises(eram.ConfigError, match=r"eram_grant\(role, 'enqueue'\)"):
            make_engine(dsn=theirs, allow=["sample_jobs"], cron=[DAILY]).start()
        restart(make_engine, dsn=theirs)
    finally:
        conn.execute("drop owned by eram_engine_worker")
        conn.execute("drop role eram_engine_worker")


def test_what_someone_has_locked_is_declared_later(conn, connect, make_engine, monkeypatch, caplog):
    monkeypatch.setattr(schedule_registration, "RETRY_SECONDS", 0.05)
    restart(make_engine, cron=[DAILY])
    rival = connect(autocommit=False)
    rival.execute("select from eram_schedules where name = 'daily' for update")
    engine = make_engine(allow=["sample_jobs"], cron=[{**DAILY, "schedule": "@weekly"}]).start()
    assert "schedules cannot be declared now" in caplog.text
    answer = engine.enqueue(sample_jobs.nothing)
    wait_for_state(conn, answer.id, "completed")
    rival.rollback()
    eventually(lambda: schedule_of(conn, "daily")["schedule"] == "@weekly")


def test_handler_of_the_main_thread_recurs(conn, make_engine):
    """It is made by the engine, so its name is what the configuration can have."""
    engine = make_engine(cron=[["@daily", "tidy", {"deep": True}]])
    engine.job(name="tidy")(lambda job, deep: engine.stop())
    engine.start()
    conn.execute("select eram_run_schedule(name) from eram_schedules where declared_by = 'default'")
    engine.run()
    query = "select state, args from eram_jobs where handler = 'tidy'"
    assert conn.execute(query).fetchall() == [("completed", {"deep": True})]
