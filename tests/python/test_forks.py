"""Handlers that fork: what the child inherits stays the worker's alone."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
import sample_jobs
from helpers import eventually, wait_for_state


@pytest.mark.usefixtures("settled_server")
def test_child_does_not_keep_a_killed_worker_alive(conn, spawn_worker, tmp_path):
    path = tmp_path / "pid"
    worker = spawn_worker()
    answer = sample_jobs.fork_and_wait.enqueue(conn, path=str(path))
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    child = int(path.read_text())
    try:
        worker.signal(signal.SIGKILL)
        spawn_worker()
        assert wait_for_state(conn, answer.id, "completed")["attempt"] == 2
        assert Path(f"/proc/{child}").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("way", ["return", "raise"])
def test_child_that_comes_out_of_the_handler_ends(conn, spawn_worker, way):
    spawn_worker("--queue", "default=1")
    answer = sample_jobs.fork_and_go_on.enqueue(conn, way=way)
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"child": 1}
    after = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, after.id, "completed")


@pytest.mark.parametrize("way", ["return", "use", "close"])
def test_child_leaves_the_transaction_alone(conn, spawn_worker, way):
    conn.execute("create table effects (value bigint)")
    spawn_worker("--queue", "default=1")
    answer = sample_jobs.fork_in_transaction.enqueue(conn, way=way)
    assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None
    after = sample_jobs.insert.enqueue(conn, value=4)
    wait_for_state(conn, after.id, "completed")
    values = conn.execute("select value from effects order by value").fetchall()
    assert values == [(1,), (3,), (4,)]


@pytest.mark.parametrize("computes", [False, True])
def test_signal_to_a_child_does_not_stop_the_worker(conn, spawn_worker, computes):
    worker = spawn_worker()
    answer = sample_jobs.terminate_child.enqueue(conn, computes=computes)
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"child": -signal.SIGTERM}
    after = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, after.id, "completed")
    assert "stopping" not in worker.log
