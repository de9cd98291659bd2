"""Workers: they come, beat, and go."""

from __future__ import annotations

import sys

import psycopg
import pytest

from .helpers import (
    Threads,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)

WORKER = "select * from eram_workers where id = %s"
HELD = """
    select count(*)
    from pg_locks
    where locktype = 'advisory' and classid = 'eram_workers'::regclass and objid = %s and granted
"""


def test_a_worker_is_registered(conn):
    worker = value(conn, "select eram_start_worker('w', '{a,b}', pg_backend_pid())")
    seen = row(conn, WORKER, worker)
    assert (seen.name, seen.queues, seen.client_pid) == ("w", ["a", "b"], conn.info.backend_pid)
    assert (seen.is_direct, seen.ended_at, seen.missing_since) == (True, None, None)
    assert seen.stalled_after.total_seconds() == 600
    assert value(conn, HELD, worker) == 1


@pytest.mark.parametrize("client_pid", [None, 1])
def test_behind_a_pooler_no_lock_is_taken(conn, client_pid):
    """A lock would live on in the pooler's session."""
    worker = value(conn, "select eram_start_worker('w', '{a}', %s)", client_pid)
    assert row(conn, WORKER, worker).is_direct is False
    assert value(conn, HELD, worker) == 0


def test_names_need_not_be_unique(conn):
    assert start_worker(conn, name="twin") != start_worker(conn, name="twin")


def test_a_session_may_hold_several_workers(conn):
    workers = [start_worker(conn) for _ in range(3)]
    assert [value(conn, HELD, worker) for worker in workers] == [1, 1, 1]
    conn.execute("select eram_stop_worker(%s)", [workers[1]])
    assert [value(conn, HELD, worker) for worker in workers] == [1, 0, 1]


def test_a_heartbeat_says_alive(conn, worker):
    assert tuple(row(conn, "select * from eram_heartbeat(%s)", worker)) == (True, [], [])


def test_heartbeats_write_only_now_and_then(conn, worker):
    """A row updated every second is what leaks while a snapshot is held."""
    version = "select xmin::text from eram_workers where id = %s"
    before = value(conn, version, worker)
    for _ in range(5):
        conn.execute("select eram_heartbeat(%s)", [worker])
    assert value(conn, version, worker) == before
    conn.execute("update eram_workers set heartbeat_at = heartbeat_at - interval '16 seconds'")
    before = value(conn, version, worker)
    conn.execute("select eram_heartbeat(%s)", [worker])
    assert value(conn, version, worker) != before
    assert value(conn, "select clock_timestamp() - heartbeat_at < '5 seconds' from eram_workers")


def test_a_lost_lock_is_taken_back_by_a_heartbeat(conn, worker):
    conn.execute("select pg_advisory_unlock_all()")
    assert value(conn, HELD, worker) == 0
    conn.execute("select eram_heartbeat(%s)", [worker])
    assert value(conn, HELD, worker) == 1
    for _ in range(3):
        conn.execute("select eram_heartbeat(%s)", [worker])
    conn.execute("select eram_stop_worker(%s)", [worker])
    assert value(conn, HELD, worker) == 0


def test_a_heartbeat_from_another_session_while_the_first_lives(conn, connect, worker):
    other = connect()
    assert row(other, "select * from eram_heartbeat(%s)", worker).is_alive
    assert value(conn, HELD, worker) == 1


def test_cancelled_runs_are_told_once_each(conn, worker):
    first, second = enqueue(conn), enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_cancel_job(%s), eram_cancel_job(%s)", [second, first])
    # Retried, claimed and cancelled again before the worker was told of the first time.
    conn.execute("select eram_retry_job(%s)", [first])
    fetch_late(conn, worker)
    conn.execute("select eram_cancel_job(%s)", [first])
    told = row(conn, "select * from eram_heartbeat(%s)", worker)
    assert told.cancelled_ids == [first, first, second]
    assert told.cancelled_runs == [1, 2, 1]
    told = row(conn, "select * from eram_heartbeat(%s)", worker)
    assert (told.cancelled_ids, told.cancelled_runs) == ([], [])


def test_a_worker_that_stops_releases_what_it_holds(conn, worker):
    ids = enqueue_many(conn, 5)
    other = start_worker(conn)
    assert len(fetch(conn, worker, 3)) == 3
    assert len(fetch(conn, other, 1)) == 1
    assert value(conn, "select eram_stop_worker(%s)", worker) == 3
    assert [state_of(conn, job_id) for job_id in ids] == ["available"] * 3 + [
        "executing",
        "available",
    ]
    seen = row(conn, WORKER, worker)
    assert (seen.end_reason, seen.ended_at is not None) == ("stopped", True)
    assert value(conn, HELD, worker) == 0
    assert [(job.id, job.attempt) for job in fetch(conn, other, 3)] == [(n, 1) for n in ids[:3]]


def test_to_stop_twice_is_no_mistake(conn, worker):
    assert value(conn, "select eram_stop_worker(%s)", worker) == 0
    ended_at = row(conn, WORKER, worker).ended_at
    assert value(conn, "select eram_stop_worker(%s)", worker) == 0
    assert row(conn, WORKER, worker).ended_at == ended_at


def test_a_stopped_worker_gets_no_job(conn, worker):
    job_id = enqueue(conn)
    conn.execute("select eram_stop_worker(%s)", [worker])
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        fetch(conn, worker)
    assert state_of(conn, job_id) == "available"


def test_a_worker_stops_from_another_session(conn, connect, worker):
    enqueue(conn)
    fetch(conn, worker)
    assert value(connect(), "select eram_stop_worker(%s)", worker) == 1


def test_a_stop_waits_for_a_claim_under_way(conn, connect, worker):
    """Its jobs would stay behind with nobody."""
    job_id = enqueue(conn)
    claimer, stopper = connect(autocommit=False), connect()
    assert len(fetch(claimer, worker)) == 1
    released: list[int] = []
    threads = Threads()
    threads.start(lambda: released.append(value(stopper, "select eram_stop_worker(%s)", worker)))
    wait_for_lock_wait(conn, stopper)
    claimer.commit()
    threads.join(10)
    assert released == [1]
    assert state_of(conn, job_id) == "available"


def test_a_claim_waits_for_a_stop_under_way_and_is_refused(conn, connect, worker):
    job_id = enqueue(conn)
    stopper, claimer = connect(autocommit=False), connect()
    stopper.execute("select eram_stop_worker(%s)", [worker])
    errors: list[Exception] = []

    def claim() -> None:
        try:
            fetch(claimer, worker)
        except psycopg.errors.ObjectNotInPrerequisiteState as exc:
            errors.append(exc)

    threads = Threads()
    threads.start(claim)
    wait_for_lock_wait(conn, claimer)
    stopper.commit()
    threads.join(10)
    assert len(errors) == 1
    assert state_of(conn, job_id) == "available"
    assert [job.id for job in fetch_late(conn, start_worker(conn))] == [job_id]


@pytest.mark.skipif(sys.platform != "linux", reason="tcp_user_timeout is Linux's own")
def test_a_client_whose_host_vanishes_is_noticed_soon(connect):
    session = connect()
    start_worker(session)
    settings = "select current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')"
    assert session.execute(settings).fetchone() == ("5", "15000")
