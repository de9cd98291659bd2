"""Work of all kinds that an outage meets, and what must be true of it afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import outage_jobs
import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value

import eram
from eram._base import outage as outage_module

QUEUES = {"default": 2, "flow": 2, "money": 2, "held": 1}
ALLOW = ["outage_jobs"]
FLOW_JOBS = 300
LOST = "waits for its database"
BACK = "the database is back after"
LAST_RUN_AT = "select last_run_at from eram_schedules where name = 'again'"
UNFINISHED = "select count(*) from eram_jobs where state <> 'completed'"


class Work:
    """Jobs that run when the outage comes, jobs that flow meanwhile, and a schedule."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        with self.connect() as conn:
            conn.execute("create table effects (job_id bigint)")
            conn.execute("select eram_schedule('again', '1 second', 'outage_jobs:pass_through')")
            # A command that the outage meets may be given up only a minute later.
            conn.execute(
                "select eram_schedule_sql("
                "'linger', '1 second', 'select pg_sleep(0.5)', is_top_level => true)"
            )
            self.held = [outage_jobs.hold.enqueue(conn, name=name).id for name in "ab"]
            outage_jobs.insert_and_hold.options(queue="held").enqueue(conn, name="cut")
            flow: eram.NewJob = {"handler": outage_jobs.pass_through, "queue": "flow"}
            money: eram.NewJob = {"handler": outage_jobs.insert, "queue": "money"}
            eram.enqueue_many(conn, [flow, money] * FLOW_JOBS)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self._dsn, autocommit=True)

    def wait_for_begin(self) -> None:
        for name in ("a 1", "b 1", "cut"):
            assert sample_jobs.started[name].wait(PATIENCE)

    def end_held(self) -> None:
        """Let jobs end that the server cannot hear of now; one session is lost meanwhile."""
        for name in ("a 1", "b 1", "cut"):
            sample_jobs.gates[name].set()

    def assert_done(self) -> None:
        """Each job is completed, by the run that it was in if that could report it."""
        with self.connect() as conn:
            after = outage_jobs.pass_through.options(queue="flow").enqueue(conn).id
            last_run_at = value(conn, LAST_RUN_AT)
            eventually(lambda: value(conn, UNFINISHED) == 0)
            for job_id in (*self.held, after):
                job = job_of(conn, job_id)
                assert (job["result"]["run"], job["errors"]) == (1, None)
            query = "select count(*), count(distinct job_id) from effects"
            assert conn.execute(query).fetchone() == (FLOW_JOBS + 1, FLOW_JOBS + 1)
            # It may not have run before.
            eventually(lambda: value(conn, LAST_RUN_AT) not in {None, last_run_at})
            assert conn.execute("select * from eram_check()").fetchall() == []


class Watch:
    """What the log says of an outage."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="eram")
        # The last call says what is kept.
        caplog.set_level(logging.DEBUG, logger=outage_module.__name__)
        self._caplog = caplog

    def lines(self, level: int, text: str) -> list[str]:
        return [
            record.getMessage()
            for record in list(self._caplog.records)
            if record.levelno >= level and text in record.getMessage()
        ]

    @property
    def try_count(self) -> int:
        return len(self.lines(logging.DEBUG, LOST))

    def wait_for_tries(self, count: int = 20) -> None:
        """Wait until so many tries have been in vain, by all parts together."""
        before = self.try_count
        eventually(lambda: self.try_count >= before + count)

    def wait_for_end(self) -> None:
        eventually(lambda: self.lines(logging.INFO, BACK))

    def assert_said_once(self) -> None:
        """However many parts and tries there were: one warning, and one line when it was over."""
        assert len(self.lines(logging.WARNING, LOST)) == 1
        assert len(self.lines(logging.INFO, BACK)) == 1
        assert self.lines(logging.WARNING, "lost job") == []


@contextmanager
def outage_under_work(
    dsn: str,
    caplog: pytest.LogCaptureFixture,
    start_worker: Callable[..., eram.Worker],
    *,
    through: str | None = None,
    **options: object,
) -> Iterator[Callable[[], None]]:
    """Have a worker at work, let the block make an outage, and check what comes of it.

    The block gets a function that lets the held jobs end and waits until the worker has often tried
    in vain to report them.
    """
    work, watch = Work(dsn), Watch(caplog)
    worker = start_worker(through or dsn, queues=QUEUES, allow=ALLOW, **options)
    worker_id = worker.id
    work.wait_for_begin()

    def endure() -> None:
        work.end_held()
        watch.wait_for_tries()

    yield endure
    work.end_held()
    watch.wait_for_end()
    work.assert_done()
    watch.assert_said_once()
    assert worker.id == worker_id
    eventually(lambda: worker.unreported == [])
