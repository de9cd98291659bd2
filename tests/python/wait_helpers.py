"""What the tests of waiting share: two ways to wait, jobs that end, and who waits for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future

import psycopg
from helpers import PATIENCE, eventually, value

import eram
from eram._jobs.ear import Ear

CANCEL = "select eram_cancel_job(%s, %s)"
NAME = "waiter"  # the application_name of sessions that wait
Wait = Callable[..., eram.Outcome]


def wait_on_a_connection(dsn: str, job_id: int, timeout: float = PATIENCE, **options: object):
    with psycopg.connect(dsn, **{"autocommit": True, "application_name": NAME, **options}) as conn:
        return eram.wait(conn, job_id, timeout)


def wait_on_an_async_connection(dsn: str, job_id: int, timeout: float = PATIENCE, **options):
    async def main() -> eram.Outcome:
        async with await psycopg.AsyncConnection.connect(
            dsn, **{"autocommit": True, "application_name": NAME, **options}
        ) as conn:
            return await eram.wait_async(conn, job_id, timeout)

    return asyncio.run(main())


class WatchedEar(Ear):
    """Counts how often its owner has waited for news."""

    drains = 0

    def drain(self) -> None:
        super().drain()
        self.drains += 1


def listens(ears: list[WatchedEar]) -> bool:
    """Say whether the last wait has sent its LISTEN, and has looked after it."""
    return bool(ears) and ears[-1].drains > 0


def enqueue(conn: psycopg.Connection, **options: object) -> int:
    return eram.enqueue(conn, "app:run", **options).id


def claim(conn: psycopg.Connection, queue: str = "default") -> None:
    """Claim all jobs of the queue."""
    worker = value(conn, "select eram_start_worker('w', array['default'])")
    conn.execute("select eram_fetch(%s, 1000, %s)", [queue, worker])


def complete(conn: psycopg.Connection, *ids: int, result: object = None) -> None:
    results = None if result is None else [json.dumps(result)]
    done = value(
        conn,
        "select array(select eram_complete_jobs(%s, %s, %s::jsonb[]))",
        list(ids),
        [1] * len(ids),
        results,
    )
    assert sorted(done) == sorted(ids)


def waiters(conn: psycopg.Connection) -> list[int]:
    """Return the processes of the sessions that wait, and have looked at least once."""
    return [
        pid
        for (pid,) in conn.execute(
            "select pid from pg_stat_activity where application_name = %s"
            " and datname = current_database() and query ~* '(eram_outcome|listen|commit)'",
            [NAME],
        )
    ]


def end_later(
    conn: psycopg.Connection, waiting: Future[eram.Outcome], end: Callable[[], object]
) -> eram.Outcome:
    """End the job as soon as somebody waits for it, and return what he gets."""
    eventually(lambda: waiters(conn) or waiting.done())
    assert not waiting.done(), waiting.result()
    end()
    return waiting.result(PATIENCE)
