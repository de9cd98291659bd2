"""Announcing: each final outcome once, to those who listen, where a queue is set so."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    row,
    shared_buffers,
    start_worker,
    value,
    wait_until,
)

OUTCOME = "select * from eram_outcome(%s)"
LONGEST_PAYLOAD = 7999
LAST_ID = 2**63 - 1


def announce(conn: psycopg.Connection, queue: str = "default", *, on: bool = True) -> None:
    """Set whether a queue announces."""
    conn.execute("select eram_set_queue(%s, is_announcing => %s)", [queue, on])


def listen(conn: psycopg.Connection, queue: str = "default") -> psycopg.Connection:
    """Listen where the ends of a queue's jobs are announced."""
    conn.execute(f"listen {value(conn, 'select _eram_outcome_channel(%s)', queue)}")
    return conn


def payloads(conn: psycopg.Connection) -> list[str]:
    """Return what has come."""
    # What was committed before this has been sent by the time the answer of this comes.
    conn.execute("select")
    return [notify.payload for notify in conn.notifies(timeout=0, stop_after=None)]


def heard(conn: psycopg.Connection) -> list[tuple[str, int]]:
    """Return the states and ids that have come, one by one."""
    found = [json.loads(payload) for payload in payloads(conn)]
    return [(each["state"], job_id) for each in found for job_id in each["ids"]]


def lose_worker(conn: psycopg.Connection, worker: int) -> None:
    """Leave the jobs of a worker to the rescue."""
    conn.execute("delete from eram_workers where id = %s", [worker])
    conn.execute("select eram_rescue_jobs()")


# By what statement a job that runs, or waits, ends, and how.
ENDS_OF_RUNNING = {
    "complete": ("select eram_complete_jobs(array[%(id)s], array[%(run)s])", "completed"),
    "fail": ("select eram_fail_job(%(id)s, %(run)s, 'boom')", "discarded"),
    "discard": ("select eram_discard_job(%(id)s, %(run)s, 'boom')", "discarded"),
    "cancel": ("select eram_cancel_job(%(id)s, 'boom')", "cancelled"),
    "cancel its run": ("select eram_cancel_job(%(id)s, 'boom', run => %(run)s)", "cancelled"),
}


@pytest.mark.parametrize("way", ENDS_OF_RUNNING)
def test_each_end_of_a_running_job_is_announced(conn, connect, worker, way):
    statement, state = ENDS_OF_RUNNING[way]
    announce(conn)
    listener = listen(connect())
    job_id = enqueue(conn, max_attempts=1)
    (job,) = fetch(conn, worker)
    conn.execute(statement, {"id": job.id, "run": job.run})
    assert heard(listener) == [(state, job_id)]
    error = None if state == "completed" else "boom"
    assert row(conn, OUTCOME, job_id)[:4] == (state, None, error, True)
    # Who comes too late has nothing to say.
    conn.execute(statement, {"id": job.id, "run": job.run})
    assert heard(listener) == []


def test_a_cancel_of_a_waiting_job_is_announced(conn, connect):
    announce(conn)
    listener = listen(connect())
    job_id = enqueue(conn, delay=60)
    conn.execute("select eram_cancel_job(%s)", [job_id])
    assert heard(listener) == [("cancelled", job_id)]
    conn.execute("select eram_cancel_job(%s)", [job_id])
    assert heard(listener) == []


def test_a_rescue_announces_the_jobs_that_have_no_attempt_left(conn, connect, worker):
    announce(conn)
    announce(conn, "mail")
    default, mail = listen(connect()), listen(connect(), "mail")
    ids = [enqueue(conn, max_attempts=1), enqueue(conn, max_attempts=2)]
    mail_id = enqueue(conn, queue="mail", max_attempts=1)
    fetch(conn, worker)
    fetch(conn, worker, queue="mail")
    lose_worker(conn, worker)
    assert heard(default) == [("discarded", ids[0])]
    assert heard(mail) == [("discarded", mail_id)]
    assert "while it held this job" in row(conn, OUTCOME, ids[0]).error
    assert row(conn, OUTCOME, ids[1])[:4] == ("available", None, None, False)


def test_a_job_that_is_removed_as_it_completes_is_announced_all_the_same(conn, connect, worker):
    announce(conn)
    conn.execute("select eram_set_queue('default', max_age => '0')")
    listener, other = listen(connect()), listen(connect(), "kept")
    ids = enqueue_many(conn, 3)
    kept = enqueue(conn, queue="kept")
    jobs = fetch(conn, worker) + fetch(conn, worker, queue="kept")
    assert sorted(complete(conn, jobs)) == [*ids, kept]
    assert sorted(heard(listener)) == [("completed", job_id) for job_id in ids]
    assert heard(other) == []
    announce(conn, "kept")
    ids, kept = enqueue_many(conn, 2), enqueue(conn, queue="kept")
    complete(conn, fetch(conn, worker) + fetch(conn, worker, queue="kept"))
    assert sorted(heard(listener)) == [("completed", job_id) for job_id in ids]
    assert heard(other) == [("completed", kept)]


