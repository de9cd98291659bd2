"""Ticks beside other tickers, and in transactions of all kinds."""

from __future__ import annotations

import pytest
from psycopg import errors

from .helpers import column, contents, rows, value, wait_until
from .schedule_helpers import (
    HOUR,
    JOB_COUNT,
    ORIGINS,
    entry,
    make_due,
    occurrences,
    schedule,
    schedule_sql,
    scheduled_for,
    tick,
    tick_and_run,
)

# Several tickers.


def test_what_another_ticker_is_at_is_passed_over(ticker, connect):
    schedule(ticker, "mail")
    make_due(ticker, "mail")
    first, second = connect(autocommit=False), connect()
    tick(first, 0)
    second.execute("set lock_timeout = '5s'")
    tick(second, 0)
    assert value(second, JOB_COUNT) == 0
    first.commit()
    tick(second, 0)
    assert value(second, JOB_COUNT) == 1


def test_a_key_in_an_open_transaction_holds_up_no_tick(ticker, connect):
    """The entry is due again, and done once the producer has made up its mind."""
    producer = connect(autocommit=False)
    schedule(ticker, "unique", handler="app:one", options={"unique": True})
    schedule(ticker, "plain", handler="app:two")
    make_due(ticker, "unique", ago="2 seconds")
    make_due(ticker, "plain")
    producer.execute("select eram_enqueue_job('app:one', unique_by => 'true')")
    ticker.execute("set statement_timeout = '10s'")
    tick(ticker, 0)
    assert column(ticker, "select handler from eram_jobs") == ["app:two"]
    assert "lock" in entry(ticker, "unique").last_error
    producer.rollback()
    tick(ticker, 0)
    assert sorted(column(ticker, "select handler from eram_jobs")) == ["app:one", "app:two"]
    assert entry(ticker, "unique").last_error is None


def test_what_another_ticker_did_not_finish_is_done(ticker, connect):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    first = connect(autocommit=False)
    tick(first, 0)
    first.rollback()
    assert entry(ticker, "mail").next_run_at == due
    tick(ticker, 0)
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)


def test_one_locked_entry_holds_up_no_other(ticker, connect):
    for name in ("one", "two", "three"):
        schedule(ticker, name)
    make_due(ticker, "one", "two", "three")
    blocker = connect(autocommit=False)
    blocker.execute("select from eram_schedules where name = 'two' for update")
    ticker.execute("set lock_timeout = '5s'")
    (given,) = tick(ticker, 0)
    ticker.execute("reset lock_timeout")
    assert {job.schedule for job in rows(ticker, ORIGINS)} == {"one", "three"}
    # Soon, but not at once: what others hold may take its time.
    soon = "select %s - clock_timestamp() between interval '0.1 s' and interval '1 s'"
    assert value(ticker, soon, given.next_tick_at)
    blocker.rollback()
    tick(ticker, 0)
    assert value(ticker, JOB_COUNT) == 3


# Transactions of all kinds.


def test_a_tick_that_is_rolled_back_did_nothing(ticker, done):
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "mail", "tidy")
    before = contents(ticker)
    with ticker.transaction(force_rollback=True):
        tick(ticker)
        assert contents(ticker) != before
    assert contents(ticker) == before
    tick_and_run(ticker)
    assert value(ticker, JOB_COUNT) == 1
    assert column(ticker, done) == ["tidy"]


def test_a_command_whose_tick_is_rolled_back_is_run_again(ticker, done):
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "tidy")
    tick(ticker)
    with ticker.transaction(force_rollback=True):
        tick(ticker)
        assert column(ticker, done) == ["tidy"]
    assert column(ticker, done) == []
    tick_and_run(ticker)
    assert column(ticker, done) == ["tidy"]
    assert entry(ticker, "tidy").last_error is None


@pytest.mark.parametrize(
    "block",
    [
        "begin; {0}; {0}; {0}; {0}; commit",
        "do $$ begin for i in 1 .. 4 loop perform eram_tick(); end loop; end $$",
        "select from generate_series(1, 4) as n, lateral (select eram_tick() where n > 0) as t",
        "begin; savepoint a; {0}; rollback to a; {0}; release a; {0}; {0}; commit",
    ],
    ids=["block", "do", "select", "savepoint"],
)
def test_ticks_in_one_transaction_lose_no_command(ticker, done, block):
    """None of them is run there: that it was taken is not yet on record."""
    names = ["one", "two", "three"]
    schedule(ticker, "mail")
    for name in names:
        schedule_sql(ticker, name, f"insert into done values ('{name}')")
    make_due(ticker, "mail", *names)
    ticker.execute(block.format("select * from eram_tick()"))
    assert column(ticker, done) == []
    assert value(ticker, JOB_COUNT) == 1
    wait_until(lambda: tick(ticker) and len(column(ticker, done)) == 3, "all commands", seconds=5)
    assert sorted(column(ticker, done)) == sorted(names)
    assert column(ticker, "select last_error from eram_schedules where last_error <> ''") == []
    assert value(ticker, "select count(*) from eram_schedule_runs") == 0


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_tick_at_any_isolation(ticker, done, level):
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    due = make_due(ticker, "mail", "tidy")
    ticker.execute(f"set default_transaction_isolation to '{level}'")
    try:
        tick_and_run(ticker)
    finally:
        ticker.execute("reset default_transaction_isolation")
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    assert column(ticker, done) == ["tidy"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_tick_with_an_old_snapshot_does_nothing_twice(ticker, connect, level):
    schedule(ticker, "mail")
    due = make_due(ticker, "mail")
    old = connect(autocommit=False)
    old.execute(f"set transaction isolation level {level}")
    assert value(old, JOB_COUNT) == 0
    tick(ticker, 0)
    with pytest.raises(errors.SerializationFailure):
        tick(old, 0)
    old.rollback()
    tick(old, 0)
    old.commit()
    assert scheduled_for(ticker) == occurrences(due, HOUR, 1)
    assert entry(ticker, "mail").run_count == 1


def test_a_tick_in_a_read_only_session_changes_nothing(ticker):
    schedule(ticker, "mail")
    make_due(ticker, "mail")
    before = contents(ticker)
    ticker.execute("set default_transaction_read_only to on")
    try:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            tick(ticker, 0)
    finally:
        ticker.execute("reset default_transaction_read_only")
    assert contents(ticker) == before


def test_the_settings_of_the_session_are_as_before(ticker, done):
    """A tick leaves a session as it was, but for what is eram's own."""
    schedule(ticker, "mail")
    schedule_sql(ticker, "tidy", "insert into done values ('tidy')")
    make_due(ticker, "mail", "tidy")
    settings = "select name, setting from pg_settings where source = 'session' order by name"
    before = [tuple(setting) for setting in rows(ticker, settings)]
    tick_and_run(ticker)
    assert [tuple(setting) for setting in rows(ticker, settings)] == before
    assert value(ticker, "select count(*) from pg_locks where locktype = 'advisory'") == 0


def test_what_others_hold_does_not_keep_the_rest_from_being_done(shared, connect):
    for number in range(120):
        schedule(shared, f"held {number}")
    schedule(shared, "free")
    shared.execute("update eram_schedules set next_run_at = now() - interval '1 hour'")
    make_due(shared, "free")
    holder = connect(autocommit=False)
    holder.execute("select from eram_schedules where name like 'held %' for update")
    tick(shared, 0)
    assert entry(shared, "free").run_count == 1
