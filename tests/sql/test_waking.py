"""Waking: who waits is told, nobody else is, and none waits in vain."""

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
    enqueue,
    enqueue_many,
    fetch,
    fetch_sweeping,
    read_cursor,
    row,
    start_worker,
    value,
    wait_until,
    write_cursor,
)

START = "select * from eram_start_waiting(%s)"
AGAIN = "select * from eram_start_waiting(%s, %s)"


def notices(conn: psycopg.Connection, seconds: float = 0) -> list[str]:
    """Return the payloads that have come, or come within the time."""
    # What was committed before this has been sent by the time the answer of this comes.
    conn.execute("select")
    return [notify.payload for notify in conn.notifies(timeout=seconds, stop_after=None)]


def listen_to(conn: psycopg.Connection, queue: str = "default") -> None:
    """Hear what is said, without waiting for jobs as a worker does."""
    conn.execute(f"listen {value(conn, 'select _eram_channel(%s)', queue)}")


def advisory_locks(conn: psycopg.Connection, pid: int) -> int:
    return value(
        conn, "select count(*) from pg_locks where locktype = 'advisory' and pid = %s", pid
    )


def test_nobody_is_notified_when_nobody_waits(conn, connect):
    listener = connect()
    listen_to(listener)
    enqueue(conn)
    enqueue_many(conn, 10)
    assert notices(listener, 0.1) == []


