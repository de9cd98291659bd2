"""asyncpg: enqueueing over its connections."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
import sample_jobs
from helpers import job_of

import eram


def run(dsn, action, **options):
    async def main():
        conn = await asyncpg.connect(dsn, **options)
        try:
            return await action(conn)
        finally:
            await conn.close()

    return asyncio.run(main())


def test_enqueue_belongs_to_the_transaction(dsn, conn):
    async def action(aconn):
        ids = []
        for is_kept in (True, False):
            transaction = aconn.transaction()
            await transaction.start()
            answer = await sample_jobs.mail.options(priority=7).enqueue_async(aconn, to="\u0142 $1")
            assert isinstance(answer, eram.Enqueued)
            assert job_of(conn, answer.id) == {}
            await (transaction.commit if is_kept else transaction.rollback)()
            ids.append(answer.id)
        return ids

    kept, dropped = run(dsn, action)
    job = job_of(conn, kept)
    assert (job["args"], job["priority"]) == ({"to": "\u0142 $1"}, 7)
    assert job_of(conn, dropped) == {}


def test_enqueue_outside_is_there_at_once(dsn, conn):
    async def action(aconn):
        once = await eram.enqueue_async(aconn, "a:b")
        assert job_of(conn, once.id)["state"] == "available"
        return await eram.enqueue_many_async(aconn, [{"handler": "a:b"}, {"handler": "c:d"}])

    assert [job_of(conn, answer.id)["handler"] for answer in run(dsn, action)] == ["a:b", "c:d"]


@pytest.mark.parametrize("options", [{"statement_cache_size": 0}, {}])
def test_connection_with_codecs_of_its_own(dsn, conn, options):
    async def action(aconn):
        await aconn.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )
        return [await sample_jobs.mail.enqueue_async(aconn, to="x") for _ in range(3)]

    for answer in run(dsn, action, **options):
        assert job_of(conn, answer.id)["args"] == {"to": "x"}


def test_connection_of_a_pool_and_pool(dsn, conn):
    async def main():
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            async with pool.acquire() as aconn:
                first = await sample_jobs.nothing.enqueue_async(aconn)
            return first, await sample_jobs.nothing.enqueue_async(pool)

    for answer in asyncio.run(main()):
        assert job_of(conn, answer.id)["state"] == "available"


def test_error_of_the_server_is_one_of_asyncpg(dsn, conn):
    async def action(aconn):
        async with aconn.transaction():
            with pytest.raises(asyncpg.NumericValueOutOfRangeError, match="priority"):
                async with aconn.transaction():
                    await eram.enqueue_async(aconn, "a:b", priority=99)
            return await eram.enqueue_async(aconn, "a:b")

    assert job_of(conn, run(dsn, action).id)["state"] == "available"


def test_sync_call_is_refused(dsn):
    async def action(aconn):
        with pytest.raises(TypeError, match="for this one call enqueue_async, and await it"):
            sample_jobs.nothing.enqueue(aconn)

    run(dsn, action)
