"""What a worker says of its jobs: answers, states, attempts, and the fence."""

from __future__ import annotations

import random

import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    at_once,
    column,
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    rows,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)

JOB = "select * from eram_jobs where id = %s"


def claim(conn, worker, **options):
    """Enqueue a job and claim it."""
    job_id = enqueue(conn, **options)
    (job,) = fetch_late(conn, worker)
    assert job.id == job_id
    return job


def test_a_completed_job_has_its_result(conn, worker):
    jobs = [claim(conn, worker) for _ in range(3)]
    done = column(
        conn,
        "select eram_complete_jobs(%s, %s, %s)",
        [job.id for job in jobs],
        [job.run for job in jobs],
        [Jsonb({"a": 1}), None, Jsonb(None)],
    )
    assert sorted(done) == [job.id for job in jobs]
    found = rows(conn, "select state, result, result::text as text from eram_jobs order by id")
    assert [tuple(job) for job in found] == [
        ("completed", {"a": 1}, '{"a": 1}'),
        ("completed", None, None),
        ("completed", None, "null"),
    ]


def test_each_result_goes_with_its_run_whatever_the_order(conn, worker):
    ids = enqueue_many(conn, 300)
    jobs = fetch(conn, worker, 300)
    rnd = random.Random(5)
    told = [(job.id, run, Jsonb([job.id, run])) for job in jobs for run in (0, 1, 1, 2)]
    told += [(job_id, 1, None) for job_id in ids]
    rnd.shuffle(told)
    done = column(
        conn, "select eram_complete_jobs(%s, %s, %s)", *map(list, zip(*told, strict=True))
    )
    assert sorted(done) == ids
    found = rows(conn, "select id, result from eram_jobs order by id")
    assert [tuple(job) for job in found] == [(job_id, [job_id, 1]) for job_id in ids]


@pytest.mark.parametrize("max_age", [None, 0])
def test_a_completion_locks_in_order_of_id(conn, connect, worker, max_age):
    """However the jobs are named, and wherever their tickets lie."""
    if max_age is not None:
        conn.execute("select eram_set_queue('default', max_age => %s)", [Jsonb(max_age)])
    ids = enqueue_many(conn, 30)
    for job_id in reversed(ids):
        conn.execute("update eram_queued_jobs set scheduled_at = now() where job_id = %s", [job_id])
    jobs = fetch_late(conn, worker, 30)
    blocker, session, threads = connect(autocommit=False), connect(), Threads()
    blocker.execute("select from eram_running_jobs where job_id = %s for update", [ids[10]])
    threads.start(lambda: complete(session, sorted(jobs, key=lambda job: -job.id)))
    wait_for_lock_wait(conn, session)
    free = column(conn, "select job_id from eram_running_jobs order by 1 for update skip locked")
    assert free == ids[11:]
    blocker.rollback()
    threads.join()
    assert value(conn, "select count(*) from eram_running_jobs") == 0


def test_a_completed_job_keeps_who_ran_it_and_when(conn, worker):
    job = claim(conn, worker)
    complete(conn, [job])
    seen = row(conn, JOB, job.id)
    assert (seen.state, seen.attempt, seen.attempted_by) == ("completed", 1, "tester")
    assert (seen.attempted_at, seen.scheduled_at) == (job.attempted_at, job.scheduled_at)
    assert seen.finalized_at > seen.attempted_at
    assert seen.errors is None


def test_completing_returns_only_what_was_held(conn, worker):
    first, second = claim(conn, worker), claim(conn, worker)
    waiting = enqueue(conn, delay=3600)
    done = column(
        conn,
        "select eram_complete_jobs(%s, %s)",
        [999_999, second.id, waiting, first.id],
        [1, 1, 1, 2],
    )
    assert done == [second.id]
    assert [state_of(conn, n) for n in (first.id, second.id, waiting)] == [
        *("executing", "completed", "scheduled"),
    ]


def test_an_id_named_twice_is_completed_once(conn, worker):
    job = claim(conn, worker)
    assert column(conn, "select eram_complete_jobs(%s, %s)", [job.id] * 3, [1, 1, 2]) == [job.id]
    assert column(conn, "select eram_complete_jobs(%s, %s)", [job.id], [1]) == []


def test_an_id_named_twice_is_released_once(conn, worker):
    job = claim(conn, worker)
    assert column(conn, "select eram_release_jobs(%s, %s)", [job.id] * 3, [1, 1, 2]) == [job.id]


