"""Retrying jobs that are unique: their keys are taken again, or the retry says whose they are."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    Threads,
    at_once,
    complete,
    enqueue,
    fetch,
    fetch_late,
    rows,
    state_of,
    value,
    wait_for_lock_wait,
)
from .lifecycle_helpers import bulk, states
from .prune_helpers import let_pass, prune
from .unique_helpers import HOUR, KINDS, TAKEN, pass_window, put

RETRY = "select eram_retry_job(%s)"
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def retry(conn: psycopg.Connection, way: str, job_id: int) -> bool:
    """Retry one job by either function."""
    if way == "one":
        return value(conn, RETRY, job_id)
    return bulk(conn, "retry", {"ids": [job_id]}) == 1


both_ways = pytest.mark.parametrize("way", ["one", "many"])


@both_ways
@kinds
@pytest.mark.parametrize("end", ["complete", "cancel", "discard"])
def test_a_key_is_taken_again(conn, worker, way, kind, end):
    job_id = put(conn, unique=kind).id
    jobs = fetch(conn, worker)
    if end == "complete":
        complete(conn, jobs)
    else:
        conn.execute(f"select eram_{end}_job(%s, run => 1)", [job_id])
    assert retry(conn, way, job_id) is True
    assert put(conn, unique=kind) == (job_id, True)
    complete(conn, fetch_late(conn, worker))
    assert state_of(conn, job_id) == "completed"
    assert value(conn, TAKEN) == (kind == HOUR)


@kinds
def test_another_job_with_the_key_is_named(conn, worker, kind):
    first = put(conn, unique=kind).id
    conn.execute("select eram_cancel_job(%s)", [first])
    second = put(conn, unique=kind)
    assert not second.is_duplicate
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        conn.execute(RETRY, [first])
    assert caught.value.diag.message_detail == f"It is job {second.id}."
    assert bulk(conn, "retry", {"all": True}) == 0
    assert states(conn) == {first: "cancelled", second.id: "available"}
    conn.execute("select eram_delete_job(%s)", [second.id])
    assert value(conn, RETRY, first) is True


@both_ways
def test_a_window_that_is_over_takes_no_key(conn, worker, way):
    first = put(conn, unique=HOUR).id
    complete(conn, fetch(conn, worker))
    pass_window(conn)
    second = put(conn, unique=HOUR)
    assert not second.is_duplicate
    assert retry(conn, way, first) is True
    assert put(conn, unique=HOUR) == (second.id, True)
    complete(conn, fetch_late(conn, worker, 2))
    assert put(conn, unique=HOUR) == (second.id, True)


@both_ways
def test_an_expired_key_of_another_is_taken_over(conn, worker, way):
    """The other one's window was shorter, or began earlier."""
    first = put(conn, unique=HOUR).id
    conn.execute("select eram_cancel_job(%s)", [first])
    second = put(conn, unique=HOUR).id
    pass_window(conn, second)
    assert retry(conn, way, first) is True
    assert put(conn, unique=HOUR) == (first, True)
    assert rows(conn, "select job_id from eram_unique_keys") == [(first,)]


def test_of_several_with_one_key_the_first_is_retried(conn):
    ids = []
    for _ in range(3):
        ids.append(put(conn).id)
        conn.execute("select eram_cancel_job(%s)", [ids[-1]])
    other = enqueue(conn)
    conn.execute("select eram_cancel_job(%s)", [other])
    assert bulk(conn, "retry", {"state": "cancelled"}) == 2
    assert states(conn) == {
        ids[0]: "available",
        ids[1]: "cancelled",
        ids[2]: "cancelled",
        other: "available",
    }
    assert bulk(conn, "retry", {"state": "cancelled"}) == 0
    assert put(conn) == (ids[0], True)


