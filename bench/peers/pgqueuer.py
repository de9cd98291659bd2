# /// script
# dependencies = ["pgqueuer[asyncpg]==1.6.0", "uvloop==0.23.0"]
#
# [tool.bench]
# settings = "asyncpg pool, uvloop, batch 250, its autovacuum settings"
# history = "log rows kept"
# finished = "select count(*) from pgqueuer_log where status = 'successful'"
# share = 0.5
# ///
"""pgqueuer, by its asyncpg driver."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

BATCH = 250
run = uvloop.run


class Peer:
    """See _program.py."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def install(self) -> None:
        """Make the tables, with the autovacuum settings that it comes with."""
        conn = await asyncpg.connect(self.url)
        queries = Queries(AsyncpgDriver(conn))
        await queries.install()
        await queries.optimize_autovacuum()
        await conn.close()

    async def open(self, connections: int) -> None:
        """Open a pool."""
        self.pool = await asyncpg.create_pool(self.url, min_size=connections, max_size=connections)
        self.queries = Queries(AsyncpgPoolDriver(self.pool))

    async def close(self) -> None:
        """Close it."""
        await self.pool.close()

    def make(self, number: int) -> bytes:
        """Return a payload, which is bytes here."""
        return json.dumps({"to": f"user{number}@example.com", "n": number}).encode()

    async def enqueue_many(self, made: list[bytes]) -> None:
        """Enqueue lists of columns."""
        await self.queries.enqueue(["noop"] * len(made), list(made), [0] * len(made))

    async def enqueue(self, number: int) -> None:
        """Enqueue one."""
        await self.queries.enqueue("noop", self.make(number))

    async def enqueue_stamped(self, number: int) -> int:
        """Enqueue on a connection that has a transaction open."""
        async with self.pool.acquire() as conn, conn.transaction():
            await Queries(AsyncpgDriver(conn)).enqueue("noop", self.make(number))
            return time.monotonic_ns()

    async def work(self, note: Callable[[int], None], stop: asyncio.Event) -> None:
        """Run a queue manager."""
        pool = await asyncpg.create_pool(self.url, min_size=4, max_size=4)
        manager = PgQueuer(AsyncpgPoolDriver(pool)).qm

        @manager.entrypoint("noop")
        async def noop(job: Any) -> None:
            note(json.loads(job.payload)["n"])

        running = asyncio.create_task(manager.run(batch_size=BATCH))
        await stop.wait()
        manager.shutdown.set()
        await running
        await pool.close()
