"""Rescue by proof of death: what becomes of the jobs, and of nobody else's."""

from __future__ import annotations

import time

import psycopg
import pytest

from .helpers import (
    at_once,
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    start_worker,
    state_of,
    value,
    wait_until,
)
from .rescue_helpers import RESCUE, WORKER, age, declare_dead, has_run_for, kill


@pytest.mark.timing
def test_the_jobs_of_a_killed_worker_come_back_within_seconds(conn, connect):
    """In real time, by what every worker does: a call a second."""
    wait_until(
        lambda: has_run_for(conn, 31), "the server has run for a while", seconds=35, pause=0.2
    )
    victim = connect()
    worker = start_worker(victim)
    ids = enqueue_many(conn, 3)
    fetch(victim, worker)
    pid = victim.info.backend_pid
    conn.execute("select pg_terminate_backend(%s)", [pid])
    start = time.monotonic()
    wait_until(lambda: value(conn, RESCUE) == 3, "the jobs are rescued", seconds=10, pause=0.1)
    assert 2.5 < time.monotonic() - start < 5
    survivor = start_worker(conn)
    jobs = fetch(conn, survivor)
    assert [(job.id, job.run, job.attempt) for job in jobs] == [(job_id, 2, 2) for job_id in ids]


def test_a_rescue_counts_as_an_attempt_and_says_who_died(conn, connect):
    victim = connect()
    worker = start_worker(victim, name="mortal")
    job_id = enqueue(conn)
    (job,) = fetch(victim, worker)
    assert declare_dead(conn, victim, worker) == 1
    seen = row(conn, "select * from eram_jobs where id = %s", job_id)
    assert (seen.state, seen.attempt) == ("available", 1)
    (error,) = seen.errors
    for word in ("mortal", str(worker), "died"):
        assert word in error["error"]
    assert (error["type"], error["attempt"]) == ("rescued", 1)
    assert complete(conn, [job]) == []
    assert row(conn, WORKER, worker).end_reason == "died"


def test_a_rescued_job_without_attempts_left_is_discarded(conn, connect):
    victim = connect()
    worker = start_worker(victim)
    first, second = enqueue(conn, max_attempts=1), enqueue(conn, max_attempts=2)
    fetch(victim, worker)
    assert declare_dead(conn, victim, worker) == 2
    assert [state_of(conn, first), state_of(conn, second)] == ["discarded", "available"]
    assert "died" in row(conn, "select * from eram_jobs where id = %s", first).errors[0]["error"]


def test_a_rescued_job_goes_first_within_its_priority(conn, connect):
    victim = connect()
    worker = start_worker(victim)
    rescued = enqueue(conn, priority=1)
    fetch(victim, worker)
    other, urgent = enqueue(conn, priority=1), enqueue(conn, priority=0)
    declare_dead(conn, victim, worker)
    assert [job.id for job in fetch(conn, start_worker(conn))] == [urgent, rescued, other]


def test_a_rescue_wakes_who_waits(conn, connect):
    victim, waiter = connect(), connect()
    worker = start_worker(victim)
    enqueue(conn)
    fetch(victim, worker)
    waiter.execute("select eram_start_waiting('default')")
    declare_dead(conn, victim, worker)
    waiter.execute("select")
    assert [n.payload for n in waiter.notifies(timeout=1, stop_after=1)] == ["default"]


@pytest.mark.parametrize("rescue_after", [None, "0", "1 second"])
def test_the_job_of_a_live_worker_is_never_rescued(conn, connect, rescue_after):
    """However long it has been running, and whatever rescue_after says."""
    living = connect()
    worker = start_worker(living)
    job_id = enqueue(conn)
    fetch(living, worker)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '30 days'")
    for _ in range(3):
        assert value(conn, "select eram_rescue_jobs(%s)", rescue_after) == 0
    assert state_of(conn, job_id) == "executing"


def test_a_worker_declared_dead_learns_it_and_is_fenced(conn, connect):
    first, second = connect(), connect()
    worker = start_worker(first)
    job_id = enqueue(conn)
    (job,) = fetch(first, worker)
    declare_dead(conn, first, worker)
    assert value(second, "select is_alive from eram_heartbeat(%s)", worker) is False
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        fetch(second, worker)
    (again,) = fetch(conn, start_worker(conn))
    before = contents(conn)
    assert complete(second, [job]) == []
    assert value(second, "select eram_fail_job(%s, %s, 'late')", job.id, job.run) is None
    assert contents(conn) == before
    assert complete(conn, [again]) == [job_id]


def test_a_claim_under_way_while_its_worker_is_dying_does_not_stay_behind(conn, connect):
    """It either commits before the worker is declared dead, or is refused."""
    proof, claimer = connect(), connect(autocommit=False)
    worker = start_worker(proof)
    job_id = enqueue(conn)
    assert len(fetch(claimer, worker)) == 1
    kill(conn, proof)
    value(conn, RESCUE)
    age(conn, worker)
    assert value(conn, RESCUE) == 0
    assert row(conn, WORKER, worker).ended_at is None
    claimer.commit()
    assert value(conn, RESCUE) == 1
    assert state_of(conn, job_id) == "available"


