"""Async handlers: the same outcomes as of others, and a loop that survives all of them."""

from __future__ import annotations

import logging

import async_jobs
import pytest
import sample_jobs
from helpers import CAN_LOOK, PATIENCE, eventually, job_of, wait_for_state

import eram


@pytest.fixture
def start_worker(start_worker):
    def start(**options):
        return start_worker(**{"allow": ["async_jobs", "sample_jobs"], **options})

    return start


ENDS = ["completed", "scheduled", "cancelled", "discarded", "retryable"]


@pytest.mark.parametrize(
    ("what", "state", "expected"),
    [
        ("result", "completed", {"run": 1}),
        ("nothing", "completed", None),
        ("snooze", "scheduled", None),
        ("cancel", "cancelled", None),
        ("discard", "discarded", "of no use"),
        ("retry", "retryable", "later"),
        ("object", "retryable", "UnstorableValueError: "),
        ("coroutine", "retryable", "TypeError: the handler returned a coroutine"),
        ("ValueError", "retryable", "ValueError: bad address"),
        ("SystemExit", "retryable", "SystemExit: leaving"),
        ("KeyboardInterrupt", "retryable", "KeyboardInterrupt"),
        ("CancelledError", "retryable", "CancelledError"),
        ("GeneratorExit", "retryable", "GeneratorExit"),
        ("StopIteration", "retryable", "RuntimeError: coroutine raised StopIteration"),
        ("cancelled by itself", "retryable", "CancelledError"),
        ("cancelled too late", "completed", "all the same"),
        ("nested", "retryable", "ValueError: bad address"),
        ("group", "retryable", "ExceptionGroup: unhandled errors in a TaskGroup"),
        ("nested exit", "retryable", "SystemExit: leaving"),
        ("stopped loop", "completed", "still here"),
        ("closed loop", "retryable", "RuntimeError: Cannot close a running event loop"),
        ("all tasks cancelled", "retryable", "CancelledError"),
        ("subprocess", "completed", 3),
    ],
)
def test_outcome(conn, start_worker, what, state, expected):
    start_worker(queues={"default": 1})
    answer = async_jobs.end_by.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, *ENDS)
    assert job["state"] == state
    if state in {"retryable", "discarded"}:
        assert job["errors"][0]["error"].startswith(expected)
    else:
        assert job["result"] == expected

    # The thread and the loop go on.
    after = async_jobs.end_by.enqueue(conn, what="result")
    assert wait_for_state(conn, after.id, "completed")["result"] == {"run": 1}


def test_error_is_recorded_with_its_place(conn, start_worker):
    start_worker()
    answer = async_jobs.end_by.enqueue(conn, what="nested")
    (error,) = wait_for_state(conn, answer.id, "retryable")["errors"]
    assert error["type"] == "ValueError"
    assert "in end_by\n" in error["traceback"]
    assert "_runtime/execution.py" not in error["traceback"]
    assert "_runtime/event_loop.py" not in error["traceback"]


def test_handler_is_still_the_function():
    coroutine = async_jobs.end_by(None, "result")
    assert coroutine.__name__ == "end_by"
    coroutine.close()


def test_task_is_cancelled_at_the_deadline(conn, start_worker):
    """The recorded place is where the handler awaits, not where its thread does."""
    start_worker(queues={"default": 1})
    answer = async_jobs.await_for_ages.enqueue(conn, name="a")
    after = async_jobs.end_by.enqueue(conn, what="result")
    (error,) = wait_for_state(conn, answer.id, "discarded")["errors"]
    assert error["error"] == "timed out after 0.3 s"
    assert error["type"] == "timeout"
    # Its slot is free at once.
    wait_for_state(conn, after.id, "completed")
    assert sample_jobs.seen == [(True, True), "tidied up"]
    if not CAN_LOOK:
        assert error["traceback"].startswith("(where the handler was")
        return
    places = ["in await_for_ages\n", "in sleep_for_ages\n", "in wait_for\n"]
    assert [error["traceback"].find(place) >= 0 for place in places] == [True] * 3
    assert "eram/" not in error["traceback"]


