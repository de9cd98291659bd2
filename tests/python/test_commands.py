"""Commands of schedules in a worker: whatever one does, it delays and breaks nothing else."""

from __future__ import annotations

import os
import socket
import threading

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, schedule_of, value

from eram._base.outage import Outage
from eram._runtime.commands import Command, CommandRunner

NOTHING_IN_HAND = "select count(*) = 0 from eram_schedule_runs"


@pytest.fixture(autouse=True)
def _effects(conn):
    conn.execute("create table effects (value int)")


def schedule_sql(conn, name, command, *, schedule="1 day", timeout=None, is_top_level=False):
    conn.execute(
        "select eram_schedule_sql(%s, %s, %s, timeout => %s, is_top_level => %s)",
        (name, schedule, command, timeout, is_top_level),
    )


def run_now(conn, name, command, **options):
    """Have a command run, and return what its schedule says then."""
    schedule_sql(conn, name, command, **options)
    conn.execute("select eram_run_schedule(%s)", (name,))
    eventually(lambda: value(conn, NOTHING_IN_HAND))
    return schedule_of(conn, name)


def effects(conn):
    return [row[0] for row in conn.execute("select value from effects order by value")]


def is_running(conn):
    return value(
        conn,
        "select count(*) = 1 from pg_stat_activity where datname = current_database()"
        " and application_name = 'eram command' and query ~ 'eram_run_command|pg_sleep'"
        " and state = 'active'",
    )


def test_sql_command_runs(conn, start_worker, caplog):
    caplog.set_level("INFO", logger="eram")
    start_worker()
    after = run_now(conn, "put", "insert into effects values (1); insert into effects values (2)")
    assert effects(conn) == [1, 2]
    assert (after["run_count"], after["last_error"]) == (1, None)
    eventually(lambda: 'ran the command of schedule "put"' in caplog.text)


def test_top_level_command_runs(conn, start_worker):
    start_worker()
    assert run_now(conn, "v", "vacuum effects", is_top_level=True)["last_error"] is None
    vacuumed = "select vacuum_count from pg_stat_user_tables where relname = 'effects'"
    eventually(lambda: value(conn, vacuumed) == 1)


def test_command_that_the_server_has_given_up_is_not_run(conn, dsn):
    """Its ticker was too slow, and the next occurrence may be under way."""
    schedule_sql(conn, "late", "insert into effects values (1)", is_top_level=True)
    conn.execute("select eram_run_schedule('late')")
    row = conn.execute("select run_id, command from eram_tick(1)").fetchone()
    conn.execute("select eram_finish_command(%s, 'it was lost')", row[:1])
    ended = threading.Event()
    runner = CommandRunner(dsn, outage=Outage(), on_ended=ended.set)
    runner.start(Command(run_id=row[0], text=row[1], schedule="late", timeout_milliseconds=9000))
    assert ended.wait(PATIENCE)
    assert (effects(conn), runner.failure_count) == ([], 1)
    assert schedule_of(conn, "late")["last_error"] == "it was lost"


def test_percent_signs_are_no_placeholders(conn, start_worker):
    start_worker()
    command = "insert into effects select 1 where 'a%s' like 'a%'"
    assert run_now(conn, "p", command, is_top_level=True)["last_error"] is None
    assert effects(conn) == [1]


def test_indexes_are_rebuilt(conn, start_worker):
    files = "select array_agg(relfilenode) from pg_class where relname ~ '^eram_jobs_.*_index$'"
    start_worker()
    eventually(lambda: schedule_of(conn, "eram:reindexer"))
    before = value(conn, files)
    conn.execute("select eram_run_schedule('eram:reindexer')")
    eventually(lambda: value(conn, NOTHING_IN_HAND))
    assert schedule_of(conn, "eram:reindexer")["last_error"] is None
    assert len(before) == 2
    assert not set(before) & set(value(conn, files))


