"""Commands that run long, run with others and run once, whoever runs them."""

from __future__ import annotations

import itertools
from functools import partial

import psycopg
import pytest
from psycopg import errors

from .command_helpers import DONE, MARK, RUNS
from .helpers import Threads, at_once, column, value, wait_for_lock_wait, wait_until
from .schedule_helpers import (
    call,
    entry,
    handed_out,
    make_due,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
)

# Long ones.

WAIT = "select pg_advisory_xact_lock(77); insert into done values ('long')"


def start_long(
    owner: psycopg.Connection, holder: psycopg.Connection, runner: psycopg.Connection
) -> tuple[Threads, list[bool]]:
    """Run a command that lasts as long as the holder wants."""
    holder.execute("select pg_advisory_lock(77)")
    schedule_sql(owner, "long", WAIT)
    make_due(owner, "long")
    (given,) = handed_out(owner, 10)
    # As if it had been running for hours.
    owner.execute("update eram_schedule_runs set taken_at = now() - interval '5 hours'")
    results: list[bool] = []
    threads = Threads()
    threads.start(lambda: results.append(value(runner, given.command)))
    wait_for_lock_wait(owner, runner)
    return threads, results


def test_a_command_that_runs_long_delays_nothing(owner, open_as):
    holder, runner = open_as(), open_as()
    threads, results = start_long(owner, holder, runner)
    schedule(owner, "mail")
    schedule_sql(owner, "quick", MARK.format("quick"))
    for times in (1, 2):
        make_due(owner, "mail", "quick", "long")
        tick_and_run(owner)
        assert value(owner, "select count(*) from eram_jobs") == times
        assert column(owner, DONE) == ["quick"] * times
    # It does not overlap, nor is it thought lost, nor run by another.
    seen = entry(owner, "long")
    assert (seen.run_count, seen.last_error) == (1, None)
    (run_id,) = column(owner, "select id from eram_schedule_runs")
    assert call(owner, "eram_run_command", run_id=run_id) is None
    with pytest.raises(errors.ObjectInUse):
        call(owner, "eram_run_schedule", name="long")
    holder.execute("select pg_advisory_unlock(77)")
    threads.join(10)
    assert results == [True]
    assert column(owner, DONE) == ["quick", "quick", "long"]
    assert value(owner, RUNS) == 0
    make_due(owner, "long")
    tick_and_run(owner)
    assert column(owner, DONE)[-1] == "long"


@pytest.mark.parametrize("what", ["unschedule", "pause", "declare"])
def test_what_becomes_of_an_entry_does_not_touch_what_runs(owner, open_as, what):
    holder, runner = open_as(), open_as()
    threads, results = start_long(owner, holder, runner)
    owner.execute("set lock_timeout = '5s'")
    if what == "declare":
        schedule_sql(owner, "long", "select 1")
    else:
        call(owner, f"eram_{what}{'_schedule' if what == 'pause' else ''}", name="long")
    assert value(owner, RUNS) == 1
    holder.execute("select pg_advisory_unlock(77)")
    threads.join(10)
    assert results == [True]
    assert column(owner, DONE) == ["long"]
    assert value(owner, RUNS) == 0


def test_a_lock_of_another_holds_up_no_ticker(owner, open_as):
    schedule_sql(owner, "one", MARK.format("one"))
    make_due(owner, "one")
    tick(owner)
    query = "select pg_advisory_lock('eram_schedule_runs'::regclass::oid::int, id::int)"
    open_as().execute(query + " from eram_schedule_runs")
    owner.execute("set lock_timeout = '5s'")
    tick(owner)
    owner.execute("reset lock_timeout")
    assert "another's" in entry(owner, "one").last_error


def test_a_cursor_of_the_ticker_stays_open(owner):
    owner.execute("declare kept cursor with hold for select 7")
    schedule_sql(owner, "one", MARK.format("one"))
    make_due(owner, "one")
    owner.execute("call eram_run()")
    assert value(owner, "fetch kept") == 7


def test_what_waits_is_run_as_it_is_declared_by_then(owner):
    schedule_sql(owner, "one", MARK.format("old"))
    schedule_sql(owner, "other", MARK.format("other"))
    for name in ("one", "other"):
        call(owner, "eram_run_schedule", name=name)
    schedule_sql(owner, "one", MARK.format("new"))
    call(owner, "eram_schedule", name="other", schedule="1 hour", handler="app:run")
    owner.execute("call eram_run()")
    assert column(owner, DONE) == ["new"]


@pytest.mark.parametrize("setting", ["search_path = public", "statement_timeout = 1000"])
def test_a_setting_does_not_outlive_its_command(owner, setting):
    name, _, _ = setting.partition(" ")
    before = value(owner, "select current_setting(%s)", name)
    schedule_sql(owner, "setting", f"set {setting}")
    make_due(owner, "setting")
    owner.execute("call eram_run()")
    assert value(owner, "select current_setting(%s)", name) == before