def test_who_waits_is_notified(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    enqueue(conn)
    assert notices(waiter, 0.2) == ["default"]


def test_every_waiter_is_notified(conn, connect):
    waiters = [connect() for _ in range(3)]
    for waiter in waiters:
        waiter.execute(START, ["default"])
    enqueue(conn)
    assert [notices(waiter, 0.2) for waiter in waiters] == [["default"]] * 3


def test_one_notification_for_each_transaction_and_queue(conn, connect):
    waiter = connect()
    waiter.execute(START, ["a"])
    waiter.execute(START, ["b"])
    with conn.transaction():
        for _ in range(5):
            enqueue(conn, queue="a")
            enqueue_many(conn, 20, queue="b")
    enqueue(conn, queue="a")
    assert sorted(notices(waiter, 0.2)) == ["a", "a", "b"]


def test_a_batch_over_several_queues_wakes_each(conn, connect):
    waiter = connect()
    for queue in ("a", "b"):
        waiter.execute(START, [queue])
    jobs = [{"handler": "x:y", "queue": queue} for queue in ("a", "b", "a")]
    conn.execute("select eram_enqueue_jobs(%s)", [Jsonb(jobs)])
    assert sorted(notices(waiter, 0.2)) == ["a", "b"]


def test_waiters_of_other_queues_are_left_alone(conn, connect):
    waiter = connect()
    waiter.execute(START, ["mail"])
    enqueue(conn, queue="default")
    enqueue(conn, queue="mails")
    assert notices(waiter, 0.1) == []


def test_a_rolled_back_enqueue_wakes_nobody(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    with conn.transaction(force_rollback=True):
        enqueue(conn)
    assert notices(waiter, 0.1) == []


def test_a_queue_can_switch_notification_off(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    conn.execute("select eram_set_queue('default', is_notifying => false)")
    enqueue(conn)
    assert notices(waiter, 0.1) == []
    conn.execute("select eram_set_queue('default', is_notifying => true)")
    enqueue(conn)
    assert notices(waiter, 0.2) == ["default"]


def test_a_session_can_switch_notification_off(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    conn.execute("set eram.notify = off")
    enqueue(conn)
    assert notices(waiter, 0.1) == []
    conn.execute("reset eram.notify")
    enqueue(conn)
    assert notices(waiter, 0.2) == ["default"]


def test_who_stopped_waiting_is_left_alone(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    waiter.execute("select eram_stop_waiting('default')")
    enqueue(conn)
    assert notices(waiter, 0.1) == []


def test_to_start_twice_and_stop_once_leaves_no_lock(conn, connect):
    waiter = connect()
    for _ in range(2):
        waiter.execute(START, ["default"])
    assert advisory_locks(conn, waiter.info.backend_pid) == 1
    waiter.execute("select eram_stop_waiting('default')")
    assert advisory_locks(conn, waiter.info.backend_pid) == 0
    waiter.execute("select eram_stop_waiting('default')")
    assert advisory_locks(conn, waiter.info.backend_pid) == 0


def test_to_stop_without_having_started_does_nothing(conn, connect):
    waiter, other = connect(), connect()
    waiter.execute(START, ["default"])
    other.execute("select eram_stop_waiting('default')")
    enqueue(conn)
    assert notices(waiter, 0.2) == ["default"]


def test_a_waiter_that_is_gone_no_longer_waits(conn, connect):
    waiter, listener = connect(), connect()
    waiter.execute(START, ["default"])
    pid = waiter.info.backend_pid
    waiter.close()
    wait_until(lambda: advisory_locks(conn, pid) == 0, "the session has ended")
    listen_to(listener)
    enqueue(conn)
    assert notices(listener, 0.1) == []


def test_an_enqueue_leaves_no_lock(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])
    with conn.transaction():
        enqueue(conn)
        assert advisory_locks(conn, conn.info.backend_pid) == 0


@pytest.mark.parametrize(
    "way_back",
    [
        "eram_release_jobs(array[%(id)s], array[%(run)s])",
        "eram_fail_job(%(id)s, %(run)s, 'x', delay => '0')",
        "eram_snooze_job(%(id)s, %(run)s, '0')",
        "eram_stop_worker(%(worker)s)",
        "eram_resume_queue('default')",
    ],
)
def test_whatever_makes_a_job_available_wakes(conn, connect, worker, way_back):
    enqueue(conn)
    (job,) = fetch(conn, worker)
    if "resume" in way_back:
        conn.execute("select eram_pause_queue('default')")
    waiter = connect()
    waiter.execute(START, ["default"])
    conn.execute(f"select {way_back}", {"id": job.id, "run": job.run, "worker": worker})
    assert notices(waiter, 0.2) == ["default"]


def test_many_producers_do_not_take_each_other_for_a_waiting_worker(conn, connect):
    listener = connect()
    listen_to(listener)
    count = 400

    def produce() -> None:
        session = connect()
        for _ in range(count):
            enqueue(session)

    at_once(*[produce] * 8)
    assert value(conn, "select count(*) from eram_queued_jobs") == 8 * count
    assert len(notices(listener, 0.1)) == 0


def test_many_producers_all_see_a_waiting_worker(conn, connect):
    waiter = connect()
    waiter.execute(START, ["default"])

    def produce() -> None:
        session = connect()
        for _ in range(50):
            enqueue(session)

    at_once(*[produce] * 8)
    assert len(notices(waiter, 0.5)) == 8 * 50


def settles(waiter: psycopg.Connection, worker: int, mark: str) -> bool:
    """Fetch as a waiting worker does, and say whether it may sleep then."""
    fetch(waiter, worker)
    return row(waiter, AGAIN, "default", mark).is_settled


def test_waiting_is_settled_once_no_older_writer_is_left(conn, connect):
    writer, waiter = connect(), connect()
    worker = start_worker(waiter)
    writer.execute("begin")
    writer.execute("select pg_current_xact_id()")
    first = row(waiter, START, "default")
    assert not first.is_settled
    fetch_sweeping(waiter, worker)
    again = row(waiter, AGAIN, "default", first.mark)
    assert (again.mark, again.is_settled) == (first.mark, False)
    writer.execute("commit")
    assert not row(waiter, AGAIN, "default", first.mark).is_settled, "not without a sweep"
    wait_until(lambda: settles(waiter, worker, first.mark), "it is settled")


def test_a_reader_does_not_keep_waiting_from_being_settled(conn, connect):
    reader, waiter = connect(), connect()
    worker = start_worker(waiter)
    reader.execute("begin isolation level repeatable read")
    reader.execute("select count(*) from eram_jobs")
    mark = row(waiter, START, "default").mark
    wait_until(lambda: settles(waiter, worker, mark), "it is settled", seconds=5)
    reader.execute("commit")


def test_a_later_writer_does_not_keep_waiting_from_being_settled(conn, connect):
    later, waiter = connect(), connect()
    worker = start_worker(waiter)
    mark = row(waiter, START, "default").mark
    later.execute("begin")
    later.execute("select pg_current_xact_id()")
    wait_until(lambda: settles(waiter, worker, mark), "it is settled")
    later.execute("rollback")


def test_a_fetch_that_did_not_sweep_is_to_be_followed_by_one(conn, connect):
    """What it passed over is found when the server says to look again, not at the next poll."""
    late, waiter = connect(autocommit=False), connect()
    worker = start_worker(waiter)
    mark = row(waiter, START, "default").mark
    wait_until(lambda: settles(waiter, worker, mark), "it is settled")
    enqueue(late)
    cursor = read_cursor(waiter)
    cursor[3] = 50_000  # the last sweep took 50 ms: the next one is due after a second
    cursor[2] -= 60_000
    cursor[4] -= 60_000
    write_cursor(waiter, cursor)
    assert fetch(waiter, worker) == []
    late.commit()
    assert fetch(waiter, worker) == [], "the job has come in behind the cursor"
    due_at = row(waiter, AGAIN, "default", mark).next_due_at
    now = value(conn, "select clock_timestamp()")
    assert 0 < (due_at - now).total_seconds() < 1
    wait_until(lambda: value(conn, "select clock_timestamp() >= %s", due_at), "it is due")
    assert len(fetch(waiter, worker)) == 1


def test_when_the_next_job_is_due(conn):
    assert row(conn, START, "default").next_due_at is None
    enqueue(conn, queue="other", delay=5)
    assert row(conn, START, "default").next_due_at is None
    late = enqueue(conn, delay=7200, priority=0)
    soon = enqueue(conn, delay=3600, priority=9)
    enqueue(conn)
    at = value(conn, "select scheduled_at from eram_jobs where id = %s", soon)
    found = row(conn, START, "default")
    assert found.next_due_at == at
    assert row(conn, AGAIN, "default", found.mark).next_due_at == at
    conn.execute("select eram_cancel_job(%s)", [soon])
    at = value(conn, "select scheduled_at from eram_jobs where id = %s", late)
    assert row(conn, START, "default").next_due_at == at


def test_no_job_of_a_paused_queue_is_due_next(conn):
    enqueue(conn, delay=3600)
    conn.execute("select eram_pause_queue('default')")
    assert row(conn, START, "default").next_due_at is None


def test_enqueues_into_a_paused_queue_notify_nobody_and_its_resume_does(conn, connect):
    """Neither who waited before it was paused, nor who would wait now."""
    waiters = [connect(), connect()]
    mark = row(waiters[0], START, "default").mark
    conn.execute("select eram_pause_queue('default')")
    assert row(waiters[0], AGAIN, "default", mark).mark is None
    assert row(waiters[1], START, "default").mark is None
    enqueue(conn)
    assert [notices(waiter, 0.1) for waiter in waiters] == [[], []]
    conn.execute("select eram_resume_queue('default')")
    assert [notices(waiter, 0.2) for waiter in waiters] == [["default"]] * 2
    assert row(waiters[1], START, "default").mark is not None


def test_a_queue_name_of_any_kind_can_be_waited_for(conn, connect):
    queue = 'O\'Brien "🦀" ' + "x" * 100
    waiter = connect()
    waiter.execute(START, [queue])
    enqueue(conn, queue=queue)
    assert notices(waiter, 0.2) == [queue]


def test_a_waiter_is_never_missed(conn, connect):
    """Declare, fetch, poll until settled, sleep: every job is found by one of these or wakes."""
    rounds, producers = 120, 3
    waiter = connect()
    worker = start_worker(waiter)
    start, threads = threading.Barrier(producers + 1), Threads()

    def produce(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        for _ in range(rounds):
            start.wait(20)
            time.sleep(rnd.choice([0, 0, rnd.uniform(0, 0.003)]))
            enqueue(session)
            time.sleep(rnd.choice([0, 0, rnd.uniform(0, 0.01)]))
            session.commit()

    def consume() -> None:
        rnd = random.Random(99)
        woken = 0
        for number in range(rounds):
            start.wait(20)
            time.sleep(rnd.choice([0, rnd.uniform(0, 0.004)]))
            found = 0
            mark = row(waiter, START, "default").mark
            # Polling, until whoever may have missed the declaration has ended.
            while not row(waiter, AGAIN, "default", mark).is_settled:
                found += len(fetch(waiter, worker))
            # Asleep: from now on nothing but a notification makes it look again.
            while found < producers:
                assert list(waiter.notifies(timeout=10, stop_after=1)), (
                    f"round {number}: {found} of {producers} jobs, and no notification"
                )
                woken += 1
                found += len(fetch(waiter, worker))
                while row(waiter, AGAIN, "default", mark).next_due_at is not None:
                    found += len(fetch(waiter, worker))
            waiter.execute("select eram_stop_waiting('default')")
        print(f"woken {woken} times in {rounds} rounds")

    for seed in range(producers):
        threads.start(produce, connect(autocommit=False), seed)
    threads.start(consume)
    threads.join(90)
    assert value(conn, "select count(*) from eram_running_jobs") == rounds * producers
