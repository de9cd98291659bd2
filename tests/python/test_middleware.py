"""Middleware: what is entered around every handler."""

from __future__ import annotations

import context_jobs
import pytest
import sample_jobs
from helpers import wait_for_state

import eram
from eram._jobs.middleware import load_middleware


@pytest.fixture
def start_worker(start_worker):
    def start(*middleware, **options):
        given = {"allow": ["context_jobs", "sample_jobs"], "middleware": middleware}
        return start_worker(**{**given, **options})

    return start


def run(conn, handler):
    answer = handler.enqueue(conn)
    return wait_for_state(conn, answer.id, "completed", "retryable")


KINDS = ["", "_async", "_in_transaction", "_async_in_transaction"]


@pytest.mark.parametrize("kind", KINDS)
def test_first_one_is_the_outermost_and_sees_the_job(conn, start_worker, kind):
    start_worker(context_jobs.outer, "context_jobs:inner")
    run(conn, getattr(context_jobs, f"say_mark{kind}"))
    assert sample_jobs.seen == [
        ("outer in", True),
        ("inner in", True),
        ("inner out", None),
        ("outer out", None),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_seen_and_go_on(conn, start_worker, kind):
    start_worker(context_jobs.outer, context_jobs.inner)
    job = run(conn, getattr(context_jobs, f"fail{kind}"))
    assert sample_jobs.seen[2:] == [("inner out", "ValueError"), ("outer out", "ValueError")]
    (error,) = job["errors"]
    assert error["error"] == "ValueError: in the handler"
    assert f"in fail{kind}\n" in error["traceback"]


@pytest.mark.parametrize("kind", KINDS)
def test_handler_is_in_the_context_of_the_middleware(conn, start_worker, kind):
    start_worker(context_jobs.set_mark)
    job = run(conn, getattr(context_jobs, f"say_mark{kind}"))
    assert job["result"] == "by middleware"


@pytest.mark.parametrize("kind", KINDS)
def test_error_that_is_suppressed_completes_the_job(conn, start_worker, kind):
    start_worker(context_jobs.suppress, context_jobs.inner)
    job = run(conn, getattr(context_jobs, f"fail{kind}"))
    assert (job["state"], job["result"]) == ("completed", None)
    assert sample_jobs.seen[-1] == ("inner out", "ValueError")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("middleware", "error", "expected"),
    [
        (context_jobs.fail_at_first, "ValueError: at the door", ["failing"]),
        (
            context_jobs.fail_at_last,
            "ValueError: on the way out",
            [("inner in", True), ("inner out", None)],
        ),
    ],
)
def test_error_of_a_middleware_fails_the_job(conn, start_worker, kind, middleware, error, expected):
    start_worker(context_jobs.outer, middleware, context_jobs.inner)
    job = run(conn, getattr(context_jobs, f"say_mark{kind}"))
    assert job["errors"][0]["error"] == error
    assert sample_jobs.seen == [("outer in", True), *expected, ("outer out", "ValueError")]


def test_middleware_may_raise_another_error(conn, start_worker):
    start_worker(context_jobs.replace)
    (error,) = run(conn, context_jobs.fail)["errors"]
    assert error["error"] == "LookupError: another one"
    assert "ValueError: in the handler" in error["traceback"]


def test_outcomes_are_no_errors(conn, start_worker):
    start_worker(context_jobs.outer)
    answer = sample_jobs.call_off.enqueue(conn)
    wait_for_state(conn, answer.id, "cancelled")
    assert sample_jobs.seen[-1] == ("outer out", None)


def test_job_without_a_handler_enters_nothing(conn, start_worker):
    start_worker(context_jobs.outer)
    answer = eram.enqueue(conn, "context_jobs:absent")
    wait_for_state(conn, answer.id, "retryable")
    assert sample_jobs.seen == []


def test_arguments_that_do_not_fit_are_seen(conn, start_worker):
    start_worker(context_jobs.outer)
    answer = eram.enqueue(conn, "sample_jobs:note")
    wait_for_state(conn, answer.id, "retryable")
    assert sample_jobs.seen[-1] == ("outer out", "ArgumentsError")


class ByClass:
    def __init__(self, job):
        sample_jobs.seen.append(job.id)

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


def test_class_can_be_a_middleware(conn, start_worker):
    start_worker(ByClass)
    job = run(conn, context_jobs.say_mark)
    assert sample_jobs.seen == [job["id"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("context_jobs:outer", "middleware must be a list"),
        (context_jobs.outer, "middleware must be a list"),
        (["context_jobs"], 'middleware "context_jobs" is no path'),
        (["context_jobs.outer"], "is no path"),
        (["context_jobs:outr"], 'there is no "outr"; did you mean "outer"?'),
        (["absent_module:span"], 'middleware "absent_module:span" cannot be imported: Module'),
        (["context_jobs:not_callable"], "must be functions of a job that return a context"),
        ([None], "got None"),
        (["context_jobs:coroutine"], "must be functions of a job that return a context"),
        (["context_jobs:undecorated"], "put @contextlib.contextmanager on it"),
        ([context_jobs.is_async], "cannot be async, also for async handlers"),
    ],
)
def test_what_cannot_be_middleware_is_refused_at_once(given, message):
    with pytest.raises(eram.ConfigError) as caught:
        load_middleware(given)
    assert message in str(caught.value)
    with pytest.raises(eram.ConfigError):
        eram.Worker(allow=["sample_jobs"], middleware=given)


@pytest.mark.parametrize("what", ["raise ValueError('broken')", "raise SystemExit('broken')"])
def test_module_of_a_middleware_may_do_anything(tmp_path, monkeypatch, what):
    (tmp_path / "broken_middleware.py").write_text(what)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(eram.ConfigError, match=r"cannot be imported: \w+: broken"):
        load_middleware(["broken_middleware:span"])
