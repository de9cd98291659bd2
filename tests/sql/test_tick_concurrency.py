"""Exactly once, whoever ticks, however many at a time, and however they end."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors

from .helpers import Threads, at_once, column, rows, value, wait_for_lock_wait, wait_until
from .schedule_helpers import ORIGINS, call, entry, make_due, schedule, tick, without_maintenance

Connect = Callable[..., psycopg.Connection]

TICKERS = 8
DUE = """
    select count(*)
    from eram_schedules
    where next_run_at <= clock_timestamp() and name ~ '^entry'
"""

# Each pair of an entry and a time that was enqueued more than once, and each that never was.
TWICE = f"""
    select schedule, scheduled_for, count(*)
    from ({ORIGINS}) as origins
    group by schedule, scheduled_for
    having count(*) > 1
"""
NEVER = f"""
    select wanted.name, wanted.moment
    from wanted
    except
    select schedule, scheduled_for
    from ({ORIGINS}) as origins
"""


def declare(conn: psycopg.Connection, count: int) -> None:
    """Declare entries, and a table of what is to be done."""
    without_maintenance(conn)
    conn.execute(
        """
        select eram_schedule('entry ' || n, '1 hour', 'app:run')
        from generate_series(1, %s) as n
        """,
        [count],
    )
    conn.execute("create table wanted (name text, moment timestamptz)")


@pytest.fixture
def wanted(conn: psycopg.Connection) -> Iterator[None]:
    """Room for a table that the test makes."""
    yield
    conn.execute("drop table if exists wanted")


def have_all_due(conn: psycopg.Connection, minutes: int) -> None:
    """Make every entry due once more; later rounds at later times."""
    conn.execute(
        """
        with due as (
            update eram_schedules
            set next_run_at =
                date_trunc('second', clock_timestamp()) - make_interval(mins => 55 - %s)
            where name ~ '^entry'
            returning name, next_run_at
        )
        insert into wanted
        select * from due
        """,
        [minutes],
    )


def tick_until_done(conn: psycopg.Connection) -> None:
    """Tick as long as anything is due."""
    while value(conn, DUE):
        conn.execute("select * from eram_tick(0)")


def assert_exactly_once(conn: psycopg.Connection, rounds: int, count: int) -> None:
    assert rows(conn, TWICE) == []
    assert rows(conn, NEVER) == []
    assert value(conn, "select count(*) from eram_jobs") == rounds * count
    runs = column(conn, "select distinct run_count from eram_schedules where name ~ '^entry'")
    assert runs == [rounds]
    assert column(conn, "select last_error from eram_schedules where last_error <> ''") == []


def test_eight_tickers_and_a_thousand_entries(conn, connect, wanted):
    declare(conn, 1000)
    tickers = [connect() for _ in range(TICKERS)]
    for n in range(2):
        have_all_due(conn, n)
        at_once(*[lambda one=one: tick_until_done(one) for one in tickers])
    assert_exactly_once(conn, 2, 1000)


def test_tickers_that_disagree_about_the_clock(conn, dsn, wanted, monkeypatch):
    """Only the database's clock counts, and no setting of a session."""
    declare(conn, 200)
    zones = ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata", "America/New_York"]
    styles = ["ISO, DMY", "ISO, MDY", "ISO, YMD", "ISO"]
    with contextlib.ExitStack() as connections:
        tickers = []
        for n in range(TICKERS):
            monkeypatch.setenv("PGTZ", zones[n % 4])
            monkeypatch.setenv("TZ", zones[-1 - n % 4])
            monkeypatch.setenv("PGDATESTYLE", styles[n % 4])
            intervals = ["postgres", "iso_8601", "sql_standard", "postgres_verbose"][n % 4]
            options = f"-c intervalstyle={intervals}"
            one = psycopg.connect(dsn, autocommit=True, options=options)
            tickers.append(connections.enter_context(contextlib.closing(one)))
            assert value(one, "show timezone") == zones[n % 4]
        for n in range(2):
            have_all_due(conn, n)
            at_once(*[lambda one=one: tick_until_done(one) for one in tickers])
    assert_exactly_once(conn, 2, 200)


def test_a_ticker_that_dies_before_it_commits(conn, connect, wanted):
    declare(conn, 300)
    have_all_due(conn, 0)
    doomed = connect(autocommit=False)
    for _ in range(2):
        tick(doomed, 0)
    assert value(doomed, "select count(*) from eram_jobs") == 200
    assert value(conn, "select count(*) from eram_jobs") == 0
    tickers = [connect() for _ in range(TICKERS)]

    def kill() -> None:
        # The others are at what is left by then, or through with it.
        wait_until(lambda: value(conn, "select count(*) from eram_jobs") > 0, "a first job")
        conn.execute("select pg_terminate_backend(%s)", [doomed.info.backend_pid])

    at_once(kill, *[lambda one=one: tick_until_done(one) for one in tickers])
    with pytest.raises(psycopg.OperationalError):
        doomed.execute("select 1")
    assert_exactly_once(conn, 1, 300)


