"""Workers that are killed, cut off and taken for dead, and those that take over from them."""

from __future__ import annotations

import signal

import pytest
from pgbouncer import pgbouncer_before
from psycopg.conninfo import conninfo_to_dict

from .helpers import (
    TERMINATE,
    enqueue,
    eventually,
    job_of,
    let_the_dead_be_found,
    value,
    wait_for_state,
    wait_for_workers,
)
from .programs import LANGUAGES, PYTHON, Languages

# Sessions that are declared waiting, and have said nothing for longer than brisk polls pause.
WAITING_SESSIONS = """
    select count(*)
    from pg_stat_activity as sessions
    where
        sessions.datname = current_database()
        and sessions.state = 'idle'
        and sessions.query like '%eram_fetch%'
        and sessions.state_change < clock_timestamp() - interval '0.5 seconds'
        and sessions.pid in (
            select locks.pid
            from pg_locks as locks
            where
                locks.locktype = 'advisory'
                and locks.classid = 'eram_queues'::regclass::oid
        )
"""


def test_kill_9(conn, start_worker):
    """Another worker has the jobs of a killed one, and each is accounted for."""
    enqueued = [enqueue(conn, "demo:sleep", args={"seconds": 600}) for _ in range(2)]
    killed = start_worker("default=2")
    for job_id in enqueued:
        wait_for_state(conn, job_id, "executing", killed)
    killed.send(signal.SIGKILL)
    killed.wait()
    done = enqueue(conn, "demo:echo")
    heir = start_worker("default=3")
    wait_for_state(conn, done, "completed", heir)
    let_the_dead_be_found(conn, heir)

    for job_id in enqueued:
        eventually(lambda job_id=job_id: job_of(conn, job_id)["attempt"] == 2, heir)
        job = wait_for_state(conn, job_id, "executing", heir)
        assert [each["type"] for each in job["errors"]] == ["rescued"]
        conn.execute("select eram_cancel_job(%s)", (job_id,))
    heir.stop()
    assert value(conn, "select array_agg(end_reason order by id) from eram_workers") == [
        "died",
        "stopped",
    ]


def test_terminated_sessions(conn, connect, start_worker):
    """It comes back as the worker that it was; the job that runs meanwhile is not run again."""
    running = enqueue(conn, "demo:sleep", args={"seconds": 3})
    worker = start_worker("default=2")
    wait_for_state(conn, running, "executing", worker)
    (worker_id,) = wait_for_workers(conn, 1, worker)
    # Claimed in its name, but the answer has gone to somebody else.
    with connect(autocommit=False) as claimant:
        lost = enqueue(claimant, "demo:echo")
        claimed = claimant.execute("select id from eram_fetch('default', 1, %s)", (worker_id,))
        assert claimed.fetchall() == [(lost,)]
        claimant.commit()
    assert value(conn, TERMINATE) > 0

    after = enqueue(conn, "demo:echo")
    wait_for_state(conn, after, "completed", worker)
    wait_for_state(conn, lost, "completed", worker)
    job = wait_for_state(conn, running, "completed", worker)
    assert (job["attempt"], job["errors"]) == (1, None)
    assert wait_for_workers(conn, 1, worker) == [worker_id]
    worker.stop()


def test_taken_for_dead(conn, start_worker):
    """It registers anew, and what it reports of a run that was given to another is refused."""
    running = enqueue(conn, "demo:sleep", args={"seconds": 3})
    worker = start_worker("default=2")
    wait_for_state(conn, running, "executing", worker)
    (worker_id,) = wait_for_workers(conn, 1, worker)
    conn.execute("select eram_pause_queue('default')")
    assert value(conn, "select eram_stop_worker(%s)", worker_id) == 1

    eventually(lambda: wait_for_workers(conn, 1, worker) != [worker_id], worker)
    eventually(lambda: "over already" in worker.log, worker)
    assert job_of(conn, running)["state"] == "available"
    conn.execute("select eram_cancel_job(%s)", (running,))
    conn.execute("select eram_resume_queue('default')")
    after = enqueue(conn, "demo:echo")
    wait_for_state(conn, after, "completed", worker)
    worker.stop()


@pytest.mark.parametrize("name", ["go", "node"])
def test_woken_by_notifications(conn, start_program, languages: Languages, name):
    """A worker that looks by itself once an hour only is told of jobs at once."""
    worker = start_program(languages.get(name), "default=2", ERAM_POLL_SECONDS="3600")
    for _ in range(2):
        eventually(lambda: value(conn, WAITING_SESSIONS) == 1, worker)
        wait_for_state(conn, enqueue(conn, "demo:echo"), "completed", worker)
    # Nobody says anything when a job becomes due: the worker was told when.
    eventually(lambda: value(conn, WAITING_SESSIONS) == 1, worker)
    wait_for_state(conn, enqueue(conn, "demo:echo", delay=1), "completed", worker)
    worker.stop()


def test_behind_a_pooler(conn, dsn, language, start_program):
    """It finds out that there is one: heartbeats prove its life then, and it polls."""
    with pgbouncer_before(dsn, ignore_startup_parameters="options,extra_float_digits") as pooler:
        place = conninfo_to_dict(pooler.dsn)
        url = "postgresql:///{dbname}?host={host}&port={port}&user={user}".format(**place)
        if language.name == "go":
            url += "&statement_cache_mode=describe"
        worker = start_program(language, "default=2", DATABASE_URL=url)
        wait_for_workers(conn, 1, worker)
        assert value(conn, "select array_agg(is_direct) from eram_workers") == [False]
        job_id = enqueue(conn, "demo:sleep", args={"seconds": 600})
        wait_for_state(conn, job_id, "executing", worker)
        wait_for_state(conn, enqueue(conn, "demo:echo"), "completed", worker)
        conn.execute("select eram_cancel_job(%s)", (job_id,))
        worker.stop()


def test_workers_of_all_languages_share_a_queue(conn, connect, start_program, languages, records):
    """Two hundred jobs, each of them run once, by workers of four kinds."""
    kinds = [*(languages.get(each) for each in LANGUAGES), PYTHON]
    workers = [start_program(each, "default=4") for each in kinds]
    wait_for_workers(conn, len(workers), *workers)
    with connect(autocommit=False) as holder:
        # Until each of them has taken some, nobody goes on.
        holder.execute("lock table demo_records in access exclusive mode")
        conn.execute(
            "select eram_enqueue_jobs(jsonb_agg(jsonb_build_object("
            "'handler', 'demo:record', 'args', jsonb_build_object('word', number::text))))"
            " from generate_series(1, 200) as number"
        )
        claimants = "select count(distinct worker) from eram_running_jobs"
        eventually(lambda: value(conn, claimants) == len(workers), *workers)
    unfinished = "select count(*) from eram_jobs where state <> 'completed'"
    eventually(lambda: value(conn, unfinished) == 0, *workers)
    for worker in workers:
        worker.stop()

    assert value(conn, "select array_agg(word::int order by word::int) from demo_records") == list(
        range(1, 201)
    )
    assert value(conn, "select count(*) from eram_jobs where errors is not null") == 0
    by_worker = "select count(distinct worker) from eram_finished_jobs"
    assert value(conn, by_worker) == len(workers)
