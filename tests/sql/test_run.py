"""CALL eram_run(): ticking without a client of one's own, wherever eram is installed."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from psycopg import errors, sql

from eram.install import install

from .helpers import at_once, column, contents, value
from .schedule_helpers import (
    entry,
    has_in_hand,
    make_due,
    refused,
    schedule,
    schedule_sql,
    without_maintenance,
)

MARK = "insert into done values ('{}')"
DONE = "select what from done order by at"


@pytest.fixture
def ticker(conn: psycopg.Connection):
    """A session that ticks, and a table where commands leave their mark."""
    without_maintenance(conn)
    conn.execute(
        "create table done (what text, who name default current_user,"
        " at timestamptz default clock_timestamp())"
    )
    yield conn
    conn.execute("drop table done")


def test_it_does_everything_that_is_due(ticker):
    schedule(ticker, "mail")
    for n in range(3):
        schedule_sql(ticker, f"sql {n}", MARK.format(n))
    schedule_sql(ticker, "bad", "select 1/0")
    schedule_sql(ticker, "top", "vacuum", is_top_level=True)
    make_due(ticker, "mail", "sql 0", "sql 1", "sql 2", "bad", "top")
    ticker.execute("call eram_run()")
    assert value(ticker, "select count(*) from eram_jobs") == 1
    assert sorted(column(ticker, DONE)) == ["0", "1", "2"]
    assert "division by zero" in entry(ticker, "bad").last_error
    # That is left to others.
    assert entry(ticker, "top").run_count == 0
    assert value(ticker, "select count(*) from eram_schedule_runs") == 0
    assert not has_in_hand(ticker)


def test_all_that_was_missed_is_done_by_one_call(ticker):
    schedule_sql(ticker, "all", MARK.format("all"), missed="all")
    make_due(ticker, "all", ago="5 hours 10 minutes")
    ticker.execute("call eram_run()")
    assert column(ticker, DONE) == ["all"] * 6


def test_a_call_of_no_duration_ends(ticker):
    """However often something is due."""
    schedule_sql(ticker, "often", f"{MARK.format('often')}; select pg_sleep(1.1)", every="1 second")
    make_due(ticker, "often")
    ticker.execute("set statement_timeout = '10s'")
    ticker.execute("call eram_run()")
    ticker.execute("reset statement_timeout")
    assert 1 <= len(column(ticker, DONE)) <= 2


def test_it_ticks_for_as_long_as_it_is_told(ticker):
    schedule(ticker, "often", "1 second")
    make_due(ticker, "often")
    before = value(ticker, "select clock_timestamp()")
    ticker.execute("call eram_run('1500 milliseconds')")
    after = value(ticker, "select clock_timestamp()")
    assert after - before >= dt.timedelta(seconds=1.5)
    assert entry(ticker, "often").run_count >= 2
    assert value(ticker, "select count(*) from eram_jobs") >= 2


def test_another_sessions_changes_are_seen_while_it_runs(ticker, connect):
    other = connect()

    def change() -> None:
        schedule(other, "mail")
        make_due(other, "mail")

    at_once(lambda: ticker.execute("call eram_run('1 second')"), change)
    assert value(ticker, "select count(*) from eram_jobs") == 1


def test_several_at_once_do_everything_once(ticker, connect):
    names = [f"entry {n}" for n in range(20)]
    for name in names:
        schedule_sql(ticker, name, MARK.format(name))
    make_due(ticker, *names)
    sessions = [connect() for _ in range(3)]
    at_once(*[lambda s=s: s.execute("call eram_run('300 milliseconds')") for s in sessions])
    assert sorted(column(ticker, DONE)) == sorted(names)


@pytest.mark.parametrize("settings", ["default_transaction_isolation = 'serializable'"])
def test_it_works_with_other_defaults(ticker, settings):
    schedule_sql(ticker, "sql", MARK.format("sql"))
    make_due(ticker, "sql")
    ticker.execute(f"set {settings}")
    ticker.execute("call eram_run()")
    assert column(ticker, DONE) == ["sql"]


def test_the_session_is_as_before(ticker):
    schedule_sql(ticker, "sql", MARK.format("sql"))
    make_due(ticker, "sql")
    ticker.execute("set search_path = public, pg_catalog")
    ticker.execute("call eram_run()")
    assert value(ticker, "show search_path") == "public, pg_catalog"
    assert column(ticker, DONE) == ["sql"]


# Misuse.


@pytest.mark.parametrize(
    "bad",
    ["'-1 second'", "'1 day 1 microsecond'", "'1 month'", "'178000000 years'", "null"],
)
def test_a_duration_that_cannot_be(ticker, bad):
    with refused(ticker, errors.NumericValueOutOfRange, "duration must be between 0 and 1 day"):
        ticker.execute(f"call eram_run({bad})")


def test_a_call_inside_a_transaction_is_refused(ticker, connect):
    schedule(ticker, "mail")
    schedule_sql(ticker, "sql", MARK.format("sql"))
    make_due(ticker, "mail", "sql")
    before = contents(ticker)
    for conn in (ticker, connect(autocommit=False)):
        with pytest.raises(errors.InvalidTransactionTermination), conn.transaction():
            conn.execute("call eram_run()")
    for statement in (
        "do $$ begin begin call eram_run(); exception when no_data_found then null; end; end $$",
        "do $$ begin execute 'call eram_run()'; end $$",
    ):
        with pytest.raises(errors.InvalidTransactionTermination):
            ticker.execute(statement)
    assert contents(ticker) == before
    assert column(ticker, DONE) == []


# Anywhere.


def by_extension(conn: psycopg.Connection, schema: str) -> None:
    conn.execute(sql.SQL("create extension eram schema {}").format(sql.Identifier(schema)))


def by_script(conn: psycopg.Connection, schema: str) -> None:
    install(conn, schema=schema)


@pytest.mark.parametrize("way", [by_extension, by_script])
@pytest.mark.parametrize("schema", ['Odd "schema"', "it's $$ %s %I \\ 100%"])
def test_in_any_schema(bare_dsn, way, schema):
    name = sql.Identifier(schema)
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("create schema {}").format(name))
        way(conn, schema)
        conn.execute("create table done (what text)")

        def execute(statement: str) -> psycopg.Cursor:
            return conn.execute(sql.SQL(statement).format(name))

        execute(
            "select {0}.eram_schedule_sql('sql', '1 hour', 'insert into done values (1)'),"
            " {0}.eram_schedule('mail', '1 hour', 'app:run')"
        )
        due = "update {}.eram_schedules set next_run_at = now() - interval '1 second'"
        execute(due)
        assert value(conn, "show search_path") == '"$user", public'
        execute("call {}.eram_run()")
        assert value(conn, "select count(*) from done") == 1
        assert execute("select count(*) from {}.eram_jobs").fetchone() == (1,)

        execute(due)
        given = execute("select command from {}.eram_tick(10) where schedule = 'sql'").fetchone()
        assert conn.execute(given[0]).fetchone() == (True,)

        execute(due)
        for _ in range(2):
            execute("select * from {}.eram_tick()")
        assert value(conn, "select count(*) from done") == 3
        errors_ = execute(
            "select name, last_error from {}.eram_schedules where last_error <> ''"
        ).fetchall()
        assert errors_ == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_it_is_not_broken_off_where_stricter_isolation_is_the_default(ticker, connect, level):
    schedule_sql(ticker, "often", MARK.format("often"), every="1 second")
    runners = [connect() for _ in range(3)]
    for runner in runners:
        runner.execute(f"set default_transaction_isolation = '{level}'")

    def run(runner: psycopg.Connection) -> None:
        runner.execute("call eram_run('2500 milliseconds')")

    at_once(*[lambda one=runner: run(one) for runner in runners])
    assert entry(ticker, "often").last_error is None
    assert len(column(ticker, DONE)) == entry(ticker, "often").run_count > 1