def test_a_claim_that_saw_its_worker_alive_long_ago_is_rescued(conn, connect):
    """At REPEATABLE READ a session sees the worker as it was: what it claims must not stay."""
    proof, claimer = connect(), connect(autocommit=False)
    worker = start_worker(proof)
    job_id = enqueue(conn)
    claimer.execute("set transaction isolation level repeatable read")
    value(claimer, "select count(*) from eram_workers")
    declare_dead(conn, proof, worker)
    assert [job.id for job in fetch(claimer, worker)] == [job_id]
    claimer.commit()
    assert value(conn, RESCUE) == 1
    assert state_of(conn, job_id) == "available"


def test_jobs_of_an_unknown_worker_are_rescued(conn, worker):
    job_id = enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_running_jobs set worker = 4711")
    conn.execute("set eram.rescue_swept = ''")
    assert value(conn, RESCUE) == 1
    error = row(conn, "select * from eram_jobs where id = %s", job_id).errors[0]["error"]
    assert "worker 4711" in error


@pytest.mark.parametrize("lock", ["pg_advisory_lock(%(key)s)", "pg_advisory_lock(4711, %(key)s)"])
def test_locks_of_an_application_do_not_keep_a_dead_worker_alive(conn, connect, lock):
    victim, application = connect(), connect()
    worker = start_worker(victim)
    enqueue(conn)
    fetch(victim, worker)
    application.execute(f"select {lock}", {"key": worker})
    assert declare_dead(conn, victim, worker) == 1


def test_locks_in_another_database_do_not_keep_a_dead_worker_alive(conn, connect, other_dsn):
    """A copy of the database has the same OIDs, and its workers the same ids."""
    with psycopg.connect(other_dsn, autocommit=True) as other:
        oid = "select 'eram_workers'::regclass::oid"
        assert value(other, oid) == value(conn, oid)
        victim = connect()
        worker = start_worker(victim)
        assert start_worker(other) == worker
        enqueue(conn)
        fetch(victim, worker)
        assert declare_dead(conn, victim, worker) == 1


def test_two_rescuers_at_once_rescue_each_job_once(conn, connect):
    victim = connect()
    worker = start_worker(victim)
    enqueue_many(conn, 500)
    fetch(victim, worker, 500)
    kill(conn, victim)
    value(conn, RESCUE)
    age(conn, worker)
    rescued: list[int] = []

    def rescue() -> None:
        session = connect()
        rescued.extend(value(session, RESCUE) for _ in range(20))

    at_once(rescue, rescue, rescue)
    assert sum(rescued) == 500
    counts = conn.execute(
        "select count(*), min(attempt), max(attempt) from eram_queued_jobs"
    ).fetchone()
    assert counts == (500, 1, 1)
    assert value(conn, "select count(*) from eram_job_errors") == 500


def test_a_rescue_leaves_alone_what_is_being_finished(conn, connect):
    victim, finisher = connect(), connect(autocommit=False)
    worker = start_worker(victim)
    ids = enqueue_many(conn, 3)
    jobs = fetch(victim, worker)
    assert complete(finisher, jobs[1:2]) == [ids[1]]
    assert declare_dead(conn, victim, worker) == 2
    finisher.commit()
    assert [state_of(conn, job_id) for job_id in ids] == ["available", "completed", "available"]


def test_what_was_locked_during_a_rescue_is_rescued_by_the_next_call(conn, connect):
    victim, finisher = connect(), connect(autocommit=False)
    worker = start_worker(victim)
    enqueue_many(conn, 3)
    jobs = fetch(victim, worker)
    complete(finisher, jobs[1:2])
    assert declare_dead(conn, victim, worker) == 2
    finisher.rollback()
    assert value(conn, RESCUE) == 1


@pytest.mark.parametrize(
    "garbage", ["", "x", "{1}", "{9999999999999,5}", "{0,0}", "{1,2,3}", "{-1,-1}"]
)
def test_a_garbage_setting_does_not_hinder_a_rescue(conn, worker, garbage):
    enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_running_jobs set worker = 4711")
    conn.execute("select set_config('eram.rescue_swept', %s, false)", [garbage])
    assert value(conn, RESCUE) == 1


def test_a_late_rescue_of_jobs_is_fetched_at_once_by_a_worker_that_had_read_on(conn, connect):
    victim = connect()
    worker, survivor = start_worker(victim), start_worker(conn)
    job_id = enqueue(conn)
    fetch(victim, worker)
    for _ in range(5):
        assert fetch(conn, survivor) == []
    assert declare_dead(conn, victim, worker) == 1
    assert [job.id for job in fetch_late(conn, survivor)] == [job_id]
