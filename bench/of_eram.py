"""eram as a side: its SQL functions, and its worker as a real process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import uuid4

import psycopg
from by_sql import SqlProducer, count, span_of
from sides import START_SECONDS, STOP_SECONDS, Complete, Fetch, Producer, Stamps, Worker

if TYPE_CHECKING:
    from lab import Bench

HERE = Path(__file__).parent

BEGUN: LiteralString = """
select (exists (select from eram_running_jobs) or not exists (select from eram_job_specs))::integer
"""


class Eram:
    """The extension, and its worker as a real process."""

    name = "eram"
    share = 1.0
    finished_table: LiteralString = "eram_finished_jobs"
    enqueue_documents: LiteralString = "select count(*) from eram_enqueue_jobs(%s::jsonb)"
    enqueue_set: LiteralString = (
        "select count(eram_enqueue_job('noop:nothing',"
        " jsonb_build_object('to', 'user' || n || '@example.com', 'n', n)))"
        " from generate_series(1, %s::integer) as numbers (n)"
    )
    enqueue_one: LiteralString = "select eram_enqueue_job(%s::text, %s::jsonb)"

    def __init__(
        self, *, is_keeping: bool = True, is_notifying: bool = True, is_searchable: bool = True
    ) -> None:
        self.is_keeping = is_keeping
        self._is_notifying = is_notifying
        self._is_searchable = is_searchable
        self.label = "eram"
        if not is_keeping:
            self.label += ", nothing kept"
        if not is_notifying:
            self.label += ", notification off"
        if not is_searchable:
            self.label += ", without GIN indexes"
        self.without: Mapping[str, str] = {}

    def install(self, dsn: str) -> None:
        """Create the extension."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("create extension eram")

    def prepare(self, conn: psycopg.Connection) -> None:
        """Set what this side has set."""
        if not self.is_keeping:
            conn.execute("select eram_set_queue('default', max_age => '0')")
        if not self._is_notifying:
            conn.execute("select eram_set_queue('default', is_notifying => false)")
        if not self._is_searchable:
            conn.execute("drop index eram_jobs_args_index, eram_jobs_meta_index")

    def describe(self) -> dict[str, str]:
        """Say how it is measured."""
        return {
            "settings": "one queue, 10 threads, its defaults",
            "history": "finished jobs kept" if self.is_keeping else "max_age 0: nothing kept",
        }

    @contextlib.contextmanager
    def producer(self, bench: Bench) -> Iterator[Producer]:
        """Enqueue by its SQL functions."""
        self.prepare(bench.conn)
        yield SqlProducer(bench, self)

    def start_worker(self, bench: Bench, *, is_listening: bool = False) -> Worker:
        """Start `python -m eram.worker` on a queue that is paused."""
        del is_listening
        return EramWorker(bench, sees_begin=not self.is_keeping)

    def finished(self, bench: Bench) -> int:
        """Count its finished jobs, or what is left where nothing is kept."""
        if self.is_keeping:
            return count(bench.conn, "select count(*) from eram_finished_jobs")
        return bench.enqueued - count(bench.conn, "select count(*) from eram_job_specs")

    def span(self, bench: Bench, since: datetime) -> float | None:
        """Ask its finished jobs."""
        return span_of(bench.conn, "eram_finished_jobs", since) if self.is_keeping else None

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue a job; whether that wakes anyone is eram's own affair."""
        return count(conn, "select eram_enqueue_job('noop:stamp')")

    def claims(self, conn: psycopg.Connection) -> tuple[Fetch, Complete]:
        """Register this session as a worker."""
        query = "select eram_start_worker('bench', '{default}', %s)"
        worker_id = conn.execute(query, (conn.info.backend_pid,)).fetchall()[0][0]

        def fetch(demand: int) -> list[Any]:
            query = "select * from eram_fetch('default', %s, %s)"
            return conn.execute(query, (demand, worker_id), binary=True).fetchall()

        def complete(rows: list[Any]) -> None:
            ids, runs = ([row[column] for row in rows] for column in (0, 1))
            conn.execute("select count(*) from eram_complete_jobs(%s, %s)", (ids, runs))

        return fetch, complete


class EramWorker:
    """`python -m eram.worker`, held back by a pause of its queue."""

    def __init__(
        self, bench: Bench, *, sees_begin: bool = False, queues: Sequence[str] = ("default",)
    ) -> None:
        self._conn = bench.conn
        self._sees_begin = sees_begin
        self._queues = queues
        for queue in queues:
            self._conn.execute("select eram_pause_queue(%s)", (queue,))
        name = uuid4().hex
        limits = (part for queue in queues for part in ("--queue", f"{queue}=10"))
        self._process = subprocess.Popen(
            (sys.executable, "-m", "eram.worker", "--name", name, *limits, "--allow", "noop"),
            env={
                **os.environ,
                "DATABASE_URL": bench.dsn,
                "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
            },
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_SECONDS
        known = "select 1 from eram_workers where name = %s"
        while not self._conn.execute(known, (name,)).fetchone():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("the worker of eram did not start")
            time.sleep(0.05)
        time.sleep(0.5)  # until its threads have connected

    def let_go(self) -> None:
        """Resume its queues; where no table will tell when it began, see that."""
        for queue in self._queues:
            self._conn.execute("select eram_resume_queue(%s)", (queue,))
        while self._sees_begin and not count(self._conn, BEGUN):
            time.sleep(0.001)

    def stop(self) -> Stamps:
        """Stop the worker; the jobs' results say when they were started."""
        self._process.terminate()
        if self._process.wait(STOP_SECONDS) != 0:
            raise RuntimeError(f"the worker of eram ended with {self._process.returncode}")
        query = "select job_id, result::text from eram_finished_jobs where result is not null"
        return {job_id: int(started_at) for job_id, started_at in self._conn.execute(query)}

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
