"""How many async handlers run at a time, what they leave behind, and what becomes of their loop."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import async_jobs
import pytest
import sample_jobs
from helpers import CAN_LOOK, PATIENCE, eventually, value, wait_for_state

import eram
from eram._runtime.event_loop import EventLoop

COMPLETED = "select count(*) from eram_jobs where state = 'completed'"


@pytest.fixture
def start_worker(start_worker):
    def start(**options):
        return start_worker(**{"allow": ["async_jobs", "sample_jobs"], **options})

    return start


@pytest.fixture(autouse=True)
def _fresh_counts():
    yield
    async_jobs.at_it.clear()
    async_jobs.most.clear()


def threads(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_as_many_run_together_as_the_queue_says(conn, start_worker):
    start_worker(queues={"default": 4})
    eram.enqueue_many(conn, [{"handler": async_jobs.meet, "args": {"name": "a"}}] * 12)
    eventually(lambda: async_jobs.at_it["a"] == 4)
    sample_jobs.gates["a"].set()
    eventually(lambda: value(conn, COMPLETED) == 12)
    assert async_jobs.most["a"] == 4


def test_both_kinds_count_for_the_same_limit(conn, start_worker):
    start_worker(queues={"default": 4})
    both = [async_jobs.meet, async_jobs.meet_in_thread] * 6
    eram.enqueue_many(conn, [{"handler": each, "args": {"name": "a"}} for each in both])
    eventually(lambda: async_jobs.at_it["a"] == 4)
    sample_jobs.gates["a"].set()
    eventually(lambda: value(conn, COMPLETED) == 12)
    assert async_jobs.most["a"] == 4


def test_a_thousand_await_at_once(conn, start_worker):
    start_worker(queues={"default": 1000})
    eram.enqueue_many(conn, [{"handler": async_jobs.meet, "args": {"name": "a"}}] * 1000)
    eventually(lambda: async_jobs.at_it["a"] == 1000)
    sample_jobs.gates["a"].set()
    eventually(lambda: value(conn, COMPLETED) == 1000)


def test_each_queue_has_one_loop_and_only_if_it_needs_it(conn, start_worker):
    start_worker(queues={"default": 4, "idle": 4})
    for _ in range(8):
        async_jobs.end_by.enqueue(conn, what="result")
    sample_jobs.nothing.options(queue="idle").enqueue(conn)
    eventually(lambda: value(conn, COMPLETED) == 9)
    assert threads("eram-async-") == ["eram-async-default"]


@pytest.mark.parametrize("how", ["sleep", "raise", "exit", "swallow"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_task_that_is_left_behind_costs_nobody_anything(conn, start_worker, how):
    worker = start_worker(queues={"default": 1})
    for _ in range(2):
        answer = async_jobs.leave_behind.enqueue(conn, name="a", how=how)
        wait_for_state(conn, answer.id, "completed")
    if how in {"raise", "exit"}:
        eventually(lambda: len(sample_jobs.seen) == 2)
    worker.stop()
    assert worker.join(PATIENCE)
    # It is cancelled when the worker ends, which does not wait for it for long.
    eventually(lambda: not threads("eram-async-"))
    if how in {"sleep", "swallow"}:
        assert sample_jobs.seen[:2] == ["cancelled"] * 2


def refuse_thread(monkeypatch, name):
    """Let no thread of this name be started, for once."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name != name:
            return start(thread)
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_worker_that_cannot_have_its_threads_does_not_start(conn, start_worker, monkeypatch):
    refuse_thread(monkeypatch, "eram-exec-default-3")
    with pytest.raises(RuntimeError, match='queue "default" cannot have 4 threads here: can'):
        start_worker(queues={"mail": 2, "default": 4})
    # Nothing of it stays.
    eventually(lambda: value(conn, "select count(*) from eram_workers where ended_at is null") == 0)
    eventually(lambda: not threads("eram-"))


def make_job(number=1):
    return eram.Job((number, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))


