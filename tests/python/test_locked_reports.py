"""Someone keeps a running job locked: its report waits, and nothing else does."""

from __future__ import annotations

import signal
from datetime import timedelta

import psycopg
import pytest
import sample_jobs
import timed_jobs
from helpers import PATIENCE, eventually, job_of, value, wait_for_state

import eram
from eram._jobs.outcome import Cancelled, Completed, Discarded, Failed, Released, Snoozed
from eram._runtime import aside as aside_module
from eram._runtime.aside import Aside
from eram._runtime.notifier import Notifier
from eram._runtime.reporter import Reporter

ENDS = {
    "return": "completed",
    "raise": "retryable",
    "snooze": "scheduled",
    "cancel": "cancelled",
    "discard": "discarded",
    "time out": "discarded",
}


@pytest.fixture
def lock(connect):
    """Cancel a job in a transaction that is left open."""

    def lock(job_id):
        rival = connect(autocommit=False)
        assert rival.execute("select eram_cancel_job(%s)", (job_id,)).fetchone() == (True,)
        return rival

    return lock


@pytest.mark.parametrize("end", ENDS)
def test_locked_job_holds_up_no_other(conn, start_worker, lock, end, caplog):
    start_worker(allow=["sample_jobs", "timed_jobs"])
    if end == "time out":
        answer = timed_jobs.stay.options(timeout=3).enqueue(conn, name="a")
    else:
        answer = sample_jobs.wait_and.enqueue(conn, name="a", end=end)
    assert sample_jobs.started["a"].wait(PATIENCE)
    rival = lock(answer.id)
    if end == "time out":
        eventually(lambda: f"job {answer.id} is locked by someone" in caplog.text)
    sample_jobs.gates["a"].set()
    for _ in range(3):
        wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    eventually(lambda: f"job {answer.id} is locked by someone" in caplog.text)
    assert job_of(conn, answer.id)["state"] == "executing"
    rival.rollback()
    job = wait_for_state(conn, answer.id, ENDS[end])
    assert len(job["errors"] or []) == (0 if end in {"return", "snooze"} else 1)
    assert caplog.text.count("is locked by someone") == 1


def test_worker_does_not_end_before_all_is_reported(conn, start_worker, lock, caplog):
    worker = start_worker()
    answer = sample_jobs.wait_and.enqueue(conn, name="a", end="return")
    assert sample_jobs.started["a"].wait(PATIENCE)
    rival = lock(answer.id)
    sample_jobs.gates["a"].set()
    eventually(lambda: f"job {answer.id} is locked by someone" in caplog.text)
    worker.stop()
    assert not worker.join(1)
    rival.rollback()
    assert worker.join(PATIENCE)
    assert job_of(conn, answer.id)["state"] == "completed"


def test_cancel_that_is_committed_after_all_counts(conn, start_worker, lock, caplog):
    worker = start_worker()
    answer = sample_jobs.wait_and.enqueue(conn, name="a", end="return")
    assert sample_jobs.started["a"].wait(PATIENCE)
    rival = lock(answer.id)
    sample_jobs.gates["a"].set()
    eventually(lambda: f"job {answer.id} is locked by someone" in caplog.text)
    rival.commit()
    eventually(lambda: worker.unreported == [])
    assert job_of(conn, answer.id)["state"] == "cancelled"
    assert caplog.text.count("is locked by someone") == 1


def test_report_that_waits_outlives_the_session(conn, start_worker, lock, caplog):
    """What the new session gives back of the lost one's claims is not a job that has ended."""
    worker = start_worker()
    answer = sample_jobs.wait_and.enqueue(conn, name="a", end="return")
    assert sample_jobs.started["a"].wait(PATIENCE)
    rival = lock(answer.id)
    sample_jobs.gates["a"].set()
    eventually(lambda: f"job {answer.id} is locked by someone" in caplog.text)
    rival.rollback()
    rival.execute("select from eram_running_jobs for update")
    conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'eram queue default'"
    )
    wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    rival.rollback()
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"run": 1}
    eventually(lambda: worker.unreported == [])


def test_worker_that_stops_says_what_it_could_not_report(conn, spawn_worker, lock, tmp_path):
    worker = spawn_worker("--grace-period", "3")
    mark = tmp_path / "mark"
    answer = sample_jobs.wait_for_file.enqueue(conn, path=str(mark))
    wait_for_state(conn, answer.id, "executing")
    rival = lock(answer.id)
    mark.touch()
    worker.wait_for_log(f"job {answer.id} is locked by someone")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert f"could not be reported, and they are left to be rescued: {answer.id}\n" in worker.log
    rival.rollback()