def test_a_failed_job_is_retried_with_its_error(conn, worker):
    job = claim(conn, worker)
    state = value(
        conn,
        "select eram_fail_job(%s, %s, 'boom', %s, '0')",
        job.id,
        job.run,
        Jsonb({"type": "ValueError", "traceback": "..."}),
    )
    assert state == "retryable"
    seen = row(conn, JOB, job.id)
    (error,) = seen.errors
    assert (error["error"], error["attempt"], error["type"], error["traceback"]) == (
        *("boom", 1, "ValueError", "..."),
    )
    assert error["at"]
    (again,) = fetch_late(conn, worker)
    assert (again.id, again.run, again.attempt) == (job.id, 2, 2)


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_job_fails_until_its_attempts_are_used_up(conn, worker, max_attempts):
    job_id = enqueue(conn, max_attempts=max_attempts)
    states = []
    for number in range(max_attempts):
        (job,) = fetch_late(conn, worker)
        assert (job.id, job.attempt) == (job_id, number + 1)
        states.append(
            value(
                conn,
                "select eram_fail_job(%s, %s, %s, delay => '0')",
                job.id,
                job.run,
                f"e{number}",
            )
        )
    assert states == ["retryable"] * (max_attempts - 1) + ["discarded"]
    seen = row(conn, JOB, job_id)
    assert (seen.state, seen.attempt) == ("discarded", max_attempts)
    assert [error["error"] for error in seen.errors] == [f"e{n}" for n in range(max_attempts)]
    assert seen.finalized_at is not None
    assert fetch(conn, worker) == []


def test_a_failure_without_a_message_and_one_with_a_very_long_one(conn, worker):
    first, second = claim(conn, worker), claim(conn, worker)
    conn.execute(
        "select eram_fail_job(%s, 1, null), eram_fail_job(%s, 1, repeat('ä', 1000000))",
        [first.id, second.id],
    )
    texts = column(conn, "select errors -> 0 ->> 'error' from eram_jobs order by id")
    assert texts[0] == "no message"
    assert texts[1] == "ä" * 10_000


def test_delay_overrides_the_backoff(conn, worker):
    job = claim(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'x', delay => '1 hour')", [job.id])
    assert (
        3590
        < value(conn, "select extract(epoch from scheduled_at - clock_timestamp()) from eram_jobs")
        <= 3600
    )


def test_a_snoozed_job_runs_again_and_the_attempt_does_not_count(conn, worker):
    job = claim(conn, worker, max_attempts=1)
    for run in range(1, 6):
        assert value(conn, "select eram_snooze_job(%s, %s, '0')", job.id, run) is True
        (again,) = fetch_late(conn, worker)
        assert (again.id, again.attempt, again.run) == (job.id, 1, run + 1)


def test_a_snoozed_job_that_waits_is_scheduled(conn, worker):
    job = claim(conn, worker)
    conn.execute("select eram_snooze_job(%s, 1, '1 hour')", [job.id])
    seen = row(conn, JOB, job.id)
    assert (seen.state, seen.attempt, seen.errors, seen.attempted_by) == (
        "scheduled",
        0,
        None,
        None,
    )


def test_a_discarded_job_says_why(conn, worker):
    job, mute = claim(conn, worker), claim(conn, worker)
    assert value(conn, "select eram_discard_job(%s, 1, 'no such user')", job.id) is True
    assert value(conn, "select eram_discard_job(%s, 1)", mute.id) is True
    seen = row(conn, JOB, job.id)
    assert (seen.state, seen.attempt) == ("discarded", 1)
    assert [(error["error"], error["type"]) for error in seen.errors] == [
        ("no such user", "discarded")
    ]
    assert row(conn, JOB, mute.id).errors[0]["error"]


def test_a_released_job_goes_back_as_if_never_claimed(conn, worker):
    job = claim(conn, worker, max_attempts=1)
    assert column(conn, "select eram_release_jobs(%s, %s)", [job.id], [job.run]) == [job.id]
    seen = row(conn, JOB, job.id)
    assert (seen.state, seen.attempt, seen.errors) == ("available", 0, None)
    (again,) = fetch(conn, worker)
    assert (again.id, again.attempt, again.run) == (job.id, 1, 2)


