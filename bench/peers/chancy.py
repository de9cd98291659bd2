# /// script
# dependencies = ["chancy==0.26.0", "psycopg[binary,pool]==3.3.9"]
#
# [tool.bench]
# settings = "async executor, 1,000 concurrent, eager polling, completions each 0.1 s"
# history = "finished jobs kept until its pruner's next round"
# finished = "select count(*) from chancy_jobs where state = 'succeeded'"
# share = 0.3
# ///
"""chancy, by its asynchronous executor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from chancy import Chancy, Queue, Worker, job
from psycopg.rows import dict_row

CONCURRENCY = 1_000
OUTGOING_SECONDS = 0.1
_note: list[Callable[[int], None]] = []


@job(queue="noop")
async def noop(*, to: str, n: int) -> None:  # noqa: ARG001 - an argument of the job
    """Take note of it."""
    _note[0](n)


class Peer:
    """See _program.py."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def install(self) -> None:
        """Make the tables and the queue."""
        await self.open(1)
        await self.chancy.migrate()
        await self.chancy.declare(
            Queue(
                "noop",
                concurrency=CONCURRENCY,
                executor=Chancy.Executor.Async,
                eager_polling=True,
                polling_interval=1,
            )
        )
        await self.close()

    async def open(self, connections: int) -> None:
        """Open the app and its pool."""
        log = logging.getLogger("chancy")
        log.setLevel(logging.ERROR)
        self.chancy = Chancy(
            self.url,
            min_connection_pool_size=connections,
            max_connection_pool_size=connections,
            log=log,
        )
        await self.chancy.__aenter__()

    async def close(self) -> None:
        """Close it."""
        await self.chancy.__aexit__(None, None, None)

    def make(self, number: int) -> Any:
        """Return a job."""
        return noop.job.with_kwargs(to=f"user{number}@example.com", n=number)

    async def enqueue_many(self, made: list[Any]) -> None:
        """Push many."""
        async for _ in self.chancy.push_many(made):
            pass

    async def enqueue(self, number: int) -> None:
        """Push one."""
        await self.chancy.push(self.make(number))

    async def enqueue_stamped(self, number: int) -> int:
        """Push by a cursor of the caller's own."""
        async with (
            self.chancy.pool.connection() as conn,
            conn.cursor(row_factory=dict_row) as cursor,
            conn.transaction(),
        ):
            await self.chancy.push_many_ex(cursor, [self.make(number)])
            return time.monotonic_ns()

    async def work(self, note: Callable[[int], None], stop: asyncio.Event) -> None:
        """Run a worker."""
        _note[:] = [note]
        await self.open(10)
        worker = Worker(self.chancy, register_signal_handlers=False)
        worker.send_outgoing_interval = OUTGOING_SECONDS
        async with worker:
            await stop.wait()
        await self.close()
