"""Commands that behave badly, run long, end their session or are lost: they harm nothing else."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import psycopg
import pytest
from psycopg import errors

from .helpers import Threads, at_once, column, row, value, wait_for_lock_wait, wait_until
from .schedule_helpers import (
    Home,
    call,
    entry,
    handed_out,
    has_in_hand,
    make_due,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
    without_maintenance,
)

Open = Callable[..., psycopg.Connection]

DONE = "select what from done order by at"
MARK = "insert into done values ('{}')"
RUNS = "select count(*) from eram_schedule_runs"


@pytest.fixture
def open_as(home: Home) -> Iterator[Open]:
    """Open any number of connections to the home, by the DSN of a role."""
    with contextlib.ExitStack() as connections:

        def open_one(dsn: str = home.owner, **options: object) -> psycopg.Connection:
            conn = psycopg.connect(dsn, **{"autocommit": True, **options})
            return connections.enter_context(contextlib.closing(conn))

        yield open_one


@pytest.fixture
def owner(open_as: Open) -> psycopg.Connection:
    """The owner of eram, where nothing is due but what the test makes."""
    conn = open_as()
    without_maintenance(conn)
    return conn


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


# Lost ones.


@pytest.mark.parametrize("is_top_level", [False, True])
def test_a_command_that_nobody_reports(owner, is_top_level):
    schedule_sql(owner, "lost", MARK.format("lost"), is_top_level=is_top_level, timeout="1 second")
    make_due(owner, "lost")
    (given,) = handed_out(owner, 10)
    age = "update eram_schedule_runs set taken_at = now() - %s::interval"
    if not is_top_level:
        owner.execute(age, ["50 seconds"])
    tick(owner, 0)
    assert value(owner, RUNS) == 1
    make_due(owner, "lost")
    assert handed_out(owner, 10) == []

    owner.execute(age, ["65 seconds"])
    tick(owner, 0)
    assert value(owner, RUNS) == 0
    assert "was not reported" in entry(owner, "lost").last_error
    # Who comes too late finds it over.
    assert call(owner, "eram_finish_command", run_id=given.run_id) is False
    assert call(owner, "eram_run_command", run_id=given.run_id) is None
    assert column(owner, DONE) == []
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    assert entry(owner, "lost").last_error is None


def test_what_was_taken_before_the_server_started_is_lost(owner):
    schedule_sql(owner, "lost", "vacuum", is_top_level=True, timeout="20 days")
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    owner.execute("update eram_schedule_runs set taken_at = '2020-01-01'")
    tick(owner, 0)
    assert "was not reported" in entry(owner, "lost").last_error


def test_a_top_level_command_is_lost_with_the_session_that_began_it(owner, open_as):
    runner = open_as()
    schedule_sql(owner, "lost", "vacuum", is_top_level=True, timeout="20 days")
    make_due(owner, "lost")
    (given,) = handed_out(owner, 10)
    assert call(runner, "eram_begin_command", run_id=given.run_id) is True
    owner.execute("update eram_schedule_runs set taken_at = '2020-01-01', begun_at = '2020-01-01'")
    tick(owner, 0)
    assert value(owner, RUNS) == 1
    runner.close()
    wait_until(lambda: tick(owner, 0) and value(owner, RUNS) == 0, "its end is noticed")
    assert "was not reported" in entry(owner, "lost").last_error
    assert call(owner, "eram_begin_command", run_id=given.run_id) is False


def test_of_a_lost_command_only_those_hear_who_may_run_it(home, owner, open_as):
    schedule_sql(owner, "lost", MARK.format("lost"))
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    owner.execute("update eram_schedule_runs set taken_at = now() - interval '5 hours'")
    worker = open_as(home.worker)
    notices = []
    worker.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    tick(worker)
    assert notices == []
    assert value(owner, RUNS) == 1


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


def test_a_report_that_fits_nothing(owner):
    schedule_sql(owner, "due", MARK.format("due"), is_top_level=True)
    call(owner, "eram_run_schedule", name="due")
    (run_id,) = column(owner, "select id from eram_schedule_runs")
    # Not yet taken, unknown, null.
    for unknown in (run_id, 4711, -1, None):
        assert call(owner, "eram_finish_command", run_id=unknown, error="x") is False
        assert call(owner, "eram_run_command", run_id=unknown) is None
    assert value(owner, RUNS) == 1
    assert entry(owner, "due").last_error is None


def test_a_report_of_any_length(owner):
    schedule_sql(owner, "due", "vacuum", is_top_level=True)
    call(owner, "eram_run_schedule", name="due")
    (given,) = handed_out(owner, 10)
    error = "x" * 1_000_000
    assert call(owner, "eram_finish_command", run_id=given.run_id, error=error) is True
    assert len(entry(owner, "due").last_error) == 10000


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
