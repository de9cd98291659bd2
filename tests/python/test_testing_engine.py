"""What an engine is made of can be tested without starting it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import testing_jobs as jobs

import eram
from eram import testing

entered: list[str] = []


@contextlib.contextmanager
def noting(job: eram.Job) -> Iterator[None]:
    entered.append(job.handler)
    yield


@contextlib.contextmanager
def suppressing(job: eram.Job) -> Iterator[None]:
    with contextlib.suppress(ValueError):
        yield


@pytest.fixture(autouse=True)
def _nothing_entered() -> None:
    entered.clear()


def test_middleware_is_entered(test_conn):
    engine = eram.Engine(allow=["testing_jobs"], middleware=[noting, suppressing])
    jobs.greet.enqueue(test_conn, name="Ada")
    jobs.fail.enqueue(test_conn)
    jobs.think.enqueue(test_conn)
    assert testing.drain(test_conn, engine=engine).counts == {"completed": 3}
    assert testing.perform(jobs.greet, {"name": "Ada"}, engine=engine).result == "Hello, Ada!"
    assert entered == [f"testing_jobs:{name}" for name in ("greet", "fail", "think", "greet")]


def test_handlers_that_the_engine_alone_knows(test_conn):
    def other(job: eram.Job) -> Any:
        return job.handler, job.args

    engine = eram.Engine(handler=other)

    @engine.job(name="local")
    def local(job: eram.Job, number: int) -> int:
        return number + 1

    local.enqueue(test_conn, number=1)
    eram.enqueue(test_conn, "anything", {"x": 1})
    drained = testing.drain(test_conn, engine=engine)
    assert drained.results == [2, ["anything", {"x": 1}]]
    assert testing.perform(local, {"number": 2}).result == 3
    assert testing.perform("local", {"number": 3}, engine=engine).result == 4


def test_what_the_engine_may_not_run_fails(test_conn):
    engine = eram.Engine(allow=["elsewhere"])
    jobs.greet.enqueue(test_conn, name="Ada")
    with pytest.raises(eram.HandlerError, match="in no module that this worker may run"):
        testing.drain(test_conn, engine=engine)


def test_the_schedules_of_a_configuration(test_conn):
    engine = eram.Engine(
        allow=["testing_jobs"],
        cron=[
            ["0 7 * * *", "testing_jobs:greet", {"name": "Ada"}],
            {"schedule": "1 hour", "handler": "testing_jobs:think", "name": "think"},
        ],
    )
    declared = testing.declare_schedules(test_conn, engine)
    assert sorted(declared.values()) == ["added", "added"]
    assert declared["think"] == "added"
    assert testing.declare_schedules(test_conn, engine) == {}
    testing.advance(test_conn, timedelta(days=1))
    assert testing.tick(test_conn) == 2
    testing.assert_enqueued(test_conn, jobs.greet, {"name": "Ada"}, count=1)
    testing.assert_enqueued(test_conn, jobs.think, meta={"schedule": "think"})
