"""The global limit of a queue: never more executing than that, whoever claims and however."""

from __future__ import annotations

import contextlib
import random
import threading

import psycopg
import pytest
from psycopg import errors

from .cursor_helpers import FIRST, positions
from .helpers import (
    Threads,
    at_once,
    column,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    read_cursor,
    row,
    shared_buffers,
    start_worker,
    value,
    wait_until,
)

RUNNING = "select count(*) from eram_running_jobs where queue = 'default'"
HOLDS = "select _eram_holds_lock('eram_queues'::regclass::oid::integer, hashtext('default'))"
JOBS = 2000


def set_limit(conn: psycopg.Connection, limit: int | None, queue: str = "default") -> None:
    conn.execute("select eram_set_queue(%s, global_limit => %s)", [queue, limit])


def bury(conn: psycopg.Connection, worker: int) -> None:
    """Have a worker whose session has ended declared dead, and its jobs rescued."""
    wait_until(
        lambda: value(conn, "select %s <> all (_eram_held_keys('eram_workers'))", worker),
        "the session of the worker has ended",
    )
    conn.execute("select eram_rescue_jobs()")
    conn.execute(
        "update eram_workers set missing_since = missing_since - interval '1 hour' where id = %s",
        [worker],
    )
    conn.execute("select eram_rescue_jobs()")


class Fleet:
    """Eight that claim and complete, roll back, are slow, and one that is killed."""

    def __init__(self, connect, limit: int) -> None:
        self.connect = connect
        self.limit = limit
        self.threads = Threads()
        self.is_done = threading.Event()
        self.holds = threading.Event()
        self.victim: tuple[int, int] = (0, 0)

    def sample(self) -> None:
        """Count from a session that does nothing else."""
        conn = self.connect()
        conn.execute("set application_name = 'sampler'")
        while not self.is_done.is_set():
            conn.execute("insert into seen " + RUNNING)

    def work(self, seed: int) -> None:
        rnd = random.Random(seed)
        conn = self.connect()
        worker = start_worker(conn)
        while not self.is_done.is_set() and not self.threads.stop.is_set():
            with conn.transaction():
                jobs = fetch(conn, worker, rnd.choice([1, 2, 10, 100]))
                if rnd.random() < 0.02:
                    self.is_done.wait(0.01)
                if rnd.random() < 0.1:
                    raise psycopg.Rollback
            if conn.info.transaction_status or not jobs:
                continue
            conn.execute("insert into seen " + RUNNING)
            if rnd.random() < 0.02:
                self.is_done.wait(0.01)
            # What was rolled back is not ours.
            complete(conn, jobs)

    def be_killed(self) -> None:
        conn = self.connect()
        worker = start_worker(conn)
        self.victim = (worker, conn.info.backend_pid)
        wait_until(lambda: fetch(conn, worker, 2), "the victim gets jobs", pause=0)
        self.holds.set()
        with contextlib.suppress(psycopg.OperationalError):
            conn.execute("select pg_sleep(60)")
            raise AssertionError("was not killed")


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_never_more_than_the_limit_are_executing(conn, connect, limit):
    conn.execute("drop table if exists seen; create table seen (running integer)")
    set_limit(conn, limit)
    enqueue_many(conn, JOBS)
    fleet = Fleet(connect, limit)
    fleet.threads.start(fleet.sample)
    fleet.threads.start(fleet.be_killed)
    assert fleet.holds.wait(30)
    worker, pid = fleet.victim
    for seed in range(7):
        fleet.threads.start(fleet.work, seed)
    completed = "select count(*) from eram_jobs where state = 'completed'"
    if limit > 2:
        wait_until(lambda: value(conn, completed) > JOBS / 10, "the others are at work")
    value(conn, "select pg_terminate_backend(%s)", pid)
    bury(conn, worker)
    fleet.threads.start(fleet.work, 7)

    def is_over() -> bool:
        assert not fleet.threads.stop.is_set(), "a thread has failed"
        return value(conn, completed) == JOBS

    try:
        wait_until(is_over, "all jobs are completed", seconds=120, pause=0.1)
    finally:
        fleet.is_done.set()
        fleet.threads.join()
    seen = column(conn, "select distinct running from seen order by 1")
    assert seen[-1] == limit, seen
    assert value(conn, "select count(*) from eram_job_errors") >= 1


def test_a_demand_is_cut_to_what_there_is_room_for(conn, worker):
    set_limit(conn, 3)
    ids = enqueue_many(conn, 10)
    first = fetch(conn, worker, 10)
    assert [job.id for job in first] == ids[:3]
    assert fetch(conn, worker, 10) == []
    complete(conn, first[:2])
    assert [job.id for job in fetch(conn, worker, 10)] == ids[3:5]
    assert fetch(conn, worker, 0) == []


