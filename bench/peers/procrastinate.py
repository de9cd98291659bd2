# /// script
# dependencies = ["procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"]
#
# [tool.bench]
# settings = "async tasks, concurrency 10, LISTEN"
# history = "finished jobs and their events kept"
# finished = "select count(*) from procrastinate_jobs where status = 'succeeded'"
# share = 0.05
# ///
"""procrastinate, by its asynchronous psycopg connector."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import procrastinate
import psycopg

CONCURRENCY = 10


class Peer:
    """See _program.py."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def install(self) -> None:
        """Make the tables."""
        await self.open(1)
        await self.app.schema_manager.apply_schema_async()
        await self.close()

    async def open(self, connections: int, note: Callable[[int], None] | None = None) -> None:
        """Open an app with its pool."""
        connector = procrastinate.PsycopgConnector(
            conninfo=self.url, min_size=connections, max_size=connections
        )
        self.app = procrastinate.App(connector=connector)

        @self.app.task(name="noop")
        async def noop(to: str, n: int) -> None:  # noqa: ARG001 - an argument of the job
            if note:
                note(n)

        self.noop = noop
        await self.app.open_async()

    async def close(self) -> None:
        """Close it."""
        await self.app.close_async()

    def make(self, number: int) -> dict[str, Any]:
        """Return the arguments of a task."""
        return {"to": f"user{number}@example.com", "n": number}

    async def enqueue_many(self, made: list[dict[str, Any]]) -> None:
        """Defer a batch."""
        await self.noop.batch_defer_async(*made)

    async def enqueue(self, number: int) -> None:
        """Defer one."""
        await self.noop.defer_async(**self.make(number))

    async def enqueue_stamped(self, number: int) -> int:
        """Defer on a connection of the caller's own."""
        if not hasattr(self, "conn"):
            self.conn = await psycopg.AsyncConnection.connect(self.url, prepare_threshold=0)
        async with self.conn.transaction():
            await self.noop.configure(connection=self.conn).defer_async(**self.make(number))
            return time.monotonic_ns()

    async def work(self, note: Callable[[int], None], stop: asyncio.Event) -> None:
        """Run a worker."""
        await self.open(CONCURRENCY + 2, note)
        running = asyncio.create_task(
            self.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
        )
        await stop.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await self.close()
