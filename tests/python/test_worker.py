"""A worker in this process: from a job in the database to its end in the database."""

from __future__ import annotations

import threading
import time
from datetime import UTC

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, wait_for_state

import eram
from eram._runtime import execution


def run_one(conn, handler, **args):
    """Enqueue one job and wait until it has ended."""
    answer = handler.enqueue(conn, **args)
    return wait_for_state(conn, answer.id, "completed", "discarded", "cancelled")


def test_job_runs_and_its_result_is_stored(conn, start_worker):
    worker = start_worker()
    job = run_one(conn, sample_jobs.echo, word="żółć", list=[1, None, '"\\{},null'])
    assert job["state"] == "completed"
    assert job["result"] == {"word": "żółć", "list": [1, None, '"\\{},null']}
    assert worker.id > 0


def test_job_without_a_result_has_none(conn, start_worker):
    start_worker()
    assert run_one(conn, sample_jobs.nothing)["result"] is None


def test_handler_sees_the_job_as_it_is_stored(conn, start_worker):
    start_worker()
    job = run_one(
        conn,
        sample_jobs.describe.options(
            priority=4, max_attempts=7, tags=["a", "b c"], meta={"m": 1}, queue="default"
        ),
        x=1,
    )
    seen = job["result"]
    assert seen["id"] == job["id"]
    assert (seen["run"], seen["attempt"], seen["max_attempts"]) == (1, 1, 7)
    assert (seen["handler"], seen["args"], seen["meta"]) == (
        "sample_jobs:describe",
        {"x": 1},
        {"m": 1},
    )
    assert (seen["tags"], seen["queue"], seen["priority"]) == (["a", "b c"], "default", 4)
    stored = conn.execute(
        "select inserted_at, scheduled_at, attempted_at from eram_jobs where id = %s", (job["id"],)
    ).fetchone()
    seen_at = [seen["inserted_at"], seen["scheduled_at"], seen["attempted_at"]]
    assert seen_at == [each.astimezone(UTC).isoformat() for each in stored]


def test_failing_job_is_retried_until_its_attempts_are_used_up(conn, start_worker):
    start_worker()
    job = run_one(conn, sample_jobs.fail_badly.options(max_attempts=3))
    assert (job["state"], job["attempt"]) == ("discarded", 3)
    assert len(job["errors"]) == 3
    error = job["errors"][0]
    assert error["error"] == "ValueError: bad \\x00 \\ud800 address \u0142"
    assert error["type"] == "ValueError"
    assert "in fail_badly" in error["traceback"]


def test_snooze_gives_the_attempt_back(conn, start_worker):
    start_worker()
    job = run_one(conn, sample_jobs.snooze_twice)
    assert job["result"] == {"run": 3, "attempt": 1}


def test_snooze_of_ages_fails_the_job_alone(conn, start_worker):
    start_worker()
    answer = sample_jobs.snooze_for_ages.enqueue(conn)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"]
    assert run_one(conn, sample_jobs.nothing)["state"] == "completed"


def test_cancel_and_discard(conn, start_worker):
    start_worker()
    assert run_one(conn, sample_jobs.call_off, reason="late")["state"] == "cancelled"
    assert run_one(conn, sample_jobs.call_off)["state"] == "cancelled"
    job = run_one(conn, sample_jobs.give_up)
    assert (job["state"], job["attempt"]) == ("discarded", 1)
    assert job["errors"][0]["error"] == "no such customer"


@pytest.mark.parametrize(
    ("path", "args", "error"),
    [
        ("sample_jobs:mail", {"subject": "x"}, "ArgumentsError: handler"),
        ("sample_jobs:absent", {}, "HandlerNotFoundError: handler"),
        ("os:system", {}, 'HandlerNotFoundError: handler "os:system" is in no module'),
        ("sample_jobs:plain", {}, "HandlerNotFoundError: handler"),
    ],
)
def test_job_that_cannot_be_run_says_why(conn, start_worker, path, args, error):
    start_worker()
    answer = eram.enqueue(conn, path, args, queue="default")
    assert wait_for_state(conn, answer.id, "retryable")["errors"][0]["error"].startswith(error)


