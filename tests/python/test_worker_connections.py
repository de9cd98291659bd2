"""The database goes away, or takes the worker for dead: nothing stops, nothing runs twice."""

from __future__ import annotations

import time
import types

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, wait_for_state
from proxy import CutLink, Proxy

from eram._runtime import look_back


@pytest.fixture
def breaking_network(conn):
    proxy = Proxy(conn, CutLink)
    yield proxy
    proxy.close()


def terminate(conn, application_name):
    rows = conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = %s",
        (application_name,),
    ).fetchall()
    assert rows == [(True,)]


def backend_of(conn, application_name):
    row = conn.execute(
        "select pid from pg_stat_activity"
        " where datname = current_database() and application_name = %s",
        (application_name,),
    ).fetchone()
    return row and row[0]


@pytest.mark.parametrize("application_name", ["eram queue default", "eram maintenance"])
def test_lost_connection_is_replaced(conn, start_worker, application_name):
    worker = start_worker()
    worker_id = worker.id
    running = sample_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)

    lost = backend_of(conn, application_name)
    terminate(conn, application_name)
    eventually(lambda: backend_of(conn, application_name) not in {None, lost}, 5)

    sample_jobs.gates["a"].set()
    assert wait_for_state(conn, running.id, "completed")["result"] == {"run": 1}
    after = sample_jobs.echo.enqueue(conn, word="after")
    assert wait_for_state(conn, after.id, "completed")["result"] == {"word": "after"}
    assert worker.id == worker_id


def test_outcome_is_kept_while_there_is_no_connection(dsn, conn, start_worker):
    """Jobs that end while the database lets nobody in are reported afterwards."""
    start_worker(queues={"default": 3})
    answers = [
        sample_jobs.wait.enqueue(conn, name="a"),
        sample_jobs.wait.enqueue(conn, name="b"),
        sample_jobs.wait.enqueue(conn, name="c"),
    ]
    for name in "abc":
        assert sample_jobs.started[name].wait(PATIENCE)
    database = conn.info.dbname
    with psycopg.connect(_elsewhere(dsn), autocommit=True) as admin:
        admin.execute(f"alter database {database} allow_connections false")
        terminate(conn, "eram queue default")
        for name in "abc":
            sample_jobs.gates[name].set()
        assert [job_of(conn, answer.id)["state"] for answer in answers] == ["executing"] * 3
        admin.execute(f"alter database {database} allow_connections true")
    for answer in answers:
        assert wait_for_state(conn, answer.id, "completed")["result"] == {"run": 1}


def _elsewhere(dsn):
    return psycopg.conninfo.make_conninfo(dsn, dbname="postgres")


def test_worker_that_was_declared_dead_registers_anew(conn, start_worker, caplog):
    worker = start_worker(queues={"default": 2})
    first = worker.id
    running = sample_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_stop_worker(%s)", (first,))
    eventually(lambda: worker.id != first)

    # What it held went back and is run anew; the first run no longer counts.
    latest_run = "select max(run) from eram_running_jobs"
    eventually(lambda: conn.execute(latest_run).fetchone() == (2,))
    sample_jobs.gates["a"].set()
    assert wait_for_state(conn, running.id, "completed")["result"] == {"run": 2}
    eventually(lambda: f"lost job {running.id}: run 1" in caplog.text)


def test_worker_row_that_is_gone_is_replaced(conn, start_worker):
    worker = start_worker()
    first = worker.id
    conn.execute("delete from eram_workers")
    answer = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, answer.id, "completed")
    assert worker.id != first


@pytest.mark.usefixtures("settled_server")
def test_dead_workers_jobs_are_rescued_by_a_live_one(conn, connect, start_worker):
    """A session that registered, claimed and vanished."""
    ghost = connect()
    answer = sample_jobs.describe.enqueue(conn)
    worker = ghost.execute(
        "select eram_start_worker('ghost', '{default}', %s)", (ghost.info.backend_pid,)
    ).fetchone()[0]
    ghost.execute("select eram_fetch('default', 10, %s)", (worker,))
    start_worker()
    ghost.close()
    job = wait_for_state(conn, answer.id, "completed")
    assert (job["result"]["run"], job["result"]["attempt"]) == (2, 2)


def test_role_with_another_isolation_level_does_not_matter(dsn, conn, start_worker):
    conn.execute("create table effects (value bigint)")
    with_level = psycopg.conninfo.make_conninfo(
        dsn, options="-c default_transaction_isolation=serializable"
    )
    start_worker(with_level)
    answer = sample_jobs.insert_and.enqueue(conn, what="say isolation")
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == "read committed"


def test_claim_whose_answer_got_lost_is_given_back(dsn, conn, breaking_network, start_worker):
    answer = sample_jobs.describe.enqueue(conn)
    start_worker(breaking_network.dsn(dsn))
    job = wait_for_state(conn, answer.id, "completed")
    assert breaking_network.is_broken
    assert (job["result"]["run"], job["result"]["attempt"]) == (2, 1)


def test_claim_that_the_lost_session_made_late_is_given_back(conn, start_worker, monkeypatch):
    """The server carries out what it had been sent, after the new session has looked for it."""
    passed = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(look_back, "time", clock)
    worker = start_worker(poll_interval=0.1)
    name = "eram queue default"
    wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    lost = backend_of(conn, name)
    terminate(conn, name)
    eventually(lambda: backend_of(conn, name) not in {None, lost})
    wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    with conn.transaction():
        late = sample_jobs.describe.enqueue(conn)
        conn.execute("select from eram_fetch('default', 1, %s)", (worker.id,))
    assert job_of(conn, late.id)["state"] == "executing"
    passed[0] = look_back.LAST_SECONDS
    job = wait_for_state(conn, late.id, "completed")
    assert (job["result"]["run"], job["result"]["attempt"]) == (2, 1)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("return", "completed"),
        ("raise", "retryable"),
        ("snooze", "scheduled"),
        ("cancel", "cancelled"),
        ("discard", "discarded"),
    ],
)
def test_run_is_reported_by_its_own_number(conn, start_worker, end, state):
    """Which is not that of the attempt once a job was given back."""
    answer = sample_jobs.wait_and.enqueue(conn, name="a", end=end)
    sample_jobs.gates["a"].set()
    ghost = conn.execute("select eram_start_worker('ghost', '{default}')").fetchone()
    conn.execute("select from eram_fetch('default', 1, %s)", ghost)
    conn.execute("select eram_stop_worker(%s)", ghost)
    start_worker()
    job = wait_for_state(conn, answer.id, state)
    assert job["attempt"] == (0 if end == "snooze" else 1)
