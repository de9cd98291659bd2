"""The fetch cursor under late commits and rollbacks of all sessions at once."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest

from .cursor_helpers import SAFE, hold_open, positions
from .helpers import (
    Threads,
    enqueue_many,
    fetch,
    read_cursor,
    start_worker,
    value,
    wait_until,
    write_cursor,
)

# There may be none at any time: until the next full scan nobody would look there.
BEHIND = """
    select count(*)
    from eram_queued_jobs as queued
    join unnest(%s::bigint[], %s::bigint[]) with ordinality as safe (at, id, place)
        on safe.place = queued.lane + 1
    where
        ((extract(epoch from queued.scheduled_at) * 1000000)::bigint, queued.job_id)
        <= (safe.at, safe.id)
"""


@pytest.mark.parametrize("pin", [None, "reader", "writer"])
def test_stress(conn, connect, pin):
    """Commits up to 2 s late, a tenth rolled back; claims rolled back and held: each job once."""
    seconds = 4
    committed: dict[int, float] = {}
    claimed: dict[int, float] = {}
    lock, producers, consumers = threading.Lock(), Threads(), Threads()
    stop, is_done = threading.Event(), threading.Event()
    if pin:
        hold_open(connect(), pin)

    def produce(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        while not stop.is_set():
            priority = rnd.choice([0, 0, 0, 1, 5])
            ids = enqueue_many(session, rnd.choice([1, 1, 2, 50, 200]), priority=priority)
            late = rnd.random()
            if late < 0.05:
                stop.wait(rnd.uniform(0.2, 2))
            elif late < 0.3:
                stop.wait(rnd.uniform(0, 0.05))
            if rnd.random() < 0.1:
                session.rollback()
                continue
            with lock:  # The commit inside, so that no claim is earlier in this book than the job.
                session.commit()
                committed.update(dict.fromkeys(ids, time.monotonic()))
            stop.wait(rnd.uniform(0, 0.02))

    def consume(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        worker = start_worker(session)
        session.commit()
        while not is_done.is_set():
            jobs = fetch(session, worker, rnd.choice([1, 10, 100, 300]))
            if rnd.random() < 0.03:
                stop.wait(rnd.uniform(0, 0.5))
                session.rollback()
                continue
            session.commit()
            if rnd.random() < 0.2:
                safe = positions(read_cursor(session), SAFE)
                assert value(session, BEHIND, *map(list, zip(*safe, strict=True))) == 0
                if rnd.random() < 0.5:
                    # As a session that has just begun.
                    write_cursor(session, "")
                session.commit()
            with lock:
                twice = [job.id for job in jobs if job.id in claimed]
                assert not twice
                claimed.update({job.id: time.monotonic() for job in jobs})
            if not jobs:
                is_done.wait(0.01)

    for seed in range(4):
        producers.start(produce, connect(autocommit=False), seed)
    for seed in range(3):
        consumers.start(consume, connect(autocommit=False), 100 + seed)
    stop.wait(seconds)
    stop.set()
    producers.join(20)
    wait_until(
        lambda: len(claimed) >= len(committed) or consumers.stop.is_set(),
        "all are claimed",
        seconds=20,
    )
    is_done.set()
    consumers.join(10)
    assert claimed.keys() == committed.keys()
    assert value(conn, "select count(*) from eram_queued_jobs") == 0
    waits = sorted(claimed[job_id] - committed[job_id] for job_id in committed)
    print(
        f"{len(waits)} jobs, from commit to claim: "
        f"median {waits[len(waits) // 2]:.3f} s, max {waits[-1]:.3f} s"
    )
    assert waits[-1] < 10
