"""Pruning is in nobody's way, and nobody is in its way."""

from __future__ import annotations

from .helpers import at_once, complete, enqueue, fetch, value
from .prune_helpers import completed_many, ended, kept, let_pass, prune, violations


def test_a_job_that_another_transaction_has_in_hand_is_passed_over(conn, connect, worker):
    """A retry holds the ticket: the prune goes on without it, and comes back to it."""
    ids = completed_many(conn, worker, 10)
    discarded = ended(conn, worker, "discarded")
    let_pass(conn, "8 days")
    other = connect(autocommit=False)
    other.execute(
        "select from eram_finished_jobs where job_id = any (%s) for update", [[ids[3], discarded]]
    )
    conn.execute("set lock_timeout = '2s'")
    assert prune(conn) == 9
    assert kept(conn) == [ids[3], discarded]
    other.rollback()
    assert violations(conn) == []
    let_pass(conn, "2 days")
    assert prune(conn) == 2


def test_several_at_once_remove_each_job_once(conn, connect, worker):
    completed_many(conn, worker, 1500, batch=50)
    completed_many(conn, worker, 500, batch=1, queue="other")
    for _ in range(50):
        ended(conn, worker, "discarded")
    let_pass(conn, "8 days")
    counts: list[int] = []

    def prune_all() -> None:
        session = connect()
        session.execute("set deadlock_timeout = '20ms'")
        for _ in range(200):
            counts.append(prune(session, max_count=60))
            if counts[-1] == 0 and not kept(session):
                return

    at_once(*[prune_all] * 4)
    assert kept(conn) == []
    assert sum(counts) == 2050
    assert sum(1 for count in counts if count) > 20
    assert value(conn, "select count(*) from eram_completions") == 0


def test_an_open_prune_blocks_neither_claims_nor_completions(conn, connect, worker):
    completed_many(conn, worker, 30)
    let_pass(conn, "2 days")
    pruner = connect(autocommit=False)
    assert prune(pruner) == 30
    conn.execute("set lock_timeout = '2s'")
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    assert complete(conn, jobs) == [job_id]
    failed = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute(
        "select eram_fail_job(%s, %s, 'x'), eram_cancel_job(%s)", [failed, job.run, failed]
    )
    assert prune(conn) == 0
    pruner.commit()
    assert kept(conn) == [job_id, failed]


def test_an_open_enqueue_claim_or_completion_does_not_hold_a_prune_up(conn, connect, worker):
    ids = completed_many(conn, worker, 10)
    let_pass(conn, "2 days")
    completed_many(conn, worker, 3)
    enqueue(conn)
    enqueue(conn, queue="other")
    other = connect(autocommit=False)
    enqueue(other)
    complete(other, fetch(other, worker))
    fetch(other, worker, queue="other")
    conn.execute("set lock_timeout = '2s'")
    assert prune(conn) == len(ids)
    other.commit()