def test_what_a_handler_says_to_its_timeout_is_dropped(conn, start_worker, caplog):
    worker = start_worker()
    answer = async_jobs.await_for_ages.enqueue(conn, name="a", end="raise")
    before = wait_for_state(conn, answer.id, "discarded")
    eventually(lambda: worker.unfinished == 0)
    assert job_of(conn, answer.id) == before
    assert "what came of it is dropped" in caplog.text
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_handler_that_takes_no_notice_keeps_its_slot(conn, start_worker):
    start_worker(queues={"default": 1})
    answer = async_jobs.await_for_ages.enqueue(conn, name="a", end="swallow")
    after = async_jobs.end_by.enqueue(conn, what="result")
    wait_for_state(conn, answer.id, "discarded")
    assert job_of(conn, after.id)["state"] in {"available", "executing"}
    sample_jobs.gates["a"].set()
    wait_for_state(conn, after.id, "completed")
    assert job_of(conn, answer.id)["state"] == "discarded"


@pytest.mark.skipif(not CAN_LOOK, reason="free-threaded")
def test_handler_that_blocks_the_loop_is_told_of_by_its_place(conn, start_worker):
    start_worker()
    answer = async_jobs.block_loop.enqueue(conn, name="a")
    (error,) = wait_for_state(conn, answer.id, "discarded")["errors"]
    assert error["error"] == "timed out after 0.3 s"
    assert error["traceback"].index("in block_loop\n") < error["traceback"].index("in hold_on\n")
    for above in ("_runtime/event_loop.py", "base_events.py", "_bootstrap"):
        assert above not in error["traceback"]
    sample_jobs.gates["a"].set()
    after = async_jobs.end_by.enqueue(conn, what="result")
    wait_for_state(conn, after.id, "completed")


def test_cancelled_job_is_cancelled_where_it_awaits(conn, start_worker, caplog):
    worker = start_worker()
    answer = async_jobs.await_for_ages.options(timeout=PATIENCE).enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    eventually(lambda: sample_jobs.seen == [(True, False), "tidied up"])
    eventually(lambda: worker.unfinished == 0)
    assert job_of(conn, answer.id)["state"] == "cancelled"


def test_job_cancelled_before_its_coroutine_begins_does_not_begin():
    from eram._jobs.finding import Handlers
    from eram._jobs.outcome import Released
    from eram._runtime.event_loop import EventLoop
    from eram._runtime.execution import Executor

    job = eram.Job((1, 1, "sample_jobs:x", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))
    job.mark_cancelled()
    loop = EventLoop("eram-async-test")
    executor = Executor(Handlers(["async_jobs"]), loop=loop)
    outcome = loop.run(job, lambda: executor.run_async(job, async_jobs.wait))
    loop.close()
    assert outcome == Released(job)


def test_worker_that_stops_lets_async_handlers_end(conn, start_worker):
    worker = start_worker()
    answer = async_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    worker.stop()
    assert not worker.join(0.1)
    sample_jobs.gates["a"].set()
    assert worker.join(PATIENCE)
    assert job_of(conn, answer.id)["result"] == {"run": 1}


def test_program_ends_although_an_async_handler_does_not(conn, spawn_worker):
    worker = spawn_worker("--allow", "async_jobs", "--grace-period", "0.2")
    answer = async_jobs.wait.enqueue(conn, name="a")
    wait_for_state(conn, answer.id, "executing")
    worker.signal(15)
    assert worker.wait() == 0
    assert "1 jobs did not end in time" in worker.log
    assert "Task was destroyed" not in worker.log


@pytest.mark.parametrize("way", ["return", "raise", "await", "await what is there"])
def test_child_of_an_async_handler_ends_with_it(conn, spawn_worker, way):
    """It has the loop too, with the tasks of other jobs: it must not go on with them."""
    spawn_worker("--allow", "async_jobs", "--queue", "default=2")
    answer = async_jobs.fork.enqueue(conn, way=way)
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"child": 1}
    after = async_jobs.end_by.enqueue(conn, what="result")
    wait_for_state(conn, after.id, "completed")