def test_a_cut_demand_is_not_taken_for_the_end_of_the_queue(conn, worker):
    """All that is behind the last job claimed is still before the cursor."""
    set_limit(conn, 3)
    ids = enqueue_many(conn, 10)
    fetch(conn, worker, 10)
    normal_lane = 1
    cursor = read_cursor(conn)
    assert positions(cursor, FIRST)[normal_lane][1] == ids[2]
    assert fetch(conn, worker, 10) == []
    assert read_cursor(conn) == cursor, "a refused fetch has moved the cursor"


def test_all_workers_count_together_and_other_queues_do_not(conn, connect, worker):
    other = connect()
    other_worker = start_worker(other, "default", "mail")
    set_limit(conn, 3)
    enqueue_many(conn, 10)
    enqueue_many(conn, 10, queue="mail")
    assert len(fetch(conn, worker, 2)) == 2
    assert len(fetch(other, other_worker, 10, "mail")) == 10
    assert len(fetch(other, other_worker, 10)) == 1


@pytest.mark.parametrize(
    "end",
    [
        "select eram_complete_jobs('{1}', '{1}')",
        "select eram_fail_job(1, 1, 'x', delay => '1 hour')",
        "select eram_snooze_job(1, 1, '1 hour')",
        "select eram_discard_job(1, 1)",
        "select eram_cancel_job(1)",
        "select eram_release_jobs('{1}', '{1}')",
        "select eram_stop_worker(1)",
    ],
)
def test_whatever_ends_a_run_gives_its_room_back(conn, connect, worker, end):
    other = connect()
    other_worker = start_worker(other)
    set_limit(conn, 1)
    enqueue_many(conn, 2)
    fetch(conn, worker)
    assert fetch(other, other_worker) == []
    conn.execute(end)
    assert len(fetch(other, other_worker)) == 1


def test_a_limit_is_raised_lowered_and_taken_away_while_jobs_run(conn, worker):
    enqueue_many(conn, 20)
    set_limit(conn, 2)
    running = fetch(conn, worker)
    set_limit(conn, 5)
    running += fetch(conn, worker)
    assert len(running) == 5
    set_limit(conn, 2)
    complete(conn, running[:3])
    assert fetch(conn, worker) == []
    assert value(conn, RUNNING) == 2, "what runs goes on"
    complete(conn, running[3:4])
    assert len(fetch(conn, worker)) == 1
    set_limit(conn, None)
    assert fetch(conn, worker) == []
    set_limit(conn, 0)
    assert row(conn, "select global_limit from eram_queues").global_limit is None
    assert len(fetch(conn, worker)) == 14


def test_a_limit_must_not_be_negative(conn):
    with pytest.raises(errors.InvalidParameterValue, match="global_limit must be at least 0"):
        set_limit(conn, -1)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_level_at_which_a_limit_could_not_be_kept_is_refused(conn, worker, level):
    enqueue_many(conn, 3)
    set_limit(conn, 1)
    conn.execute(f"begin isolation level {level}")
    with pytest.raises(errors.InvalidTransactionState, match=level):
        fetch(conn, worker)
    conn.execute("rollback")
    set_limit(conn, 0)
    conn.execute(f"begin isolation level {level}")
    assert len(fetch(conn, worker)) == 3
    conn.execute("commit")


def test_a_claim_left_open_hangs_nobody(conn, connect, worker):
    """Others get nothing before it is known, and the rest as soon as it is."""
    other = connect()
    other_worker = start_worker(other)
    set_limit(conn, 5)
    enqueue_many(conn, 10)
    conn.execute("begin")
    assert len(fetch(conn, worker, 1)) == 1
    other.execute("set statement_timeout = '20 s'; set lock_timeout = '1 ms'")
    assert fetch(other, other_worker) == []
    conn.execute("commit")
    assert len(fetch(other, other_worker)) == 4


def test_a_claim_rolled_back_to_a_savepoint_gives_its_room_back(conn, connect, worker):
    other = connect()
    other_worker = start_worker(other)
    set_limit(conn, 1)
    enqueue(conn)
    conn.execute("begin")
    conn.execute("savepoint before")
    assert len(fetch(conn, worker)) == 1
    conn.execute("rollback to before")
    assert len(fetch(other, other_worker)) == 1
    conn.execute("commit")


def test_claims_of_two_limited_queues_in_one_transaction_do_not_deadlock(conn, connect):
    sessions = [connect(autocommit=False), connect(autocommit=False)]
    for queue in ("left", "right"):
        set_limit(conn, 100, queue)
        enqueue_many(conn, 100, queue=queue)

    def claim(session: psycopg.Connection, *queues: str) -> None:
        worker = start_worker(session, "left", "right")
        for _ in range(20):
            for queue in queues:
                complete(session, fetch(session, worker, 1, queue))
            session.commit()

    at_once(
        lambda: claim(sessions[0], "left", "right"), lambda: claim(sessions[1], "right", "left")
    )
    for session in sessions:
        session.rollback()