def test_long_command_delays_nothing_else(conn, start_worker):
    schedule_sql(conn, "long", "select pg_sleep(600)")
    conn.execute("select eram_run_schedule('long')")
    worker = start_worker(grace_period=2)
    eventually(lambda: is_running(conn))

    conn.execute("select eram_schedule('pulse', '1 second', 'sample_jobs:nothing')")
    eventually(lambda: schedule_of(conn, "pulse")["run_count"] >= 2)
    # That takes a heartbeat.
    answer = sample_jobs.wait_for_cancel.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    eventually(lambda: sample_jobs.seen == [True])
    assert is_running(conn)

    worker.stop()
    assert worker.join(PATIENCE)
    assert value(conn, NOTHING_IN_HAND)
    assert schedule_of(conn, "long")["last_error"] == (
        "canceling statement due to user request (its ticker was stopped)"
    )
    assert conn.execute("select end_reason from eram_workers").fetchall() == [("stopped",)]


def test_command_is_given_the_grace_period(conn, start_worker):
    """What ends within it ends well, and no other command is begun."""
    conn.execute("select pg_advisory_lock(1)")
    for name in ("one", "two"):
        schedule_sql(conn, name, "select pg_advisory_lock(1); insert into effects values (1)")
        conn.execute("select eram_run_schedule(%s)", (name,))
    worker = start_worker(grace_period=PATIENCE)
    eventually(lambda: is_running(conn))
    worker.stop()
    assert not worker.join(1)
    conn.execute("select pg_advisory_unlock(1)")
    assert worker.join(PATIENCE)
    assert effects(conn) == [1]
    assert schedule_of(conn, "one")["last_error"] is None
    assert value(conn, "select count(*) from eram_schedule_runs where taken_at is null") == 1


@pytest.mark.parametrize("is_top_level", [False, True])
@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("select pg_sleep(600)", "statement timeout"),
        ("select pg_terminate_backend(pg_backend_pid())", "terminating connection"),
        ("select 1 / 0", "division by zero"),
    ],
)
def test_command_that_fails_is_recorded_and_does_it_no_harm(
    dsn, conn, start_worker, caplog, command, error, is_top_level
):
    schedule_sql(
        conn,
        "bad",
        command,
        schedule="1 second",
        timeout="0.3 seconds",
        is_top_level=is_top_level,
    )
    schedule_sql(conn, "good", "insert into effects values (1)", schedule="1 second")
    start_worker(psycopg.conninfo.make_conninfo(dsn, options="-c client_min_messages=error"))
    eventually(lambda: schedule_of(conn, "bad")["run_count"] >= 3)
    eventually(lambda: error in (schedule_of(conn, "bad")["last_error"] or ""))
    eventually(lambda: len(effects(conn)) >= 2)
    eventually(lambda: 'schedule "bad" failed: ' in caplog.text)
    conn.execute("select eram_unschedule('bad')")

    better = run_now(conn, "bad", "insert into effects values (2)", is_top_level=is_top_level)
    assert better["last_error"] is None
    assert 2 in effects(conn)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("insert into effects values (1); commit", "transaction commands"),
        ("insert into effects values (1); vacuum effects", "VACUUM cannot"),
        ("set constraints all deferred; select nothing()", "nothing() does not exist"),
    ],
)
def test_sql_command_is_one_transaction(conn, start_worker, command, error):
    start_worker()
    assert error in run_now(conn, "c", command)["last_error"]
    assert effects(conn) == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("begin", "left a transaction open"),
        ("begin; select 1 / 0", "division by zero"),
        ("copy effects to stdout", "COPY"),
        ("copy effects from stdin", "COPY"),
        ("vacuum nothing", "does not exist"),
        ("set role pg_monitor; set search_path to nowhere", None),
        ("commit", None),
        ("; ", None),
    ],
)
def test_top_level_command_may_leave_its_session_in_any_state(conn, start_worker, command, error):
    start_worker()
    if command == "; ":
        command = "/* nothing */"
    found = run_now(conn, "t", command, is_top_level=True)["last_error"]
    assert error in found if error else found is None
    assert run_now(conn, "u", "insert into effects values (1)")["last_error"] is None
    assert effects(conn) == [1]


def test_worker_without_a_grace_period_cancels_at_once(conn, start_worker):
    schedule_sql(conn, "long", "select pg_sleep(600)", is_top_level=True)
    conn.execute("select eram_run_schedule('long')")
    worker = start_worker(grace_period=0)
    eventually(lambda: is_running(conn))
    worker.stop()
    assert worker.join(PATIENCE)
    eventually(lambda: value(conn, NOTHING_IN_HAND))
    assert "its ticker was stopped" in schedule_of(conn, "long")["last_error"]


