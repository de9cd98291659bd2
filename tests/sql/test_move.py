"""Moving waiting jobs to another queue."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    Threads,
    at_once,
    column,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    fetch_sweeping,
    row,
    rows,
    start_worker,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import STATES, WAITING, bulk, one_of_each, states
from .unique_helpers import put

JOB = "select * from eram_jobs where id = %s"
QUEUES = "select id, queue from eram_jobs"


@pytest.mark.parametrize("state", STATES)
def test_what_is_moved_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "move", {"state": state}, "there") == (state in WAITING)
    queues = dict(rows(conn, QUEUES))
    assert queues.pop(jobs[state]) == ("there" if state in WAITING else "default")
    assert set(queues.values()) == {"default"}
    assert states(conn) == {job_id: state for state, job_id in jobs.items()}


def test_what_is_there_already_does_not_count_and_keeps_its_ticket(conn):
    there = enqueue(conn, queue="there")
    ticket = row(conn, "select ctid, * from eram_queued_jobs")
    enqueue(conn)
    assert bulk(conn, "move", {"all": True}, "there") == 1
    assert row(conn, "select ctid, * from eram_queued_jobs where job_id = %s", there) == ticket
    assert bulk(conn, "move", {"queue": "there"}, "there") == 0


def test_a_moved_job_keeps_all_but_its_queue(conn, worker):
    job_id = enqueue(conn, priority=3, delay=3600, tags=["a"], args={"n": 1}, max_attempts=7)
    before = row(conn, JOB, job_id)
    assert bulk(conn, "move", {"ids": [job_id]}, "there") == 1
    assert row(conn, JOB, job_id) == before._replace(queue="there")
    assert value(conn, "select lane from eram_queued_jobs") == 7


def test_moved_jobs_are_claimed_there_in_the_order_that_they_had(conn, connect, worker):
    session = connect()
    other = start_worker(session, "there")
    ids = [enqueue(conn, priority=priority) for priority in (5, 0, 5, 2)]
    assert fetch(session, other, queue="there") == []
    assert bulk(conn, "move", {"queue": "default"}, "there") == 4
    assert fetch(conn, worker) == []
    found = fetch_late(session, other, 4, queue="there")
    assert [job.id for job in found] == [ids[1], ids[3], ids[0], ids[2]]
    assert {job.queue for job in found} == {"there"}


def test_what_came_back_goes_first_there_too(conn, worker):
    start_worker(conn, "there")
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_release_jobs(%s, %s)", [[job.id], [job.run]])
    enqueue(conn, queue="there")
    assert bulk(conn, "move", {"ids": [job_id]}, "there") == 1
    assert [job.id for job in fetch(conn, worker, 1, "there")] == [job_id]


def test_nothing_enters_a_lane_in_the_past(conn, connect):
    """The clock is read when the wait for another is over."""
    due, later = enqueue(conn), enqueue(conn, delay=3600)
    holder, mover = connect(autocommit=False), connect()
    holder.execute("select from eram_queued_jobs where job_id = %s for update", [later])
    threads = Threads()
    threads.start(lambda: bulk(mover, "move", {"all": True}, "there"))
    wait_for_lock_wait(conn, mover)
    released_at = value(conn, "select clock_timestamp()")
    holder.commit()
    threads.join(10)
    assert row(conn, JOB, due).scheduled_at > released_at
    assert row(conn, JOB, later).scheduled_at == value(
        conn, "select scheduled_at from eram_job_specs where job_id = %s", later
    )


def test_a_unique_key_stays_what_it_was(conn):
    first = put(conn)
    assert bulk(conn, "move", {"all": True}, "there") == 1
    assert put(conn) == (first.id, True)
    assert put(conn, queue="there").is_duplicate is False
    conn.execute("select eram_cancel_job(%s)", [first.id])
    assert put(conn).is_duplicate is False


def test_a_worker_that_waits_there_is_woken(conn, connect):
    enqueue_many(conn, 5)
    waiter = connect()
    waiter.execute("select eram_start_waiting('there')")
    assert bulk(conn, "move", {"all": True}, "there") == 5
    (notice,) = waiter.notifies(timeout=10, stop_after=1)
    assert notice.payload == "there"


@pytest.mark.parametrize(
    ("queue", "error"),
    [
        ("", psycopg.errors.NullValueNotAllowed),
        (None, psycopg.errors.NullValueNotAllowed),
        (" x", psycopg.errors.InvalidName),
        ("a\tb", psycopg.errors.InvalidName),
        ("x" * 129, psycopg.errors.NameTooLong),
    ],
)
def test_a_bad_queue_is_refused(conn, queue, error):
    enqueue(conn)
    with pytest.raises(error):
        bulk(conn, "move", {"all": True}, queue)
    assert column(conn, "select queue from eram_jobs") == ["default"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_what_is_claimed_under_its_hands_is_passed_over(conn, connect, worker, end):
    ids = enqueue_many(conn, 10)
    claimer, mover = connect(autocommit=False), connect()
    claimed = {job.id for job in fetch(claimer, worker, 4)}
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(mover, "move", {"all": True}, "there")))
    wait_for_lock_wait(conn, mover)
    claimer.execute(end)
    threads.join(10)
    stayed = claimed if end == "commit" else set()
    assert counts == [10 - len(stayed)]
    assert {job_id for job_id, queue in rows(conn, QUEUES) if queue == "default"} == stayed
    assert len(ids) == 10


def test_what_comes_back_under_its_hands_is_followed(conn, connect, worker):
    """A ticket that was replaced by another of the same queue is still a match."""
    job_id = enqueue(conn)
    updater, mover = connect(autocommit=False), connect()
    assert value(updater, "select eram_update_job(%s, priority => 5)", job_id) is True
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(mover, "move", {"queue": "default"}, "there")))
    wait_for_lock_wait(conn, mover)
    updater.commit()
    threads.join(10)
    assert counts == [1]
    assert (row(conn, JOB, job_id).queue, row(conn, JOB, job_id).priority) == ("there", 5)


def test_what_another_moved_elsewhere_no_longer_matches(conn, connect):
    job_id = enqueue(conn)
    first, second = connect(autocommit=False), connect()
    assert bulk(first, "move", {"queue": "default"}, "here") == 1
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(second, "move", {"queue": "default"}, "there")))
    wait_for_lock_wait(conn, second)
    first.commit()
    threads.join(10)
    assert counts == [0]
    assert row(conn, JOB, job_id).queue == "here"


def test_moves_to_and_fro_beside_claims_lose_nothing(conn, connect):
    sessions = [connect() for _ in range(4)]
    workers = {"a": start_worker(sessions[0], "a"), "b": start_worker(sessions[1], "b")}
    for _ in range(8):
        ids = set(enqueue_many(conn, 100, queue="a"))
        done: list[int] = []

        def work(session, queue: str, done=done) -> None:
            for _ in range(8):
                done.extend(complete(session, fetch(session, workers[queue], 5, queue)))

        def shuffle(session, queue: str) -> None:
            for number in range(5):
                bulk(session, "move", {"all": True}, "ab"[(number + (queue == "b")) % 2])

        at_once(
            lambda: work(sessions[0], "a"),
            lambda: work(sessions[1], "b"),
            lambda: shuffle(sessions[2], "a"),
            lambda: shuffle(sessions[3], "b"),
        )
        for session, queue in zip(sessions, "ab", strict=False):
            while jobs := fetch_sweeping(session, workers[queue], queue):
                done.extend(complete(session, jobs))
        assert len(done) == 100
        assert set(done) == ids
