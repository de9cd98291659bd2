"""`perform` runs one handler without a job in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import testing_jobs as jobs

import eram
from eram import testing


def test_a_handler_is_run_as_by_a_worker():
    performed = testing.perform(jobs.email, {"to": "ada"})
    assert performed.outcome == "completed"
    assert performed.result == {"to": "ada", "attempt": 1, "current": True}
    job = performed.job
    assert (job.handler, job.queue, job.priority) == ("testing_jobs:email", "mail", 2)
    assert (job.max_attempts, job.tags, job.meta) == (3, ("mail",), {"by": "tests"})
    assert job.timeout == timedelta(seconds=9)
    assert job.deadline
    assert job.deadline > datetime.now(UTC)
    assert datetime.now(UTC) - job.inserted_at < timedelta(minutes=1)


def test_a_handler_can_be_named_or_made_in_the_test():
    assert testing.perform("testing_jobs:greet", {"name": "Ada"}).result == "Hello, Ada!"

    @eram.job
    def local(job, numbers):
        return {1: numbers}

    # Both ways through JSON: a tuple comes as a list, and keys are strings.
    assert testing.perform(local, {"numbers": (1, 2)}).result == {"1": [1, 2]}


def test_options_and_the_attempt_can_be_said():
    configured = jobs.email.options(queue="other", tags=["a"])
    job = testing.perform(configured, {"to": "ada"}, attempt=2, meta={"x": 1}).job
    assert (job.queue, job.tags, job.attempt, job.run, job.meta) == (
        "other",
        ("a",),
        2,
        2,
        {"x": 1},
    )


def test_an_exception_is_raised_or_is_the_outcome():
    with pytest.raises(ValueError, match="it failed"):
        testing.perform(jobs.fail)
    failed = testing.perform(jobs.fail, raises=False)
    assert (failed.outcome, failed.error) == ("failed", "ValueError: it failed")
    last = testing.perform(jobs.fail, raises=False, attempt=2)
    assert last.outcome == "discarded"


@pytest.mark.parametrize(
    ("outcome", "ending", "delay", "error"),
    [
        ("snooze", "snoozed", timedelta(minutes=1), None),
        ("retry", "failed", timedelta(minutes=1), "not yet"),
        ("cancel", "cancelled", None, "not wanted"),
        ("discard", "discarded", None, "no good"),
    ],
)
def test_outcomes_of_a_handler(outcome, ending, delay, error):
    performed = testing.perform(jobs.end, {"outcome": outcome})
    assert (performed.outcome, performed.delay, performed.error) == (ending, delay, error)


@pytest.mark.parametrize(
    ("handler", "args", "error", "message"),
    [
        (jobs.greet, {"nme": "Ada"}, eram.ArgumentsError, 'argument "nme"'),
        (jobs.greet, {"name": object()}, eram.UnstorableValueError, "the job's args cannot be"),
        ("testing_jobs:nothing", {}, eram.HandlerNotFoundError, "does not exist"),
        (print, {}, TypeError, "handler must be a path or a handler"),
        (jobs.count_word, {"word": "x"}, eram.HandlerError, "takes a session: pass conn"),
        (jobs.end, {"outcome": "unstorable"}, eram.HandlerError, "result cannot be stored"),
    ],
)
def test_what_a_worker_could_not_run_is_an_error(handler, args, error, message):
    with pytest.raises(error, match=message):
        testing.perform(handler, args)


@pytest.mark.parametrize("attempt", [0, True, "1"])
def test_an_attempt_is_a_number_from_1(attempt):
    with pytest.raises(ValueError, match="attempt must be a number from 1"):
        testing.perform(jobs.greet, {"name": "Ada"}, attempt=attempt)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match='no option "max_atempts"; did you mean "max_attempts"'):
        testing.perform(jobs.greet, {"name": "Ada"}, max_atempts=1)  # type: ignore[call-arg]


def test_a_handler_with_a_session_gets_the_tests_connection(test_conn):
    testing.perform(jobs.count_word, {"word": "one"}, conn=test_conn)
    with pytest.raises(ValueError, match="two"):
        testing.perform(jobs.count_word, {"word": "two", "mistake": "raise"}, conn=test_conn)
    assert test_conn.execute("select word from words").fetchall() == [("one",)]


def test_async_handlers_are_run_to_their_end():
    performed = testing.perform(jobs.think, {"seconds": 0.01})
    assert performed.result == performed.job.id


async def _inside_a_loop() -> testing.Performed:
    return testing.perform(jobs.think)


def test_async_handlers_are_run_also_where_a_loop_runs():
    import asyncio

    performed = asyncio.run(_inside_a_loop())
    assert performed.result == performed.job.id
