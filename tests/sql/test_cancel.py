"""Cancelling, and the races of whoever moves a single job."""

from __future__ import annotations

import random
import time

import psycopg
import pytest

from .helpers import (
    Threads,
    at_once,
    column,
    complete,
    enqueue,
    fetch,
    fetch_late,
    row,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)

JOB = "select * from eram_jobs where id = %s"
CANCEL = "select eram_cancel_job(%s)"


def test_a_waiting_job_is_cancelled(conn, worker):
    job_id = enqueue(conn)
    assert value(conn, CANCEL, job_id) is True
    seen = row(conn, JOB, job_id)
    assert (seen.state, seen.attempt, seen.attempted_by, seen.errors) == (
        "cancelled",
        0,
        None,
        None,
    )
    assert seen.finalized_at is not None
    assert fetch(conn, worker) == []


def test_a_reason_is_kept(conn, worker):
    job_id = enqueue(conn)
    value(conn, "select eram_cancel_job(%s, 'by order')", job_id)
    (error,) = row(conn, JOB, job_id).errors
    assert (error["error"], error["type"]) == ("by order", "cancelled")


def test_a_job_that_waits_after_a_failure_is_cancelled_with_both_errors(conn, worker):
    job_id = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'boom', delay => '1 hour')", [job_id])
    assert value(conn, "select eram_cancel_job(%s, 'by order')", job_id) is True
    seen = row(conn, JOB, job_id)
    assert (seen.state, seen.attempt) == ("cancelled", 1)
    assert [error["error"] for error in seen.errors] == ["boom", "by order"]


def test_a_running_job_is_cancelled_and_its_worker_told(conn, worker):
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    assert value(conn, CANCEL, job_id) is True
    assert state_of(conn, job_id) == "cancelled"
    assert complete(conn, jobs) == []
    assert value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker) == [job_id]
    assert value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker) == []


def test_a_handler_cancels_itself_by_its_run_and_is_not_told(conn, worker):
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    assert value(conn, "select eram_cancel_job(%s, 'enough', %s)", job_id, job.run) is True
    assert state_of(conn, job_id) == "cancelled"
    assert value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker) == []


def test_another_run_cannot_be_cancelled_by_its_number(conn, worker):
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    assert value(conn, "select eram_cancel_job(%s, run => %s)", job_id, job.run + 1) is False
    assert state_of(conn, job_id) == "executing"
    conn.execute("select eram_release_jobs(%s, %s)", [[job_id], [job.run]])
    assert value(conn, "select eram_cancel_job(%s, run => %s)", job_id, job.run) is False
    assert state_of(conn, job_id) == "available"


@pytest.mark.parametrize("end", ["complete", "discard", "cancel"])
def test_a_job_that_has_ended_is_not_cancelled(conn, worker, end):
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    if end == "complete":
        complete(conn, jobs)
    elif end == "discard":
        conn.execute("select eram_discard_job(%s, 1)", [job_id])
    else:
        conn.execute(CANCEL, [job_id])
    before = state_of(conn, job_id)
    assert value(conn, CANCEL, job_id) is False
    assert state_of(conn, job_id) == before


