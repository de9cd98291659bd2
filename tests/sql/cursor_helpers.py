"""What the tests of the fetch cursor share: one that has moved, and what holds it back."""

from __future__ import annotations

import psycopg

from .helpers import enqueue, fetch, read_cursor, wait_until

LENGTH = 127


def advance(conn: psycopg.Connection, worker: int) -> None:
    """Let a session fetch until its cursor, the safe one included, has moved."""
    for _ in range(3):
        enqueue(conn)
        wait_until(lambda: fetch(conn, worker), "the job is claimed")
    wait_until(
        lambda: fetch(conn, worker) or max(read_cursor(conn)[46:66]) > 0, "the safe cursor moves"
    )


def hold_open(conn: psycopg.Connection, kind: str) -> None:
    """Hold a reader's snapshot open, or a transaction that has written."""
    conn.execute("begin isolation level repeatable read")
    if kind == "writer":
        conn.execute("select pg_current_xact_id()")
    conn.execute("select count(*) from eram_queued_jobs")
