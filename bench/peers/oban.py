# /// script
# requires-python = ">=3.12"
# dependencies = ["oban==0.7.0", "psycopg[binary,pool]==3.3.9"]
#
# [tool.bench]
# settings = "async jobs, limit 100"
# history = "completed jobs kept for a day"
# finished = "select count(*) from oban_jobs where state = 'completed'"
# share = 0.1
# ///
"""Oban for Python, the open-source edition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from oban import Oban, job
from oban.schema import install

LIMIT = 100
_note: list[Callable[[int], None]] = []


@job(queue="default")
async def noop(to: str, n: int) -> None:  # noqa: ARG001 - an argument of the job
    """Take note of it."""
    _note[0](n)


class Peer:
    """See _program.py."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def install(self) -> None:
        """Make the tables."""
        pool = await Oban.create_pool(self.url)
        await install(pool)
        await pool.close()

    async def open(self, connections: int) -> None:
        """Make a client, which runs nothing."""
        self.pool = await Oban.create_pool(self.url, min_size=connections, max_size=connections)
        self.oban = Oban(pool=self.pool)

    async def close(self) -> None:
        """Close its pool."""
        await self.pool.close()

    def make(self, number: int) -> Any:
        """Return a job."""
        return noop.new(f"user{number}@example.com", number)

    async def enqueue_many(self, made: list[Any]) -> None:
        """Insert many."""
        await self.oban.enqueue_many(made)

    async def enqueue(self, number: int) -> None:
        """Insert one."""
        await self.oban.enqueue(self.make(number))

    async def enqueue_stamped(self, number: int) -> int:
        """Insert on a connection that has a transaction open."""
        async with self.pool.connection() as conn, conn.transaction():
            await self.oban.enqueue(self.make(number), conn=conn)
            return time.monotonic_ns()

    async def work(self, note: Callable[[int], None], stop: asyncio.Event) -> None:
        """Run a queue."""
        _note[:] = [note]
        pool = await Oban.create_pool(self.url, max_size=10)
        async with Oban(pool=pool, queues={"default": LIMIT}):
            await stop.wait()
        await pool.close()
