"""Handlers without a path: they run on the thread that is in run(), whatever happens to it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace

import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value, wait_for_state

import eram
from eram._engine import run
from eram._engine.local_handlers import LocalHandler, LocalHandlers
from eram._engine.main_loop import MainLoop
from eram._jobs.handlers import made
from eram._jobs.outcome import Released

SECRET = contextvars.ContextVar("SECRET", default="none")


@pytest.fixture
def effects(conn):
    conn.execute("create table effects (value integer)")
    return lambda: [each for (each,) in conn.execute("select value from effects order by value")]


def thread_name():
    return threading.current_thread().name


def test_run_starts_and_ends_with_stop(conn, make_engine, running):
    engine = make_engine(handler=lambda job: thread_name())

    @engine.job
    def local(job, **args):
        return {**args, "thread": thread_name(), "current": eram.current_job().id == job.id}

    ending = running(engine)
    answer = engine.enqueue(local, {"a": 1})
    result = wait_for_state(conn, answer.id, "completed")["result"]
    assert result.pop("thread") == "aside"
    assert result == {"a": 1, "current": True}
    # Others run in the queue's threads meanwhile.
    other = engine.enqueue("other")
    assert wait_for_state(conn, other.id, "completed")["result"].startswith("eram-exec-")
    assert engine.stop()
    ending.result(PATIENCE)
    assert value(conn, "select count(*) from eram_workers where ended_at is null") == 0


def test_plain_functions_run_one_after_the_other_outside_of_any_loop(conn, make_engine, running):
    engine = make_engine()
    inside = []

    @engine.job
    def local(job):
        inside.append(1)
        # That could not be if it ran inside of another one.
        asyncio.run(asyncio.sleep(0.001))
        assert sum(inside) == 1
        inside.append(-1)
        SECRET.set("told")

    @engine.job
    def see(job):
        return SECRET.get()

    running(engine)
    answers = [engine.enqueue("local") for _ in range(10)] + [engine.enqueue("see")]
    for answer in answers:
        assert wait_for_state(conn, answer.id, "completed")["result"] in {None, "none"}


def test_async_functions_run_side_by_side(conn, make_engine, running):
    engine = make_engine()
    both = SimpleNamespace(event=None, threads=set())

    @engine.job
    async def first(job):
        both.event = asyncio.Event()
        both.threads.add(threading.get_ident())
        await asyncio.wait_for(both.event.wait(), PATIENCE)
        return eram.current_job().id

    @engine.job
    async def second(job):
        both.threads.add(threading.get_ident())
        both.event.set()

    running(engine)
    one = engine.enqueue(first)
    eventually(lambda: both.event)
    two = engine.enqueue(second)
    wait_for_state(conn, two.id, "completed")
    assert wait_for_state(conn, one.id, "completed")["result"] == one.id
    assert len(both.threads) == 1


def test_async_functions_make_steps_between_plain_ones(conn, make_engine, running):
    engine = make_engine(queues={"plain": 2, "steps": 1})
    seen = SimpleNamespace(plain=0, at_end=None, answer=None)

    @engine.job(queue="plain")
    def plain(job):
        seen.plain += 1
        seen.answer = seen.answer or engine.enqueue(steps)
        if seen.at_end is None and seen.plain < 200:
            engine.enqueue(plain)
            # There is always another one that waits.
            waiting = engine._running.main_loop._waiting
            eventually(lambda: any(each.job.handler == "plain" for each in list(waiting)))

    @engine.job(queue="steps")
    async def steps(job):
        for _ in range(3):
            await asyncio.sleep(0)
        seen.at_end = seen.plain

    for _ in range(3):
        engine.enqueue(plain)
    running(engine)
    eventually(lambda: seen.answer)
    wait_for_state(conn, seen.answer.id, "completed")
    assert seen.at_end < 200


def test_outcomes_are_those_of_any_handler(conn, make_engine, running):
    engine = make_engine()

    @engine.job(max_attempts=1, tags=["mine"])
    def local(job, how):
        if how == "raise":
            raise ValueError("bad address")
        return {"snooze": eram.Snooze(3600), "cancel": eram.Cancel("no")}.get(how, object())

    running(engine)
    ends = {"raise": "discarded", "snooze": "scheduled", "cancel": "cancelled", "?": "discarded"}
    for how, state in ends.items():
        answer = engine.enqueue("local", {"how": how})
        wait_for_state(conn, answer.id, state)
    declared = "select max_attempts from eram_handlers where name = 'local'"
    eventually(lambda: conn.execute(declared).fetchone() == (1,))
    job = job_of(conn, eram.enqueue(conn, "local", {"ho": 1}).id)
    # What its decorator says is known to every producer.
    assert (job["max_attempts"], job["tags"]) == (1, ["mine"])
    assert 'does not take the argument "ho"' in str(
        wait_for_state(conn, job["id"], "discarded")["errors"]
    )


def test_plain_function_with_a_transaction(conn, make_engine, running, effects):
    engine = make_engine()

    @engine.job(max_attempts=1)
    def local(job, session, how):
        session.execute("insert into effects values (1)")
        if how == "raise":
            raise ValueError
        return thread_name()

    running(engine)
    bad = engine.enqueue("local", {"how": "raise"})
    wait_for_state(conn, bad.id, "discarded")
    good = engine.enqueue("local", {"how": "return"})
    assert wait_for_state(conn, good.id, "completed")["result"] == "aside"
    assert effects() == [1]


def test_driver_runs_on_the_thread_too(conn, dsn, make_engine, running, effects):
    engine = make_engine(driver={"type": "psycopg", "config": {"dsn": dsn}})

    @engine.job
    def local(job, session):
        session.execute("insert into effects values (1)")

    @engine.job
    async def without(job):
        await asyncio.sleep(0)

    running(engine)
    for handler in (local, without):
        wait_for_state(conn, engine.enqueue(handler).id, "completed")
    assert effects() == [1]


def test_async_function_can_have_no_session(make_engine):
    engine = make_engine()

    async def local(job, session):
        pass

    class Shop:
        async def sell(self, job, db):
            pass

    for options, function in (({}, local), ({"transaction": True, "name": "local"}, Shop().sell)):
        with pytest.raises(eram.HandlerDefinitionError, match=r'"local" is async .* no session'):
            engine.job(**options)(function)


def test_names(conn, make_engine, running):
    engine = make_engine()

    class Shop:
        def sell(self, job, what):
            return what

    engine.job(Shop().sell)
    engine.job(name="shop.buy", aliases=["shop.get"])(lambda job: "bought")
    with pytest.raises(
        eram.HandlerDefinitionError, match=r'there is a handler "shop\.buy" already'
    ):
        engine.job(name="shop.buy")(Shop().sell)
    for name, message in (
        ("", "a handler must have a name"),
        (" x", "the name of a handler must have no .* blanks"),
        ("x\0", "the name of a handler must have no control"),
        (513 * "x", "a handler has a name of 513 characters"),
    ):
        with pytest.raises(eram.HandlerDefinitionError, match=message):
            engine.job(name=name)(lambda job: None)
    with pytest.raises(TypeError, match='no option "quue"; did you mean "queue"'):
        engine.job(quue="x")
    running(engine)
    jobs = {"sell": engine.enqueue("sell", {"what": "a"}), "get": engine.enqueue("shop.get")}
    assert wait_for_state(conn, jobs["sell"].id, "completed")["result"] == "a"
    assert wait_for_state(conn, jobs["get"].id, "completed")["result"] == "bought"


def test_name_says_what_its_handler_declares_before_the_start(conn, make_engine):
    engine = make_engine()
    engine.job(name="local", queue="mine", aliases=["old"])(lambda job, *, a=None: None)
    for name in ("local", "old"):
        job = job_of(conn, engine.enqueue(name).id)
        assert (job["handler"], job["queue"]) == ("local", "mine")
    with pytest.raises(eram.ArgumentsError):
        engine.enqueue("local", {"b": 1})


def test_handler_that_is_made_while_it_runs(conn, make_engine, running):
    engine = make_engine(handler=lambda job: "by the fallback")
    running(engine)
    answer = engine.enqueue("late")
    assert wait_for_state(conn, answer.id, "completed")["result"] == "by the fallback"
    engine.job(name="late", priority=3)(lambda job: "by its own")
    answer = engine.enqueue("late")
    assert wait_for_state(conn, answer.id, "completed")["result"] == "by its own"
    eventually(lambda: job_of(conn, engine.enqueue("late").id)["priority"] == 3)


def test_whoever_looks_while_a_handler_is_made_looks_again():
    local = LocalHandlers()
    handler = LocalHandler(lambda job: None, {}, name="late")
    version = made.version
    local.add(handler)
    assert made.version != version


def test_one_complaint_if_nobody_runs_it(conn, make_engine, monkeypatch, caplog):
    monkeypatch.setattr(run, "RUN_SECONDS", 0.01)
    engine = make_engine()
    engine.job(name="one")(lambda job: None)
    engine.job(name="two")(lambda job: None)
    engine.start()
    eventually(lambda: "nobody has called run()" in caplog.text)
    engine.job(name="three")(lambda job: None)
    assert "so their jobs wait: one, two" in caplog.text
    answer = engine.enqueue("one")
    wait_for_state(conn, answer.id, "executing")
    # It goes back, and the stop is not held up.
    assert engine.stop()
    job = job_of(conn, answer.id)
    assert (job["state"], job["attempt"]) == ("available", 0)
    assert caplog.text.count("nobody has called run()") == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_job_whose_time_is_over_while_it_waits_is_not_run(conn, make_engine, running, asynchronous):
    engine = make_engine()
    ran = []

    def local(job):
        ran.append(job.run)

    async def local_async(job):
        ran.append(job.run)

    function = local_async if asynchronous else local
    engine.job(name="local", timeout=0.3, max_attempts=1)(function)
    engine.start()
    late = engine.enqueue("local", timeout=0.3)
    assert "timed out" in str(wait_for_state(conn, late.id, "discarded")["errors"])
    cancelled = engine.enqueue("local", timeout=60)
    wait_for_state(conn, cancelled.id, "executing")
    conn.execute("select eram_cancel_job(%s)", (cancelled.id,))
    wait_for_state(conn, cancelled.id, "cancelled")
    eventually(lambda: engine.worker.unfinished == 0)
    running(engine)
    done = engine.enqueue("local", timeout=60)
    wait_for_state(conn, done.id, "completed")
    assert ran == [1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_timeout_says_where_the_handler_is(conn, make_engine, running, asynchronous):
    engine = make_engine()
    is_cut = threading.Event()

    def stuck_here(job):
        sample_jobs.started["x"].set()
        assert sample_jobs.gates["x"].wait(PATIENCE)

    async def stuck_there(job):
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            is_cut.set()

    engine.job(name="stuck", max_attempts=1)(stuck_there if asynchronous else stuck_here)
    running(engine)
    answer = engine.enqueue("stuck", timeout=0.5)
    errors = str(wait_for_state(conn, answer.id, "discarded")["errors"])
    assert ("stuck_there" if asynchronous else "stuck_here") in errors
    # What is below it is none of the handler's.
    assert "engine.py" not in errors
    assert not asynchronous or is_cut.wait(PATIENCE)


def test_job_cancelled_before_it_was_handed_over_is_not_begun(aside):
    job = eram.Job((1, 1, "a", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))
    job.mark_cancelled()
    outcome = aside.submit(MainLoop().call, job, pytest.fail).result(PATIENCE)
    assert outcome == Released(job)
