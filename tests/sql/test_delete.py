"""Deleting: nothing is left, what runs is not touched, and the races of it."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    Threads,
    at_once,
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import STATES, bulk, one_of_each, states
from .prune_helpers import let_pass, prune
from .unique_helpers import KINDS, TAKEN, put

DELETE = "select eram_delete_job(%s)"
LEFT = """
    select
        (select count(*) from eram_job_specs) + (select count(*) from eram_queued_jobs)
        + (select count(*) from eram_finished_jobs) + (select count(*) from eram_job_errors)
        + (select count(*) from eram_unique_keys)
"""
DELETED = tuple(state for state in STATES if state != "executing")


def delete(conn: psycopg.Connection, way: str, job_id: int) -> bool:
    """Delete one job by either function."""
    if way == "one":
        return value(conn, DELETE, job_id)
    return bulk(conn, "delete", {"ids": [job_id]}) == 1


both_ways = pytest.mark.parametrize("way", ["one", "many"])


@both_ways
@pytest.mark.parametrize("state", DELETED)
def test_nothing_is_left_of_it(conn, worker, state, way):
    jobs = one_of_each(conn, worker)
    assert delete(conn, way, jobs[state]) is True
    assert states(conn) == {jobs[other]: other for other in STATES if other != state}
    for table in ("eram_job_specs", "eram_job_errors"):
        query = f"select count(*) from {table} where job_id = %s"
        assert value(conn, query, jobs[state]) == 0
    with pytest.raises(psycopg.errors.UndefinedObject):
        conn.execute(DELETE, [jobs[state]])


def test_what_runs_is_an_error_and_stays(conn, worker):
    jobs = one_of_each(conn, worker)
    before = contents(conn)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        conn.execute(DELETE, [jobs["executing"]])
    assert caught.value.diag.message_primary == f"job {jobs['executing']} is running"
    assert "eram_cancel_job" in str(caught.value.diag.message_hint)
    assert contents(conn) == before


def test_what_runs_is_passed_over_by_a_bulk(conn, worker):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "delete", {"state": "executing"}) == 0
    assert bulk(conn, "delete", {"all": True}) == len(DELETED)
    assert states(conn) == {jobs["executing"]: "executing"}


@pytest.mark.parametrize("state", DELETED)
def test_many_are_deleted_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "delete", {"state": state}) == 1
    assert set(states(conn)) == set(jobs.values()) - {jobs[state]}


@both_ways
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("state", ["available", "completed", "cancelled"])
def test_the_key_is_given_up(conn, worker, kind, state, way):
    job_id = put(conn, unique=kind).id
    if state == "completed":
        complete(conn, fetch(conn, worker))
    elif state == "cancelled":
        conn.execute("select eram_cancel_job(%s)", [job_id])
    assert delete(conn, way, job_id) is True
    assert value(conn, TAKEN) == 0
    assert put(conn, unique=kind).is_duplicate is False


@both_ways
def test_the_key_of_another_stays(conn, way):
    first = put(conn).id
    conn.execute("select eram_cancel_job(%s)", [first])
    second = put(conn).id
    assert delete(conn, way, first) is True
    assert put(conn) == (second, True)


@both_ways
def test_a_prune_copes_with_a_completion_of_jobs_that_are_gone(conn, worker, way):
    ids = enqueue_many(conn, 3)
    complete(conn, fetch(conn, worker))
    assert delete(conn, way, ids[1]) is True
    let_pass(conn, "2 days")
    assert prune(conn) == 2
    assert value(conn, LEFT) == 0
    assert value(conn, "select count(*) from eram_completions") == 0


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_job_whose_completion_is_not_committed_still_runs(conn, connect, worker, end, way):
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    conn.execute("select eram_release_jobs(%s, array[1])", [[job_id]])
    (again,) = fetch_late(conn, worker)
    worker_session, deleter = connect(autocommit=False), connect()
    assert complete(worker_session, jobs) == []
    assert complete(worker_session, [again]) == [job_id]
    # It runs, as far as others can see; nothing is deleted, and nothing waits.
    if way == "one":
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            delete(deleter, way, job_id)
    else:
        assert delete(deleter, way, job_id) is False
    worker_session.execute(end)
    if end == "commit":
        assert delete(deleter, way, job_id) is True
    assert value(conn, LEFT) == (0 if end == "commit" else 1)


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_delete_waits_for_a_claim_under_way(conn, connect, worker, end, way):
    job_id = enqueue(conn)
    claimer, deleter = connect(autocommit=False), connect()
    assert len(fetch(claimer, worker)) == 1
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(delete(deleter, way, job_id))
        except psycopg.errors.ObjectNotInPrerequisiteState:
            answers.append(False)

    threads = Threads()
    threads.start(run)
    wait_for_lock_wait(conn, deleter)
    claimer.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert states(conn) == ({job_id: "executing"} if end == "commit" else {})


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_claim_passes_over_what_is_being_deleted(conn, connect, worker, end, way):
    job_id = enqueue(conn)
    deleter = connect(autocommit=False)
    assert delete(deleter, way, job_id) is True
    assert fetch(conn, worker) == []
    deleter.execute(end)
    assert [job.id for job in fetch_late(conn, worker, int(end == "rollback"))] == (
        [job_id] if end == "rollback" else []
    )


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_of_two_deletes_at_once_one_counts(conn, connect, worker, end):
    jobs = one_of_each(conn, worker)
    for state in DELETED:
        first, second = connect(autocommit=False), connect()
        assert value(first, DELETE, jobs[state]) is True
        answers: list[bool] = []
        threads = Threads()
        threads.start(lambda c=second, i=jobs[state], a=answers: a.append(value(c, DELETE, i)))
        wait_for_lock_wait(conn, second)
        first.execute(end)
        threads.join(10)
        assert answers == [end == "rollback"], state
    assert set(states(conn)) == {jobs["executing"]}


@both_ways
@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("select eram_update_job(%s, priority => 7)", "available"),
        ("select eram_retry_job(%s)", "retryable"),
        ("select eram_retry_job(%s)", "completed"),
        ("select eram_cancel_job(%s)", "scheduled"),
    ],
)
def test_a_delete_follows_a_job_that_is_moved_under_its_hands(
    conn, connect, worker, change, state, way
):
    jobs = one_of_each(conn, worker)
    mover, deleter = connect(autocommit=False), connect()
    mover.execute(change, [jobs[state]])
    answers: list[object] = []
    threads = Threads()
    threads.start(lambda: answers.append(delete(deleter, way, jobs[state])))
    wait_for_lock_wait(conn, deleter)
    mover.commit()
    threads.join(10)
    assert answers == [True]
    assert set(states(conn)) == set(jobs.values()) - {jobs[state]}


def test_a_bulk_delete_leaves_what_no_longer_matches(conn, connect, worker):
    """It was retried between the look and the lock: the completed job is none any more."""
    ids = enqueue_many(conn, 3)
    complete(conn, fetch(conn, worker))
    retrier, deleter = connect(autocommit=False), connect()
    assert value(retrier, "select eram_retry_job(%s)", ids[1]) is True
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(deleter, "delete", {"state": "completed"})))
    wait_for_lock_wait(conn, deleter)
    retrier.commit()
    threads.join(10)
    assert counts == [2]
    assert states(conn) == {ids[1]: "available"}


def test_deletes_that_race_completions_neither_lose_a_job_nor_leave_a_part(conn, connect, worker):
    sessions = [connect() for _ in range(3)]
    for _ in range(15):
        enqueue_many(conn, 60)
        jobs = fetch(conn, worker, 60)
        assert len(jobs) == 60
        counts: list[int] = []
        at_once(
            lambda jobs=jobs: [complete(sessions[0], jobs[n : n + 5]) for n in range(0, 60, 5)],
            *(
                lambda c=c, counts=counts: counts.extend(
                    bulk(c, "delete", {"all": True}) for _ in range(8)
                )
                for c in sessions[1:]
            ),
        )
        counts.append(bulk(conn, "delete", {"all": True}))
        assert sum(counts) == 60
        assert value(conn, LEFT) == 0
        assert row(conn, "select count(*) from eram_check()") == (0,)