@pytest.fixture
def claim(conn):
    """Claim jobs without a worker."""
    worker = value(conn, "select eram_start_worker('test', '{default}', %s)", conn.info.backend_pid)

    def claim(count):
        eram.enqueue_many(conn, [{"handler": sample_jobs.nothing}] * count)
        rows = conn.execute("select * from eram_fetch('default', %s, %s)", (count, worker))
        return [eram.Job((*row[:-1], None)) for row in rows.fetchall()]

    return claim


def states(conn):
    return dict(conn.execute("select state, count(*) from eram_jobs group by state").fetchall())


def send_until(reporter, conn, condition):
    def has_come():
        reporter.send(conn)
        return condition()

    eventually(has_come)


@pytest.mark.parametrize(
    ("end", "state"),
    [(lambda job: Completed(job, "1"), "completed"), (Released, "available")],
    ids=["completed", "released"],
)
def test_batch_is_taken_but_for_what_is_locked(conn, claim, lock, end, state):
    reporter = Reporter(Notifier())
    jobs = claim(50)
    rivals = [lock(jobs[number].id) for number in (7, 31)]
    for job in jobs:
        reporter.add(end(job))
    send_until(reporter, conn, lambda: states(conn) == {state: 48, "executing": 2})
    assert reporter.jobs == {jobs[7], jobs[31]}
    for rival in rivals:
        rival.rollback()
    send_until(reporter, conn, lambda: not reporter)
    assert states(conn) == {state: 50}


def test_what_is_refused_and_what_is_locked_are_told_apart(conn, claim, lock):
    reporter = Reporter(Notifier())
    jobs = claim(10)
    rival = lock(jobs[3].id)
    for job in jobs:
        reporter.add(Completed(job, "not json" if job in {jobs[3], jobs[8]} else None))
    send_until(reporter, conn, lambda: states(conn).get("completed") == 8)
    send_until(reporter, conn, lambda: states(conn).get("retryable") == 1)
    rival.rollback()
    send_until(reporter, conn, lambda: not reporter)
    assert states(conn) == {"completed": 8, "retryable": 2}


def test_each_single_report_is_kept(conn, claim, lock):
    reporter = Reporter(Notifier())
    jobs = claim(4)
    rivals = [lock(job.id) for job in jobs]
    reporter.add(Failed(jobs[0], "no", {}))
    reporter.add(Snoozed(jobs[1], timedelta(days=1)))
    reporter.add(Cancelled(jobs[2], None))
    reporter.add(Discarded(jobs[3], "no"))
    for _ in range(8):
        reporter.send(conn)
    assert states(conn) == {"executing": 4}
    assert reporter.jobs == set(jobs)
    for rival in rivals:
        rival.rollback()
    send_until(reporter, conn, lambda: not reporter)
    assert states(conn) == {"retryable": 1, "scheduled": 1, "cancelled": 1, "discarded": 1}


def test_limit_is_that_of_the_report_alone(conn, claim):
    conn.execute("set lock_timeout to '7s'")
    reporter = Reporter(Notifier())
    (job,) = claim(1)
    reporter.add(Completed(job, None))
    reporter.send(conn)
    assert not reporter
    assert value(conn, "show lock_timeout") == "7s"


def test_answer_that_got_lost_is_no_lost_job(conn, connect, claim, caplog):
    """The server had taken the report, and the connection was lost before it could say so."""
    reporter = Reporter(Notifier())
    (job,) = claim(1)
    doomed = connect()

    def take_and_vanish(*args, **options):
        conn.execute("select eram_complete_jobs(array[%s::bigint], array[1])", (job.id,))
        doomed.pgconn.finish()
        raise psycopg.OperationalError("gone")

    doomed.cursor = take_and_vanish
    reporter.add(Completed(job, None))
    with pytest.raises(psycopg.OperationalError, match="gone"):
        reporter.send(doomed)
    reporter.send(conn)
    assert not reporter
    assert f"job {job.id}: the connection was lost during the report of run 1" in caplog.text
    assert "lost job" not in caplog.text


def test_pauses_grow_only_while_nothing_is_taken(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(aside_module.time, "monotonic", lambda: clock[0])
    aside = Aside()
    outcomes = [Completed(make_job(number), None) for number in range(4)]
    aside.put(outcomes)
    pauses = []
    for _ in range(12):
        pauses.append(aside.seconds_left())
        clock[0] += aside.seconds_left()
        aside.put(aside.take())
    assert pauses[:2] == pytest.approx([0.1, 0.2])
    assert pauses[-1] == pytest.approx(1.0)
    assert list(aside) == list(dict.fromkeys(aside))
    assert set(aside) == set(outcomes)
    # The first is taken, and the next one follows at once.
    clock[0] += 1
    assert aside.take()
    assert aside.seconds_left() == 0
    group = aside.take()
    aside.put(group)
    assert aside.seconds_left() == pytest.approx(0.2)


def make_job(number):
    return eram.Job((number, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))