def test_what_is_not_final_is_not_announced(conn, connect, worker):
    announce(conn)
    listener = listen(connect())
    enqueue_many(conn, 4)
    failed, snoozed, released, rescued = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'x')", [failed.id])
    conn.execute("select eram_snooze_job(%s, 1, '1 hour')", [snoozed.id])
    conn.execute("select eram_release_jobs(array[%s::bigint], array[1])", [released.id])
    lose_worker(conn, worker)
    assert heard(listener) == []
    assert row(conn, OUTCOME, rescued.id).state == "available"


@pytest.mark.parametrize("first_id", [1, LAST_ID - 1000])
@pytest.mark.parametrize("is_removed", [False, True])
def test_a_large_batch_is_announced_in_payloads_that_fit(
    conn, connect, worker, first_id, is_removed
):
    conn.execute(f"alter table eram_job_specs alter job_id restart with {first_id}")
    announce(conn)
    if is_removed:
        conn.execute("select eram_set_queue('default', max_age => '0')")
    listener = listen(connect())
    ids = enqueue_many(conn, 1000)
    assert len(complete(conn, fetch(conn, worker, 1000))) == 1000
    found = payloads(listener)
    assert 1 < len(found) <= 5
    assert max(len(payload) for payload in found) <= LONGEST_PAYLOAD
    announced = [job_id for payload in found for job_id in json.loads(payload)["ids"]]
    assert sorted(announced) == ids


def test_a_batch_is_one_notification(conn, connect, worker):
    announce(conn)
    listener = listen(connect())
    ids = enqueue_many(conn, 100)
    complete(conn, fetch(conn, worker))
    (payload,) = payloads(listener)
    assert json.loads(payload) == {"state": "completed", "ids": ids}


def test_each_queue_of_a_batch_hears_of_its_own_jobs(conn, connect, worker):
    announce(conn, "a")
    announce(conn, "b")
    listeners = {queue: listen(connect(), queue) for queue in ("a", "b", "silent")}
    ids = {queue: enqueue_many(conn, 3, queue=queue) for queue in listeners}
    jobs = [job for queue in listeners for job in fetch(conn, worker, queue=queue)]
    assert len(complete(conn, jobs[::-1])) == 9
    for queue in ("a", "b"):
        assert sorted(heard(listeners[queue])) == [("completed", each) for each in ids[queue]]
    assert heard(listeners["silent"]) == []


def test_lost_runs_are_not_announced(conn, connect, worker):
    announce(conn)
    listener = listen(connect())
    ids = enqueue_many(conn, 3)
    jobs = fetch(conn, worker)
    conn.execute("select eram_release_jobs(array[%s::bigint], array[1])", [ids[0]])
    done = "select eram_complete_jobs(%s, %s)"
    conn.execute(done, [[*ids, 999], [1, 1, 2, 1]])
    assert heard(listener) == [("completed", ids[1])]
    conn.execute(done, [[jobs[2].id], [1]])
    assert heard(listener) == [("completed", ids[2])]


def test_a_rollback_announces_nothing(conn, connect, worker):
    announce(conn)
    listener = listen(connect())
    job_id = enqueue(conn)
    jobs = fetch(conn, worker)
    with conn.transaction(force_rollback=True):
        assert complete(conn, jobs) == [job_id]
    assert heard(listener) == []
    assert complete(conn, jobs) == [job_id]
    assert heard(listener) == [("completed", job_id)]


def test_nothing_is_announced_unless_the_queue_is_set_so(conn, connect, worker):
    listener = listen(connect())
    announce(conn, "other")

    def end_two() -> list[tuple[str, int]]:
        enqueue_many(conn, 2)
        first, second = fetch(conn, worker)
        complete(conn, [first])
        conn.execute("select eram_cancel_job(%s)", [second.id])
        return [(state, job_id - first.id) for state, job_id in heard(listener)]

    assert end_two() == []
    announce(conn)
    assert end_two() == [("completed", 0), ("cancelled", 1)]
    # Another setting leaves this one as it is.
    conn.execute("select eram_set_queue('default', priority => 1)")
    assert end_two() == [("completed", 0), ("cancelled", 1)]
    announce(conn, on=False)
    assert end_two() == []


def test_a_session_that_prepares_transactions_need_not_announce(conn, connect, worker):
    announce(conn)
    listener = listen(connect())
    enqueue_many(conn, 2)
    first, second = fetch(conn, worker)
    prepare = "prepare transaction 'outcome'"
    conn.execute("begin")
    complete(conn, [first])
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
        conn.execute(prepare)
    conn.execute("set eram.notify = off")
    conn.execute("begin")
    complete(conn, [first])
    conn.execute("select eram_cancel_job(%s)", [second.id])
    conn.execute(prepare)
    conn.execute("commit prepared 'outcome'")
    assert heard(listener) == []
    assert row(conn, OUTCOME, first.id).state == "completed"


