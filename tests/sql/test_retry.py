"""Retrying: what goes back to its queue, what it keeps, and its races."""

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
    row,
    state_of,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import ENDED, STATES, bulk, one_of_each, states
from .prune_helpers import let_pass, prune

JOB = "select * from eram_jobs where id = %s"
RETRY = "select eram_retry_job(%s)"
RETRIED = (*ENDED, "retryable")


@pytest.mark.parametrize("state", STATES)
def test_what_is_retried_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    assert value(conn, RETRY, jobs[state]) is (state in RETRIED)
    after = states(conn)
    assert after.pop(jobs[state]) == ("available" if state in RETRIED else state)
    assert after == {jobs[other]: other for other in STATES if other != state}
    assert value(conn, RETRY, jobs[state]) is False


@pytest.mark.parametrize("state", STATES)
def test_what_many_are_retried_by_state(conn, worker, state):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "retry", {"state": state}) == (state in RETRIED)
    assert state_of(conn, jobs[state]) == ("available" if state in RETRIED else state)


def test_all_that_can_be_is_retried(conn, worker):
    jobs = one_of_each(conn, worker)
    assert bulk(conn, "retry", {"all": True}) == len(RETRIED)
    expected = {s: "available" if s in RETRIED else s for s in STATES}
    assert states(conn) == {job_id: expected[state] for state, job_id in jobs.items()}
    assert bulk(conn, "retry", {"all": True}) == 0


@pytest.mark.parametrize("way", ["one", "many"])
def test_a_retried_job_keeps_its_attempts_its_run_and_its_errors(conn, worker, way):
    job_id = enqueue(conn, max_attempts=3, priority=4)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_discard_job(%s, %s, 'no good')", [job_id, job.run])
    if way == "one":
        assert value(conn, RETRY, job_id) is True
    else:
        assert bulk(conn, "retry", {"ids": [job_id]}) == 1
    seen = row(conn, JOB, job_id)
    assert (seen.state, seen.attempt, seen.max_attempts, seen.priority) == ("available", 1, 3, 4)
    assert (seen.finalized_at, seen.result, seen.attempted_by) == (None, None, None)
    assert [error["error"] for error in seen.errors] == ["no good"]
    (again,) = fetch_late(conn, worker)
    assert (again.id, again.run, again.attempt, again.priority) == (job_id, 2, 2, 4)
    assert value(conn, "select eram_fail_job(%s, 2, 'again')", job_id) == "retryable"
    errors = row(conn, JOB, job_id).errors
    assert [(error["attempt"], error["error"]) for error in errors] == [
        (1, "no good"),
        (2, "again"),
    ]


@pytest.mark.parametrize("way", ["one", "many"])
def test_used_up_attempts_are_extended_by_one(conn, worker, way):
    ids = [enqueue(conn, max_attempts=1), enqueue(conn, max_attempts=2)]
    fetch(conn, worker)
    for job_id in ids:
        conn.execute("select eram_discard_job(%s, 1)", [job_id])
    if way == "one":
        assert [value(conn, RETRY, job_id) for job_id in ids] == [True, True]
    else:
        assert bulk(conn, "retry", {"state": "discarded"}) == 2
    assert [row(conn, JOB, job_id).max_attempts for job_id in ids] == [2, 2]
    assert len(fetch_late(conn, worker, 2)) == 2
    assert value(conn, "select eram_fail_job(%s, 2, 'x')", ids[0]) == "discarded"


def test_a_result_is_gone_and_a_new_one_counts(conn, worker):
    job_id = enqueue(conn)
    fetch(conn, worker)
    finish = "select eram_complete_jobs(%s, %s, array[%s::jsonb])"
    conn.execute(finish, [[job_id], [1], "1"])
    assert value(conn, RETRY, job_id) is True
    assert row(conn, JOB, job_id).result is None
    fetch_late(conn, worker)
    conn.execute(finish, [[job_id], [2], "2"])
    assert row(conn, JOB, job_id).result == 2


def test_a_job_cancelled_while_it_waited_never_gets_its_last_run_again(conn, worker):
    job_id = enqueue(conn)
    conn.execute("select eram_cancel_job(%s, 'by order')", [job_id])
    assert value(conn, RETRY, job_id) is True
    (job,) = fetch_late(conn, worker)
    assert (job.run, job.attempt) == (2, 1)
    conn.execute("select eram_fail_job(%s, 2, 'boom')", [job_id])
    assert [e["error"] for e in row(conn, JOB, job_id).errors] == ["by order", "boom"]


def test_a_late_finish_of_the_run_before_is_not_accepted(conn, worker):
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    conn.execute("select eram_cancel_job(%s)", [job_id])
    assert value(conn, RETRY, job_id) is True
    assert complete(conn, jobs) == []
    again = fetch_late(conn, worker)
    assert complete(conn, jobs) == []
    # The worker holds it anew: it must not take the old cancel for one of this run.
    assert value(conn, "select cancelled_runs from eram_heartbeat(%s)", worker) == [1]
    assert complete(conn, again) == [job_id]


def test_a_retried_job_that_was_completed_is_not_pruned_by_its_old_completion(conn, worker):
    first, second = enqueue_many(conn, 2)
    complete(conn, fetch(conn, worker))
    conn.execute(RETRY, [first])
    let_pass(conn, "2 days", second)
    conn.execute("update eram_completions set finalized_at = now() - interval '2 days'")
    assert prune(conn) == 1
    assert states(conn) == {first: "available"}
    complete(conn, fetch_late(conn, worker))
    assert prune(conn) == 0
    assert states(conn) == {first: "completed"}


