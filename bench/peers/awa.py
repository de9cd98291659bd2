# /// script
# dependencies = ["awa-pg==0.6.9", "psycopg[binary]==3.3.9"]
#
# [tool.bench]
# settings = "its Rust engine, 1,024 workers, COPY to enqueue many"
# history = "completed jobs gone once their segment is rotated, seconds later"
# finished = """
# select (select coalesce(sum(cardinality(job_ids)), 0) from awa.receipt_completion_batches)
#     + (select count(*) from awa.done_entries where state = 'completed')
#     + (select coalesce(sum(pruned_completed_count), 0) from awa.queue_terminal_rollups)
# """
# share = 0.3
# ///
"""awa-pg, with Python handlers on its Rust engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awa
import psycopg
from awa.bridge import insert_job

WORKERS = 1_024


@dataclass
class Noop:
    """The arguments of a job."""

    to: str
    n: int


class Peer:
    """See _program.py."""

    def __init__(self, url: str) -> None:
        # Its parser of addresses wants a host, and takes the socket that the query names.
        self.url = url.replace("@/", "@localhost/", 1)

    async def install(self) -> None:
        """Make the tables."""
        client = awa.AsyncClient(self.url)
        await client.migrate()
        await client.install_queue_storage()
        await client.close()

    async def open(self, connections: int) -> None:
        """Make a client."""
        self.client = awa.AsyncClient(self.url, max_connections=connections)

    async def close(self) -> None:
        """Close it."""
        await self.client.close()

    def make(self, number: int) -> Noop:
        """Return arguments."""
        return Noop(to=f"user{number}@example.com", n=number)

    async def enqueue_many(self, made: list[Noop]) -> None:
        """Enqueue by COPY."""
        await self.client.enqueue_many_copy(made)

    async def enqueue(self, number: int) -> None:
        """Insert one."""
        await self.client.insert(self.make(number))

    async def enqueue_stamped(self, number: int) -> int:
        """Insert on a connection of the caller's own."""
        if not hasattr(self, "conn"):
            self.conn = await psycopg.AsyncConnection.connect(self.url, prepare_threshold=0)
        async with self.conn.transaction():
            await insert_job(self.conn, self.make(number))
            return time.monotonic_ns()

    async def work(self, note: Callable[[int], None], stop: asyncio.Event) -> None:
        """Run the engine."""
        client = awa.AsyncClient(self.url, max_connections=10)

        @client.task(Noop)
        async def noop(job: Any) -> None:
            note(job.args.n)

        await client.start([("default", WORKERS)])
        await stop.wait()
        await client.shutdown()
        await client.close()
