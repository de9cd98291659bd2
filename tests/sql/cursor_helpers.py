"""What the tests of the fetch cursor share: one that has moved, and what holds it back."""

from __future__ import annotations

from typing import Any

import psycopg

from .helpers import enqueue, fetch, read_cursor, wait_until, write_cursor

LANES = 20
# How many positions the three cursors have, in this order.
FIRST, SAFE, NOTED = COUNTS = (8, 9, 10)
MOVED = 7
HEADER = 11
DEAR = 20_000  # microseconds of a sweep
SHORTEST = HEADER + 2 * len(COUNTS)


def positions(cursor: list[int], which: int) -> list[tuple[int, int]]:
    """Return where a cursor stands in each lane: a time and an id."""
    begin = HEADER + 2 * sum(cursor[count] for count in COUNTS if count < which)
    numbers = cursor[begin : begin + 2 * cursor[which]]
    own = list(zip(numbers[::2], numbers[1::2], strict=True))
    return own + own[-1:] * (LANES - len(own))


def latest(cursor: list[int], which: int) -> int:
    """Return the time up to which a cursor has come, in the lane where it came furthest."""
    return max(at for at, _ in positions(cursor, which))


def advance(conn: psycopg.Connection, worker: int) -> None:
    """Let a session fetch until its cursor, the safe one included, has moved."""
    for _ in range(3):
        enqueue(conn)
        wait_until(lambda: fetch(conn, worker), "the job is claimed")
    wait_until(
        lambda: fetch(conn, worker) or latest(read_cursor(conn), SAFE) > 0, "the safe cursor moves"
    )


def fetch_when_idle(conn: psycopg.Connection, worker: int, cost: int = 0) -> list[Any]:
    """Sweep, as if the last note and sweep had been made two seconds ago, and cost so much."""
    cursor = read_cursor(conn)
    cursor[1] -= 2_000_000
    cursor[2] -= 2_000_000
    cursor[3] = cost
    write_cursor(conn, cursor)
    return fetch(conn, worker)


def hold_open(conn: psycopg.Connection, kind: str) -> None:
    """Hold a reader's snapshot open, or a transaction that has written."""
    conn.execute("begin isolation level repeatable read")
    if kind == "writer":
        conn.execute("select pg_current_xact_id()")
    conn.execute("select count(*) from eram_queued_jobs")