def test_a_job_whose_enqueue_is_not_committed_does_not_exist_yet(conn, connect):
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    with pytest.raises(psycopg.errors.UndefinedObject):
        conn.execute(CANCEL, [job_id])
    producer.commit()
    assert value(conn, CANCEL, job_id) is True


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cancel_waits_for_a_claim_under_way(conn, connect, worker, end):
    """And finds the job wherever the claim has left it."""
    job_id = enqueue(conn)
    claimer, canceller = connect(autocommit=False), connect()
    assert len(fetch(claimer, worker)) == 1
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(value(canceller, CANCEL, job_id)))
    wait_for_lock_wait(conn, canceller)
    claimer.execute(end)
    threads.join(10)
    assert answers == [True]
    assert state_of(conn, job_id) == "cancelled"
    told = value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker)
    assert told == ([job_id] if end == "commit" else [])


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(
    "move",
    [
        "eram_release_jobs(array[%(id)s], array[1])",
        "eram_snooze_job(%(id)s, 1, '1 hour')",
        "eram_fail_job(%(id)s, 1, 'x')",
        "eram_complete_jobs(array[%(id)s], array[1])",
        "eram_discard_job(%(id)s, 1)",
    ],
)
def test_a_cancel_waits_for_a_move_under_way(conn, connect, worker, move, end):
    job_id = enqueue(conn)
    fetch(conn, worker)
    mover, canceller = connect(autocommit=False), connect()
    mover.execute(f"select {move}", {"id": job_id})
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(value(canceller, CANCEL, job_id)))
    wait_for_lock_wait(conn, canceller)
    mover.execute(end)
    threads.join(10)
    ended = end == "commit" and ("complete" in move or "discard" in move)
    assert answers == [not ended]
    assert (state_of(conn, job_id) == "cancelled") is not ended


@pytest.mark.parametrize("finish", ["complete", "release"])
def test_a_finish_waits_for_a_cancel_under_way(conn, connect, worker, finish):
    job_id = enqueue(conn)
    fetch(conn, worker)
    canceller, finisher = connect(autocommit=False), connect()
    canceller.execute(CANCEL, [job_id])
    answers: list[int] = []
    threads = Threads()
    threads.start(
        lambda: answers.extend(
            column(finisher, f"select eram_{finish}_jobs(%s, %s)", [job_id], [1])
        )
    )
    wait_for_lock_wait(conn, finisher)
    canceller.commit()
    threads.join(10)
    assert answers == []
    assert state_of(conn, job_id) == "cancelled"


def test_cancels_that_race_claims_and_completions_answer_truly(conn, connect):
    """Many rounds at random moments: what was answered is what became of the job."""
    rounds = 150
    claimer, canceller = connect(), connect()
    worker = start_worker(claimer)
    states: list[str] = []
    for number in range(rounds):
        rnd = random.Random(number)
        pauses = [rnd.uniform(0, 0.002), rnd.uniform(0, 0.002), rnd.uniform(0, 0.006)]
        job_id = enqueue(conn)
        completed: list[int] = []
        answers: list[bool] = []

        def run(pauses=pauses, completed=completed) -> None:
            time.sleep(pauses[0])
            jobs = fetch(claimer, worker)
            time.sleep(pauses[1])
            completed.extend(complete(claimer, jobs))

        def cancel(pauses=pauses, answers=answers, job_id=job_id) -> None:
            time.sleep(pauses[2])
            answers.append(value(canceller, CANCEL, job_id))

        at_once(run, cancel)
        state = state_of(conn, job_id)
        assert (answers, completed) == (
            ([True], []) if state == "cancelled" else ([False], [job_id])
        ), (number, state)
        states.append(state)
    assert set(states) == {"cancelled", "completed"}


def test_cancels_that_race_releases_never_lose_a_job(conn, connect):
    """The job is on its way back to the queue, and from there into the next claim."""
    claimer, canceller, releaser = connect(), connect(), connect()
    worker = start_worker(claimer)
    for number in range(100):
        rnd = random.Random(number)
        job_id = enqueue(conn)
        (job,) = fetch_late(claimer, worker)
        answers: list[bool] = []

        def release(rnd=rnd, job=job) -> None:
            time.sleep(rnd.uniform(0, 0.001))
            releaser.execute("select eram_release_jobs(%s, %s)", [[job.id], [job.run]])

        def claim(rnd=rnd) -> None:
            time.sleep(rnd.uniform(0, 0.003))
            fetch(claimer, worker)

        def cancel(rnd=rnd, answers=answers, job_id=job_id) -> None:
            time.sleep(rnd.uniform(0, 0.003))
            answers.append(value(canceller, CANCEL, job_id))

        at_once(release, claim, cancel)
        assert answers == [True]
        assert state_of(conn, job_id) == "cancelled"
