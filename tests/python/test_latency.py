"""How soon a job starts whose transaction stayed open while the worker went idle."""

from __future__ import annotations

import statistics
import threading

import pytest
import sample_jobs
from helpers import eventually

QUEUES = [f"q{number}" for number in range(20)]
OPEN_SECONDS = 3
MEDIAN_SECONDS = 0.2


@pytest.mark.timing
def test_job_of_a_late_commit_starts_soon(conn, connect, start_worker):
    """Twenty transactions, each in a queue of its own, commit one after another.

    None of them found a waiting worker when it enqueued, so none notifies one when it commits.
    """
    producers = [connect(autocommit=False) for _ in QUEUES]
    ids = [
        sample_jobs.nothing.options(queue=queue).enqueue(producer).id
        for queue, producer in zip(QUEUES, producers, strict=True)
    ]
    start_worker(queues=dict.fromkeys(QUEUES, 1), poll_interval=60)
    pause = threading.Event()
    pause.wait(OPEN_SECONDS)
    committed_at = {}
    for job_id, producer in zip(ids, producers, strict=True):
        producer.commit()
        committed_at[job_id] = conn.execute("select clock_timestamp()").fetchone()[0]
        pause.wait(0.05)
    eventually(lambda: finished(conn) == len(ids))
    attempted_at = dict(conn.execute("select id, attempted_at from eram_jobs").fetchall())
    delays = [(attempted_at[each] - committed_at[each]).total_seconds() for each in ids]
    assert statistics.median(delays) < MEDIAN_SECONDS, delays


@pytest.mark.timing
def test_job_starts_at_once_in_an_idle_worker(conn, start_worker):
    """Woken by the enqueue, not by the next poll, which is far away here."""
    start_worker(poll_interval=60)
    pause = threading.Event()
    for number in range(20):
        pause.wait(0.3)
        sample_jobs.nothing.enqueue(conn)
        eventually(lambda number=number: finished(conn) == number + 1)
    delays = [
        delay.total_seconds()
        for (delay,) in conn.execute("select attempted_at - inserted_at from eram_jobs")
    ]
    assert statistics.median(delays) < 0.05, delays


def finished(conn):
    return conn.execute("select count(*) from eram_finished_jobs").fetchone()[0]