@kinds
def test_a_retry_of_what_waits_for_its_backoff_keeps_the_key(conn, worker, kind):
    first = put(conn, unique=kind).id
    fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'x', delay => '1 hour')", [first])
    assert bulk(conn, "retry", {"all": True}) == 1
    assert value(conn, RETRY, first) is False
    assert put(conn, unique=kind) == (first, True)


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_retry_waits_for_a_rival_that_is_not_committed(conn, connect, way, end):
    first = put(conn).id
    conn.execute("select eram_cancel_job(%s)", [first])
    rival, retrier = connect(autocommit=False), connect()
    assert put(rival).is_duplicate is False
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(retry(retrier, way, first))
        except psycopg.errors.UniqueViolation:
            answers.append(False)

    threads = Threads()
    threads.start(run)
    wait_for_lock_wait(conn, retrier)
    rival.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert state_of(conn, first) == ("available" if end == "rollback" else "cancelled")


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_enqueue_waits_for_a_retry_that_is_not_committed(conn, connect, way, end):
    first = put(conn).id
    conn.execute("select eram_cancel_job(%s)", [first])
    retrier, producer = connect(autocommit=False), connect()
    assert retry(retrier, way, first) is True
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(put(producer).is_duplicate))
    wait_for_lock_wait(conn, producer)
    retrier.execute(end)
    threads.join(10)
    assert answers == [end == "commit"]


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_key_taken_for_a_job_that_is_gone_is_given_back(conn, connect, worker, way, end):
    """The prune has the ticket; the retry has the key before it finds out."""
    first = put(conn).id
    complete(conn, fetch(conn, worker))
    let_pass(conn, "2 days", first)
    pruner, retrier = connect(autocommit=False), connect()
    assert prune(pruner) == 1
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(retry(retrier, way, first)))
    wait_for_lock_wait(conn, retrier)
    pruner.execute(end)
    threads.join(10)
    assert answers == [end == "rollback"]
    assert value(conn, TAKEN) == (end == "rollback")


@both_ways
def test_a_job_changed_while_its_retry_waits_keeps_what_it_became(conn, connect, worker, way):
    """The retry waits for the key; who has it retries, changes and cancels the job."""
    first = put(conn).id
    conn.execute("select eram_cancel_job(%s)", [first])
    changer, retrier = connect(autocommit=False), connect()
    assert retry(changer, "one", first) is True
    assert value(changer, "select eram_update_job(%s, priority => 9)", first) is True
    assert value(changer, "select eram_cancel_job(%s)", first) is True
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(retry(retrier, way, first)))
    wait_for_lock_wait(conn, retrier)
    changer.commit()
    threads.join(10)
    # Several at once pass over what another has just changed.
    assert answers == [way == "one"]
    assert rows(conn, "select * from eram_check()") == []
    assert way == "many" or fetch(conn, worker)[0].priority == 9


@both_ways
@kinds
def test_a_job_that_ended_again_while_its_retry_saw_its_key_takes_it_anew(conn, connect, way, kind):
    """The retry finds the key to be the job's own; before it takes the ticket, that is over."""
    first = put(conn, unique=kind).id
    conn.execute("select eram_cancel_job(%s)", [first])
    starter, canceller = connect(autocommit=False), connect(autocommit=False)
    retrier = connect()
    assert retry(starter, "one", first) is True
    answers: list[bool] = []
    threads = Threads()
    threads.start(lambda: answers.append(retry(retrier, way, first)))
    wait_for_lock_wait(conn, retrier)
    locking = Threads()
    locking.start(lambda: canceller.execute("lock table eram_finished_jobs in share mode"))
    wait_for_lock_wait(conn, canceller)
    starter.commit()
    locking.join(10)
    wait_for_lock_wait(conn, retrier)
    assert value(canceller, "select eram_cancel_job(%s)", first) is True
    canceller.commit()
    threads.join(10)
    # Several at once pass over what another has just changed.
    assert answers == [way == "one"]
    assert value(conn, TAKEN) == (way == "one")
    assert rows(conn, "select * from eram_check()") == []
    assert put(conn, unique=kind).is_duplicate is (way == "one")


def test_retries_and_enqueues_of_the_same_keys_neither_collide_nor_deadlock(conn, connect, worker):
    """Bulk retries of many keys race batches that enqueue the same keys in another order."""
    keys = list(range(40))
    for number in range(8):
        for key in keys:
            put(conn, args={"n": key})
        conn.execute("select eram_cancel_jobs('{\"all\": true}')")
        sessions = [connect() for _ in range(4)]

        def produce(session=sessions[0], order=keys[:: -1 if number % 2 else 1]) -> None:
            for key in order:
                put(session, args={"n": key})

        at_once(
            produce,
            *(lambda c=c: bulk(c, "retry", {"state": "cancelled"}) for c in sessions[1:]),
        )
        twins = """
            select args
            from eram_jobs
            where state = 'available'
            group by args
            having count(*) <> 1
        """
        assert rows(conn, twins) == []
        assert value(conn, "select count(*) from eram_jobs where state = 'available'") == len(keys)
        assert value(conn, TAKEN) == len(keys)
        conn.execute("select eram_delete_jobs('{\"all\": true}')")
        assert value(conn, TAKEN) == 0