def test_tickers_that_are_killed_at_any_moment(conn, dsn, wanted):
    declare(conn, 400)
    pids: set[int] = set()
    guard = threading.Lock()
    deaths = 0

    def tick_and_return() -> None:
        nonlocal deaths
        while True:
            with psycopg.connect(dsn, autocommit=True) as one:
                with guard:
                    pids.add(one.info.backend_pid)
                try:
                    tick_until_done(one)
                except psycopg.OperationalError:
                    deaths += 1
                    continue
                finally:
                    with guard:
                        pids.discard(one.info.backend_pid)
            return

    chosen = random.Random(7)

    def kill() -> None:
        for _ in range(40):
            time.sleep(0.003)
            with guard:
                pid = chosen.choice(sorted(pids)) if pids else None
            if pid:
                conn.execute("select pg_terminate_backend(%s)", [pid])

    for n in range(3):
        have_all_due(conn, n)
        at_once(kill, *[tick_and_return] * TICKERS)
    assert_exactly_once(conn, 3, 400)
    assert deaths > 0, "nobody was killed while it ticked"


def test_entries_that_change_while_they_are_ticked(conn, connect):
    """Declared, removed, paused, resumed, run: no error, no deadlock, nothing twice."""
    names = [f"entry {n}" for n in range(20)]
    for name in names:
        schedule(conn, name)
    threads = Threads()
    changes = ["declare", "redeclare", "unschedule", "pause", "resume", "run"]

    def change(one: psycopg.Connection, seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(150):
            name, what = chosen.choice(names), chosen.choice(changes)
            try:
                if what == "declare":
                    schedule(one, name)
                elif what == "redeclare":
                    schedule(one, name, chosen.choice(["1 hour", "* * * * *"]))
                elif what == "unschedule":
                    call(one, "eram_unschedule", name=name)
                else:
                    call(one, f"eram_{what}_schedule", name=name)
            except errors.UndefinedObject:
                assert what in ("pause", "resume", "run")

    def keep_due(one: psycopg.Connection) -> None:
        while not threads.stop.is_set():
            one.execute(
                """
                update eram_schedules
                set next_run_at = clock_timestamp() - random() * interval '1 hour'
                where name in (
                    select name
                    from eram_schedules
                    where next_run_at is not null and name ~ '^entry'
                    order by name
                    for update skip locked
                )
                """
            )

    def keep_ticking(one: psycopg.Connection) -> None:
        while not threads.stop.is_set():
            one.execute("select * from eram_tick()")

    changers = Threads()
    for _ in range(4):
        threads.start(keep_ticking, connect())
    threads.start(keep_due, connect())
    for seed in range(3):
        changers.start(change, connect(), seed)
    changers.join()
    threads.stop.set()
    threads.join()

    tick(conn, 0)
    states = "select count(*) from eram_schedules where is_paused = (next_run_at is not null)"
    assert value(conn, states) == 0
    assert column(conn, "select last_error from eram_schedules where last_error <> ''") == []
    # Each job is one run of an entry, as far as the entry was not removed in between.
    done = value(conn, "select count(*) from eram_jobs")
    assert done >= value(conn, "select sum(run_count) from eram_schedules where name ~ '^entry'")


def test_all_at_once_for_the_first_time(conn, connect):
    """The first ticks of all make the entries of maintenance, once."""
    tickers = [connect() for _ in range(TICKERS)]
    at_once(*[lambda one=one: tick(one) for one in tickers])
    names = column(conn, "select name from eram_schedules order by name")
    assert names == ["eram:lifeline", "eram:prune", "eram:recorder", "eram:reindexer"]


def test_lost_commands_of_entries_that_others_are_at(conn, connect):
    """Two tickers, each with what the other waits for, would end in a deadlock."""
    without_maintenance(conn)
    for name in "ab":
        schedule(conn, name)
    one, two = connect(autocommit=False), connect(autocommit=False)
    for ticker, name in ((one, "a"), (two, "b")):
        make_due(conn, name)
        tick(ticker, 0)
    conn.execute(
        """
        insert into eram_schedule_runs
            (name, scheduled_for, command, is_top_level, timeout, taken_at)
        select name, now(), 'select 1', false, '1 hour', now() - interval '1 hour'
        from unnest('{b,a}'::text[]) as names (name)
        """
    )

    def go_on(ticker: psycopg.Connection) -> None:
        tick(ticker, 0)
        ticker.commit()

    at_once(lambda: go_on(one), lambda: go_on(two))
    tick(conn, 0)
    for name in "ab":
        assert "was not reported" in entry(conn, name).last_error
    assert value(conn, "select count(*) from eram_schedule_runs") == 0


def test_an_administrator_waits_for_a_tick_and_wins(conn, connect):
    """What is changed while an entry is carried out holds from then on."""
    without_maintenance(conn)
    for name in ("removed", "paused", "changed"):
        schedule(conn, name)
    make_due(conn, "removed", "paused", "changed")
    ticker = connect(autocommit=False)
    tick(ticker, 0)
    admin = connect()
    threads = Threads()

    def administer() -> None:
        call(admin, "eram_unschedule", name="removed")
        call(admin, "eram_pause_schedule", name="paused")
        schedule(admin, "changed", "2 hours")

    threads.start(administer)
    wait_for_lock_wait(conn, admin)
    ticker.commit()
    threads.join(10)
    assert value(conn, "select count(*) from eram_jobs") == 3
    assert value(conn, "select count(*) from eram_schedules") == 2
    assert entry(conn, "paused").next_run_at is None
    changed = entry(conn, "changed")
    assert (changed.schedule, changed.run_count) == ("2 hours", 1)
    make_due(conn, "changed")
    tick(conn, 0)
    assert value(conn, "select count(*) from eram_jobs") == 4
