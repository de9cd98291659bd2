"""What a run of a handler is turned into; no database is needed for that."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import sample_jobs

import eram
from eram._jobs.finding import Handlers
from eram._jobs.outcome import Cancelled, Completed, Discarded, Failed, Snoozed
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor

NOON = 86_400_000_000 // 2  # of the first of January 2000, in microseconds

EXECUTOR = Executor(Handlers(["sample_jobs"]), loop=EventLoop("none"))


def make_job(handler="sample_jobs:nothing", args=None, **changes):
    fields = {
        "id": 7,
        "run": 2,
        "handler": handler,
        "args": b"\1" + json.dumps(args or {}).encode(),
        "meta": b'\1{"trace": "abc"}',
        "tags": ["a", "b"],
        "queue": "mail",
        "priority": 3,
        "attempt": 1,
        "max_attempts": 20,
        "inserted_at": NOON,
        "scheduled_at": NOON + 1,
        "attempted_at": NOON + 2,
        "timeout": None,
        **changes,
    }
    return eram.Job(tuple(fields.values()))


def execute(handler, **args):
    job = make_job(f"sample_jobs:{handler}", args)
    return EXECUTOR.execute(job, None)


def test_job_shows_what_was_fetched():
    job = make_job(args={"to": "x"})
    assert (job.id, job.run, job.handler, job.queue, job.priority) == (
        7,
        2,
        "sample_jobs:nothing",
        "mail",
        3,
    )
    assert (job.args, job.meta, job.tags) == ({"to": "x"}, {"trace": "abc"}, ("a", "b"))
    assert (job.attempt, job.max_attempts, job.cancelled) == (1, 20, False)
    assert job.inserted_at == datetime(2000, 1, 1, 12, tzinfo=UTC)
    assert job.attempted_at - job.scheduled_at == timedelta(microseconds=1)


@pytest.mark.parametrize("name", ["id", "args", "cancelled", "anything"])
def test_job_cannot_be_changed(name):
    with pytest.raises(AttributeError):
        setattr(make_job(), name, 1)


def test_nothing_returned_is_no_result():
    assert execute("nothing").result is None


def test_what_is_returned_is_the_result():
    outcome = execute("echo", a=[1, None, "ü"], b={})
    assert json.loads(outcome.result) == {"a": [1, None, "ü"], "b": {}}


@pytest.mark.parametrize("value", [0, False, "", [], {}])
def test_results_that_are_false_are_results(value):
    outcome = EXECUTOR.run(make_job(), eram.job(lambda job: value))
    assert outcome.result == json.dumps(value)


def test_arguments_are_bound_by_name():
    assert json.loads(execute("mail", to="x").result) == {"to": "x", "subject": "hello"}


def test_arguments_that_do_not_fit_fail_the_job():
    outcome = execute("mail", subject="x")
    assert outcome.error == 'ArgumentsError: handler "sample_jobs:mail" lacks the argument "to"'


def test_outcomes_can_be_returned():
    job = make_job()

    def run(value):
        return EXECUTOR.run(job, eram.job(lambda job: value))

    assert run(eram.Snooze(1.5)) == Snoozed(job, timedelta(seconds=1.5))
    assert run(eram.Snooze(timedelta(days=1))) == Snoozed(job, timedelta(days=1))
    assert run(eram.Cancel()) == Cancelled(job, None)
    assert run(eram.Cancel("late")) == Cancelled(job, "late")
    assert run(eram.Discard("wrong\0")) == Discarded(job, "wrong\\x00")


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), 1e30, timedelta(-1)])
def test_snooze_refuses_a_delay_that_is_none(delay):
    with pytest.raises(ValueError, match="delay"):
        eram.Snooze(delay)


@pytest.mark.parametrize("delay", ["1", None, True])
def test_snooze_refuses_what_is_no_duration(delay):
    with pytest.raises(TypeError, match="delay"):
        eram.Snooze(delay)


def test_what_is_raised_fails_the_job():
    outcome = execute("fail", message="bad address")
    assert outcome.error == "ValueError: bad address"
    assert outcome.detail["type"] == "ValueError"
    assert "sample_jobs.py" in outcome.detail["traceback"]
    assert "_runtime/execution.py" not in outcome.detail["traceback"]


def test_system_exit_fails_the_job():
    assert execute("leave").error == "SystemExit: leaving"


def test_missing_handler_fails_the_job():
    outcome = execute("absent")
    assert outcome.error.startswith(
        'HandlerNotFoundError: handler "sample_jobs:absent" does not exist'
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nul", "NUL"),
        ("surrogate", "surrogate"),
        ("nan", "not JSON compliant"),
        ("object", "not JSON serializable"),
    ],
)
def test_result_that_cannot_be_stored_fails_the_job(kind, reason):
    outcome = execute("return_what", kind=kind)
    assert outcome.error.startswith(
        "UnstorableValueError: the handler's result cannot be stored as JSON: "
    )
    assert reason in outcome.error


def test_result_that_is_too_deep_fails_the_job():
    outcome = EXECUTOR.run(make_job(), eram.job(lambda job: sample_jobs.nested(100_000)))
    assert "RecursionError" in outcome.detail["traceback"]


@pytest.mark.parametrize("kind", ["escaped", "emoji", "quotes"])
def test_result_that_only_looks_bad_is_stored(kind):
    outcome = execute("return_what", kind=kind)
    assert isinstance(outcome, Completed)
    assert json.loads(outcome.result)


def test_errors_can_always_be_reported():
    class UnprintableError(Exception):
        def __str__(self):
            raise RuntimeError

    def handler(job, kind):
        if kind == "unprintable":
            raise UnprintableError
        raise ValueError(kind)

    def run(kind):
        return EXECUTOR.run(make_job(args={"kind": kind}), eram.job(handler))

    assert run("unprintable").error == "UnprintableError: (its message cannot be shown)"
    assert run("\0 and \ud800").error == "ValueError: \\x00 and \\ud800"
    assert "\0" not in run("\0").detail["traceback"]
    long = run("x" * 100_000)
    assert len(long.error) < 2_100
    assert len(long.detail["traceback"]) < 17_000
    assert "characters left out" in long.error


def leave(_):
    raise SystemExit("from a property")


NamelessType = type("NamelessType", (type,), {"__name__": property(leave)})


class OddText(str):
    __slots__ = ()

    def __len__(self):
        raise SystemExit("from __len__")

    def __format__(self, how):
        raise SystemExit("from __format__")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            type("LeavingError", (Exception,), {"__str__": sample_jobs.leave_in_str})(),
            "LeavingError: (its message cannot be shown)",
        ),
        (type("OddError", (Exception,), {"__str__": lambda self: OddText("x")})(), "OddError: x"),
        (SyntaxError("broken", ("file", 1, 1, b"text")), "SyntaxError: broken (file, line 1)"),
        (
            NamelessType("NamelessError", (Exception,), {})("x"),
            "(an error whose name cannot be shown): x",
        ),
    ],
)
def test_whatever_is_raised_becomes_a_failure(error, text):
    def handler(job):
        raise error

    outcome = EXECUTOR.run(make_job(), eram.job(handler))
    assert outcome.error == text
    assert outcome.detail["traceback"]


def test_traceback_of_endless_recursion_is_bounded():
    def handler(job):
        return handler(job)

    outcome = EXECUTOR.run(make_job(), eram.job(handler))
    assert isinstance(outcome, Failed)
    assert outcome.detail["type"] == "RecursionError"
    assert len(outcome.detail["traceback"]) < 17_000