def test_result_that_the_client_refuses_costs_only_its_own_job(conn, start_worker):
    answers = {
        kind: sample_jobs.return_what.options(max_attempts=1).enqueue(conn, kind=kind)
        for kind in ("nul", "escaped", "surrogate", "emoji", "nan", "object", "quotes")
    }
    start_worker()
    states = {
        kind: wait_for_state(conn, answer.id, "completed", "discarded")["state"]
        for kind, answer in answers.items()
    }
    bad = {kind for kind, state in states.items() if state == "discarded"}
    assert bad == {"nul", "surrogate", "nan", "object"}


@pytest.fixture
def latin1_dsn(dsn, conn):
    """A database that knows few characters, so that the server refuses some that jsonb allows."""
    name = f"{conn.info.dbname}_latin1"
    conn.execute(f"create database {name} encoding latin1 locale 'C' template template0")
    latin1_dsn = psycopg.conninfo.make_conninfo(dsn, dbname=name)
    with psycopg.connect(latin1_dsn, autocommit=True) as latin1:
        latin1.execute("create extension eram")
    yield latin1_dsn
    conn.execute(f"drop database {name} with (force)")


def test_what_the_server_refuses_costs_only_its_own_job(latin1_dsn, start_worker):
    kinds = ["quotes"] * 40
    kinds[7] = kinds[31] = "emoji"
    kinds[20] = "fail"
    jobs = [
        {"handler": sample_jobs.fail_badly, "max_attempts": 1}
        if kind == "fail"
        else {"handler": sample_jobs.return_what, "args": {"kind": kind}, "max_attempts": 1}
        for kind in kinds
    ]
    with psycopg.connect(latin1_dsn, autocommit=True) as conn:
        answers = eram.enqueue_many(conn, jobs)
        worker = start_worker(latin1_dsn)
        ended = [wait_for_state(conn, each.id, "completed", "discarded") for each in answers]
        worker.stop()
        assert worker.join(PATIENCE)
    assert [job["state"] for job in ended] == [
        "completed" if kind == "quotes" else "discarded" for kind in kinds
    ]
    assert ended[7]["errors"][0]["error"].startswith("UntranslatableCharacter: ")
    assert "UntranslatableCharacter" in ended[20]["errors"][0]["type"]


def test_priority_goes_first_then_time_then_id(conn, start_worker):
    conn.execute("select eram_pause_queue('default')")
    for what, priority in [("c", 5), ("e", 9), ("a", 0), ("d", 5), ("b", 1)]:
        sample_jobs.note.options(priority=priority).enqueue(conn, what=what)
    conn.execute("select eram_resume_queue('default')")
    start_worker(queues={"default": 1})
    eventually(lambda: len(sample_jobs.seen) == 5)
    assert sample_jobs.seen == ["a", "b", "c", "d", "e"]


def test_each_queue_has_its_own_threads(conn, start_worker):
    start_worker(queues={"one": 1, "two": 2})
    for name, queue in [("a", "one"), ("b", "two"), ("c", "two")]:
        sample_jobs.wait.options(queue=queue).enqueue(conn, name=name)
    for name in "abc":
        assert sample_jobs.started[name].wait(PATIENCE)
    names = {thread.name for thread in threading.enumerate()}
    assert names >= {
        "eram-queue-one",
        "eram-queue-two",
        "eram-exec-one-1",
        "eram-exec-two-2",
        "eram-maintenance",
    }


def test_slow_jobs_are_not_claimed_ahead(conn, start_worker):
    """With both threads taken, the other jobs stay for other workers."""
    answers = [sample_jobs.wait.enqueue(conn, name=str(number)) for number in range(5)]
    start_worker(queues={"default": 2})
    assert sample_jobs.started["0"].wait(PATIENCE)
    assert sample_jobs.started["1"].wait(PATIENCE)
    assert not sample_jobs.started["2"].wait(0.3)
    states = [job_of(conn, answer.id)["state"] for answer in answers]
    assert states == ["executing"] * 2 + ["available"] * 3
    sample_jobs.gates["0"].set()
    assert sample_jobs.started["2"].wait(PATIENCE)


