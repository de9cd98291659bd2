"""Rescue by proof of death: who is dead, who is not, and what becomes of the jobs."""

from __future__ import annotations

import time

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    at_once,
    column,
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    shared_buffers,
    start_worker,
    state_of,
    value,
    wait_until,
)

RESCUE = "select eram_rescue_jobs()"
WORKER = "select * from eram_workers where id = %s"


def kill(conn: psycopg.Connection, session: psycopg.Connection) -> None:
    """End a session as a crash of its client would, and wait until the server has noticed."""
    pid = session.info.backend_pid
    conn.execute("select pg_terminate_backend(%s)", [pid])
    wait_until(
        lambda: value(conn, "select not exists (select from pg_stat_activity where pid = %s)", pid),
        "the session has ended",
    )


def age(conn: psycopg.Connection, worker: int, seconds: float = 31) -> None:
    """Let the absence of a worker's lock, once noted, have begun earlier.

    More than the 30 s that hold while the server has just started, as the tests' server has.
    """
    conn.execute(
        """
        update eram_workers
        set missing_since = missing_since - make_interval(secs => %s)
        where id = %s
        """,
        [seconds, worker],
    )


def silence(conn: psycopg.Connection, worker: int, interval: str) -> None:
    """Let a worker's last heartbeat lie in the past, and the start of the server with it."""
    conn.execute(
        "update eram_workers set heartbeat_at = heartbeat_at - %s::interval where id = %s",
        [interval, worker],
    )


def declare_dead(conn: psycopg.Connection, session: psycopg.Connection, worker: int) -> int:
    """Kill a worker's session and rescue its jobs; return how many."""
    kill(conn, session)
    assert value(conn, RESCUE) == 0
    assert row(conn, WORKER, worker).missing_since is not None
    age(conn, worker)
    return value(conn, RESCUE)


def has_run_for(conn: psycopg.Connection, seconds: float) -> bool:
    return value(
        conn,
        "select clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => %s)",
        seconds,
    )


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


@pytest.fixture
def undecided(conn, connect):
    """A silent worker with jobs of two queues, which cannot be declared dead for now.

    Another claim of its is under way, and does not end.
    """
    worker = value(conn, "select eram_start_worker('undecided', '{default,other}')")
    enqueue(conn)
    enqueue(conn, queue="other")
    fetch(conn, worker)
    fetch(conn, worker, queue="other")
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    silence(conn, worker, "2 hours")
    claimer = connect(autocommit=False)
    assert fetch(claimer, worker) == []
    return worker


def queues_rescued(conn: psycopg.Connection) -> list[str]:
    return column(conn, "select queue from eram_queued_jobs where run = 1 order by queue")


def test_rescue_after_is_for_jobs_of_workers_that_cannot_be_judged(conn, undecided):
    assert value(conn, RESCUE) == 0
    assert value(conn, "select eram_rescue_jobs('3 hours')") == 0
    assert value(conn, "select eram_rescue_jobs('1 hour')") == 2
    assert row(conn, WORKER, undecided).ended_at is None
    errors = column(conn, "select error from eram_job_errors")
    assert (
        errors
        == [f'worker {undecided} ("undecided") did not prove its life while it held this job'] * 2
    )


@pytest.mark.parametrize(
    ("own", "general", "rescued"),
    [
        ("1 hour", "3 hours", ["other"]),
        ("3 hours", "1 hour", ["default"]),
        ("3 hours", "0", ["default"]),
        ("1 second", None, []),
    ],
)
def test_rescue_after_of_a_queue_goes_first(conn, undecided, own, general, rescued):
    conn.execute("insert into eram_queues (name, rescue_after) values ('other', %s)", [own])
    conn.execute("set eram.rescue_swept = ''")
    assert value(conn, "select eram_rescue_jobs(%s)", general) == len(rescued)
    assert queues_rescued(conn) == rescued


@pytest.mark.parametrize("rescue_after", ["0", "1 hour"])
def test_rescue_after_leaves_alone_whose_worker_beats(conn, rescue_after):
    """Behind a pooler there is no lock, and a long job is no reason to run it twice."""
    worker = value(conn, "select eram_start_worker('pooled', '{default}')")
    enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    silence(conn, worker, "40 seconds")
    assert value(conn, "select eram_rescue_jobs(%s)", rescue_after) == 0


