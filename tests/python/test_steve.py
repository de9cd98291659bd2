"""steve's way of working: each line of its table in the design, with its own example."""

from __future__ import annotations

import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value, wait_for_state

import eram


def work(job):
    """One function for all types of jobs, which does as the type says."""
    match job.handler:
        case "my_job_type":
            return {"got": job.args}
        case "wait":
            return sample_jobs.wait.__wrapped__(job, **job.args)
        case _:
            raise ValueError("no such type")


def test_create_jobs(conn, make_engine):
    jobs = make_engine(handler=work, poll_interval=1.0)
    jobs.start(2)
    answer = jobs.enqueue("my_job_type", {"foo": "bar"}, max_attempts=3, backoff="exp")
    job = wait_for_state(conn, answer.id, "completed")
    assert (job["handler"], job["result"]) == ("my_job_type", {"got": {"foo": "bar"}})


def test_types_with_a_handler_of_their_own_are_not_for_the_one(conn, make_engine):
    jobs = make_engine(handler=work, allow=["sample_jobs"]).start()
    answer = jobs.enqueue("sample_jobs:echo", {"foo": "bar"})
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"foo": "bar"}
    # What lies in no allowed module is a name like any other; what should be in one is missing.
    other = jobs.enqueue("elsewhere:thing", max_attempts=1)
    assert "no such type" in str(wait_for_state(conn, other.id, "discarded")["errors"])
    missing = jobs.enqueue("sample_jobs:missing", max_attempts=1)
    assert "does not exist" in str(wait_for_state(conn, missing.id, "discarded")["errors"])


def test_the_one_handler_may_be_async_or_a_method_or_named_by_its_path(conn, make_engine):
    class Works:
        def __call__(self, job):
            return "called"

        async def work_async(self, job):
            return "awaited"

    handlers = {"sample_jobs:plain": None, Works(): "called", Works().work_async: "awaited"}
    for number, (handler, result) in enumerate(handlers.items()):
        with make_engine(handler=handler) as jobs:
            answer = jobs.enqueue(f"type{number}")
            assert wait_for_state(conn, answer.id, "completed")["result"] == result


def test_poll_timeout(make_engine):
    """It is in seconds here, as what is not EramJS's own is."""
    jobs = make_engine(handler=work, poll_interval=1.0).start()
    assert jobs.config.poll_interval == 1.0
    with pytest.raises(eram.ConfigError, match=r'"pollTimeoutMs"; it is called "poll_interval"'):
        eram.Engine({"pollTimeoutMs": 1_000})
    with pytest.raises(eram.ConfigError, match=r"poll_interval must be seconds, .* got 5000"):
        eram.Engine(poll_interval=5_000)


def test_start_2_and_stop(conn, make_engine):
    """Two at a time; stop finishes what runs, starts nothing, and start goes on."""
    jobs = make_engine(handler=work)
    jobs.start(2)
    jobs.start(2)
    assert value(conn, "select count(*) from eram_workers where ended_at is null") == 1
    names = ("one", "two", "three")
    answers = [jobs.enqueue("wait", {"name": name}) for name in names]

    def begun():
        return [name for name in names if sample_jobs.started[name].is_set()]

    # Which of jobs that were enqueued at the same moment are first is not promised.
    eventually(lambda: len(begun()) == 2)
    (left,) = (answers[place] for place, name in enumerate(names) if name not in begun())
    assert job_of(conn, left.id)["state"] == "available"
    assert not jobs.stop(0)
    assert not jobs.is_running
    for name in names:
        sample_jobs.gates[name].set()
    assert jobs.stop()
    states = {each.id: job_of(conn, each.id)["state"] for each in answers}
    assert states == {**dict.fromkeys(states, "completed"), left.id: "available"}
    jobs.start(2)
    wait_for_state(conn, left.id, "completed")


