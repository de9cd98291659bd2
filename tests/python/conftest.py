"""Workers for the tests: in this process, or as programs of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sample_jobs
import testing_jobs
from helpers import PATIENCE, eventually
from pytest_postgresql.executors import PostgreSQLExecutor
from wait_helpers import Wait, WatchedEar, wait_on_a_connection, wait_on_an_async_connection

import eram
from databases import fresh_database
from eram._jobs import watch

FOLDER = Path(__file__).parent
StartWorker = Callable[..., eram.Worker]


@pytest.fixture(autouse=True)
def _fresh_events() -> Iterator[None]:
    """Forget what earlier tests left, and let no handler wait for ever."""
    yield
    for gate in sample_jobs.gates.values():
        gate.set()
    sample_jobs.gates.clear()
    sample_jobs.started.clear()
    sample_jobs.seen.clear()


@pytest.fixture
def start_worker(dsn: str, _fresh_events: None) -> Iterator[StartWorker]:
    """Start any number of workers in this process, which end with the test."""
    with contextlib.ExitStack() as workers:

        def start(dsn: str = dsn, **options: object) -> eram.Worker:
            worker = eram.Worker(dsn, **{"allow": ["sample_jobs"], **options})
            worker.start()
            workers.callback(end, worker)
            return worker

        def end(worker: eram.Worker) -> None:
            worker.stop()
            eventually(lambda: has_ended(worker))

        def has_ended(worker: eram.Worker) -> bool:
            for gate in list(sample_jobs.gates.values()):
                gate.set()
            return worker.join(0.05)

        yield start


@pytest.fixture
def make_engine(dsn: str, _fresh_events: None) -> Iterator[Callable[..., eram.Engine]]:
    """Make any number of engines, which are stopped with the test."""
    with contextlib.ExitStack() as engines:

        def make(config: object = None, **options: Any) -> eram.Engine:
            if not isinstance(config, str):
                options = {"dsn": dsn, **options}
            engine = eram.Engine(config, **options)
            engines.callback(end, engine)
            return engine

        def end(engine: eram.Engine) -> None:
            engine.stop(0)
            eventually(lambda: has_ended(engine))

        def has_ended(engine: eram.Engine) -> bool:
            for gate in list(sample_jobs.gates.values()):
                gate.set()
            return engine.stop(0.05)

        yield make


@pytest.fixture
def running(
    make_engine: Callable[..., eram.Engine], aside: Aside
) -> Iterator[Callable[[eram.Engine], Future[None]]]:
    """Call run() in another thread than the test's, and wait until it is there."""
    engines = []

    def run(engine):
        engines.append(engine)
        ending = aside.submit(engine.run)
        eventually(lambda: engine.is_running and engine._running.main_loop.is_running)
        return ending

    yield run
    for engine in engines:
        engine.stop(0)
    for gate in sample_jobs.gates.values():
        gate.set()


@pytest.fixture
def settled_server(conn: psycopg.Connection) -> None:
    """A server that started long enough ago: at first it gives lost workers more time."""
    query = "select clock_timestamp() - pg_postmaster_start_time() > interval '31 seconds'"
    eventually(lambda: conn.execute(query).fetchone()[0], 40)


class Program:
    """One of eram's programs, in a process of its own."""

    def __init__(self, module: str, arguments: list[str | bytes], environ: dict[str, str]) -> None:
        path = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._has_ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def wait_for_log(self, text: str) -> None:
        with self._news:
            self._news.wait_for(lambda: text in self.log or self._has_ended, PATIENCE)
        assert text in self.log

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def close(self) -> None:
        self._process.kill()
        self.wait()
        self._process.stderr.close()

    def _read(self) -> None:
        for line in self._process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()


@pytest.fixture
def run_program() -> Iterator[Callable[..., Program]]:
    """Run `python -m eram.worker`, or another module, with any arguments."""
    with contextlib.ExitStack() as programs:

        def run(*arguments: str, module: str = "eram.worker", **environ: str) -> Program:
            program = Program(module, list(arguments), environ)
            programs.callback(program.close)
            return program

        yield run


@pytest.fixture
def spawn_worker(dsn: str, run_program: Callable[..., Program]) -> Callable[..., Program]:
    """Start a worker as a program, and wait until it is registered."""

    def spawn(*arguments: str) -> Program:
        program = run_program("--dsn", dsn, "--allow", "sample_jobs", *arguments)
        program.wait_for_log("registered")
        return program

    return spawn


@pytest.fixture(params=[wait_on_a_connection, wait_on_an_async_connection])
def wait(request: pytest.FixtureRequest) -> Wait:
    """Each of the two ways to wait."""
    return request.param


class Aside:
    """Threads of their own, of which none can keep the tests from going on."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, act: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(act(*args, **named))
            except BaseException as error:
                future.set_exception(error)

        self.futures.append(future)
        threading.Thread(target=run, name="aside", daemon=True).start()
        return future


@pytest.fixture
def aside() -> Iterator[Aside]:
    """Somewhere to wait while the test does something else."""
    aside = Aside()
    yield aside
    assert not futures.wait(aside.futures, PATIENCE).not_done


@pytest.fixture
def announcing(conn: psycopg.Connection) -> None:
    """The queue "default" announces the ends of its jobs."""
    conn.execute("select eram_set_queue('default', is_announcing => true)")


@pytest.fixture
def only_hearing(announcing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits without listening, or does not hear, waits in vain."""
    for name in ("NET_SECONDS", "SHORTEST_POLL_SECONDS"):
        monkeypatch.setattr(watch, name, 1000.0)


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> list[WatchedEar]:
    """The ears of all waits of the test."""
    made: list[WatchedEar] = []

    def make(*args: object) -> WatchedEar:
        made.append(WatchedEar(*args))
        return made[-1]

    monkeypatch.setattr(watch, "Ear", make)
    return made


@pytest.fixture(scope="session")
def testing_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """One database for all tests that roll everything back; nothing may be left in it."""
    with fresh_database(server) as dsn:
        yield dsn
        with psycopg.connect(dsn) as conn:
            assert conn.execute("select from eram_jobs").fetchall() == []
            assert conn.execute("select from eram_workers").fetchall() == []


@pytest.fixture
def test_conn(testing_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection in a transaction that is rolled back, with a table of words."""
    testing_jobs.seen.clear()
    with (
        psycopg.connect(testing_dsn, autocommit=True) as conn,
        conn.transaction(force_rollback=True),
    ):
        conn.execute("create table words (word text)")
        yield conn
        assert conn.execute("select * from eram_check()").fetchall() == []
