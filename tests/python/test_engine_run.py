"""How `run()` ends, and where it cannot begin."""

from __future__ import annotations

import asyncio

import pytest
import sample_jobs
from helpers import PATIENCE, job_of, value, wait_for_state


def test_stop_lets_what_runs_end_and_gives_back_the_rest(conn, make_engine, running):
    engine = make_engine()

    @engine.job
    def local(job):
        sample_jobs.started["x"].set()
        assert sample_jobs.gates["x"].wait(PATIENCE)

    ending = running(engine)
    first = engine.enqueue("local")
    assert sample_jobs.started["x"].wait(PATIENCE)
    second = engine.enqueue("local")
    wait_for_state(conn, second.id, "executing")
    assert not engine.stop(0)
    wait_for_state(conn, second.id, "available")
    assert not ending.done()
    sample_jobs.gates["x"].set()
    ending.result(PATIENCE)
    assert job_of(conn, first.id)["state"] == "completed"


def test_async_handler_that_outlives_the_grace_period_is_cut_off(conn, make_engine, running):
    engine = make_engine(grace_period=0.2)
    tidied = []

    @engine.job
    async def local(job):
        sample_jobs.started["x"].set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            for _ in range(3):
                await asyncio.sleep(0.001)
            tidied.append(job.id)

    ending = running(engine)
    answer = engine.enqueue("local")
    assert sample_jobs.started["x"].wait(PATIENCE)
    engine.stop(0)
    ending.result(PATIENCE)
    assert tidied == [answer.id]
    assert "CancelledError" in str(wait_for_state(conn, answer.id, "retryable")["errors"])


def test_run_is_under_way_once(make_engine, running):
    engine = make_engine(allow=["sample_jobs"])
    running(engine)
    with pytest.raises(RuntimeError, match=r"run\(\) is under way already"):
        engine.run()
    assert engine.is_running


def test_run_within_an_event_loop_is_refused(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"])

    async def main():
        engine.run()

    with pytest.raises(RuntimeError, match=r"await asyncio\.to_thread\(engine\.run\)"):
        asyncio.run(main())
    assert engine.worker is None
    assert value(conn, "select count(*) from eram_workers") == 0


def test_run_again_after_stop(conn, make_engine, running):
    engine = make_engine()
    engine.job(name="local")(lambda job: job.id)
    for _ in range(2):
        ending = running(engine)
        wait_for_state(conn, engine.enqueue("local").id, "completed")
        assert engine.stop()
        ending.result(PATIENCE)
