"""Commands that behave badly, are cut off or end their session: they harm nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors

from .command_helpers import DONE, MARK, RUNS, Open
from .helpers import column, row, value
from .schedule_helpers import (
    call,
    entry,
    handed_out,
    has_in_hand,
    make_due,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
)

# Three ways to tick; each survives what a command does to its session.

PATIENT = "-c lock_timeout=100ms"
IMPATIENT = "-c statement_timeout=200ms"


def open_limited(dsn: str, limits: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, options=limits)


def by_ticks(dsn: str, limits: str = PATIENT) -> None:
    """One connection that ticks, and runs SQL in its next call."""
    ticker = open_limited(dsn, limits)
    for _ in range(500):
        is_idle = False
        try:
            is_idle = not has_in_hand(ticker)
            (*_, last) = tick(ticker)
            is_idle = is_idle and not has_in_hand(ticker) and last.run_id is None
        except psycopg.Error:
            # On a busy machine the tick itself may run into the timeout.
            is_idle = False
            if ticker.closed:
                ticker = open_limited(dsn, limits)
        if is_idle:
            break
    ticker.close()


def by_client(dsn: str, limits: str = PATIENT) -> None:
    """One connection that ticks, and another one for the commands."""
    ticker, runner = open_limited(dsn, PATIENT), open_limited(dsn, limits)
    for _ in range(500):
        given = handed_out(ticker, 1)
        if not given:
            break
        error = None
        try:
            runner.execute(given[0].command)
        except psycopg.Error as exc:
            error = str(exc)
            if runner.closed:
                runner = open_limited(dsn, limits)
        call(ticker, "eram_finish_command", run_id=given[0].run_id, error=error)
    ticker.close()
    runner.close()


def by_procedure(dsn: str, limits: str = PATIENT) -> None:
    """CALL eram_run(), as pg_cron would, again and again; the limits are for the first call."""
    for n in range(50):
        with open_limited(dsn, PATIENT if n else limits) as conn, suppress(psycopg.Error):
            conn.execute("call eram_run()")
            break


ways = pytest.mark.parametrize(
    "run", [by_ticks, by_client, by_procedure], ids=["ticks", "client", "procedure"]
)

# A command, and a part of the error that is recorded, if it is one.
BAD = {
    "raises": ("do $$ begin raise exception 'no luck'; end $$", "no luck"),
    "asserts": ("do $$ begin assert false, 'no luck'; end $$", "no luck"),
    "divides by zero": ("select 1/0", "division by zero"),
    "is no SQL": ("selec 1", "syntax error"),
    "is half right": ("insert into done values ('bad'); select 1/0", "division by zero"),
    "commits": ("commit", ""),
    "commits in a block": ("do $$ begin commit; end $$", "invalid transaction termination"),
    "rolls back": ("rollback", ""),
    "begins": ("begin; insert into done values ('bad'); commit", ""),
    "vacuums": ("vacuum done", "VACUUM cannot"),
    "waits for a lock": ("lock table held", "lock timeout"),
    "copies": ("copy done to stdout", ""),
    "fails late": (
        """
        create temp table late (n int unique deferrable initially deferred) on commit drop;
        insert into late values (1), (1)
        """,
        "duplicate key",
    ),
    "unschedules itself": ("select eram_unschedule('{}')", None),
    "declares itself": ("select eram_schedule_sql('{}', '1 hour', 'select 1')", None),
    "pauses itself": ("select eram_pause_schedule('{}')", None),
    "runs itself": ("select eram_run_schedule('{}')", "must not overlap"),
    "forgets itself": ("delete from eram_schedule_runs where name = '{}'", None),
    "ticks": ("select count(*) from eram_tick()", None),
    "ticks for more": ("select count(*) from eram_tick(10)", None),
    "calls eram_run": ("call eram_run()", "invalid transaction termination"),
    "sets a path": ("set search_path = pg_catalog", "search_path"),
    "sets a local path": ("set local search_path = pg_catalog", None),
    "sets limits": ("set statement_timeout = 1; set lock_timeout = 1", None),
    "sets read only": ("set default_transaction_read_only = on", None),
    "sets what eram sets": ("set eram.command = '77'; set eram.is_running_command = ''", None),
    "sets a role": ("set role postgres", "cannot set parameter"),
    "resets a role": ("reset role; set session authorization default", "cannot"),
    "discards": ("discard all", "DISCARD ALL cannot"),
    "enqueues": ("select eram_enqueue_job('app:other')", None),
    "returns much": ("select repeat('x', 1000) from generate_series(1, 1000)", None),
}


@pytest.fixture
def held(owner: psycopg.Connection, open_as: Open) -> Iterator[None]:
    """A table that somebody holds on to."""
    owner.execute("create table if not exists held ()")
    holder = open_as(autocommit=False)
    holder.execute("lock table held")
    yield
    holder.close()


def prepare(owner: psycopg.Connection, command: str) -> None:
    """Declare a bad command that is due before everything else."""
    schedule_sql(owner, "bad", command)
    for n in (1, 2):
        schedule_sql(owner, f"good {n}", MARK.format("good"))
    schedule(owner, "mail")
    make_due(owner, "bad", ago="10 seconds")
    make_due(owner, "good 1", "good 2", "mail")


def assert_others_went_on(owner: psycopg.Connection, times: int) -> None:
    assert column(owner, DONE) == ["good"] * 2 * times
    jobs = "select count(*) from eram_jobs where meta ->> 'schedule' = 'mail'"
    assert value(owner, jobs) == times
    for name in ("good 1", "good 2", "mail"):
        seen = entry(owner, name)
        assert (seen.last_error, seen.run_count) == (None, times), name


@ways
@pytest.mark.usefixtures("held")
def test_bad_commands_harm_nothing_else(home, owner, run):
    """Each among others, all in the same sessions, and all of it twice."""
    settings = "select count(*) from pg_settings where source = 'session'"
    before = value(owner, settings)
    schedule(owner, "mail")
    for name, (command, _) in BAD.items():
        schedule_sql(owner, name, command.replace("{}", name))
        schedule_sql(owner, f"after {name}", MARK.format(f"after {name}"))
    names = [name for bad in BAD for name in (bad, f"after {bad}")]
    for times in (1, 2):
        for name in names:
            make_due(owner, name)
        make_due(owner, "mail")
        run(home.owner)
        assert sorted(column(owner, DONE)) == sorted([f"after {name}" for name in BAD] * times)
        assert value(owner, RUNS) == 0
        jobs = "select count(*) from eram_jobs where handler = %s"
        assert value(owner, jobs, "app:run") == times
        assert value(owner, jobs, "app:other") == times
        for name, (command, error) in BAD.items():
            if "eram_unschedule" in command:
                schedule_sql(owner, name, command.replace("{}", name))
                continue
            seen = entry(owner, name)
            assert seen.run_count == times, name
            if error is None:
                assert seen.last_error is None, name
            else:
                assert error in (seen.last_error or "nothing"), name
            if "pause" in command:
                assert seen.is_paused
                call(owner, "eram_resume_schedule", name=name)
            assert entry(owner, f"after {name}").last_error is None
    assert value(owner, settings) == before


# Cut off from outside, or by itself.

CUT = {
    "runs into a timeout": "select pg_sleep(60)",
    "cancels itself": "select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)",
    "says it was cancelled": (
        "do $$ begin raise exception using errcode = 'query_canceled', message = 'x'; end $$"
    ),
}


@ways
@pytest.mark.parametrize("command", CUT.values(), ids=CUT.keys())
def test_a_command_that_is_cut_off(home, owner, run, command):
    prepare(owner, f"insert into done values ('bad'); {command}")
    for times in (1, 2):
        run(home.owner, IMPATIENT)
        # CALL eram_run() was cut off itself, and cannot say what became of it.
        if value(owner, RUNS):
            assert run is by_procedure
            lose(owner)
        assert_others_went_on(owner, times)
        assert value(owner, RUNS) == 0
        seen = entry(owner, "bad")
        assert seen.last_error
        assert seen.run_count == times
        make_due(owner, "bad", ago="10 seconds")
        make_due(owner, "good 1", "good 2", "mail")


def lose(owner: psycopg.Connection) -> None:
    """Let a tick notice that nobody runs what was taken a while ago."""
    owner.execute("update eram_schedule_runs set taken_at = taken_at - interval '2 minutes'")
    tick(owner, 0)


@ways
def test_a_command_that_ends_its_session(home, owner, run):
    kill = "insert into done values ('bad'); select pg_terminate_backend(pg_backend_pid())"
    prepare(owner, kill)
    for times in (1, 2):
        run(home.owner)
        if run is not by_client:
            # Its attempt is on record; it is not tried again, and it does not overlap.
            taken = row(owner, "select * from eram_schedule_runs")
            assert (taken.name, taken.taken_at is not None) == ("bad", True)
            tick_and_run(owner)
            assert value(owner, RUNS) == 1
            lose(owner)
        assert_others_went_on(owner, times)
        assert value(owner, RUNS) == 0
        seen = entry(owner, "bad")
        expected = "terminating" if run is by_client else "was not reported"
        assert expected in seen.last_error
        assert seen.run_count == times
        make_due(owner, "bad", ago="10 seconds")
        make_due(owner, "good 1", "good 2", "mail")


def test_a_command_cannot_end_a_superusers_session(home, owner):
    prepare(owner, "select pg_terminate_backend(pg_backend_pid())")
    by_ticks(home.admin)
    assert_others_went_on(owner, 1)
    assert entry(owner, "bad").last_error


def test_a_timeout_twice_in_one_session(owner):
    """Whoever ticks on after a timeout is rid of the command, and gets the next occurrence."""
    schedule_sql(owner, "slow", "select pg_sleep(60)")
    for times in (1, 2):
        make_due(owner, "slow")
        (taken,) = tick(owner)
        assert (taken.schedule, taken.timeout.total_seconds()) == ("slow", 3600)
        owner.execute("set statement_timeout = '50ms'")
        with pytest.raises(errors.QueryCanceled):
            tick(owner)
        owner.execute("reset statement_timeout")
        tick(owner)
        seen = entry(owner, "slow")
        assert "timeout" in seen.last_error
        assert (seen.run_count, value(owner, RUNS)) == (times, 0)
        assert seen.last_error.count("\n") == 0
        assert value(owner, "select count(*) from pg_locks where locktype = 'advisory'") == 0
