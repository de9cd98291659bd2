"""Waiting on connections of every kind, shared ones too; it leaves them as they were."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest
from helpers import PATIENCE, eventually, value
from proxy import PoolerLink, Proxy
from wait_helpers import (
    CANCEL,
    NAME,
    claim,
    complete,
    end_later,
    enqueue,
    listens,
    wait_on_a_connection,
    wait_on_an_async_connection,
    waiters,
)

import eram


def test_behind_a_pooler_it_polls_and_leaves_nothing_in_the_session(
    dsn, conn, wait, aside, announcing
):
    job_id = enqueue(conn)
    claim(conn)
    with contextlib.closing(Proxy(conn, PoolerLink)) as pooler:
        waiting = aside.submit(wait, pooler.dsn(dsn), job_id)
        eventually(lambda: pooler.sent.count(b"eram_outcome") > 7)
        complete(conn, job_id)
        assert waiting.result(PATIENCE).state == "completed"
        assert b'listen "' not in pooler.sent
        assert b"_pg3_" not in pooler.sent, "a prepared statement"


def test_a_connection_without_autocommit_is_left_without_a_transaction(
    dsn, conn, only_hearing, aside
):
    job_id = enqueue(conn)
    claim(conn)
    # Each look is a transaction of its own, so the level does not matter.
    with psycopg.connect(dsn, application_name=NAME) as waiter:
        waiter.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        waiting = aside.submit(eram.wait, waiter, job_id, PATIENCE)
        assert end_later(conn, waiting, lambda: complete(conn, job_id)).state == "completed"
        assert waiter.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert waiter.execute("select pg_listening_channels()").fetchall() == []


def test_in_a_transaction_it_polls(dsn, conn, announcing, aside):
    job_id = enqueue(conn)
    claim(conn)
    with psycopg.connect(dsn, application_name=NAME) as waiter:
        waiter.execute("create temporary table mine ()")
        waiting = aside.submit(eram.wait, waiter, job_id, PATIENCE)
        assert end_later(conn, waiting, lambda: complete(conn, job_id)).state == "completed"
        assert waiter.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        waiter.rollback()
        assert value(waiter, "select to_regclass('mine')") is None


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a_transaction_that_would_never_see_the_end_is_refused(dsn, conn, level):
    job_id = enqueue(conn)
    conn.execute(CANCEL, [job_id, None])
    with psycopg.connect(dsn) as waiter:
        waiter.isolation_level = psycopg.IsolationLevel[level]
        waiter.execute("select")
        with pytest.raises(eram.WaitError, match=level.replace("_", " ")) as got:
            eram.wait(waiter, job_id)
        assert not isinstance(got.value, TimeoutError)


def test_a_lost_connection_is_an_error_of_psycopg(dsn, conn, wait, aside, announcing):
    for is_announcing in (True, False):
        conn.execute("select eram_set_queue('default', is_announcing => %s)", [is_announcing])
        waiting = aside.submit(wait, dsn, enqueue(conn))
        eventually(lambda: waiters(conn))
        conn.execute("select pg_terminate_backend(pid) from unnest(%s) as pid", [waiters(conn)])
        with pytest.raises(psycopg.OperationalError):
            waiting.result(PATIENCE)
        eventually(lambda: not waiters(conn))


def test_what_the_caller_listens_to_stays_his(dsn, conn, only_hearing, aside, ears):
    job_id = enqueue(conn)
    claim(conn)
    channel = value(conn, "select channel from eram_outcome(%s)", job_id)
    with psycopg.connect(dsn, autocommit=True, application_name=NAME) as waiter:
        waiter.execute("listen mine")
        before = waiter.pgconn.notify_handler
        waiting = aside.submit(eram.wait, waiter, job_id, PATIENCE)
        eventually(lambda: listens(ears))
        drains = ears[-1].drains
        conn.execute("notify mine, 'while waiting'")
        eventually(lambda: ears[-1].drains > drains)
        conn.execute("notify mine, 'last'")
        complete(conn, job_id)
        assert waiting.result(PATIENCE).state == "completed"
        assert waiter.pgconn.notify_handler == before
        assert value(waiter, "select array(select pg_listening_channels())") == ["mine"]
        got = [(each.channel, each.payload) for each in waiter.notifies(timeout=0.2)]
        assert got == [("mine", "while waiting"), ("mine", "last")]

        # His own ear for the same queue: it stays, and misses nothing.
        waiter.execute(f"listen {channel}")
        heard = []
        waiter.add_notify_handler(lambda notify: heard.append(notify.channel))
        job_id = enqueue(conn)
        claim(conn)
        waiting = aside.submit(eram.wait, waiter, job_id, PATIENCE)
        eventually(lambda: listens(ears))
        conn.execute("notify mine")
        complete(conn, job_id)
        assert waiting.result(PATIENCE).state == "completed"
        assert heard == ["mine", channel]
        listening = value(waiter, "select array(select pg_listening_channels())")
        assert set(listening) == {"mine", channel}


def test_many_waiters_at_once(dsn, conn, only_hearing, aside):
    ids = [enqueue(conn) for _ in range(40)]
    claim(conn)
    ways = (wait_on_a_connection, wait_on_an_async_connection)
    waiting = [aside.submit(ways[n % 2], dsn, job_id) for n, job_id in enumerate(ids)]
    eventually(lambda: len(waiters(conn)) == len(ids))
    complete(conn, *ids[:20])
    complete(conn, *ids[20:])
    assert {each.result(PATIENCE).state for each in waiting} == {"completed"}


def test_many_tasks_wait_on_one_connection(dsn, conn, announcing):
    """One of them listens, the others poll; other statements go on between them."""
    ids = [enqueue(conn) for _ in range(10)]
    claim(conn)

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as shared:
            tasks = [asyncio.ensure_future(eram.wait_async(shared, each, PATIENCE)) for each in ids]
            for job_id in ids:
                cursor = await shared.execute("select 1")
                assert await cursor.fetchone() == (1,)
                await asyncio.sleep(0.05)
                complete(conn, job_id)
            outcomes = await asyncio.gather(*tasks)
            assert {each.state for each in outcomes} == {"completed"}
            cursor = await shared.execute("select pg_listening_channels()")
            assert await cursor.fetchall() == []

    asyncio.run(main())


def test_threads_wait_on_one_connection(dsn, conn, announcing, aside):
    ids = [enqueue(conn) for _ in range(4)]
    claim(conn)
    with psycopg.connect(dsn, autocommit=True, application_name=NAME) as shared:
        waiting = [aside.submit(eram.wait, shared, each, PATIENCE) for each in ids]
        eventually(lambda: waiters(conn))
        for job_id in ids:
            complete(conn, job_id)
        assert {each.result(PATIENCE).state for each in waiting} == {"completed"}
        assert shared.execute("select pg_listening_channels()").fetchall() == []


def test_a_cancelled_task_leaves_the_connection_as_it_was(dsn, conn, announcing):
    job_id = enqueue(conn)

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, application_name=NAME
        ) as waiter:
            before = waiter.pgconn.notify_handler
            for seconds in (0.001, 0.01, 0.3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(eram.wait_async(waiter, job_id), seconds)
                assert waiter.pgconn.notify_handler == before
                cursor = await waiter.execute("select pg_listening_channels()")
                assert await cursor.fetchall() == []

    asyncio.run(main())
