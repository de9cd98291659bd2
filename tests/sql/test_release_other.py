"""Jobs of claims whose answer got lost are given back, also of a claim that is under way still."""

from __future__ import annotations

from .helpers import Threads, column, enqueue, fetch, state_of, wait_for_lock_wait

GIVE_BACK = "select eram_release_other_jobs(%s, 'default', %s, %s)"


def test_a_claim_that_is_under_way_ends_first(conn, connect, worker):
    job_id = enqueue(conn)
    lost, back = connect(autocommit=False), connect()
    assert [job.id for job in fetch(lost, worker)] == [job_id]

    given: list[int] = []
    threads = Threads()
    threads.start(lambda: given.extend(column(back, GIVE_BACK, worker, [], [])))
    wait_for_lock_wait(conn, back)
    lost.commit()
    threads.join()
    assert given == [job_id]
    assert state_of(conn, job_id) == "available"


def test_what_is_held_and_what_is_of_others_stays(conn, worker):
    ids = [enqueue(conn) for _ in range(3)]
    held, *others = sorted(fetch(conn, worker, 3), key=lambda job: job.id)
    given = column(conn, GIVE_BACK, worker, [held.id, others[0].id], [held.run, others[0].run + 1])
    assert sorted(given) == ids[1:]
    assert state_of(conn, held.id) == "executing"
