"""Waiting for the end of a job, whatever it is."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import timedelta

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, value
from wait_helpers import CANCEL, claim, complete, end_later, enqueue, listens

import eram
from eram._jobs import watch

ENDS = {
    "completes": (
        lambda conn, job_id: complete(conn, job_id, result={"n": [1]}),
        "completed",
        None,
    ),
    "fails": (lambda conn, job_id: conn.execute(FAIL, [job_id]), "discarded", "boom"),
    "is discarded": (lambda conn, job_id: conn.execute(DISCARD, [job_id]), "discarded", "no use"),
    "is cancelled": (
        lambda conn, job_id: conn.execute(CANCEL, [job_id, "why"]),
        "cancelled",
        "why",
    ),
    "is just cancelled": (
        lambda conn, job_id: conn.execute(CANCEL, [job_id, None]),
        "cancelled",
        None,
    ),
}
FAIL = "select eram_fail_job(%s, 1, 'boom')"
DISCARD = "select eram_discard_job(%s, 1, 'no use')"


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_job_that_ends_while_one_waits(request, dsn, conn, wait, aside, what, is_announced):
    request.getfixturevalue("only_hearing" if is_announced else "conn")
    end, state, error = ENDS[what]
    job_id = enqueue(conn, max_attempts=1)
    claim(conn)
    outcome = end_later(conn, aside.submit(wait, dsn, job_id), lambda: end(conn, job_id))
    result = {"n": [1]} if state == "completed" else None
    assert outcome == eram.Outcome(state, result, error)


@pytest.mark.parametrize("what", ENDS)
def test_a_job_that_has_ended_already(dsn, conn, wait, what):
    end, state, error = ENDS[what]
    job_id = enqueue(conn, max_attempts=1)
    claim(conn)
    end(conn, job_id)
    outcome = wait(dsn, job_id, timeout=0)
    assert (outcome.state, outcome.error) == (state, error)


def test_a_worker_runs_what_is_waited_for(dsn, conn, wait, only_hearing, start_worker):
    start_worker()
    answer = sample_jobs.echo.enqueue(conn, number=1)
    assert wait(dsn, answer.id) == eram.Outcome("completed", {"number": 1})
    failing = sample_jobs.fail.options(max_attempts=2).enqueue(conn)
    outcome = wait(dsn, failing.id)
    assert outcome.state == "discarded"
    assert "bad address" in outcome.error


def test_no_end_falls_between_listening_and_looking(dsn, conn, wait, only_hearing, aside):
    chance = random.Random(7)
    for _ in range(25):
        job_id = enqueue(conn)
        claim(conn)
        waiting = aside.submit(wait, dsn, job_id)
        time.sleep(chance.uniform(0, 0.05))
        complete(conn, job_id)
        assert waiting.result(PATIENCE).state == "completed"


def test_a_timeout(dsn, conn, wait, announcing):
    job_id = enqueue(conn)
    for timeout in (0, 0.1, timedelta(milliseconds=100)):
        with pytest.raises(eram.WaitTimeoutError, match=f"job {job_id} .* it is available") as got:
            wait(dsn, job_id, timeout=timeout)
        assert isinstance(got.value, TimeoutError | eram.EramError)
        assert (got.value.job_id, got.value.state) == (job_id, "available")


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1", timedelta(seconds=-1)])
def test_a_timeout_that_makes_no_sense(dsn, conn, wait, timeout):
    with pytest.raises((TypeError, ValueError), match="timeout"):
        wait(dsn, enqueue(conn), timeout=timeout)


def test_what_is_no_id_and_what_is_no_connection(dsn, conn, wait):
    for bad in ("1", True, None, eram.Enqueued(1, is_duplicate=False)):
        with pytest.raises(TypeError, match="job_id must be"):
            wait(dsn, bad)
    with pytest.raises(TypeError, match=r"for this one call wait$"):
        asyncio.run(eram.wait_async(conn, 1))
    with pytest.raises(TypeError, match=r"must be a psycopg\.Connection, got builtins\.str"):
        eram.wait(dsn, 1)


def test_a_job_that_never_was(dsn, conn, wait):
    with pytest.raises(psycopg.errors.UndefinedObject):
        wait(dsn, enqueue(conn) + 1)


def test_a_job_of_which_nothing_is_left(dsn, conn, wait, aside, announcing, ears):
    job_id = enqueue(conn)
    conn.execute(CANCEL, [job_id, None])
    conn.execute("select eram_prune_jobs('0')")
    assert wait(dsn, job_id) == eram.Outcome(None)
    # Who listens hears at least how it ended.
    conn.execute("select eram_set_queue('default', max_age => '0')")
    job_id = enqueue(conn)
    claim(conn)
    waiting = aside.submit(wait, dsn, job_id)
    eventually(lambda: listens(ears))
    complete(conn, job_id)
    assert waiting.result(PATIENCE) == eram.Outcome("completed")


def test_nonsense_on_the_channel_harms_nobody(dsn, conn, wait, aside, announcing, ears):
    job_id = enqueue(conn)
    claim(conn)
    channel = value(conn, "select channel from eram_outcome(%s)", job_id)
    waiting = aside.submit(wait, dsn, job_id)
    eventually(lambda: listens(ears))
    lies = ({"state": "completed", "ids": [job_id]}, {"state": None, "ids": 3}, [job_id], 7, {})
    for payload in (*map(json.dumps, lies), "", "{", "\u0142"):
        conn.execute("select pg_notify(%s, %s)", [channel, payload])
    assert not waiting.done()
    complete(conn, job_id, result="truth")
    assert waiting.result(PATIENCE) == eram.Outcome("completed", "truth")


def test_a_job_that_goes_to_another_queue_is_heard_of_there(
    dsn, conn, wait, aside, announcing, ears, monkeypatch
):
    conn.execute("select eram_set_queue('other', is_announcing => true)")
    monkeypatch.setattr(watch, "NET_SECONDS", 0.1)
    job_id = enqueue(conn, delay=3600)
    waiting = aside.submit(wait, dsn, job_id)
    eventually(lambda: listens(ears))
    conn.execute(
        "with gone as (delete from eram_queued_jobs returning *),"
        " spec as (update eram_job_specs set queue = 'other')"
        " insert into eram_queued_jobs"
        " select job_id, scheduled_at, run, attempt, lane, 'other', unique_key from gone"
    )
    other = value(conn, "select channel from eram_outcome(%s)", job_id)
    eventually(lambda: ears[-1].channel == other)
    # From the next look on only what is announced there can end the wait.
    monkeypatch.setattr(watch, "NET_SECONDS", 1000.0)
    drains = ears[-1].drains
    time.sleep(0.3)
    eventually(lambda: ears[-1].drains > drains)
    conn.execute(CANCEL, [job_id, None])
    assert waiting.result(PATIENCE).state == "cancelled"
