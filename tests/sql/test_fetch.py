"""Claiming: in which order, by how many at once, and what a caller's transaction does to it."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    at_once,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    rows,
    start_worker,
    state_of,
    value,
    wait_until,
)


def test_a_claimed_job_brings_all_that_a_worker_needs(conn, worker):
    job_id = enqueue(conn, args={"a": 1}, meta={"m": 2}, tags=["t"], priority=3, max_attempts=7)
    (job,) = fetch(conn, worker)
    seen = row(conn, "select * from eram_jobs where id = %s", job_id)
    assert (job.id, job.run, job.attempt, job.handler, job.queue) == (
        job_id,
        1,
        1,
        "app:run",
        "default",
    )
    assert (job.args, job.meta, job.tags) == ({"a": 1}, {"m": 2}, ["t"])
    assert (job.priority, job.max_attempts, job.timeout) == (3, 7, None)
    assert (job.inserted_at, job.scheduled_at) == (seen.inserted_at, seen.scheduled_at)
    assert job.attempted_at == seen.attempted_at
    assert (seen.state, seen.attempt, seen.attempted_by) == ("executing", 1, "tester")


def test_the_best_come_first_by_priority_then_time_then_id(conn, worker):
    rnd = random.Random(3)
    conn.execute(
        "select eram_enqueue_jobs(%s)",
        [
            Jsonb(
                [
                    {
                        "handler": "app:run",
                        "priority": rnd.randint(0, 9),
                        "scheduled_at": f"2001-01-01T00:00:{rnd.randint(0, 59):02}Z",
                    }
                    for _ in range(200)
                ]
            )
        ],
    )
    # Times of the past, which no call can set: ties and gaps alike.
    conn.execute(
        """
        update eram_queued_jobs
        set scheduled_at = clock_timestamp() - (job_id * 7919 %% 40) * interval '1 second';
        update eram_job_specs as specs
        set scheduled_at = queued.scheduled_at, inserted_at = queued.scheduled_at
        from eram_queued_jobs as queued
        where queued.job_id = specs.job_id
        """.replace("%%", "%")
    )
    expected = [
        job.id for job in rows(conn, "select id from eram_jobs order by priority, scheduled_at, id")
    ]
    claimed = []
    while batch := fetch(conn, worker, rnd.randint(1, 30)):
        claimed += [job.id for job in batch]
    assert claimed == expected


def test_a_returned_job_goes_first_within_its_priority(conn, worker):
    urgent = enqueue(conn, priority=0)
    first, second, third = (enqueue(conn, priority=5) for _ in range(3))
    less = enqueue(conn, priority=6)
    jobs = fetch(conn, worker, 5)
    conn.execute(
        "select eram_release_jobs(%s, %s)",
        [[first, second, third, less, urgent], [1] * 5],
    )
    newcomer = enqueue(conn, priority=5)
    assert [job.id for job in jobs] == [urgent, first, second, third, less]
    again = [job.id for job in fetch(conn, worker, 6)]
    assert again == [urgent, first, second, third, newcomer, less]


def test_demand_bounds_a_claim(conn, worker):
    enqueue_many(conn, 10)
    assert fetch(conn, worker, 0) == []
    assert len(fetch(conn, worker, 3)) == 3
    assert len(fetch(conn, worker, 100)) == 7
    assert fetch(conn, worker, 100) == []


def test_a_job_not_yet_due_waits(conn, worker):
    soon, later = enqueue(conn, delay=0.2), enqueue(conn, delay=3600)
    assert fetch(conn, worker) == []
    assert state_of(conn, soon) == "scheduled"
    assert [job.id for job in fetch_late(conn, worker)] == [soon]
    assert state_of(conn, later) == "scheduled"


def test_a_job_is_never_claimed_before_it_is_due(conn, worker):
    enqueue(conn, delay=0.15)
    job = wait_until(lambda: fetch(conn, worker), "the job is due", pause=0)[0]
    assert job.attempted_at >= job.scheduled_at


def test_a_job_due_exactly_now_is_due(conn, worker):
    job_id = enqueue(conn, delay=3600)
    with conn.transaction():
        # In one message, so that all of it has one statement_timestamp().
        conn.execute(
            f"""
            update eram_queued_jobs set scheduled_at = statement_timestamp();
            update eram_job_specs set inserted_at = statement_timestamp() - interval '1 second';
            create temporary table claimed on commit drop as
                select * from eram_fetch('default', 1, {worker});
            """
        )
        assert value(conn, "select id from claimed") == job_id


def test_a_job_enqueued_in_the_same_transaction_can_be_claimed_in_it(conn, worker):
    with conn.transaction():
        job_id = enqueue(conn)
        assert [job.id for job in fetch(conn, worker)] == [job_id]


def test_a_paused_queue_hands_out_nothing(conn, worker):
    job_id = enqueue(conn)
    conn.execute("select eram_pause_queue('default')")
    assert fetch(conn, worker) == []
    conn.execute("select eram_resume_queue('default')")
    assert [job.id for job in fetch(conn, worker)] == [job_id]


def test_a_rolled_back_claim_gives_job_and_cursor_back(conn, connect):
    worker = start_worker(conn)
    session = connect(autocommit=False)
    first, second = enqueue(conn), enqueue(conn)
    assert [job.id for job in fetch(session, worker, 1)] == [first]
    session.commit()
    setting = "select current_setting(_eram_cursor_setting('default'), true)"
    before = value(session, setting)
    assert [job.id for job in fetch(session, worker, 1)] == [second]
    assert value(session, setting) != before
    session.rollback()
    assert value(session, setting) == before
    assert [job.id for job in fetch(session, worker, 1)] == [second]
    session.commit()
    assert state_of(conn, second) == "executing"


def test_a_rollback_to_a_savepoint_gives_job_and_cursor_back(conn, worker):
    first, second = enqueue(conn), enqueue(conn)
    with conn.transaction():
        assert [job.id for job in fetch(conn, worker, 1)] == [first]
        with conn.transaction(force_rollback=True):
            assert [job.id for job in fetch(conn, worker, 1)] == [second]
        assert [job.id for job in fetch(conn, worker, 1)] == [second]


def test_a_claim_that_rolls_back_is_found_by_others_who_passed_it_by(conn, connect, worker):
    holder = connect(autocommit=False)
    job_id = enqueue(conn)
    assert len(fetch(holder, worker)) == 1
    for _ in range(5):
        assert fetch(conn, worker) == []
    holder.rollback()
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


def test_a_claimer_killed_in_its_transaction_loses_nothing(conn, connect, worker):
    victim = connect(autocommit=False)
    ids = enqueue_many(conn, 20)
    assert len(fetch(victim, worker)) == 20
    assert fetch(conn, worker) == []
    conn.execute("select pg_terminate_backend(%s)", [victim.info.backend_pid])
    assert sorted(job.id for job in fetch_late(conn, worker, 20)) == ids


@pytest.mark.parametrize("fetchers", [2, 8])
def test_concurrent_fetchers_claim_each_job_once(conn, connect, fetchers):
    count = 4000
    ids = enqueue_many(conn, count)
    claimed: list[list[int]] = [[] for _ in range(fetchers)]
    sessions = [connect() for _ in range(fetchers)]
    workers = [start_worker(session) for session in sessions]

    def drain(number: int) -> None:
        rnd = random.Random(number)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            jobs = fetch(sessions[number], workers[number], rnd.choice([1, 7, 50]))
            assert [job.run for job in jobs] == [1] * len(jobs)
            claimed[number] += [job.id for job in jobs]
            if not jobs and value(
                sessions[number], "select not exists (select from eram_queued_jobs)"
            ):
                return
            if rnd.random() < 0.3:
                complete(sessions[number], jobs)

    at_once(*(lambda n=n: drain(n) for n in range(fetchers)))
    together = [job_id for own in claimed for job_id in own]
    assert sorted(together) == ids
    assert sum(bool(own) for own in claimed) > 1


def test_fetchers_and_producers_at_once(conn, connect):
    """In priority lanes, with claims that are rolled back: each job runs once, in the end."""
    committed: list[int] = []
    claimed: list[int] = []
    lock, threads, is_done = threading.Lock(), Threads(), threading.Event()

    def produce(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        for _ in range(60):
            ids = enqueue_many(session, rnd.randint(1, 20), priority=rnd.randint(0, 3))
            if rnd.random() < 0.2:
                session.rollback()
            else:
                session.commit()
                with lock:
                    committed.extend(ids)

    def consume(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        worker = start_worker(session)
        session.commit()
        while not threads.stop.is_set():
            jobs = fetch(session, worker, rnd.choice([1, 10, 40]))
            if rnd.random() < 0.2:
                session.rollback()
            else:
                session.commit()
                with lock:
                    claimed.extend(job.id for job in jobs)
            if is_done.is_set() and len(claimed) >= len(committed):
                return

    producers = Threads()
    for seed in range(3):
        producers.start(produce, connect(autocommit=False), seed)
    for seed in range(3):
        threads.start(consume, connect(autocommit=False), 10 + seed)
    producers.join(40)
    is_done.set()
    threads.join(30)
    assert sorted(claimed) == sorted(committed)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_at_a_higher_isolation_level_a_claim_is_right_or_a_serialization_error(
    connect, conn, level
):
    ids = enqueue_many(conn, 400)
    claimed: list[int] = []
    failures: list[int] = []
    lock = threading.Lock()

    def drain() -> None:
        session = connect(autocommit=False)
        worker = start_worker(session)
        session.commit()
        session.execute(f"set session characteristics as transaction isolation level {level}")
        session.commit()
        deadline = time.monotonic() + 30
        while len(claimed) < len(ids) and time.monotonic() < deadline:
            try:
                jobs = fetch(session, worker, 10)
                session.commit()
            except psycopg.errors.SerializationFailure:
                session.rollback()
                failures.append(1)
            else:
                with lock:
                    claimed.extend(job.id for job in jobs)

    at_once(drain, drain, drain)
    assert sorted(claimed) == ids


def test_two_queues_in_one_session_do_not_share_a_cursor(conn):
    worker = start_worker(conn, "a", "b")
    expected = {queue: [enqueue(conn, queue=queue) for _ in range(10)] for queue in ("a", "b")}
    found: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(5):
        for queue in ("a", "b"):
            found[queue] += [job.id for job in fetch(conn, worker, 2, queue)]
    assert found == expected


def test_hundreds_of_queues_in_one_session(conn):
    queues = [f"queue {n} 'quoted'" for n in range(300)]
    worker = start_worker(conn, *queues)
    jobs = [{"handler": "app:run", "queue": queue} for queue in queues * 2]
    conn.execute("select eram_enqueue_jobs(%s)", [Jsonb(jobs)])
    for queue in queues:
        (first,) = fetch(conn, worker, 1, queue)
        (second,) = fetch(conn, worker, 5, queue)
        assert (first.queue, second.queue) == (queue, queue)
        assert first.id < second.id
    assert value(conn, "select count(*) from eram_queued_jobs") == 0


def test_a_worker_may_fetch_from_a_queue_that_it_did_not_name(conn, worker):
    """The list of a worker's queues is for people: who works on what."""
    enqueue(conn, queue="other")
    assert len(fetch(conn, worker, queue="other")) == 1


def test_a_fetch_in_a_read_only_transaction_fails_and_harms_nothing(conn, worker):
    enqueue(conn)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), conn.transaction():
        conn.execute("set transaction read only")
        fetch(conn, worker)
    assert len(fetch(conn, worker)) == 1