WAYS_BACK = {
    "release": "select eram_release_jobs(array[%(id)s], array[%(run)s])",
    "snooze": "select eram_snooze_job(%(id)s, %(run)s, '0')",
    "fail": "select eram_fail_job(%(id)s, %(run)s, 'x', delay => '0')",
    "rescue": (
        "update eram_running_jobs set worker = 0; set eram.rescue_swept = ''; "
        "select eram_rescue_jobs()"
    ),
}
FINISHES = {
    "complete": ("select * from eram_complete_jobs(array[%(id)s], array[%(run)s])", []),
    "release": ("select * from eram_release_jobs(array[%(id)s], array[%(run)s])", []),
    "fail": ("select eram_fail_job(%(id)s, %(run)s, 'late')", [(None,)]),
    "snooze": ("select eram_snooze_job(%(id)s, %(run)s, '1 hour')", [(False,)]),
    "discard": ("select eram_discard_job(%(id)s, %(run)s, 'late')", [(False,)]),
    "cancel": ("select eram_cancel_job(%(id)s, 'late', %(run)s)", [(False,)]),
}


@pytest.mark.parametrize("way_back", WAYS_BACK)
@pytest.mark.parametrize("finish", FINISHES)
def test_a_stale_finish_changes_nothing(shared, way_back, finish):
    """Neither while the job waits again, nor while its next run is on, nor when that has ended."""
    worker = start_worker(shared)
    job = claim(shared, worker)
    stale = {"id": job.id, "run": job.run}
    for statement in WAYS_BACK[way_back].split("; "):
        shared.execute(statement, stale)
    query, nothing = FINISHES[finish]

    def assert_refused() -> None:
        before = contents(shared)
        assert shared.execute(query, stale).fetchall() == nothing
        assert contents(shared) == before

    assert_refused()
    (again,) = fetch_late(shared, worker)
    assert again.run == job.run + 1
    assert_refused()
    assert complete(shared, [again]) == [job.id]
    assert_refused()


def test_overlapping_completions_in_any_order_do_not_deadlock(conn, connect, worker):
    count, sessions = 300, 6
    for _ in range(4):
        enqueue_many(conn, count)
        jobs = fetch(conn, worker, count)
        done: list[list[int]] = []

        def finish(seed: int, jobs=jobs, done=done) -> None:
            mine = jobs[:]
            random.Random(seed).shuffle(mine)
            done.append(complete(connect(), mine))

        at_once(*(lambda n=n: finish(n) for n in range(sessions)))
        assert sorted(job_id for own in done for job_id in own) == sorted(job.id for job in jobs)


def test_overlapping_finishes_of_every_kind_do_not_deadlock(conn, connect):
    """Completions, releases, a rescue and a stop of the worker, all over the same jobs."""
    for round_number in range(6):
        worker = start_worker(conn)
        ids = enqueue_many(conn, 200)
        jobs = fetch_late(conn, worker, 200)
        rnd = random.Random(round_number)
        answers: list[int] = []
        threads = Threads()

        def finish(function: str, jobs: list, answers=answers) -> None:
            answers.extend(
                column(
                    connect(),
                    f"select {function}(%s, %s)",
                    [j.id for j in jobs],
                    [j.run for j in jobs],
                )
            )

        for function in ("eram_complete_jobs", "eram_release_jobs") * 2:
            threads.start(finish, function, rnd.sample(jobs, 150))
        threads.start(
            lambda worker=worker: connect().execute("select eram_stop_worker(%s)", [worker])
        )
        threads.start(lambda: connect().execute("select eram_rescue_jobs('0')"))
        threads.join(30)
        assert len(answers) == len(set(answers))
        states = dict(
            conn.execute(
                "select state, count(*) from eram_jobs where id = any(%s) group by 1", [ids]
            )
        )
        assert sum(states.values()) == 200
        assert states.get("executing", 0) == 0
        worker = start_worker(conn)
        rest = fetch_late(conn, worker, states.get("available", 0)) if "available" in states else []
        complete(conn, rest)


def test_detail_does_not_hide_the_error(conn, worker):
    job_id = enqueue(conn)
    (job,) = fetch(conn, worker)
    conn.execute(
        "select eram_fail_job(%s, %s, 'the error', %s::jsonb)",
        [job.id, job.run, '{"error": "other", "attempt": 99, "at": null, "type": "Kind"}'],
    )
    (error,) = value(conn, "select errors from eram_jobs where id = %s", job_id)
    assert (error["error"], error["attempt"], error["type"]) == ("the error", 1, "Kind")
    assert error["at"] is not None