@pytest.fixture
def loop():
    loop = EventLoop("eram-async-test")
    yield loop
    loop.close()
    eventually(lambda: not threads("eram-async-test"))


def test_loop_that_cannot_be_started_fails_the_job_alone(loop, monkeypatch):
    refuse_thread(monkeypatch, "eram-async-test")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        loop.run(make_job(), lambda: asyncio.sleep(0, "first"))
    assert loop.run(make_job(), lambda: asyncio.sleep(0, "second")) == "second"


def test_what_a_coroutine_raises_is_raised_where_it_is_waited_for(loop):
    async def fail():
        raise SystemExit(3)

    def fail_to_begin():
        raise ValueError("no coroutine")

    with pytest.raises(SystemExit):
        loop.run(make_job(), fail)
    with pytest.raises(ValueError, match="no coroutine"):
        loop.run(make_job(), fail_to_begin)
    assert loop.run(make_job(), lambda: asyncio.sleep(0, "next")) == "next"


def test_loop_that_breaks_is_replaced_and_its_jobs_fail(loop, caplog):
    async def break_it():
        # As a handler would that closes all files of its process.
        running: Any = asyncio.get_running_loop()
        os.close(running._selector.fileno())
        await asyncio.sleep(PATIENCE)

    with pytest.raises(RuntimeError, match="the event loop broke: "):
        loop.run(make_job(), break_it)
    assert "an event loop broke, and its jobs fail" in caplog.text
    assert loop.run(make_job(), lambda: asyncio.sleep(0, "next")) == "next"


def test_coroutine_can_be_cancelled_from_any_thread_at_any_time(loop):
    """However close that is to its beginning or its end, whoever waits for it is told."""
    ends = []

    async def heed(job):
        try:
            # Whoever marks the job cancels it afterwards.
            if not job.cancelled:
                await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            return "cancelled"
        return "not begun"

    def run(job):
        ends.append(loop.run(job, lambda: heed(job)))

    def cancel(job):
        job.mark_cancelled()
        loop.cancel(job)

    for number in range(300):
        job = make_job(number)
        pair = [threading.Thread(target=each, args=(job,)) for each in (run, cancel)]
        for thread in pair if number % 2 else pair[::-1]:
            thread.start()
        for thread in pair:
            thread.join(PATIENCE)
    assert len(ends) == 300
    assert set(ends) <= {"cancelled", "not begun"}
    loop.cancel(make_job())


def test_many_threads_share_the_loop(loop):
    """Each gets its own answer."""

    async def answer(number):
        await asyncio.sleep(0)
        return number

    answers = {}

    def ask(first):
        for number in range(first, 2000, 20):
            answers[number] = loop.run(make_job(number), lambda number=number: answer(number))

    askers = [threading.Thread(target=ask, args=(first,)) for first in range(20)]
    for each in askers:
        each.start()
    for each in askers:
        each.join(PATIENCE)
    assert answers == {number: number for number in range(2000)}


@pytest.mark.skipif(not CAN_LOOK, reason="free-threaded")
def test_place_of_a_coroutine_is_known_from_outside(loop):
    begun, go_on = threading.Event(), threading.Event()

    async def inner():
        begun.set()
        await asyncio.sleep(0)
        while not go_on.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.005)

    async def outer():
        await inner()

    job = make_job()
    waiter = threading.Thread(target=loop.run, args=(job, outer))
    waiter.start()
    assert begun.wait(PATIENCE)
    names = [frame.f_code.co_name for frame in loop.frames_of(job)]
    assert names[names.index("outer") :][:2] == ["outer", "inner"]
    assert loop.frames_of(make_job()) is None
    go_on.set()
    waiter.join(PATIENCE)
    assert loop.frames_of(job) is None


def test_closing_a_loop_that_never_ran_starts_none():
    loop = EventLoop("eram-async-test")
    loop.close()
    assert not threads("eram-async-test")
