"""The transactions that hold vacuum back: a reader's snapshot, and once a long writer."""

from __future__ import annotations

import random
from collections import deque
from typing import Self

import psycopg

from soak.ledger import Ledger
from soak.load import document, enqueue_in
from soak.plan import Hold, Plan

WRITTEN_JOBS = 10


class Holder:
    """Opens and closes the plan's transactions when their time has come.

    Args:
        dsn: where.
        plan: when.
        ledger: what is told of the jobs that the writer enqueues and commits much later.
    """

    def __init__(self, dsn: str, plan: Plan, ledger: Ledger) -> None:
        self._dsn = dsn
        self._left = deque(plan.holds)
        self._ledger = ledger
        self._conn: psycopg.Connection | None = None
        self._hold: Hold | None = None
        self._written: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kind(self) -> str | None:
        """What is open: a reader, a writer or nothing."""
        return self._hold.kind if self._hold else None

    def follow(self, seconds: float) -> None:
        """Do what is due so long after the beginning; what comes late is not left out."""
        if self._hold is not None and self._hold.to_seconds <= seconds:
            self.close()
        if self._hold is None and self._left and self._left[0].from_seconds <= seconds:
            self._open(self._left.popleft())

    def close(self) -> None:
        """End the transaction that is open, if one is."""
        if self._conn is not None:
            self._conn.commit()
            self._conn.close()
            for job_id in self._written:
                self._ledger.enqueued(job_id, "late", 0)
        self._conn, self._hold, self._written = None, None, []

    def _open(self, hold: Hold) -> None:
        self._conn = psycopg.connect(self._dsn)
        if hold.kind == "reader":
            self._conn.execute("set transaction isolation level repeatable read")
            self._conn.execute("select count(*) from pg_class")
        else:
            randomly = random.Random(1)
            self._written = [
                enqueue_in(self._conn, document("late", randomly)) for _ in range(WRITTEN_JOBS)
            ]
        self._hold = hold