@pytest.mark.parametrize("function", ["retry", "delete"])
@pytest.mark.parametrize("bad", [0, -1, 10**15])
def test_an_unknown_id_is_an_error(conn, function, bad):
    with pytest.raises(psycopg.errors.UndefinedObject, match=f"job {bad} does not exist"):
        conn.execute(f"select eram_{function}_job(%s)", [bad])


@pytest.mark.parametrize("function", ["retry", "delete", "update"])
def test_null_is_an_error(conn, function):
    with pytest.raises(psycopg.errors.NullValueNotAllowed, match="id must not be null"):
        conn.execute(f"select eram_{function}_job(null)")


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("state", RETRIED)
def test_of_two_retries_at_once_one_counts(conn, connect, worker, state, end):
    job_id = one_of_each(conn, worker)[state]
    first, second = connect(autocommit=False), connect()
    assert value(first, RETRY, job_id) is True
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(value(second, RETRY, job_id)))
    wait_for_lock_wait(conn, second)
    first.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert state_of(conn, job_id) == "available"


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_of_two_bulk_retries_at_once_each_job_counts_once(conn, connect, worker, end):
    ids = enqueue_many(conn, 50)
    for job in fetch(conn, worker):
        conn.execute("select eram_discard_job(%s, 1)", [job.id])
    first, second = connect(autocommit=False), connect()
    assert bulk(first, "retry", {"ids": ids[20:]}) == 30
    counts: list[int] = []
    threads = Threads()
    threads.start(lambda: counts.append(bulk(second, "retry", {"state": "discarded"})))
    wait_for_lock_wait(conn, second)
    first.execute(end)
    threads.join(10)
    assert counts == [20 if end == "commit" else 50]
    assert set(states(conn).values()) == {"available"}
    assert len(fetch_late(conn, worker, 50)) == 50


def test_bulk_retries_in_a_race_share_the_jobs_without_a_deadlock(conn, connect, worker):
    for _ in range(10):
        conn.execute("select eram_delete_jobs('{\"all\": true}')")
        enqueue_many(conn, 200)
        jobs = fetch(conn, worker, 200)
        complete(conn, jobs[:100])
        conn.execute(
            "select count(eram_discard_job(id, 1)) from unnest(%s::bigint[]) as id",
            [[job.id for job in jobs[100:]]],
        )
        counts: list[int] = []
        sessions = [connect() for _ in range(4)]
        filters = [{"all": True}, {"state": list(ENDED)}, {"state": "discarded"}, {"all": True}]
        at_once(
            *(
                lambda c=c, f=f, counts=counts: counts.append(bulk(c, "retry", f))
                for c, f in zip(sessions, filters, strict=True)
            )
        )
        assert sum(counts) == 200
        assert set(states(conn).values()) == {"available"}


@pytest.mark.parametrize("way", ["one", "many"])
def test_a_prune_passes_over_what_is_being_retried(conn, connect, worker, way):
    first, second = enqueue_many(conn, 2)
    complete(conn, fetch(conn, worker))
    let_pass(conn, "2 days", first, second)
    retrier = connect(autocommit=False)
    if way == "one":
        assert value(retrier, RETRY, first) is True
    else:
        assert bulk(retrier, "retry", {"ids": [first]}) == 1
    assert prune(conn) == 1
    retrier.commit()
    assert states(conn) == {first: "available"}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("way", ["one", "many"])
def test_a_retry_waits_for_a_prune_under_way(conn, connect, worker, way, end):
    (job_id,) = enqueue_many(conn, 1)
    complete(conn, fetch(conn, worker))
    let_pass(conn, "2 days", job_id)
    pruner, retrier = connect(autocommit=False), connect()
    assert prune(pruner) == 1
    answers: list[object] = []
    threads = Threads()
    threads.start(
        lambda: answers.append(
            value(retrier, RETRY, job_id)
            if way == "one"
            else bulk(retrier, "retry", {"ids": [job_id]})
        )
    )
    wait_for_lock_wait(conn, retrier)
    pruner.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert states(conn) == ({job_id: "available"} if end == "rollback" else {})


def test_a_claim_does_not_see_a_retry_that_is_not_committed(conn, connect, worker):
    """And claims it at once afterwards, though its own cursor has moved on."""
    ids = enqueue_many(conn, 20)
    complete(conn, fetch(conn, worker))
    retrier = connect(autocommit=False)
    assert bulk(retrier, "retry", {"state": "completed"}) == 20
    assert fetch(conn, worker) == []
    enqueue(conn)
    assert len(fetch_late(conn, worker)) == 1
    retrier.commit()
    assert sorted(job.id for job in fetch_late(conn, worker, 20)) == ids


def test_a_waiting_worker_is_woken(conn, connect, worker):
    job_id = enqueue(conn)
    complete(conn, fetch(conn, worker))
    waiter = connect()
    waiter.execute("select eram_start_waiting('default')")
    assert value(conn, RETRY, job_id) is True
    assert len(list(waiter.notifies(timeout=10, stop_after=1))) == 1
    complete(conn, fetch_late(conn, worker))
    assert bulk(conn, "retry", {"all": True}) == 1
    assert len(list(waiter.notifies(timeout=10, stop_after=1))) == 1


def test_nothing_is_retried_into_the_past(conn, connect, worker):
    """The clock is read when the wait for another is over."""
    job_id = enqueue(conn)
    complete(conn, fetch(conn, worker))
    holder, retrier = connect(autocommit=False), connect()
    holder.execute("select from eram_finished_jobs where job_id = %s for update", [job_id])
    threads = Threads()
    threads.start(lambda: bulk(retrier, "retry", {"ids": [job_id]}))
    wait_for_lock_wait(conn, retrier)
    released_at = value(conn, "select clock_timestamp()")
    holder.commit()
    threads.join(10)
    assert column(conn, "select scheduled_at from eram_queued_jobs")[0] > released_at
