"""Unique jobs after a wait for a rival: what was read before the wait holds no longer."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    column,
    complete,
    fetch,
    rows,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)
from .unique_helpers import document, pass_window, put

ENQUEUE = "select id, is_duplicate from eram_enqueue_jobs(%s)"
MINUTE = {"period": 60}


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("unique", [MINUTE, True], ids=["window", "until the end"])
def test_an_end_that_an_old_snapshot_does_not_show(conn, connect, worker, level, unique):
    """The key of the job that has ended is free: it must not be read out of the snapshot."""
    first = put(conn, unique=True).id
    jobs = fetch(conn, worker)
    finisher, producer = connect(autocommit=False), connect(autocommit=False)
    complete(finisher, jobs)
    producer.execute(f"set transaction isolation level {level}")
    producer.execute("select count(*) from eram_jobs")
    found: list[tuple[int, bool]] = []
    threads = Threads()
    threads.start(lambda: found.extend(producer.execute(ENQUEUE, [Jsonb(document(unique=unique))])))
    wait_for_lock_wait(conn, producer)
    finisher.commit()
    threads.join(10)
    producer.commit()
    ((second, is_duplicate),) = found
    assert (second > first, is_duplicate) == (True, False)
    assert state_of(conn, second) == "available"
    assert column(conn, "select job_id from eram_unique_keys") == [second]


def test_a_take_over_that_was_lost_locks_nothing(conn, connect, worker):
    """The job of whoever took the key over ends while the loser's transaction is still open."""
    old = put(conn, unique=MINUTE).id
    pass_window(conn, old)
    winner, loser, finisher = connect(autocommit=False), connect(autocommit=False), connect()
    new = put(winner, unique=True).id
    found: list[int] = []
    threads = Threads()
    threads.start(lambda: found.append(put(loser, unique=MINUTE).id))
    wait_for_lock_wait(conn, loser)
    winner.commit()
    threads.join(10)
    assert found == [new]
    finisher.execute("set lock_timeout = '5s'")
    finisher_worker = start_worker(finisher)
    jobs = [job for job in fetch(finisher, finisher_worker) if job.id == new]
    assert complete(finisher, jobs) == [new]
    loser.rollback()


def test_a_take_over_after_a_wait_begins_a_whole_window(conn, connect):
    old = put(conn, unique={"period": 5}).id
    pass_window(conn, old)
    rival, producer = connect(autocommit=False), connect()
    put(rival, unique={"period": 5})
    found: list[int] = []
    threads = Threads()
    threads.start(lambda: found.append(put(producer, unique={"period": 5}).id))
    wait_for_lock_wait(conn, producer)
    conn.execute("select pg_sleep(0.3)")
    rival.rollback()
    threads.join(10)
    (spec,) = rows(
        conn,
        "select unique_until - inserted_at >= interval '4.9 s' as is_whole, unique_until"
        " from eram_job_specs where job_id = %s",
        found[0],
    )
    assert spec.is_whole
    assert value(conn, "select expires_at from eram_unique_keys") == spec.unique_until
