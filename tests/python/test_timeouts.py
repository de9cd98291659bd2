"""Timeouts of attempts: the server hears of them in time, whatever the handler does."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sample_jobs
import timed_jobs
from helpers import CAN_LOOK, PATIENCE, eventually, job_of, wait_for_state

import eram
from eram._base.outage import Outage
from eram._jobs.finding import Handlers
from eram._jobs.outcome import Cancelled, Completed, Failed, Released, Settled
from eram._runtime.deadlines import MAX_STALE_ENTRIES, Deadlines
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor
from eram._transactions.runner import TransactionRunner


@pytest.fixture
def start_worker(start_worker):
    def start(**options):
        return start_worker(**{"allow": ["timed_jobs", "sample_jobs"], **options})

    return start


def test_handler_sees_its_deadline(conn, start_worker):
    start_worker()
    job = wait_for_state(conn, timed_jobs.look.enqueue(conn).id, "completed")
    assert job["result"]["timeout"] == 60
    left = datetime.fromisoformat(job["result"]["deadline"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < left <= timedelta(seconds=60)


def test_job_without_a_timeout_has_no_deadline():
    job = eram.Job((1, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))
    assert (job.timeout, job.deadline, job.timed_out) == (None, None, False)


def test_attempt_is_failed_at_its_deadline_while_its_thread_goes_on(conn, start_worker):
    start_worker(queues={"default": 1})
    answer = timed_jobs.stay.enqueue(conn, name="a")
    behind = timed_jobs.be_quick.enqueue(conn)
    job = wait_for_state(conn, answer.id, "discarded")
    (error,) = job["errors"]
    assert error["error"] == "timed out after 0.3 s"
    assert error["type"] == "timeout"
    if CAN_LOOK:
        # Where the thread is, from the handler on.
        assert "in stay\n" in error["traceback"]
        assert "gates[name].wait" in error["traceback"]
    assert "_runtime/execution.py" not in error["traceback"]
    assert "_bootstrap" not in error["traceback"]

    # Its slot stays taken.
    assert job_of(conn, behind.id)["state"] in {"available", "executing"}
    assert sample_jobs.seen == []
    sample_jobs.gates["a"].set()
    wait_for_state(conn, behind.id, "completed")
    assert sample_jobs.seen == [(True, True)]


@pytest.mark.parametrize("end", ["return", "raise", "snooze"])
def test_late_outcome_changes_nothing_and_is_no_error(conn, start_worker, caplog, end):
    worker = start_worker()
    answer = timed_jobs.stay.enqueue(conn, name="a", end=end)
    before = wait_for_state(conn, answer.id, "discarded")
    sample_jobs.gates["a"].set()
    eventually(lambda: "what came of it is dropped" in caplog.text)
    eventually(lambda: worker.unfinished == 0)
    assert job_of(conn, answer.id) == before
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_attempt_that_timed_out_is_retried_by_the_same_rules(conn, start_worker):
    start_worker()
    answer = timed_jobs.stay_once.enqueue(conn, name="a")
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"attempt": len(job["errors"]) + 1}
    assert {error["type"] for error in job["errors"]} == {"timeout"}


def test_handler_that_looks_can_end_early(conn, start_worker):
    start_worker()
    answer = timed_jobs.heed.enqueue(conn)
    wait_for_state(conn, answer.id, "discarded")
    eventually(lambda: sample_jobs.seen == [True])


def test_time_is_counted_from_when_the_handler_begins(conn, start_worker):
    """Behind a slow job and fetched with it, a quick one loses nothing of its time."""
    start_worker(queues={"default": 1})
    eram.enqueue_many(conn, [{"handler": sample_jobs.nothing} for _ in range(2000)])
    sample_jobs.wait.enqueue(conn, name="a")
    answers = eram.enqueue_many(conn, [{"handler": timed_jobs.be_quick} for _ in range(100)])
    assert sample_jobs.started["a"].wait(PATIENCE)
    time.sleep(timed_jobs.LONG + 0.5)
    sample_jobs.gates["a"].set()
    for answer in answers:
        job = wait_for_state(conn, answer.id, "completed")
        assert job["errors"] is None


def test_cancelled_job_is_not_reported_as_timed_out(conn, start_worker, caplog):
    start_worker()
    answer = timed_jobs.heed.options(timeout=2).enqueue(conn)
    wait_for_state(conn, answer.id, "executing")
    assert conn.execute("select eram_cancel_job(%s)", (answer.id,)).fetchone() == (True,)
    eventually(lambda: sample_jobs.seen == [False])
    assert job_of(conn, answer.id)["state"] == "cancelled"
    assert "timed out" not in caplog.text


def test_worker_that_stops_reports_a_timeout_too(conn, start_worker):
    worker = start_worker()
    answer = timed_jobs.stay.options(timeout=1).enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    worker.stop()
    wait_for_state(conn, answer.id, "discarded")
    assert not worker.join(0)
    sample_jobs.gates["a"].set()
    assert worker.join(PATIENCE)


@pytest.fixture
def effects(conn):
    conn.execute("create table effects (value bigint)")
    return lambda: [value for (value,) in conn.execute("select value from effects")]


@pytest.mark.parametrize("how", ["in a statement", "in python", "with its own job locked"])
def test_transaction_does_not_commit_after_the_timeout(conn, start_worker, effects, how, caplog):
    start_worker(queues={"default": 1})
    answer = timed_jobs.insert_slowly.enqueue(conn, how=how, name="a")
    job = wait_for_state(conn, answer.id, "discarded")
    assert job["errors"][0]["type"] == "timeout"
    # Neither a statement nor a transaction of it goes on at the server.
    eventually(
        lambda: (
            conn.execute(
                "select count(*) from pg_stat_activity"
                " where application_name = 'eram jobs default' and state <> 'idle'"
                " and datname = current_database()"
            ).fetchone()
            == (0,)
        )
    )
    sample_jobs.gates["a"].set()

    # The thread goes on, with a connection that nobody has cut.
    after = timed_jobs.insert_quickly.enqueue(conn)
    wait_for_state(conn, after.id, "completed")
    assert effects() == [0]
    assert "what came of it is dropped" in caplog.text
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def executor():
    return Executor(Handlers([]), loop=EventLoop("test"))


def test_job_that_timed_out_while_there_was_no_connection_is_not_run(dsn):
    job = make_job(1, 1.0)
    job.mark_timed_out()
    outage = Outage()
    part = outage.part("test")
    part.lost(psycopg.OperationalError("gone"))
    runner = TransactionRunner(dsn, "eram jobs test", stopping=threading.Event(), part=part)
    assert runner(job, timed_jobs.insert_quickly, executor()) == Released(job)
    # Its thread waits no longer, and may have nothing to do for long.
    assert not outage
    runner.close()


def test_transaction_that_took_too_long_is_not_committed(dsn, conn, effects):
    """Though nobody has said yet that its time is over."""
    job = make_job(1, 0.01)
    job.mark_begun()
    runner = TransactionRunner(
        dsn, "eram jobs test", stopping=threading.Event(), part=Outage().part("test")
    )
    assert runner(job, timed_jobs.insert_late, executor()) == Completed(job, None)
    runner.close()
    assert effects() == []


def make_job(number, timeout):
    return eram.Job((number, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, timeout))


def test_jobs_without_timeouts_are_not_kept():
    job = make_job(1, None)
    deadlines = Deadlines({job}, EventLoop("test"))
    deadlines.watch([job])
    assert deadlines.seconds_left() == float("inf")
    assert not deadlines.expire(pytest.fail)


def test_jobs_that_have_ended_are_not_kept_until_their_deadline():
    in_hand = set()
    deadlines = Deadlines(in_hand, EventLoop("test"))
    for number in range(10 * MAX_STALE_ENTRIES):
        job = make_job(number, 3600.0)
        in_hand.add(job)
        deadlines.watch([job])
        in_hand.discard(job)
    assert len(deadlines._heap) <= MAX_STALE_ENTRIES + 2


def test_job_that_has_not_begun_does_not_time_out():
    job = make_job(1, 0.001)
    deadlines = Deadlines({job}, EventLoop("test"))
    deadlines.watch([job])
    time.sleep(0.01)
    assert not deadlines.expire(pytest.fail)
    deadlines.begin(job, cut_nothing)
    time.sleep(0.01)
    outcomes = []
    assert deadlines.expire(outcomes.append)
    assert [outcome.job for outcome in outcomes] == [job]
    assert job.timed_out
    assert job.cancelled


def cut_nothing(job):
    pass


@pytest.fixture
def run_for():
    """Begin a job with a timeout of 20 ms, and end it after some time."""

    def run_for(seconds):
        job = make_job(1, 0.02)
        deadlines = Deadlines({job}, EventLoop("test"))
        deadlines.watch([job])
        deadlines.begin(job, cut_nothing)
        time.sleep(seconds)
        deadlines.note_end(job)
        return job, deadlines

    return run_for


def test_what_ended_in_time_counts_whenever_it_is_looked_at(run_for):
    job, deadlines = run_for(0)
    time.sleep(0.05)
    assert not deadlines.expire(pytest.fail)
    assert deadlines.end(Completed(job, None)) == Completed(job, None)
    assert not job.timed_out


@pytest.mark.parametrize("what", [Completed, Cancelled])
def test_what_ended_too_late_has_timed_out_though_nobody_looked(run_for, what):
    job, deadlines = run_for(0.05)
    # The report comes with the outcome.
    assert not deadlines.expire(pytest.fail)
    outcome = deadlines.end(what(job, None))
    assert outcome == Failed(job, "timed out after 0.02 s", {"type": "timeout", "traceback": ""})
    assert job.timed_out


def test_error_that_came_too_late_still_says_where(run_for):
    job, deadlines = run_for(0.05)
    outcome = deadlines.end(Failed(job, "no", {"type": "ValueError", "traceback": "there"}))
    assert (outcome.error, outcome.detail) == (
        "timed out after 0.02 s",
        {"type": "timeout", "traceback": "there"},
    )


@pytest.mark.parametrize("end", [lambda job: Settled(job, None), Released], ids=str)
def test_what_was_committed_or_never_begun_has_not_timed_out(run_for, end):
    job, deadlines = run_for(0.05)
    assert deadlines.end(end(job)) == end(job)
