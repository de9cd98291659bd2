"""Handlers that choose when they are retried."""

from __future__ import annotations

from datetime import timedelta

import pytest
import timed_jobs
from helpers import wait_for_state
from test_outcomes import EXECUTOR, make_job

import eram
from eram._jobs.outcome import Failed


def run(value):
    job = make_job()
    return job, EXECUTOR.run(job, eram.job(lambda job: value()))


def test_retry_is_a_failure_with_a_delay():
    job, outcome = run(lambda: eram.Retry(90, "busy\0"))
    assert outcome == Failed(job, "busy\\x00", {"type": "retry"}, timedelta(seconds=90))
    job, outcome = run(lambda: eram.Retry(after=timedelta(hours=1)))
    assert (outcome.error, outcome.delay) == ("retried by its handler", timedelta(hours=1))


@pytest.mark.parametrize(
    ("after", "error"),
    [
        (-1, "ValueError: the delay of a retry must be finite and not negative, got -1"),
        (float("nan"), "ValueError: the delay of a retry must be finite"),
        (10**400, "ValueError: the delay of a retry of 1000"),
        ("1 hour", "TypeError: the delay of a retry is a timedelta or a number of seconds"),
        (None, "TypeError: the delay of a retry is a timedelta"),
    ],
)
def test_bad_delay_is_a_clear_failure(after, error):
    _, outcome = run(lambda: eram.Retry(after))
    assert outcome.error.startswith(error)
    assert outcome.delay is None


def test_retry_waits_as_long_as_it_says_and_uses_up_the_attempt(conn, start_worker):
    start_worker(allow=["timed_jobs"])
    later = timed_jobs.ask_again.enqueue(conn, after=3600, reason="busy")
    job = wait_for_state(conn, later.id, "retryable")
    wait = job["scheduled_at"] - job["inserted_at"]
    assert timedelta(seconds=3600) <= wait < timedelta(seconds=3700)
    assert (job["attempt"], job["errors"][0]["error"], job["errors"][0]["type"]) == (
        1,
        "busy",
        "retry",
    )
    soon = timed_jobs.ask_again.enqueue(conn)
    job = wait_for_state(conn, soon.id, "discarded")
    assert [error["error"] for error in job["errors"]] == ["retried by its handler"] * 2


def test_delay_that_the_server_refuses_fails_the_attempt_all_the_same(conn, start_worker):
    start_worker(allow=["timed_jobs"])
    answer = timed_jobs.ask_again.enqueue(conn, after=80_000_000_000_000)
    error = wait_for_state(conn, answer.id, "retryable")["errors"][0]["error"]
    assert error.startswith("delay must be between 0 and 100 years, got ")
    assert "HINT" not in error