def test_queues_that_do_not_announce_cost_a_completion_nothing(conn, worker):
    """However many there are: the look is at an index that holds those only that do."""

    def buffers() -> int:
        enqueue_many(conn, 50)
        jobs = fetch(conn, worker, 50)
        conn.execute("vacuum eram_running_jobs, eram_finished_jobs, eram_completions")
        ids, runs = [job.id for job in jobs], [job.run for job in jobs]
        return shared_buffers(conn, "select eram_complete_jobs(%s, %s)", ids, runs)

    buffers()
    before = min(buffers() for _ in range(3))
    conn.execute("insert into eram_queues (name) select 'q' || n from generate_series(1, 5000) n")
    assert min(buffers() for _ in range(3)) <= before + 10


def test_an_outcome_tells_where_a_job_stands(conn, worker):
    def outcome(job_id: int) -> tuple[object, ...]:
        return tuple(row(conn, OUTCOME, job_id))

    late = enqueue(conn, delay=60)
    assert outcome(late) == ("scheduled", None, None, False, None)
    job_id = enqueue(conn, max_attempts=2)
    assert outcome(job_id) == ("available", None, None, False, None)
    fetch(conn, worker)
    assert outcome(job_id) == ("executing", None, None, False, None)
    conn.execute("select eram_fail_job(%s, 1, 'first', delay => '1 hour')", [job_id])
    assert outcome(job_id) == ("retryable", None, None, False, None)
    conn.execute("select eram_cancel_job(%s)", [job_id])
    # What went wrong earlier is not why it was cancelled.
    assert outcome(job_id) == ("cancelled", None, None, True, None)
    done = enqueue(conn)
    fetch(conn, worker)
    conn.execute(
        "select eram_complete_jobs(array[%s::bigint], array[1], array[%s])", [done, Jsonb([1])]
    )
    assert outcome(done) == ("completed", [1], None, True, None)


def test_the_error_is_that_of_the_last_attempt(conn, worker):
    job_id = enqueue(conn, max_attempts=2)
    for message in ("first", "second"):
        (job,) = fetch(conn, worker)
        conn.execute("select eram_fail_job(%s, %s, %s, delay => '0')", [job_id, job.run, message])
    assert row(conn, OUTCOME, job_id)[:4] == ("discarded", None, "second", True)


def test_the_channel_is_that_of_the_queue_and_shown_only_if_it_announces(conn):
    announce(conn, "a")
    ids = [enqueue(conn, queue=queue) for queue in ("a", "a", "b")]
    channels = [row(conn, OUTCOME, job_id).channel for job_id in ids]
    assert channels == [value(conn, "select _eram_outcome_channel('a')")] * 2 + [None]
    announce(conn, "b")
    assert row(conn, OUTCOME, ids[2]).channel not in {None, channels[0]}
    assert channels[0] != value(conn, "select _eram_channel('a')")
    conn.execute("select eram_cancel_job(%s)", [ids[0]])
    assert row(conn, OUTCOME, ids[0]).channel == channels[0]


def test_a_job_that_is_gone_is_not_one_that_never_was(conn, worker):
    for never in (1, 0, -1, LAST_ID):
        with pytest.raises(psycopg.errors.UndefinedObject, match=f"job {never} does not exist"):
            row(conn, OUTCOME, never)
    conn.execute("select eram_set_queue('default', max_age => '0')")
    removed = enqueue(conn)
    complete(conn, fetch(conn, worker))
    pruned = enqueue(conn)
    conn.execute("select eram_cancel_job(%s)", [pruned])
    conn.execute("select eram_prune_jobs('0')")
    with conn.transaction(force_rollback=True):
        rolled_back = enqueue(conn)
    for gone in (removed, pruned, rolled_back):
        assert row(conn, OUTCOME, gone) == (None, None, None, True, None)
    with pytest.raises(psycopg.errors.UndefinedObject) as caught:
        row(conn, OUTCOME, rolled_back + 1)
    assert caught.value.diag.message_hint
    with pytest.raises(psycopg.errors.NullValueNotAllowed):
        row(conn, OUTCOME, None)


def test_a_job_on_its_way_is_always_seen(conn, connect):
    """From one place to the next and back, while others look."""
    job_id = enqueue(conn, max_attempts=1000)
    looker = connect()
    worker = start_worker(conn)
    seen: set[str] = set()

    def go_round() -> bool:
        (job,) = fetch(conn, worker) or [None]
        if job is not None:
            conn.execute(
                "select eram_release_jobs(array[%s::bigint], array[%s])", [job_id, job.run]
            )
        return seen == {"available", "executing"}

    threads = Threads()

    def look() -> None:
        while not threads.stop.is_set():
            state, *_, is_final, _ = row(looker, OUTCOME, job_id)
            assert not is_final
            seen.add(state)

    threads.start(look)
    try:
        wait_until(go_round, "both states are seen", pause=0)
    finally:
        threads.stop.set()
    threads.join()