def test_fast_jobs_are_claimed_ahead_and_given_back_when_slow_ones_come(conn, start_worker):
    """Behind 3,000 fast jobs lie slow ones: those that no thread can take soon are released."""
    eram.enqueue_many(conn, [{"handler": sample_jobs.nothing} for _ in range(3000)])
    slow = [{"handler": sample_jobs.wait, "args": {"name": "slow"}} for _ in range(500)]
    slow_ids = [answer.id for answer in eram.enqueue_many(conn, slow)]
    start_worker(queues={"default": 4})

    def slow_states():
        rows = conn.execute(
            "select state, count(*) from eram_jobs where id = any(%s) group by state", (slow_ids,)
        )
        return dict(rows.fetchall())

    eventually(lambda: slow_states().get("executing", 0) > 4)
    eventually(lambda: slow_states() == {"executing": 4, "available": 496})
    released = conn.execute(
        "select count(*) from eram_queued_jobs where run > 0 and attempt = 0"
    ).fetchone()[0]
    assert released > 0


def test_all_threads_work_at_once(conn, start_worker):
    start_worker(queues={"default": 20})
    names = [str(number) for number in range(20)]
    eram.enqueue_many(conn, [{"handler": sample_jobs.wait, "args": {"name": n}} for n in names])
    for name in names:
        assert sample_jobs.started[name].wait(PATIENCE)


def test_many_jobs_run_once_each(conn, start_worker):
    start_worker(queues={"default": 8})
    start_worker(queues={"default": 8})
    for first in range(0, 4000, 1000):
        eram.enqueue_many(
            conn,
            [
                {"handler": sample_jobs.note, "args": {"what": what}}
                for what in range(first, first + 1000)
            ],
        )
    eventually(
        lambda: conn.execute("select count(*) from eram_finished_jobs").fetchone()[0] == 4000
    )
    assert sorted(sample_jobs.seen) == list(range(4000))
    assert conn.execute("select max(run) from eram_finished_jobs").fetchone() == (1,)


@pytest.mark.parametrize("how", ["its text leaves", "its traceback breaks"])
def test_no_error_ends_the_thread(conn, start_worker, how):
    start_worker(queues={"default": 1})
    job = run_one(conn, sample_jobs.fail_to_say_why.options(max_attempts=1), how=how)
    assert job["state"] == "discarded"
    assert run_one(conn, sample_jobs.nothing)["state"] == "completed"


def test_not_even_an_error_of_eram_ends_the_thread(conn, start_worker, monkeypatch, caplog):
    def execute(self, job, *others):
        raise SystemExit("a mistake")

    start_worker(queues={"default": 1})
    with monkeypatch.context() as patch:
        patch.setattr(execution.Executor, "execute", execute)
        job = run_one(conn, sample_jobs.nothing.options(max_attempts=1))
    assert job["errors"][0]["error"] == "SystemExit: a mistake"
    assert f"job {job['id']} could not be run" in caplog.text
    assert run_one(conn, sample_jobs.nothing)["state"] == "completed"


def test_worker_is_started_once(conn, start_worker):
    worker = start_worker()
    with pytest.raises(RuntimeError, match="can be started once"):
        worker.start()
    assert conn.execute("select count(*) from eram_workers").fetchone() == (1,)
    assert run_one(conn, sample_jobs.nothing)["state"] == "completed"


def test_there_is_no_waiting_for_a_worker_that_was_not_started(dsn):
    with pytest.raises(RuntimeError, match="was not started"):
        eram.Worker(dsn, allow=["sample_jobs"]).join(1)


def test_cancelled_handler_is_told(conn, start_worker, caplog):
    start_worker()
    answer = sample_jobs.wait_for_cancel.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    assert conn.execute("select eram_cancel_job(%s)", (answer.id,)).fetchone() == (True,)
    eventually(lambda: sample_jobs.seen)
    assert sample_jobs.seen == [True]
    assert job_of(conn, answer.id)["state"] == "cancelled"


def test_outcome_of_a_run_that_is_over_is_logged_as_lost(conn, start_worker, caplog):
    start_worker()
    answer = sample_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_release_jobs(array[%s], array[1])", (answer.id,))
    sample_jobs.gates["a"].set()
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"run": 2}
    eventually(lambda: f"lost job {answer.id}: run 1" in caplog.text)
    lost = [record for record in caplog.records if "lost job" in record.message]
    assert [(record.levelname, record.job_id) for record in lost] == [("ERROR", answer.id)]


