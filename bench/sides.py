"""The two that are compared, behind one face: eram, and the yardstick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString, Protocol

import psycopg
import yardstick

HERE = Path(__file__).parent
START_SECONDS = 30.0
STOP_SECONDS = 30.0

Process = subprocess.Popen[str]
Fetch = Callable[[int], list[Any]]
Complete = Callable[[list[Any]], None]


class Side(Protocol):
    """What a measurement needs of each of the two."""

    name: str
    label: str
    enqueue_documents: LiteralString
    enqueue_set: LiteralString
    enqueue_one: LiteralString
    finished: LiteralString

    def install(self, conn: psycopg.Connection) -> None:
        """Make the tables."""

    def start_worker(self, dsn: str, conn: psycopg.Connection, *, listening: bool) -> Process:
        """Start a worker that is ready, and does nothing before it is let go."""

    def let_go(self, conn: psycopg.Connection, worker: Process) -> None:
        """Let the worker begin."""

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue one job whose start is noted, without committing; return its id."""

    def stop_worker(self, conn: psycopg.Connection, worker: Process) -> dict[int, int]:
        """Stop the worker; return when each job was started that was to be noted."""

    def claims(self, conn: psycopg.Connection) -> tuple[Fetch, Complete]:
        """Return how to fetch and complete jobs on a connection, without a worker."""


class Eram:
    """The extension, and its worker as a real process."""

    name = label = "eram"
    enqueue_documents: LiteralString = "select count(*) from eram_enqueue_jobs(%s::jsonb)"
    enqueue_set: LiteralString = (
        "select count(eram_enqueue_job('noop:nothing',"
        " jsonb_build_object('to', 'user' || n || '@example.com', 'n', n)))"
        " from generate_series(1, %s::integer) as numbers (n)"
    )
    enqueue_one: LiteralString = "select eram_enqueue_job(%s::text, %s::jsonb)"
    finished: LiteralString = (
        "select count(*), extract(epoch from max(finalized_at) - min(attempted_at))::float8"
        " from eram_finished_jobs"
    )

    def install(self, conn: psycopg.Connection) -> None:
        """Create the extension."""
        conn.execute("create extension eram")

    def start_worker(self, dsn: str, conn: psycopg.Connection, *, listening: bool) -> Process:
        """Start `python -m eram.worker` on a queue that is paused, and wait for it to register."""
        del listening
        conn.execute("select eram_pause_queue('default')")
        worker = subprocess.Popen(
            (sys.executable, "-m", "eram.worker", "--queue", "default=10", "--allow", "noop"),
            env={
                **os.environ,
                "DATABASE_URL": dsn,
                "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
            },
            stderr=subprocess.DEVNULL,
            text=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not (conn.execute("select count(*) from eram_workers").fetchone() or [0])[0]:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the worker of eram did not start")
            time.sleep(0.05)
        time.sleep(0.5)  # until its threads have connected
        return worker

    def let_go(self, conn: psycopg.Connection, worker: Process) -> None:
        """Resume the queue."""
        del worker
        conn.execute("select eram_resume_queue('default')")

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue a job; whether that wakes anyone is eram's own affair."""
        row = conn.execute("select eram_enqueue_job('noop:stamp')").fetchone()
        return int(row[0]) if row else 0

    def stop_worker(self, conn: psycopg.Connection, worker: Process) -> dict[int, int]:
        """Stop the worker; the jobs' results say when they were started."""
        worker.terminate()
        if worker.wait(STOP_SECONDS) != 0:
            raise RuntimeError(f"the worker of eram ended with {worker.returncode}")
        rows = conn.execute(
            "select job_id, result::text from eram_finished_jobs where result is not null"
        )
        return {job_id: int(started_at) for job_id, started_at in rows}

    def claims(self, conn: psycopg.Connection) -> tuple[Fetch, Complete]:
        """Register this session as a worker."""
        row = conn.execute(
            "select eram_start_worker('bench', '{default}', %s)", (conn.info.backend_pid,)
        ).fetchone()
        worker_id = row[0] if row else None

        def fetch(demand: int) -> list[Any]:
            query = "select * from eram_fetch('default', %s, %s)"
            return conn.execute(query, (demand, worker_id), binary=True).fetchall()

        def complete(rows: list[Any]) -> None:
            ids, runs = ([row[column] for row in rows] for column in (0, 1))
            conn.execute("select count(*) from eram_complete_jobs(%s, %s)", (ids, runs))

        return fetch, complete


class Yardstick:
    """The bare moves."""

    name = "yardstick"
    enqueue_documents: LiteralString = yardstick.ENQUEUE_DOCUMENTS
    enqueue_set: LiteralString = yardstick.ENQUEUE_SET
    enqueue_one: LiteralString = yardstick.ENQUEUE_ONE
    finished: LiteralString = (
        "select count(*), extract(epoch from max(finalized_at) - min(attempted_at))::float8"
        " from bare_finished"
    )

    def __init__(self, *, has_cursor: bool = True) -> None:
        self._has_cursor = has_cursor
        self.label = self.name if has_cursor else f"{self.name} without a cursor"

    def install(self, conn: psycopg.Connection) -> None:
        """Create the tables."""
        conn.execute(yardstick.TABLES)

    def start_worker(self, dsn: str, conn: psycopg.Connection, *, listening: bool) -> Process:
        """Start the barest worker."""
        del conn
        worker = subprocess.Popen(
            (sys.executable, yardstick.__file__, "listen" if listening else "drain", dsn),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not worker.stdout or worker.stdout.readline() != "ready\n":
            raise RuntimeError("the worker of the yardstick did not start")
        return worker

    def let_go(self, conn: psycopg.Connection, worker: Process) -> None:
        """Send the line that it waits for."""
        del conn
        if worker.stdin:
            worker.stdin.write("go\n")
            worker.stdin.flush()

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue a job and notify the worker."""
        row = conn.execute(yardstick.ENQUEUE_ONE, ("noop:stamp", "{}")).fetchone()
        conn.execute(yardstick.NOTIFY)
        return int(row[0]) if row else 0

    def stop_worker(self, conn: psycopg.Connection, worker: Process) -> dict[int, int]:
        """End its input, and read what it has noted."""
        del conn
        output, _ = worker.communicate(timeout=STOP_SECONDS)
        return {int(key): value for key, value in json.loads(output or "{}").items()}

    def claims(self, conn: psycopg.Connection) -> tuple[Fetch, Complete]:
        """Use the worker's own statements."""
        cursor = yardstick.Cursor(is_moving=self._has_cursor)

        def fetch(demand: int) -> list[Any]:
            return yardstick.fetch(conn, demand, cursor)

        def complete(rows: list[Any]) -> None:
            yardstick.complete(conn, [row[0] for row in rows])

        return fetch, complete
