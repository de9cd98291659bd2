"""The yardstick as a side: the bare moves of yardstick.py."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import yardstick
from by_sql import SqlProducer, count, span_of
from sides import STOP_SECONDS, Complete, Fetch, Producer, Stamps, Worker

if TYPE_CHECKING:
    from lab import Bench


class Yardstick:
    """The bare moves."""

    name = "yardstick"
    share = 1.0
    finished_table: LiteralString = "bare_finished"
    enqueue_documents: LiteralString = yardstick.ENQUEUE_DOCUMENTS
    enqueue_set: LiteralString = yardstick.ENQUEUE_SET
    enqueue_one: LiteralString = yardstick.ENQUEUE_ONE

    def __init__(self, *, has_cursor: bool = True, is_plain: bool = False) -> None:
        self._has_cursor = has_cursor
        self._is_plain = is_plain
        self.label = f"plain {self.name}" if is_plain else self.name
        if not has_cursor:
            self.label += " without a cursor"
        self.without: Mapping[str, str] = {}

    def install(self, dsn: str) -> None:
        """Create the tables."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(yardstick.TABLES)

    def describe(self) -> dict[str, str]:
        """Say how it is measured."""
        return {"settings": "batches of 500, 10 threads", "history": "finished jobs kept"}

    @contextlib.contextmanager
    def producer(self, bench: Bench) -> Iterator[Producer]:
        """Enqueue by bare statements."""
        yield SqlProducer(bench, self)

    def start_worker(self, bench: Bench, *, is_listening: bool = False) -> Worker:
        """Start the barest worker."""
        what = "listen" if is_listening else "drain-plain" if self._is_plain else "drain"
        return YardstickWorker(bench, what)

    def finished(self, bench: Bench) -> int:
        """Count its finished jobs."""
        return count(bench.conn, "select count(*) from bare_finished")

    def span(self, bench: Bench, since: datetime) -> float | None:
        """Ask its finished jobs."""
        return span_of(bench.conn, "bare_finished", since)

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue a job and notify the worker."""
        row = conn.execute(yardstick.ENQUEUE_ONE, ("noop:stamp", "{}")).fetchall()[0]
        conn.execute(yardstick.NOTIFY)
        return int(row[0])

    def claims(self, conn: psycopg.Connection) -> tuple[Fetch, Complete]:
        """Use the worker's own statements."""
        cursor = yardstick.Cursor(is_moving=self._has_cursor)

        def fetch(demand: int) -> list[Any]:
            return yardstick.fetch(conn, demand, cursor)

        def complete(rows: list[Any]) -> None:
            yardstick.complete(conn, [row[0] for row in rows])

        return fetch, complete


class YardstickWorker:
    """The barest worker, which waits for a line."""

    def __init__(self, bench: Bench, what: str) -> None:
        self._process = subprocess.Popen(
            (sys.executable, yardstick.__file__, what, bench.dsn),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        if not self._process.stdout or self._process.stdout.readline() != "ready\n":
            self.kill()
            raise RuntimeError("the worker of the yardstick did not start")

    def let_go(self) -> None:
        """Send the line that it waits for."""
        if self._process.stdin:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def stop(self) -> Stamps:
        """End its input, and read what it has noted."""
        output, _ = self._process.communicate(timeout=STOP_SECONDS)
        return {int(key): value for key, value in json.loads(output or "{}").items()}

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
