"""Who counts as dead: how long a lock may be gone, and a worker silent."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import complete, enqueue, enqueue_many, fetch, row, start_worker, state_of, value
from .rescue_helpers import RESCUE, WORKER, age, has_run_for, kill, silence


def test_a_lock_retaken_within_the_grace_saves_the_jobs(conn, connect):
    first, second = connect(), connect()
    worker = start_worker(first)
    enqueue(conn)
    jobs = fetch(first, worker)
    kill(conn, first)
    value(conn, RESCUE)
    assert row(conn, WORKER, worker).missing_since is not None
    assert value(second, "select is_alive from eram_heartbeat(%s)", worker)
    assert row(conn, WORKER, worker).missing_since is None
    for _ in range(3):
        assert value(conn, RESCUE) == 0
    assert complete(second, jobs) == [jobs[0].id]


def test_a_lock_that_is_back_is_noticed_without_a_heartbeat(conn, connect):
    session = connect()
    worker = start_worker(session)
    session.execute("select pg_advisory_unlock_all()")
    value(conn, RESCUE)
    assert row(conn, WORKER, worker).missing_since is not None
    session.execute("select _eram_take_worker_lock(%s)", [worker])
    value(conn, RESCUE)
    assert row(conn, WORKER, worker).missing_since is None


def test_shortly_after_the_start_of_the_server_the_grace_is_longer(conn, connect):
    """Then every worker has lost its session, and is on its way back."""
    victim = connect()
    worker = start_worker(victim)
    enqueue(conn)
    fetch(victim, worker)
    kill(conn, victim)
    value(conn, RESCUE)
    conn.execute(
        "update eram_workers set missing_since = pg_postmaster_start_time() + interval '5 seconds'"
    )
    if has_run_for(conn, 35):
        assert value(conn, RESCUE) == 1
    else:
        assert value(conn, RESCUE) == 0
        assert row(conn, WORKER, worker).ended_at is None


# When the lock of each worker was found absent, in seconds; None is never, and in brackets are
# those that are back.
@pytest.mark.parametrize(
    ("lost_at", "grace"),
    [
        ([0], 3),
        ([0, 0], 3),
        ([0, 0, 0], 30),
        ([0, 0.9, 0.2], 30),
        ([0, 0, 0, None, None, None], 30),
        ([0, 0, 0, None, None, None, None], 3),
        ([0, [0], [0]], 30),
        # Killed in quick succession, which is not together.
        ([0, 1.1, 2.2, 3.3, 4.4], 3),
        ([0, -1.1, -2.2], 3),
    ],
)
def test_grace_is_longer_for_locks_that_vanished_together(conn, lost_at, grace):
    """Judged for the first; at a time when the start of the server plays no part."""
    conn.execute("select eram_start_worker('pooled', '{default}') from generate_series(1, 9)")
    workers = [start_worker(conn) for _ in lost_at]
    for worker, seconds in zip(workers, lost_at, strict=True):
        is_back = isinstance(seconds, list)
        conn.execute(
            """
            update eram_workers
            set
                last_missing_at = moment.at,
                missing_since = case when not %s then moment.at end
            from (select now() + interval '1 hour' + make_interval(secs => %s) as at) as moment
            where id = %s
            """,
            [is_back, seconds[0] if is_back else seconds, worker],
        )
    assert grace_of(conn, workers[0]) == grace


def grace_of(conn: psycopg.Connection, worker: int) -> float:
    return float(
        value(
            conn,
            "select extract(epoch from _eram_grace(w)) from eram_workers as w where id = %s",
            worker,
        )
    )


def test_most_that_were_lost_together_are_back_and_the_last_has_time_yet(conn, connect):
    sessions = [connect() for _ in range(3)]
    workers = [start_worker(session) for session in sessions]
    for session in sessions:
        kill(conn, session)
    value(conn, RESCUE)
    for worker in workers[:2]:
        assert value(connect(), "select is_alive from eram_heartbeat(%s)", worker)
    assert [row(conn, WORKER, worker).missing_since is None for worker in workers] == [
        True,
        True,
        False,
    ]
    # As if it had been long after the start of the server, which is a reason of its own.
    age(conn, workers[2], -3600)
    assert grace_of(conn, workers[2]) == 30
    for _ in range(4):
        start_worker(conn)
    assert grace_of(conn, workers[2]) == 3


def test_when_many_locks_vanish_together_the_grace_is_longer(conn, connect):
    sessions = [connect() for _ in range(4)]
    workers = [start_worker(session) for session in sessions]
    enqueue_many(conn, 4)
    for session, worker in zip(sessions, workers, strict=True):
        assert len(fetch(session, worker, 1)) == 1
    for session in sessions[:3]:
        kill(conn, session)
    value(conn, RESCUE)
    for worker in workers[:3]:
        age(conn, worker, 20)
    assert value(conn, RESCUE) == 0
    for worker in workers[:3]:
        age(conn, worker, 15)
    assert value(conn, RESCUE) == 3
    assert row(conn, WORKER, workers[3]).ended_at is None


def test_behind_a_pooler_heartbeats_decide(conn):
    worker = value(conn, "select eram_start_worker('w', '{default}')")
    enqueue(conn)
    fetch(conn, worker)
    assert value(conn, RESCUE) == 0
    assert row(conn, WORKER, worker).missing_since is None
    # Long ago, so that even the start of the server does not excuse it.
    silence(conn, worker, "50 seconds")
    assert value(conn, RESCUE) == 0
    silence(conn, worker, "1 hour")
    conn.execute("set eram.rescue_swept = ''")
    rescued = value(conn, RESCUE)
    if has_run_for(conn, 61):
        assert rescued == 1
        assert row(conn, WORKER, worker).end_reason == "died"
    else:
        assert rescued == 0
    assert value(conn, "select is_alive from eram_heartbeat(%s)", worker) is (rescued == 0)


def test_a_pooled_worker_that_beats_lives(conn):
    worker = value(conn, "select eram_start_worker('w', '{default}')")
    job_id = enqueue(conn)
    fetch(conn, worker)
    silence(conn, worker, "1 hour")
    conn.execute("select eram_heartbeat(%s)", [worker])
    conn.execute("set eram.rescue_swept = ''")
    assert value(conn, RESCUE) == 0
    assert state_of(conn, job_id) == "executing"


def stalls(conn: psycopg.Connection, worker: int) -> bool:
    """Make a worker silent for longer than it may, however young the server is; rescue."""
    conn.execute(
        """
        update eram_workers
        set stalled_after = least(stalled_after, clock_timestamp() - pg_postmaster_start_time())
        where id = %s and stalled_after > '0'
        """,
        [worker],
    )
    silence(conn, worker, "2 hours")
    conn.execute("set eram.rescue_swept = ''")
    conn.execute("select pg_sleep(0.01)")
    conn.execute(RESCUE)
    return row(conn, WORKER, worker).end_reason == "stalled"


def test_a_silent_worker_that_holds_its_lock_has_stalled(conn, connect):
    silent = connect()
    worker = start_worker(silent, name="frozen")
    job_id = enqueue(conn)
    jobs = fetch(silent, worker)
    assert stalls(conn, worker)
    seen = row(conn, "select * from eram_jobs where id = %s", job_id)
    assert seen.state == "available"
    for word in ("frozen", str(worker), "stalled"):
        assert word in seen.errors[0]["error"]
    assert complete(silent, jobs) == []
    assert value(silent, "select is_alive from eram_heartbeat(%s)", worker) is False


def test_a_worker_may_be_allowed_any_silence(conn, connect):
    silent = connect()
    pid = silent.info.backend_pid
    worker = value(silent, "select eram_start_worker('w', '{default}', %s, '0')", pid)
    job_id = enqueue(conn)
    fetch(silent, worker)
    assert not stalls(conn, worker)
    assert value(conn, "select eram_rescue_jobs('0')") == 0
    assert state_of(conn, job_id) == "executing"
