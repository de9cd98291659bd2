"""A wait ends in time, whatever is in its way; and on connections in a pipeline too."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from helpers import PATIENCE, eventually, value
from wait_helpers import CANCEL, NAME, claim, complete, enqueue, listens

import eram

LONG = 60


@pytest.fixture
def locked(connect):
    """Nobody can read how jobs have ended."""
    rival = connect(autocommit=False)
    rival.execute("lock table eram_finished_jobs in access exclusive mode")
    return rival


@pytest.mark.parametrize("autocommit", [True, False])
def test_lock_does_not_make_it_longer(dsn, conn, connect, wait, request, autocommit):
    job_id = enqueue(conn)
    conn.execute(CANCEL, [job_id, None])
    request.getfixturevalue("locked")
    # Else it would wait for ever.
    options = f"-c statement_timeout={LONG}s"
    with pytest.raises(eram.WaitTimeoutError, match="nobody could say where it stands"):
        wait(dsn, job_id, timeout=0.5, autocommit=autocommit, options=options)


def test_lock_that_is_given_up_in_time_does_not_matter(conn, dsn, locked, wait, aside):
    job_id = enqueue(conn)
    waiting = aside.submit(wait, dsn, job_id, timeout=LONG)
    blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    eventually(lambda: value(conn, blocked) > 0)
    locked.rollback()
    conn.execute(CANCEL, [job_id, None])
    assert waiting.result(PATIENCE).state == "cancelled"


def test_lock_timeout_of_the_session_stays(dsn, conn, connect):
    job_id = enqueue(conn)
    waiter = connect(autocommit=True)
    waiter.execute("set lock_timeout to '7s'")
    with pytest.raises(eram.WaitTimeoutError):
        eram.wait(waiter, job_id, timeout=0.1)
    assert value(waiter, "show lock_timeout") == "7s"
    with waiter.transaction():
        with pytest.raises(eram.WaitTimeoutError):
            eram.wait(waiter, job_id, timeout=0.1)
        assert value(waiter, "show lock_timeout") == "7s"
        assert waiter.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_statement_of_another_task_does_not_make_it_longer(dsn, conn):
    job_id = enqueue(conn)

    async def main():
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as shared:
            other = asyncio.create_task(shared.execute("select pg_sleep(%s)", [LONG]))
            await asyncio.sleep(0.2)
            with pytest.raises(eram.WaitTimeoutError):
                await eram.wait_async(shared, job_id, timeout=0.2)
            assert not other.done()
            shared.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await other

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [1e300, 10**400, float("inf")])
def test_very_long_timeouts_are_for_ever(dsn, conn, wait, timeout):
    job_id = enqueue(conn)
    conn.execute(CANCEL, [job_id, None])
    assert wait(dsn, job_id, timeout=timeout).state == "cancelled"


@pytest.mark.parametrize("autocommit", [True, False])
def test_in_a_pipeline_it_polls(dsn, conn, announcing, autocommit):
    ended, waiting = enqueue(conn), enqueue(conn)
    claim(conn)
    complete(conn, ended, result={"a": 1})
    with psycopg.connect(dsn, autocommit=autocommit) as waiter, waiter.pipeline():
        assert eram.wait(waiter, ended, PATIENCE) == eram.Outcome("completed", {"a": 1})
        with pytest.raises(eram.WaitTimeoutError, match="it is executing"):
            eram.wait(waiter, waiting, 0.1)


@pytest.mark.parametrize("autocommit", [True, False])
def test_in_an_async_pipeline_it_polls(dsn, conn, announcing, autocommit):
    ended, waiting = enqueue(conn), enqueue(conn)
    claim(conn)
    complete(conn, ended, result={"a": 1})

    async def main():
        async with (
            await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit) as waiter,
            waiter.pipeline(),
        ):
            outcome = await eram.wait_async(waiter, ended, PATIENCE)
            assert outcome == eram.Outcome("completed", {"a": 1})
            with pytest.raises(eram.WaitTimeoutError, match="it is executing"):
                await eram.wait_async(waiter, waiting, 0.1)

    asyncio.run(main())


@pytest.mark.parametrize("payload", ["[" * 5000, "{", '{"ids": 1}', "1" * 5000])
def test_whatever_is_announced_ends_no_wait(dsn, conn, only_hearing, aside, ears, payload):
    job_id = enqueue(conn)
    claim(conn)
    channel = value(conn, "select channel from eram_outcome(%s)", job_id)
    with psycopg.connect(dsn, autocommit=True, application_name=NAME) as waiter:
        waiting = aside.submit(eram.wait, waiter, job_id, PATIENCE)
        eventually(lambda: listens(ears))
        drains = ears[-1].drains
        conn.execute("select pg_notify(%s, %s)", [channel, payload])
        eventually(lambda: ears[-1].drains > drains or waiting.done())
        assert not waiting.done(), waiting.result()
        complete(conn, job_id)
        assert waiting.result(PATIENCE).state == "completed"
