"""A database with a history, and terminals to look at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest

from top.screens import Screen

Start = Callable[..., Screen]


@pytest.fixture
def shop(
    conn: psycopg.Connection, connect: Callable[..., psycopg.Connection]
) -> psycopg.Connection:
    """Queues that wait, run, have failed, are paused and limited; and two workers."""
    conn.execute("select eram_set_queue('mail', global_limit => 4)")
    conn.execute("select eram_set_queue('reports')")
    conn.execute("select eram_pause_queue('reports')")
    enqueue(conn, "shop:mail", queue="mail", count=7)
    enqueue(conn, "shop:report", queue="reports", count=12)
    enqueue(conn, "shop:later", queue="later", count=1)
    for name, queue, demand in (("host-1", "mail", 3), ("host-2", "later", 1)):
        session = connect()
        (worker,) = session.execute(
            "select eram_start_worker(%s, %s, %s)", [name, [queue], session.info.backend_pid]
        ).fetchone()
        jobs = session.execute(
            "select id, run from eram_fetch(%s, %s, %s)", [queue, demand, worker]
        ).fetchall()
        assert len(jobs) == demand
        if queue == "later":
            ids, runs = [[job[part] for job in jobs] for part in (0, 1)]
            session.execute("select eram_complete_jobs(%s, %s)", [ids, runs])
    return conn


def enqueue(conn: psycopg.Connection, handler: str, *, queue: str, count: int = 1) -> None:
    conn.execute(
        "select count(eram_enqueue_job(%s, queue => %s)) from generate_series(1, %s)",
        [handler, queue, count],
    )


@pytest.fixture
def start(dsn: str) -> Iterator[Start]:
    """Run `python -m eram.top` in any number of terminals."""
    with contextlib.ExitStack() as screens:

        def run(
            *arguments: str,
            dsn: str = dsn,
            program: tuple[str, ...] = ("-m", "eram.top"),
            **how: object,
        ) -> Screen:
            options = ["--dsn", dsn, "--interval", "0.2", *arguments]
            screen = Screen(*program, *options, **how)
            screens.callback(screen.close)
            return screen

        yield run