@pytest.mark.parametrize("concurrency", [0, -1, True, 2.0, "2", 1_000_000])
def test_start_with_no_number(make_engine, concurrency):
    with pytest.raises(ValueError, match="concurrency must be a number of jobs, from 1 to 1000"):
        make_engine(handler=work).start(concurrency)


def test_max_attempts(conn, make_engine):
    jobs = make_engine(handler=work).start()
    answer = jobs.enqueue("unknown", max_attempts=3, backoff="none")
    job = wait_for_state(conn, answer.id, "discarded")
    assert (job["attempt"], job["max_attempts"], len(job["errors"])) == (3, 3, 3)


def test_backoff_none_is_at_once(conn, make_engine):
    jobs = make_engine(handler=work).start()
    answer = jobs.enqueue("unknown", max_attempts=2, backoff="none")
    wait_for_state(conn, answer.id, "discarded")
    query = "select max(errored_at) - min(errored_at) < '15 s' from eram_errors where job_id = %s"
    assert value(conn, query, answer.id)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 4), (3, 8)])
def test_backoff_exp_is_2_to_the_attempt_in_seconds(conn, make_engine, attempt, seconds):
    jobs = make_engine(handler=work).start()
    answer = jobs.enqueue("unknown", max_attempts=5, backoff="exp")
    for number in range(1, attempt + 1):
        eventually(lambda number=number: len(job_of(conn, answer.id)["errors"] or []) == number)
        eventually(lambda: job_of(conn, answer.id)["state"] == "retryable")
        if number < attempt:
            conn.execute("select eram_retry_job(%s)", (answer.id,))
    query = (
        "select extract(epoch from scheduled_at - (select max(errored_at) from eram_errors"
        " where job_id = %s))::float8 from eram_jobs where id = %s"
    )
    delay = value(conn, query, answer.id, answer.id)
    assert delay == pytest.approx(seconds, abs=0.5)


def test_on_success_and_on_failure(conn, make_engine):
    """Only a failure for good is one, not an attempt that is retried."""
    told = []
    ends = [
        eram.on_success("my_job_type", lambda job, outcome: told.append((job.id, outcome.result))),
        eram.on_failure(
            "my_important_job_type", lambda job, outcome: told.append((job.id, job.attempt))
        ),
    ]
    try:
        jobs = make_engine(handler=work).start()
        failed = jobs.enqueue("my_important_job_type", max_attempts=2, backoff="none")
        eventually(lambda: (failed.id, 2) in told)
        done = jobs.enqueue("my_job_type", {"foo": 1})
        eventually(lambda: len(told) == 2)
        assert told == [(failed.id, 2), (done.id, {"got": {"foo": 1}})]
    finally:
        for end in ends:
            end()


def test_result(conn, dsn, make_engine):
    jobs = make_engine(handler=work).start()
    answer = jobs.enqueue("my_job_type", {"foo": "bar"})
    outcome = eram.wait(conn, answer.id, timeout=PATIENCE)
    assert outcome.result == {"got": {"foo": "bar"}}
    assert (
        value(conn, "select result -> 'got' ->> 'foo' from eram_jobs where id = %s", answer.id)
        == "bar"
    )


def test_logging_of_attempts(conn, make_engine):
    """Each failed attempt is a row; the successful one is on the job."""
    jobs = make_engine(allow=["sample_jobs"], name="steve").start()
    answer = jobs.enqueue(sample_jobs.fail, max_attempts=2)
    wait_for_state(conn, answer.id, "discarded")
    query = (
        "select attempt, attempted_by, type, error from eram_errors where job_id = %s order by 1"
    )
    rows = conn.execute(query, (answer.id,)).fetchall()
    assert [(row[0], row[2]) for row in rows] == [(1, "ValueError"), (2, "ValueError")]
    assert all("bad address" in row[3] for row in rows)
    done = jobs.enqueue(sample_jobs.nothing)
    job = wait_for_state(conn, done.id, "completed")
    assert (job["attempt"], job["errors"]) == (1, None)
    assert job["attempted_at"] is not None
    assert job["attempted_at"] <= job["finalized_at"]