def test_scheduled_job_starts_when_it_is_due(conn, start_worker):
    """Not at the next poll, which is far away here."""
    start_worker(poll_interval=60)
    eventually(lambda: is_waiting(conn))
    start = time.monotonic()
    answer = sample_jobs.nothing.options(delay=0.5).enqueue(conn)
    job = wait_for_state(conn, answer.id, "completed")
    assert time.monotonic() - start < 5
    assert job["attempted_at"] >= job["scheduled_at"]


def test_job_that_is_put_off_comes_back_when_it_is_due(conn, start_worker):
    start_worker(poll_interval=60)
    start = time.monotonic()
    run_one(conn, sample_jobs.snooze_twice)
    assert time.monotonic() - start < 5


def test_idle_worker_waits_and_a_busy_one_does_not(conn, start_worker):
    start_worker(queues={"default": 1})
    eventually(lambda: is_waiting(conn))
    sample_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    eventually(lambda: not is_waiting(conn))
    sample_jobs.gates["a"].set()
    eventually(lambda: is_waiting(conn))


def is_waiting(conn):
    return conn.execute(
        "select count(*) from pg_locks"
        " where locktype = 'advisory' and classid = 'eram_queues'::regclass and mode = 'ShareLock'"
        " and database = (select oid from pg_database where datname = current_database())"
    ).fetchone()[0]


def test_steady_trickle_costs_no_calls_about_waiting(dsn, conn, start_worker):
    """Jobs that come one by one, with threads free: the worker stays waiting all the time."""
    worker = start_worker(psycopg.conninfo.make_conninfo(dsn, options="-c track_functions=pl"))
    eventually(lambda: is_waiting(conn))
    pause = threading.Event()
    begun_at = time.monotonic()
    for number in range(60):
        sample_jobs.note.enqueue(conn, what=number)
        pause.wait(0.02)
    eventually(lambda: len(sample_jobs.seen) == 60)
    worker.stop()
    assert worker.join(PATIENCE)
    seconds = time.monotonic() - begun_at

    def calls(function):
        row = conn.execute(
            "select calls from pg_stat_user_functions where funcname = %s", (function,)
        ).fetchone()
        return row[0] if row else 0

    eventually(lambda: calls("eram_fetch") >= 60)
    # The first ones settle the waiting; the others look for scheduled jobs a few times a second.
    assert calls("eram_start_waiting") < 30 + 5 * seconds
    assert calls("eram_stop_waiting") <= 1


def test_worker_may_be_a_context(dsn, conn):
    with eram.Worker(dsn, allow=["sample_jobs"]) as worker:
        run_one(conn, sample_jobs.nothing)
    assert worker.unfinished == 0
    ended = conn.execute("select end_reason from eram_workers where id = %s", (worker.id,))
    assert ended.fetchone() == ("stopped",)


def test_stop_finishes_what_runs_and_gives_back_the_rest(conn, start_worker):
    worker = start_worker(queues={"default": 1})
    eram.enqueue_many(conn, [{"handler": sample_jobs.nothing} for _ in range(300)])
    running = sample_jobs.wait.enqueue(conn, name="a")
    rest = eram.enqueue_many(conn, [{"handler": sample_jobs.nothing} for _ in range(50)])
    assert sample_jobs.started["a"].wait(PATIENCE)
    worker.stop()
    eventually(
        lambda: {job_of(conn, answer.id)["state"] for answer in rest} == {"available"},
    )
    assert not worker.join(0.05)
    sample_jobs.gates["a"].set()
    assert worker.join(PATIENCE)
    assert job_of(conn, running.id)["state"] == "completed"
    attempts = conn.execute("select distinct attempt from eram_queued_jobs").fetchall()
    assert attempts == [(0,)]


def test_database_without_eram_is_refused(bare_dsn):
    worker = eram.Worker(bare_dsn, allow=["sample_jobs"])
    with pytest.raises(eram.ConfigError, match="not installed"):
        worker.start()


def test_results_of_any_size_are_stored(conn, start_worker):
    start_worker()
    job = run_one(conn, sample_jobs.echo, text="ü" * 300_000)
    assert len(job["result"]["text"]) == 300_000
