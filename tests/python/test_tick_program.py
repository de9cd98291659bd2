"""`python -m eram.tick` as a process: once, and until a signal."""

from __future__ import annotations

import signal

import psycopg
import pytest
from helpers import eventually, schedule_of, value

NOTHING_DUE = (
    "select count(*) = 0 from eram_schedules"
    " where next_run_at <= clock_timestamp() and name !~ '^eram:'"
)


@pytest.fixture
def run_tick(dsn, run_program):
    """Run `python -m eram.tick` on the test's database."""
    return lambda *arguments: run_program("--dsn", dsn, *arguments, module="eram.tick")


@pytest.fixture(autouse=True)
def _effects(conn):
    conn.execute("create table effects (value int)")


def effects(conn):
    return [row[0] for row in conn.execute("select value from effects order by value")]


def make_due(conn, name, command, *, is_top_level=False):
    conn.execute(
        "select eram_schedule_sql(%s, '1 day', %s, is_top_level => %s)",
        (name, command, is_top_level),
    )
    conn.execute(
        "update eram_schedules set next_run_at = clock_timestamp() where name = %s", (name,)
    )


def test_once_does_all_that_is_due(conn, run_tick):
    for number in range(5):
        make_due(conn, f"sql {number}", f"insert into effects values ({number})")
    make_due(conn, "top", "insert into effects values (9); analyze effects", is_top_level=True)
    for number in range(150):
        conn.execute("select eram_schedule(%s, '1 day', 'app:job')", (f"job {number}",))
    conn.execute("update eram_schedules set next_run_at = clock_timestamp()")
    program = run_tick("--once")
    assert program.wait() == 0
    assert effects(conn) == [0, 1, 2, 3, 4, 9]
    assert value(conn, "select count(*) from eram_jobs") == 150
    assert value(conn, "select bool_and(last_error is null) from eram_schedules")
    assert value(conn, NOTHING_DUE)
    assert 'ran the command of schedule "top"' in program.log
    assert "6 commands were run; failures: 0" in program.log


def test_once_without_anything_to_do(conn, run_tick):
    program = run_tick("--once")
    assert program.wait() == 0
    assert "0 commands were run; failures: 0" in program.log


@pytest.mark.parametrize("is_top_level", [False, True])
def test_once_says_that_a_command_failed(conn, run_tick, is_top_level):
    make_due(conn, "bad", "select 1 / 0", is_top_level=is_top_level)
    make_due(conn, "good", "insert into effects values (1)")
    program = run_tick("--once")
    assert program.wait() == 1
    assert 'schedule "bad" failed: division by zero' in program.log
    assert "2 commands were run; failures: 1" in program.log
    assert schedule_of(conn, "bad")["last_error"] == "division by zero"
    assert effects(conn) == [1]


def test_once_says_that_a_schedule_failed(conn, run_tick):
    conn.execute("select eram_schedule('broken', '1 day', 'app:job')")
    conn.execute("update eram_schedules set job = '{}', next_run_at = now() where name = 'broken'")
    program = run_tick("--once")
    assert program.wait() == 1
    assert 'schedule "broken" failed: ' in program.log


def test_once_ends_with_its_session(conn, run_tick):
    """It does not wait for a database that went away; what runs is waited for."""
    make_due(
        conn,
        "k",
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'eram tick'",
    )
    program = run_tick("--once")
    assert program.wait() == 1
    assert "the tick failed: " in program.log
    assert schedule_of(conn, "k")["last_error"] is None
    assert value(conn, "select count(*) from eram_schedule_runs") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_forever_until_a_signal(conn, run_tick, number):
    conn.execute("select eram_schedule_sql('sql', '1 second', 'insert into effects values (1)')")
    program = run_tick("--interval", "0.2")
    eventually(lambda: len(effects(conn)) >= 3)
    program.signal(number)
    assert program.wait() == 0
    assert "failures: 0" in program.log


def test_forever_survives_the_loss_of_its_session(conn, run_tick):
    conn.execute("select eram_schedule_sql('sql', '1 second', 'insert into effects values (1)')")
    run_tick()
    eventually(lambda: effects(conn))
    assert conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'eram tick'"
    ).fetchall() == [(True,)]
    conn.execute("truncate effects")
    eventually(lambda: effects(conn))


def test_signal_cancels_what_outlives_the_grace_period(conn, run_tick):
    make_due(conn, "long", "select pg_sleep(600)", is_top_level=True)
    program = run_tick("--grace-period", "2")
    eventually(
        lambda: value(
            conn,
            "select count(*) = 1 from pg_stat_activity where datname = current_database()"
            " and application_name = 'eram command' and query = 'select pg_sleep(600)'",
        )
    )
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert "its ticker was stopped" in schedule_of(conn, "long")["last_error"]


def test_subcommand(dsn, run_program):
    assert run_program("tick", "--once", module="eram", DATABASE_URL=dsn).wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--interval", "0"], 2, "interval must be seconds, from 0.01 to 3600, got 0.0"),
        (["--interval", "often"], 2, "argument --interval: invalid float value: 'often'"),
        (["--grace-period", "-1"], 2, "grace_period must be seconds"),
        (["--dsn", "nonsense"], 2, "dsn cannot be read"),
        (["--onec"], 2, "unrecognized arguments: --onec"),
        (["--dsn", "host=/nowhere dbname=x", "--once"], 1, "the ticker cannot start"),
        (["--dsn", "host=/nowhere dbname=x"], 1, "the ticker cannot start"),
    ],
)
def test_program_says_what_is_wrong_and_ends(run_program, arguments, code, message):
    program = run_program(*arguments, module="eram.tick")
    assert program.wait() == code
    assert message in program.log
    assert "Traceback" not in program.log


def test_database_without_eram_ends_the_program(bare_dsn, run_program):
    program = run_program("--dsn", bare_dsn, module="eram.tick")
    assert program.wait() == 2
    assert "eram is not installed in this database" in program.log


def test_role_without_the_right_to_tick_is_told(dsn, conn, run_program):
    role = f"{conn.info.dbname}_nobody"
    conn.execute(f"create role {role} login password 'secret'")
    try:
        program = run_program(
            "--dsn",
            psycopg.conninfo.make_conninfo(dsn, user=role, password="secret"),
            module="eram.tick",
        )
        assert program.wait() == 1
        assert "permission denied for function eram_tick" in program.log
    finally:
        conn.execute(f"drop role {role}")