def test_rescue_after_leaves_alone_whose_worker_is_on_its_way_back(conn, connect):
    lost = connect()
    worker = start_worker(lost)
    enqueue(conn)
    fetch(lost, worker)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    kill(conn, lost)
    for _ in range(2):
        assert value(conn, "select eram_rescue_jobs('1 hour')") == 0
    assert row(conn, WORKER, worker).missing_since is not None


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        ({"rescue_afer": 1}, 'unknown key "rescue_afer" in options', 'mean "rescue_after"'),
        ({"rescue_after": -1}, "rescue_after must be between 0 and", ""),
        ({"rescue_after": 0}, "rescue_after must be longer than zero", '"infinity" for never'),
        ({"rescue_after": "0 hours"}, "rescue_after must be longer than zero", ""),
        ({"rescue_after": "-1 month 40 days"}, "rescue_after must be between 0 and", ""),
        ({"rescue_after": 1e20}, "rescue_after must be between 0 and", "A number is seconds"),
        ({"rescue_after": "soon"}, 'invalid rescue_after: "soon"', "A number is seconds"),
        ({"rescue_after": True}, "rescue_after must be a number or a string, got boolean", ""),
        ([], "options must be a JSON object, got array", ""),
    ],
)
def test_wrong_options_of_the_lifeline(conn, options, error, hint):
    with pytest.raises(psycopg.DataError) as caught:
        conn.execute("select _eram_check_lifeline_options(%s)", [Jsonb(options)])
    assert error in (caught.value.diag.message_primary or "")
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("options", "rescued"),
    [
        ({}, 2),
        ({"rescue_after": None}, 2),
        ({"rescue_after": 7000}, 2),
        ({"rescue_after": 7300}, 0),
        ({"rescue_after": "1 hour 59 minutes"}, 2),
        ({"rescue_after": "infinity"}, 0),
    ],
)
def test_the_lifeline_rescues_by_its_options(conn, undecided, options, rescued):
    conn.execute("select _eram_check_lifeline_options(%s)", [Jsonb(options)])
    conn.execute("select _eram_run_lifeline(%s)", [Jsonb(options)])
    assert len(queues_rescued(conn)) == rescued


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


def read_by_rescue(session: psycopg.Connection) -> int:
    """Call the rescue, and return how many running tickets it read."""
    # Counts of earlier transactions are in it until they are passed on.
    count = "select pg_stat_get_xact_tuples_returned('eram_running_jobs_pkey'::regclass)"
    with session.transaction():
        before = value(session, count)
        session.execute(RESCUE)
        return value(session, count) - before


def test_after_a_death_only_who_found_it_looks_through_all_running_jobs(conn, connect):
    living, victim, other = connect(), connect(), connect()
    enqueue_many(conn, 300)
    assert len(fetch(living, start_worker(living), 300)) == 300
    assert [read_by_rescue(session) for session in (conn, other)] == [300, 300]
    assert [read_by_rescue(session) for session in (conn, other)] == [0, 0]
    worker = start_worker(victim)
    enqueue(conn)
    fetch(victim, worker)
    assert declare_dead(conn, victim, worker) == 1
    # Once more, for what was locked or too much at first; the rescued one may be read again.
    once_more, *later = [read_by_rescue(conn) for _ in range(3)]
    assert 300 <= once_more <= 301
    assert later == [0, 0]
    assert [read_by_rescue(other) for _ in range(3)] == [0, 0, 0]


def test_an_idle_rescue_reads_no_worker_that_has_ended(conn):
    """They pile up, and it is called by each worker once a second."""
    start_worker(conn)
    value(conn, RESCUE)
    before = shared_buffers(conn, RESCUE)
    conn.execute(
        """
        insert into eram_workers
            (name, queues, is_direct, timeline, stalled_after, started_at, heartbeat_at, ended_at,
            end_reason)
        select 'old', '{default}', true, '00000001', '0', now(), now(), now(), 'stopped'
        from generate_series(1, 3000)
        """
    )
    conn.execute("analyze eram_workers")
    value(conn, RESCUE)
    assert shared_buffers(conn, RESCUE) <= before + 10


def test_an_idle_rescue_writes_nothing(conn, connect):
    session = connect()
    worker = start_worker(session)
    enqueue(conn)
    fetch(session, worker)
    value(conn, RESCUE)
    before = contents(conn)
    with conn.transaction():
        for _ in range(3):
            assert value(conn, RESCUE) == 0
        assert value(conn, "select pg_current_xact_id_if_assigned()") is None
    assert contents(conn) == before


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
