"""Signals while run() is in the main thread: the first one stops, the second one does more."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value, wait_for_state

from eram._engine import stop_signals
from eram._runtime.event_loop import finish

BOTH = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _old_handlers():
    before = [signal.getsignal(each) for each in BOTH]
    yield
    for number, handler in zip(BOTH, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_signal_ends_run(conn, make_engine, monkeypatch, number):
    # The second one is the same one, however long it takes here.
    monkeypatch.setattr(stop_signals, "SAME_SIGNAL_SECONDS", float(PATIENCE))
    before = [signal.getsignal(each) for each in BOTH]
    engine = make_engine()

    @engine.job
    def local(job):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        return threading.current_thread().name

    answer = engine.enqueue("local")
    engine.run()
    assert job_of(conn, answer.id)["result"] == threading.main_thread().name
    assert not engine.is_running
    assert [signal.getsignal(each) for each in BOTH] == before


def test_signal_ends_run_while_plain_functions_keep_coming(conn, make_engine):
    engine = make_engine(queues={"default": 4})
    ran = []

    @engine.job
    def local(job):
        ran.append(job.id)
        # The next one waits already.
        eventually(lambda: engine._running.main_loop._waiting)
        os.kill(os.getpid(), signal.SIGTERM)

    for _ in range(20):
        engine.enqueue(local)
    engine.run()
    assert len(ran) == 1
    assert value(conn, "select count(*) from eram_jobs where state = 'available'") == 19


@pytest.fixture
def press(aside, monkeypatch):
    """Send a signal when a handler has begun, and once more when that was heard."""
    monkeypatch.setattr(stop_signals, "SAME_SIGNAL_SECONDS", 0.0)

    def press(engine, number):
        assert sample_jobs.started["x"].wait(PATIENCE)
        os.kill(os.getpid(), number)
        eventually(lambda: not engine._is_wanted)
        os.kill(os.getpid(), number)

    return lambda *args: aside.submit(press, *args)


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_second_signal_is_what_it_would_be_without(conn, make_engine, press, number, asynchronous):
    """The handler does not end, so Ctrl-C is pressed again; SIGTERM leaves the program."""
    engine = make_engine(grace_period=PATIENCE)
    if number == signal.SIGTERM:
        signal.signal(number, lambda *_: sys.exit(3))
    else:
        # A shell that starts the tests in the background has them ignore it.
        signal.signal(number, signal.default_int_handler)

    def stuck(job):
        sample_jobs.started["x"].set()
        # In one long wait Python may overlook a signal that comes right after another one.
        eventually(sample_jobs.gates["x"].is_set)

    async def stuck_async(job):
        sample_jobs.started["x"].set()
        await asyncio.sleep(PATIENCE)

    handler = engine.job(name="stuck")(stuck_async if asynchronous else stuck)
    engine.start()
    answer = engine.enqueue(handler)
    pressing = press(engine, number)
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt):
        engine.run()
    pressing.result(PATIENCE)
    assert not engine.is_running
    wait_for_state(conn, answer.id, "retryable")


@pytest.mark.parametrize("state", ["running loop", "running"])
def test_loop_that_was_interrupted_as_it_stopped_is_left(monkeypatch, state):
    """Nothing can be done with it; trying for ever would be a hang that no signal ends."""
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    if state == "running":
        monkeypatch.setattr(loop, "_thread_id", threading.get_ident())
    finish(loop)
    assert asyncio._get_running_loop() is None
    monkeypatch.undo()
    loop.close()