def test_a_command_that_waits_for_its_turn_is_not_lost(owner, open_as):
    """CALL eram_run() takes a command when it runs it, and not before."""
    holder, runner = open_as(), open_as()
    holder.execute("select pg_advisory_lock(77)")
    schedule_sql(owner, "long", WAIT)
    schedule_sql(owner, "next", MARK.format("next"))
    make_due(owner, "long", ago="10 seconds")
    make_due(owner, "next")
    threads = Threads()
    threads.start(runner.execute, "call eram_run()")
    wait_for_lock_wait(owner, runner)
    taken = "select count(*) from eram_schedule_runs where taken_at is not null"
    assert value(owner, taken) == 1
    holder.execute("select pg_advisory_unlock(77)")
    threads.join(10)
    assert column(owner, DONE) == ["long", "next"]


# Once, whoever runs.


def test_four_runners_do_everything_once(home, owner):
    names = [f"entry {n}" for n in range(40)]
    for name in names:
        schedule_sql(owner, name, MARK.format(name))
    for times in (1, 2):
        make_due(owner, *names)
        at_once(
            *[lambda: tick_many(home.owner), lambda: tick_many(home.admin)],
            *[lambda: run_many(home.owner), lambda: call_many(home.owner)],
        )
        tick_many(home.owner)
        assert sorted(column(owner, DONE)) == sorted(names * times)
    assert value(owner, RUNS) == 0
    assert column(owner, "select last_error from eram_schedules where last_error <> ''") == []


def tick_many(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        tick_and_run(conn)


def run_many(dsn: str) -> None:
    with (
        psycopg.connect(dsn, autocommit=True) as ticker,
        psycopg.connect(dsn, autocommit=True) as runner,
    ):
        while given := handed_out(ticker, 3):
            for one in given:
                runner.execute(one.command)
                call(ticker, "eram_finish_command", run_id=one.run_id)


def call_many(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("call eram_run()")


def test_a_row_that_a_tick_has_locked_in_passing_is_still_run(owner, open_as):
    """A tick whose snapshot is older than the taking of a command locks its row, and holds it."""
    ticker, runner = open_as(), open_as()
    schedule_sql(owner, "once", MARK.format("once"))
    make_due(owner, "once")
    (given,) = handed_out(owner, 10)
    threads, results = Threads(), []
    with ticker.transaction():
        ticker.execute("select from eram_schedule_runs for update")
        threads.start(lambda: results.append(value(runner, given.command)))
        wait_for_lock_wait(owner, runner)
    threads.join(10)
    assert results == [True]
    assert column(owner, DONE) == ["once"]


def test_a_run_of_two_sessions_at_once(owner, open_as):
    schedule_sql(owner, "once", f"{MARK.format('once')}; select pg_sleep(0.05)")
    sessions = [open_as() for _ in range(4)]
    results: list[object] = []

    def run(session: psycopg.Connection, command: str) -> None:
        results.append(value(session, command))

    for _ in range(5):
        make_due(owner, "once")
        (given,) = handed_out(owner, 10)
        at_once(*[partial(run, session, given.command) for session in sessions])
    assert sorted(results, key=str) == [None] * 15 + [True] * 5
    assert column(owner, DONE) == ["once"] * 5


def test_missed_commands_are_handed_out_one_after_the_other(owner):
    """In order, and each when the one before is over: a command does not overlap with itself."""
    schedule_sql(owner, "all", MARK.format("all"), missed="all")
    first = make_due(owner, "all", ago="3 hours 5 minutes")
    seen = []
    for n in itertools.count():
        given = handed_out(owner, 10)
        if not given:
            break
        assert len(given) == 1
        assert handed_out(owner, 10) == []
        query = "select scheduled_for from eram_schedule_runs where id = %s"
        seen.append(value(owner, query, given[0].run_id))
        if n % 2:
            call(owner, "eram_finish_command", run_id=given[0].run_id)
        else:
            assert value(owner, given[0].command) is True
    assert [(moment - first).total_seconds() for moment in seen] == [0, 3600, 7200, 10800]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_more_commands_than_wanted(owner, count):
    names = [f"entry {n}" for n in range(4)]
    for n, name in enumerate(names):
        schedule_sql(owner, name, "select 1", is_top_level=n % 2 == 1)
    make_due(owner, *names)
    assert len(handed_out(owner, count)) == min(count, 4)
    assert len(handed_out(owner, 10)) == 4 - min(count, 4)


def test_a_command_sees_the_path_of_its_session(home, owner):
    owner.execute("create schema if not exists app; create table if not exists app.here (n int)")
    try:
        schedule_sql(owner, "here", "insert into here values (1)")
        make_due(owner, "here")
        with psycopg.connect(
            home.owner, autocommit=True, options="-c search_path=app,public"
        ) as conn:
            tick_and_run(conn)
            assert value(conn, "show search_path") == "app,public"
        assert entry(owner, "here").last_error is None
        assert value(owner, "select count(*) from app.here") == 1
    finally:
        owner.execute("drop schema app cascade")


def test_the_effects_and_the_record_are_one(owner, open_as):
    """A session that dies while it runs a command has done nothing, and it is not done again."""
    holder, runner = open_as(), open_as()
    threads, results = start_long(owner, holder, runner)
    owner.execute("select pg_terminate_backend(%s)", [runner.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        threads.join(10)
    assert results == []
    wait_until(lambda: tick(owner, 0) and not value(owner, RUNS), "its end is noticed", seconds=5)
    assert "was not reported" in entry(owner, "long").last_error
    holder.execute("select pg_advisory_unlock(77)")
    assert column(owner, DONE) == []
