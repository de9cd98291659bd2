"""Cancelling many jobs: which, how they are shown, and the races of it."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    Threads,
    at_once,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    row,
    rows,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import STATES, bulk, one_of_each, states
from .unique_helpers import KINDS, TAKEN, put

JOB = "select * from eram_jobs where id = %s"
CANCELLED = ("available", "scheduled", "retryable", "executing")


@pytest.mark.parametrize("state", STATES)
def test_what_is_cancelled_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "cancel", {"state": state}) == (state in CANCELLED)
    after = states(conn)
    assert after.pop(jobs[state]) == ("cancelled" if state in CANCELLED else state)
    assert after == {jobs[other]: other for other in STATES if other != state}


def test_all_that_can_be_is_cancelled(conn, worker):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "cancel", {"all": True}) == len(CANCELLED)
    expected = {s: "cancelled" if s in CANCELLED else s for s in STATES}
    assert states(conn) == {job_id: expected[state] for state, job_id in jobs.items()}
    assert bulk(conn, "cancel", {"all": True}) == 0
    assert fetch(conn, worker) == []


def test_it_is_as_if_each_had_been_cancelled_by_itself(conn, worker):
    one, many = one_of_each(conn, worker), one_of_each(conn, worker, queue="mail")
    for state in CANCELLED:
        conn.execute("select eram_cancel_job(%s, 'by order')", [one[state]])
    assert bulk(conn, "cancel", {"ids": list(many.values())}, "by order") == len(CANCELLED)
    look = """
        select
            finished.state, finished.run, finished.attempt, finished.worker,
            finished.attempted_at is null, finished.finalized_at > now() - interval '1 minute',
            array_agg((errors.run, errors.attempt, errors.worker, errors.error, errors.detail)
                order by errors.run)
        from eram_finished_jobs as finished
        left join eram_job_errors as errors on errors.job_id = finished.job_id
        where finished.job_id = %s
        group by finished.job_id
    """
    for state in CANCELLED:
        alone, together = (conn.execute(look, [jobs[state]]).fetchall() for jobs in (one, many))
        assert alone == together, state
        assert len(alone) == 1
    told = value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker)
    assert told == sorted([one["executing"], many["executing"]])


def test_each_worker_is_told_of_its_own_and_late_finishes_are_refused(conn, connect, worker):
    other_session = connect()
    other = start_worker(other_session)
    enqueue_many(conn, 4)
    mine = fetch(conn, worker, 2)
    others = fetch(other_session, other, 2)
    assert bulk(conn, "cancel", {"state": "executing"}) == 4
    for session, number, jobs in ((conn, worker, mine), (other_session, other, others)):
        told = value(session, "select cancelled_ids from eram_heartbeat(%s)", number)
        assert told == [job.id for job in jobs]
        assert complete(session, jobs) == []


def test_without_a_reason_nothing_is_recorded_and_a_long_one_is_bounded(conn):
    first, second = enqueue_many(conn, 2)
    bulk(conn, "cancel", {"ids": [first]})
    bulk(conn, "cancel", {"ids": [second]}, "x" * 100_000)
    assert row(conn, JOB, first).errors is None
    (error,) = row(conn, JOB, second).errors
    assert (error["error"], error["type"]) == ("x" * 10_000, "cancelled")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_keys_are_given_up(conn, worker, kind):
    first = put(conn, unique=kind).id
    fetch(conn, worker)
    second = put(conn, args={"n": 2}, unique=kind).id
    assert bulk(conn, "cancel", {"all": True}) == 2
    assert value(conn, TAKEN) == 0
    assert put(conn, unique=kind).id not in (first, second)


def test_who_waits_for_the_end_is_told(conn, connect):
    conn.execute("select eram_set_queue('mail', is_announcing => true)")
    ids = [enqueue(conn, queue="mail"), enqueue(conn, queue="mail"), enqueue(conn)]
    listener = connect()
    channel = value(conn, "select channel from eram_outcome(%s)", ids[0])
    listener.execute(f'listen "{channel}"')
    assert bulk(conn, "cancel", {"all": True}) == 3
    (notice,) = listener.notifies(timeout=10, stop_after=1)
    assert '"cancelled"' in notice.payload
    assert all(str(job_id) in notice.payload for job_id in ids[:2])


@pytest.mark.parametrize("filter_", [{"state": "available"}, {"all": True}, {"queue": "default"}])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_job_that_is_claimed_under_its_hands_is_cancelled_while_it_runs(
    conn, connect, worker, filter_, end
):
    ids = enqueue_many(conn, 10)
    claimer, canceller = connect(autocommit=False), connect()
    claimed = [job.id for job in fetch(claimer, worker, 4)]
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(canceller, "cancel", filter_, "by order")))
    wait_for_lock_wait(conn, canceller)
    claimer.execute(end)
    threads.join(10)
    assert counts == [10]
    assert states(conn) == dict.fromkeys(ids, "cancelled")
    assert all(len(row(conn, JOB, job_id).errors) == 1 for job_id in ids)
    told = value(conn, "select cancelled_ids from eram_heartbeat(%s)", worker)
    assert told == (claimed if end == "commit" else [])


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(
    ("change", "cancelled"),
    [
        ("eram_update_job(%(id)s, args => '{\"n\": 2}')", 0),
        ("eram_move_jobs('{\"all\": true}', 'mail')", 0),
        ("eram_update_job(%(id)s, tags => '{}')", 0),
        ("eram_update_job(%(id)s, delay => '1 hour')", 1),
        ('eram_update_job(%(id)s, args => \'{"n": 1, "m": 2}\', priority => 4)', 1),
    ],
)
def test_what_no_longer_matches_is_not_cancelled(conn, connect, change, cancelled, end):
    """The state and the time do not count, for these are what a claim changes."""
    job_id = enqueue(conn, args={"n": 1}, tags=["x"])
    changer, canceller = connect(autocommit=False), connect()
    changer.execute(f"select {change}", {"id": job_id})
    filter_ = {
        "state": "available",
        "before": "2999-01-01T00:00:00Z",
        "queue": "default",
        "args": {"n": 1},
        "tags": ["x"],
    }
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(canceller, "cancel", filter_)))
    wait_for_lock_wait(conn, canceller)
    changer.execute(end)
    threads.join(10)
    assert counts == [cancelled if end == "commit" else 1]
    assert (state_of(conn, job_id) == "cancelled") is bool(counts[0])


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(
    ("move", "ends"),
    [
        ("eram_release_jobs(array[%(id)s], array[1])", False),
        ("eram_snooze_job(%(id)s, 1, '1 hour')", False),
        ("eram_fail_job(%(id)s, 1, 'x')", False),
        ("eram_complete_jobs(array[%(id)s], array[1])", True),
        ("eram_discard_job(%(id)s, 1)", True),
        ("eram_cancel_job(%(id)s)", True),
    ],
)
def test_a_bulk_cancel_waits_for_a_move_under_way(conn, connect, worker, move, ends, end):
    job_id = enqueue(conn)
    fetch(conn, worker)
    mover, canceller = connect(autocommit=False), connect()
    mover.execute(f"select {move}", {"id": job_id})
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(canceller, "cancel", {"state": "executing"})))
    wait_for_lock_wait(conn, canceller)
    mover.execute(end)
    threads.join(10)
    has_ended = ends and end == "commit"
    assert counts == [0 if has_ended else 1]
    assert (state_of(conn, job_id) == "cancelled") is (not has_ended or "cancel" in move)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("function", ["cancel", "delete", "move", "retry"])
def test_at_stricter_levels_a_lost_race_is_a_serialization_error(
    conn, connect, worker, level, function
):
    """Never a job that is passed over in silence."""
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, %s, 'x', delay => '1 hour')", [job.id, job.run])
    session = connect(autocommit=False)
    session.execute(f"set transaction isolation level {level}")
    assert states(session) == {job_id: "retryable"}
    conn.execute("select eram_update_job(%s, priority => 5)", [job_id])
    with pytest.raises(psycopg.errors.SerializationFailure):
        bulk(session, function, {"all": True}, *(["there"] if function == "move" else []))
    session.rollback()
    assert states(conn) == {job_id: "retryable"}


def test_places_do_not_matter_for_the_order_of_locking(conn, connect, worker):
    """One holds the first job, which runs, and wants the second, which waits: so must the other."""
    first, second = enqueue_many(conn, 2)
    fetch(conn, worker, 1)
    single, canceller = connect(autocommit=False), connect()
    assert value(single, "select eram_cancel_job(%s)", first) is True
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(canceller, "cancel", {"all": True})))
    wait_for_lock_wait(conn, canceller)
    assert value(single, "select eram_cancel_job(%s)", second) is True
    single.commit()
    threads.join(10)
    assert counts == [0]


def test_bulk_cancels_that_race_each_other_and_workers_count_each_job_once(conn, connect):
    sessions = [connect() for _ in range(4)]
    workers = [start_worker(session) for session in sessions[:2]]
    for number in range(12):
        enqueue_many(conn, 120)
        counts: list[int] = []
        completed: list[int] = []

        def work(session: psycopg.Connection, worker: int, completed=completed) -> None:
            for _ in range(6):
                jobs = fetch(session, worker, 10)
                completed.extend(complete(session, jobs))

        at_once(
            lambda: work(sessions[0], workers[0]),
            lambda: work(sessions[1], workers[1]),
            *(
                lambda c=c, f=f, counts=counts: counts.append(bulk(c, "cancel", f))
                for c, f in zip(sessions[2:], ({"all": True}, {"queue": "default"}), strict=True)
            ),
        )
        ended = dict(rows(conn, "select state, count(*) from eram_jobs group by state"))
        assert ended.get("cancelled", 0) == sum(counts), number
        assert ended.get("completed", 0) == len(completed)
        assert sum(ended.values()) == 120
        conn.execute("select eram_delete_jobs('{\"all\": true}')")
