"""When the fetch cursor moves and when it need not, and what a sweep is taken to cost."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from .cursor_helpers import HEADER, advance, hold_open
from .helpers import (
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    read_cursor,
    start_worker,
    value,
    wait_until,
    write_cursor,
)

# Their places in the cursor, and what extension/functions/claim/fetch.sql has as constants.
MARK, SWEPT_AT, COST = 0, 2, 3
BRIEF, FEW = 100_000, 10
LEAST = 1_000  # microseconds that a first sweep is taken to cost at most


def now_us(conn: psycopg.Connection) -> int:
    """Return the server's clock as the cursor has it."""
    return value(conn, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")


def moves_when(conn, worker, *, swept_ago=0, cost=0, mark=0, jobs=1) -> bool:
    """Claim jobs so long after a sweep, and say whether that moves the cursor."""
    if jobs:
        enqueue_many(conn, jobs)
    cursor = read_cursor(conn)
    cursor[MARK] = mark
    cursor[SWEPT_AT] = now_us(conn) - swept_ago
    cursor[COST] = cost
    write_cursor(conn, cursor)
    assert len(fetch(conn, worker, 100)) == jobs
    return read_cursor(conn) != cursor


@pytest.mark.parametrize("jobs", [1, FEW])
def test_a_few_jobs_soon_after_a_sweep_do_not_move_the_cursor(conn, worker, jobs):
    advance(conn, worker)
    # On a busy machine it may be long ago by the time of the claim.
    wait_until(lambda: not moves_when(conn, worker, jobs=jobs), "the cursor stays where it is")


@pytest.mark.parametrize(
    "options",
    [
        {"swept_ago": BRIEF},
        {"mark": -1},
        {"jobs": FEW + 1},
        {"jobs": 0},
        # A scan that is no sweep: the next one is due in a second.
        {"swept_ago": 60_000, "cost": 50_000},
    ],
    ids=str,
)
def test_otherwise_it_moves(conn, worker, options):
    advance(conn, worker)
    assert moves_when(conn, worker, **options)


def test_jobs_that_did_not_move_the_cursor_are_not_claimed_again(conn, connect, worker):
    """They lie ahead of it, even where a snapshot keeps what is left of them."""
    session, pin = connect(), connect()
    advance(session, worker)
    hold_open(pin, "reader")
    ids = []
    for _ in range(200):
        ids.append(enqueue(conn))
        assert [job.id for job in fetch(session, worker)] == ids[-1:]


def test_a_claim_rolled_back_behind_a_cursor_that_stayed_is_found(conn, connect, worker):
    session = connect()
    advance(session, worker)
    for _ in range(50):
        job_id = enqueue(conn)
        session.execute("begin")
        assert [job.id for job in fetch(session, worker)] == [job_id]
        session.execute("rollback")
        assert [job.id for job in fetch_late(session, worker)] == [job_id]


def lock_tickets(conn: psycopg.Connection, count: int) -> None:
    """Make a sweep walk over so many tickets in vain."""
    enqueue_many(conn, count)
    conn.execute("begin")
    conn.execute("select from eram_queued_jobs for update")


def test_a_slow_sweep_is_not_believed_at_once(conn, connect):
    """Or one that the machine held up would keep late commits waiting for twenty times as long."""
    holder, session = connect(), connect()
    worker = start_worker(conn)
    lock_tickets(holder, 20_000)
    costs = []
    for _ in range(3):
        before = read_cursor(session)
        wait_until(
            lambda before=before: (
                fetch(session, worker) or read_cursor(session)[SWEPT_AT] > before[SWEPT_AT]
            ),
            "the session sweeps",
        )
        costs.append(read_cursor(session)[COST])
    assert costs[0] == LEAST
    assert all(after <= 10 * before + LEAST for before, after in itertools.pairwise(costs))
    assert costs[1] > LEAST


def test_a_late_commit_after_a_slow_first_fetch_is_claimed_soon(conn, connect, worker):
    """The first fetch of a session is slow by itself: nothing is in its caches."""
    producer, holder, session = connect(autocommit=False), connect(), connect()
    lock_tickets(holder, 5_000)
    job_id = enqueue(producer)
    assert fetch(session, worker, 1) == []
    producer.commit()
    cursor = read_cursor(session)
    assert len(cursor) > HEADER
    assert cursor[COST] <= LEAST
    assert [job.id for job in fetch_late(session, worker)] == [job_id]


def test_a_dear_sweep_is_noted_however_few_jobs_it_claims(conn, connect, worker):
    """Or the next claim would be as dear again, and so on."""
    advance(conn, worker)
    lock_tickets(connect(), 20_000)
    cursor = read_cursor(conn)
    cursor[MARK], cursor[COST] = 0, 0
    cursor[SWEPT_AT] = now_us(conn)
    write_cursor(conn, cursor)
    job_id = enqueue(conn)
    assert [job.id for job in fetch(conn, worker)] == [job_id]
    assert read_cursor(conn)[COST] > 0


def test_one_cheap_sweep_does_not_make_the_next_dear_one_unknown(conn, worker):
    """Where jobs of several priorities come in turns, every other sweep is cheap."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[SWEPT_AT] = now_us(conn) - 1_000_000
    cursor[COST] = 40_000
    write_cursor(conn, cursor)
    enqueue(conn)
    assert len(fetch(conn, worker)) == 1
    assert read_cursor(conn)[COST] >= 38_000
