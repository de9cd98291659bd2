"""What eram and the yardstick have in common: they are spoken to by SQL alone."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, LiteralString, Protocol

import psycopg
import yardstick
from sides import CALL_JOBS, Stamps

if TYPE_CHECKING:
    from lab import Bench


class Statements(Protocol):
    """What a side that is spoken to by SQL has for a producer."""

    enqueue_documents: LiteralString
    enqueue_set: LiteralString
    enqueue_one: LiteralString

    def enqueue_and_wake(self, conn: psycopg.Connection) -> int:
        """Enqueue one job whose start is noted, without committing; return its id."""


class SqlProducer:
    """Enqueues by statements."""

    def __init__(self, bench: Bench, side: Statements) -> None:
        self._bench = bench
        self._side = side

    def enqueue_documents(self, jobs: int) -> float:
        """Send JSON arrays."""
        calls = [
            yardstick.documents(at, min(CALL_JOBS, jobs - at)) for at in range(0, jobs, CALL_JOBS)
        ]
        begun_at = time.perf_counter()
        for documents in calls:
            self._bench.conn.execute(self._side.enqueue_documents, (json.dumps(documents),))
        return time.perf_counter() - begun_at

    def enqueue_set(self, jobs: int) -> float:
        """Have the server make them."""
        begun_at = time.perf_counter()
        for at in range(0, jobs, CALL_JOBS):
            self._bench.conn.execute(self._side.enqueue_set, (min(CALL_JOBS, jobs - at),))
        return time.perf_counter() - begun_at

    def enqueue_singly(self, jobs: int, producers: int) -> float:
        """Use a thread and a connection for each producer."""
        start = threading.Barrier(producers + 1)

        def produce(conn: psycopg.Connection) -> None:
            start.wait()
            for number in range(jobs // producers):
                conn.execute(self._side.enqueue_one, ("noop:nothing", f'{{"n": {number}}}'))

        with contextlib.ExitStack() as connections:
            threads = [
                threading.Thread(
                    target=produce, args=(connections.enter_context(self._bench.connect()),)
                )
                for _ in range(producers)
            ]
            for thread in threads:
                thread.start()
            start.wait()
            begun_at = time.perf_counter()
            for thread in threads:
                thread.join()
            return time.perf_counter() - begun_at

    def enqueue_steadily(self, jobs: int, rate: float) -> Stamps:
        """Enqueue in transactions."""
        stamps: Stamps = {}
        with self._bench.connect(autocommit=False) as conn:
            begun_at = time.perf_counter()
            for number in range(jobs):
                time.sleep(max(0.0, begun_at + number / rate - time.perf_counter()))
                job_id = self._side.enqueue_and_wake(conn)
                stamps[job_id] = time.monotonic_ns()
                conn.commit()
        return stamps


def count(conn: psycopg.Connection, query: LiteralString) -> int:
    """Return the one number that a query gives."""
    return int(conn.execute(query).fetchall()[0][0])


def span_of(conn: psycopg.Connection, table: LiteralString, since: datetime) -> float:
    """Return the seconds from the first start since then to the last end."""
    query = f"""select extract(epoch from max(finalized_at) - min(attempted_at))::float8
        from {table} where attempted_at >= %s"""
    return float(conn.execute(query, (since,)).fetchall()[0][0])
