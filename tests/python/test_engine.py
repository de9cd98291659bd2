"""An engine: how it starts and stops, and what it does where it cannot."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value, wait_for_state

import eram
from eram._engine import run

OTHERS: set[threading.Thread] = set()
WORKERS = "select count(*) from eram_workers where ended_at is null"


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """What earlier tests have left, such as a page's poller, ends by itself, but not at once."""
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", set(threading.enumerate()))


def threads():
    ours = set(threading.enumerate()) - OTHERS
    return [each.name for each in ours if each.name.startswith("eram-")]


def test_start_is_idempotent(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"])
    assert not engine.is_running
    assert engine.start() is engine
    worker = engine.worker
    assert engine.start().worker is worker
    assert engine.is_running
    assert value(conn, WORKERS) == 1


def test_start_from_many_threads_starts_once(conn, make_engine, aside):
    engine = make_engine(allow=["sample_jobs"])
    for each in [aside.submit(engine.start) for _ in range(8)]:
        each.result(PATIENCE)
    assert value(conn, "select count(*) from eram_workers") == 1


def test_stop_is_graceful_and_idempotent(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"])
    assert engine.stop()
    engine.start()
    running = engine.enqueue(sample_jobs.wait, {"name": "x"})
    assert sample_jobs.started["x"].wait(PATIENCE)
    assert not engine.stop(0)
    assert not engine.stop(0.01)
    later = engine.enqueue(sample_jobs.nothing)
    sample_jobs.gates["x"].set()
    assert engine.stop()
    assert engine.stop()
    assert job_of(conn, running.id)["state"] == "completed"
    assert job_of(conn, later.id)["state"] == "available"
    assert value(conn, WORKERS) == 0
    assert threads() == []


def test_start_after_stop_starts_anew(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"])
    for number in (1, 2, 3):
        engine.start()
        answer = engine.enqueue(sample_jobs.nothing)
        wait_for_state(conn, answer.id, "completed")
        assert engine.stop()
        assert value(conn, "select count(*) from eram_workers") == number


def test_start_while_jobs_of_the_last_one_run_still(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"]).start()
    old = engine.enqueue(sample_jobs.wait, {"name": "old"})
    assert sample_jobs.started["old"].wait(PATIENCE)
    assert not engine.stop(0)
    engine.start()
    new = engine.enqueue(sample_jobs.nothing)
    wait_for_state(conn, new.id, "completed")
    assert job_of(conn, old.id)["state"] == "executing"
    # All has not ended, whichever start it is of.
    assert not engine.stop(0.2)
    sample_jobs.gates["old"].set()
    assert wait_for_state(conn, old.id, "completed")["attempt"] == 1
    assert engine.stop()
    assert value(conn, WORKERS) == 0


@pytest.mark.parametrize("when", ["it waits", "it begins"])
def test_stop_that_was_interrupted_can_be_made_good(conn, make_engine, monkeypatch, when):
    """As by Ctrl-C: what runs goes on, and is waited for."""
    engine = make_engine(allow=["sample_jobs"]).start()
    answer = engine.enqueue(sample_jobs.wait, {"name": "x"})
    assert sample_jobs.started["x"].wait(PATIENCE)

    def interrupt(*_):
        raise KeyboardInterrupt

    if when == "it begins":
        monkeypatch.setattr(run.logger, "info", interrupt)
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.stop()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not engine.stop(0)
    sample_jobs.gates["x"].set()
    assert engine.stop()
    assert job_of(conn, answer.id)["state"] == "completed"
    assert value(conn, WORKERS) == 0


def test_context_manager(conn, make_engine):
    with make_engine(allow=["sample_jobs"]) as engine:
        assert engine.is_running
    assert not engine.is_running
    assert threads() == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_handler_may_stop_its_own_engine(conn, make_engine, asynchronous):
    answers = []

    def stop(job):
        answers.append(engine.stop())

    async def stop_async(job):
        answers.append(engine.stop())

    engine = make_engine(handler=stop_async if asynchronous else stop).start()
    answer = engine.enqueue("any")
    wait_for_state(conn, answer.id, "completed")
    assert engine.stop()
    assert answers == [False]


def test_listener_may_stop_its_own_engine(conn, make_engine):
    engine = make_engine(handler=lambda job: None, grace_period=0.5).start()
    answers = []
    forget = eram.on_success("any", lambda job, outcome: answers.append(engine.stop()))
    try:
        engine.enqueue("any")
        eventually(lambda: answers)
    finally:
        forget()
    assert engine.stop()


@pytest.mark.parametrize("timeout", [-1, True, "1", float("nan"), 1e9])
def test_stop_with_no_number_of_seconds(make_engine, timeout):
    engine = make_engine(allow=["sample_jobs"]).start()
    with pytest.raises(eram.ConfigError, match="timeout must be seconds"):
        engine.stop(timeout)
    assert engine.is_running


def test_start_without_any_handler_names_the_option(conn, make_engine):
    engine = make_engine()
    with pytest.raises(eram.ConfigError, match=r'no module is allowed.* allow=\["myapp\.jobs"\]'):
        engine.start()
    assert (engine.is_running, threads()) == (False, [])

    @engine.job
    def local(job):
        """Now there is one."""

    assert engine.start().is_running


def test_start_without_a_database(make_engine):
    engine = make_engine(dsn="host=/nowhere dbname=x", allow=["sample_jobs"])
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            engine.start()
    assert (engine.is_running, threads()) == (False, [])


@pytest.mark.parametrize("options", [{}, {"cron": [["@daily", "a:b"]]}])
def test_start_without_eram_works_once_it_is_there(bare_dsn, make_engine, options):
    engine = make_engine(dsn=bare_dsn, allow=["sample_jobs"], **options)
    with pytest.raises(eram.ConfigError, match="eram is not installed in this database"):
        engine.start()
    assert (engine.is_running, threads()) == (False, [])
    with psycopg.connect(bare_dsn) as conn:
        conn.execute("create extension eram")
    with engine:
        assert engine.is_running


def test_start_with_a_wrong_driver(dsn, make_engine):
    driver = {"type": "custom", "path": "sample_jobs:absent", "config": {}}
    engine = make_engine(driver=driver, allow=["sample_jobs"], cron=[["@daily", "a:b"]])
    with pytest.raises(eram.ConfigError, match='driver "sample_jobs:absent" cannot be imported'):
        engine.start()
    assert (engine.is_running, threads()) == (False, [])
    with psycopg.connect(dsn) as conn:
        assert value(conn, "select count(*) from eram_schedules where declared_by is not null") == 0


def test_start_with_a_fallback_that_cannot_be_imported(make_engine):
    for path, message in (
        ("absent:x", "absent"),
        ("sample_jobs:not_callable", "must be a function"),
    ):
        engine = make_engine(handler=path)
        with pytest.raises(eram.ConfigError, match=message):
            engine.start()
        assert threads() == []


def test_stop_during_the_start_wins(conn, make_engine, monkeypatch):
    """As a signal handler does it, between two steps."""
    engine = make_engine(allow=["sample_jobs"])
    prepare = eram.Worker.prepare

    def stop_first(worker):
        engine.stop()
        prepare(worker)

    monkeypatch.setattr(eram.Worker, "prepare", stop_first)
    engine.start()
    assert not engine.is_running
    assert value(conn, WORKERS) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_has_an_engine_that_was_not_started(conn, make_engine):
    """As with gunicorn's preload: the child starts a worker of its own, and enqueues."""
    engine = make_engine(allow=["sample_jobs"]).start()
    engine.enqueue(sample_jobs.nothing)
    receiving, sending = multiprocessing.get_context("fork").Pipe(duplex=False)

    def live():
        was_running = engine.is_running
        engine.start()
        answer = engine.enqueue(sample_jobs.echo, {"pid": os.getpid()})
        sending.send((was_running, engine.is_running, answer.id, engine.worker.id))
        engine.stop()

    child = multiprocessing.get_context("fork").Process(target=live)
    child.start()
    was_running, is_running, job_id, worker_id = receiving.recv()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert (was_running, is_running) == (False, True)
    assert worker_id != engine.worker.id
    wait_for_state(conn, job_id, "completed")
    # The parent has noticed nothing.
    answer = engine.enqueue(sample_jobs.nothing)
    wait_for_state(conn, answer.id, "completed")
    assert engine.is_running


def test_signals_are_left_alone_without_run(make_engine):
    before = signal.getsignal(signal.SIGTERM)
    with make_engine(allow=["sample_jobs"]):
        assert signal.getsignal(signal.SIGTERM) is before