def test_a_queue_beside_a_full_one_drains_as_ever(conn, connect, worker):
    """While a claim of the limited queue is open, and others press."""
    set_limit(conn, 1)
    enqueue_many(conn, 100)
    enqueue_many(conn, 1000, queue="mail")
    holder, presser = connect(), connect()
    holder_worker, presser_worker = start_worker(holder), start_worker(presser)
    holder.execute("begin")
    assert len(fetch(holder, holder_worker)) == 1
    threads = Threads()

    def press() -> None:
        while not threads.stop.is_set():
            assert fetch(presser, presser_worker) == []

    threads.start(press)
    conn.execute("set lock_timeout = '1 ms'")
    for _ in range(10):
        jobs = fetch(conn, worker, 100, "mail")
        assert len(jobs) == 100
        assert len(complete(conn, jobs)) == 100
    threads.stop.set()
    threads.join()
    holder.execute("commit")


CLAIM = "select * from eram_fetch('default', 10, %s)"


def claim_buffers(conn: psycopg.Connection, worker: int) -> int:
    """Return what a claim costs that finds nothing."""
    return min(shared_buffers(conn, CLAIM, worker) for _ in range(5))


def test_a_queue_without_a_limit_pays_nothing(conn, worker):
    """For nothing but the look at its row, which tells whether it is paused as well."""
    for _ in range(10):
        enqueue_many(conn, 1000, queue="mail")
        fetch(conn, worker, 1000, "mail")
    enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_set_queue('default', priority => 3)")
    alone = claim_buffers(conn, worker)
    set_limit(conn, 20_000, "mail")
    beside = claim_buffers(conn, worker)
    look = min(shared_buffers(conn, "select _eram_limit('default')") for _ in range(2))
    print(f"{alone} buffers alone, {beside} beside 10,000 of a limited queue, {look} to look")
    assert beside <= alone + 2
    assert look <= 4
    assert not value(
        conn,
        """
        select count(*)
        from pg_indexes
        where tablename = 'eram_running_jobs' and indexname <> 'eram_running_jobs_pkey'
        """,
    )


def test_counting_under_an_open_snapshot_reads_the_table_once_at_most(conn, connect, worker):
    """10,000 dead rows that no vacuum may remove."""
    set_limit(conn, 3, "mail")
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from eram_running_jobs")
    enqueue_many(conn, 10_000)
    complete(conn, fetch(conn, worker, 10_000))
    pages = value(conn, "select pg_relation_size('eram_running_jobs') / 8192")
    buffers = min(shared_buffers(conn, "select _eram_slots_left('mail')") for _ in range(2))
    print(f"{buffers} buffers for a table of {pages} pages")
    assert 50 < pages <= buffers <= pages + 20
    pin.execute("commit")


def test_who_waits_at_a_full_queue_is_not_told_of_enqueues(conn, connect, worker):
    """It could do nothing with them, and each would cost its producer."""
    waiter = connect()
    set_limit(conn, 1)
    enqueue_many(conn, 2)
    mark = value(waiter, "select mark from eram_start_waiting('default')")
    assert mark is not None
    assert value(waiter, HOLDS)
    jobs = fetch(conn, worker)
    again = row(waiter, "select * from eram_start_waiting('default', %s)", mark)
    assert (again.mark, again.is_settled, again.next_due_at) == (None, False, None)
    assert again.is_limited
    assert value(waiter, "select is_limited from eram_start_waiting('mail')") is False
    assert not value(waiter, HOLDS)
    list(waiter.notifies(timeout=0, stop_after=None))
    enqueue(conn)
    waiter.execute("select")
    assert list(waiter.notifies(timeout=0.1, stop_after=None)) == []
    complete(conn, jobs)
    assert value(waiter, "select mark from eram_start_waiting('default')") is not None
    enqueue(conn)
    assert [notify.payload for notify in waiter.notifies(timeout=5, stop_after=1)] == ["default"]


def test_who_waits_learns_of_a_new_limit(conn, connect):
    waiter = connect()
    waiter.execute("select eram_start_waiting('default')")
    set_limit(conn, 5)
    assert [notify.payload for notify in waiter.notifies(timeout=5, stop_after=1)] == ["default"]


def test_a_claim_that_has_waited_for_its_turn_meets_a_pause(conn):
    """It saw the queue open before; what it may claim it asks when it has the queue's lock."""
    set_limit(conn, 3)
    assert value(conn, "select _eram_take_room('default')") == 3
    conn.execute("select eram_pause_queue('default')")
    assert value(conn, "select _eram_take_room('default')") == 0


def test_a_paused_queue_with_a_limit_is_paused(conn, worker):
    set_limit(conn, 5)
    enqueue(conn)
    conn.execute("select eram_pause_queue('default')")
    assert fetch(conn, worker) == []
    assert value(conn, "select mark from eram_start_waiting('default')") is None
    conn.execute("select eram_resume_queue('default')")
    assert len(fetch(conn, worker)) == 1