@pytest.fixture
def closed_door(dsn, conn):
    """Let nobody into the database any more; the sessions that are there go on."""
    elsewhere = psycopg.conninfo.make_conninfo(dsn, dbname="postgres")
    with psycopg.connect(elsewhere, autocommit=True) as admin:

        def move(is_open):
            admin.execute(f"alter database {conn.info.dbname} allow_connections {is_open}")

        yield move
        move(True)


TAKEN = "select count(*) = 1 from eram_schedule_runs where taken_at is not null"


def test_command_waits_for_its_session(conn, start_worker, closed_door):
    start_worker()
    schedule_sql(conn, "put", "insert into effects values (1)")
    closed_door(False)
    conn.execute("select eram_run_schedule('put')")
    eventually(lambda: value(conn, TAKEN))
    closed_door(True)
    eventually(lambda: effects(conn) == [1])
    assert schedule_of(conn, "put")["last_error"] is None


def test_worker_ends_though_a_command_cannot_be_reported(conn, start_worker, closed_door, caplog):
    """The server will take it for lost, because it was taken and its session is gone."""
    worker = start_worker(grace_period=1.5)
    schedule_sql(conn, "put", "insert into effects values (1)")
    closed_door(False)
    conn.execute("select eram_run_schedule('put')")
    eventually(lambda: value(conn, TAKEN))
    worker.stop()
    assert worker.join(PATIENCE)
    eventually(lambda: 'the command of schedule "put" could not be reported' in caplog.text)
    assert value(conn, TAKEN)


def test_command_is_reported_once_the_server_takes_it(dsn, conn, start_worker, caplog):
    """A standby, as after a failover, can be connected to but takes no report."""
    read_only = f"alter database {conn.info.dbname} set default_transaction_read_only = "
    start_worker()
    command = f"insert into effects values (1); {read_only} on"
    schedule_sql(conn, "put", command, is_top_level=True)
    conn.execute("select eram_run_schedule('put')")
    eventually(lambda: 'the command of schedule "put" waits for its database' in caplog.text)
    assert not value(conn, NOTHING_IN_HAND)
    conn.execute(f"{read_only} off")
    eventually(lambda: value(conn, NOTHING_IN_HAND))
    assert effects(conn) == [1]
    assert schedule_of(conn, "put")["last_error"] is None


def test_command_whose_connection_broke_is_judged_by_its_end(conn, start_worker, caplog):
    """The server does not notice the loss, and goes on: then it has not failed."""
    conn.execute("select pg_advisory_lock(1)")
    schedule_sql(conn, "put", "select pg_advisory_lock(1); insert into effects values (1)")
    conn.execute("select eram_run_schedule('put')")
    worker = start_worker()
    eventually(lambda: is_running(conn))
    number = os.dup(worker._maintenance._ticker._runner._conn.fileno())
    with socket.socket(fileno=number) as line:
        line.shutdown(socket.SHUT_RDWR)
    eventually(lambda: "waits to be reported" in caplog.text)
    assert not value(conn, NOTHING_IN_HAND)
    conn.execute("select pg_advisory_unlock(1)")
    eventually(lambda: value(conn, NOTHING_IN_HAND))
    assert effects(conn) == [1]
    assert run_now(conn, "next", "insert into effects values (2)")["last_error"] is None
    assert schedule_of(conn, "put")["last_error"] is None


def test_server_restart_in_the_middle(crash_server, start_worker):
    server = crash_server()
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("create table effects (value int)")
        schedule_sql(conn, "good", "insert into effects values (1)", schedule="1 second")
        worker = start_worker(server.dsn)
        eventually(lambda: effects(conn))
        schedule_sql(conn, "long", "select pg_sleep(600)", is_top_level=True)
        conn.execute("select eram_run_schedule('long')")
        eventually(lambda: is_running(conn))
    server.stop()
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("truncate effects")
        eventually(lambda: len(effects(conn)) >= 2)
        assert schedule_of(conn, "long")["last_error"]
        assert value(conn, "select count(*) from eram_schedule_runs where name = 'long'") == 0
        worker.stop()
        assert worker.join(PATIENCE)
