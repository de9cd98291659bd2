"""Unique jobs and every call there is, from many sessions at once, on few keys.

Nothing deadlocks, no two jobs live that have one key until they end, and whatever is refused is
refused for its reason. ERAM_TEST_SEED makes a run of its own.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import Threads, fetch, rows, start_worker, value
from .unique_helpers import TWINS, document, put_all

SEED = int(os.environ.get("ERAM_TEST_SEED", "20260403"))
SESSIONS = 8
CALLS = 120
KEYS = 6
QUEUES = ("default", "other")
REFUSED = (
    errors.UniqueViolation,  # a retry of a job whose key is another's; "raise"
    errors.UndefinedObject,  # a job that was deleted
    errors.ObjectNotInPrerequisiteState,  # the deletion of a running one
    errors.NumericValueOutOfRange,  # fewer attempts than were used
)


class Session:
    """One of many that do anything."""

    def __init__(self, conn: psycopg.Connection, seed: int, periods: tuple[Any, ...]) -> None:
        self.conn = conn
        self.random = random.Random(seed)
        self.worker = start_worker(conn, *QUEUES)
        self.held: list[Any] = []
        self.periods = periods
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        """Call one function, in a transaction that may be rolled back."""
        call: Callable[[], None] = self.random.choice(
            (
                *(self.enqueue, self.enqueue, self.enqueue, self.claim, self.claim),
                *(self.end, self.end, self.one, self.one, self.many),
            )
        )
        try:
            with self.conn.transaction(force_rollback=self.random.random() < 0.1):
                call()
            self.done[call.__name__] += 1
        except REFUSED as exc:
            self.done[type(exc).__name__] += 1

    def ids(self, most: int) -> list[int]:
        """Choose some of the jobs that there are."""
        query = "select job_id from eram_job_specs order by job_id desc limit 40"
        found = [each for (each,) in self.conn.execute(query)] or [1]
        return [self.random.choice(found) for _ in range(self.random.randrange(1, most + 1))]

    def enqueue(self) -> None:
        jobs = [
            document(
                args={"id": self.random.randrange(KEYS), "n": self.random.randrange(1000)},
                queue=self.random.choice(QUEUES),
                priority=self.random.randrange(3),
                delay=self.random.choice((0, 0, 0, 0.01)),
                max_attempts=self.random.randrange(1, 4),
                unique={
                    "keys": ["id"],
                    "fields": ["args"],
                    "on_conflict": self.random.choice(["raise", *["skip", "replace"] * 7]),
                    "period": self.random.choice(self.periods),
                },
            )
            for _ in range(self.random.choice((1, 1, 2, 5, 9)))
        ]
        put_all(self.conn, *jobs)

    def claim(self) -> None:
        self.held += fetch(self.conn, self.worker, 3, self.random.choice(QUEUES))

    def end(self) -> None:
        """Report what was claimed, be it still this session's or not."""
        self.random.shuffle(self.held)
        jobs, self.held = self.held[:3], self.held[3:]
        ids, runs = [job.id for job in jobs], [job.run for job in jobs]
        kind = self.random.randrange(6)
        if kind < 2:
            self.conn.execute("select eram_complete_jobs(%s::bigint[], %s::int[])", [ids, runs])
        elif kind == 2:
            self.conn.execute("select eram_release_jobs(%s::bigint[], %s::int[])", [ids, runs])
        else:
            query = (
                "select eram_fail_job(%s, %s, 'x', delay => '0')",
                "select eram_discard_job(%s, %s)",
                "select eram_snooze_job(%s, %s, '0')",
            )[kind - 3]
            for job in jobs[:1]:
                self.conn.execute(query, [job.id, job.run])

    def one(self) -> None:
        query = self.random.choice(
            (
                "select eram_cancel_job(%s)",
                "select eram_retry_job(%s)",
                "select eram_retry_job(%s)",
                "select eram_delete_job(%s)",
                "select eram_update_job(%s, priority => 1, max_attempts => 3)",
                """select eram_update_job(%s, args => '{"id": 1}', delay => '0')""",
            )
        )
        self.conn.execute(query, self.ids(1))

    def many(self) -> None:
        query = self.random.choice(
            (
                "select eram_cancel_jobs(%s)",
                "select eram_retry_jobs(%s)",
                "select eram_delete_jobs(%s)",
                "select eram_move_jobs(%s, 'default')",
                "select eram_move_jobs(%s, 'other')",
                "select eram_prune_jobs('0') from (values (%s)) as filters (filter)",
                "select eram_rescue_jobs() from (values (%s)) as filters (filter)",
            )
        )
        self.conn.execute(query, [Jsonb({"ids": self.ids(8)})])


@pytest.mark.parametrize("periods", [(None,), (None, 0.002, 0.05, 60)], ids=["ends", "windows"])
@pytest.mark.parametrize("number", range(2))
def test_soup(conn, connect, periods, number):
    print(f"ERAM_TEST_SEED={SEED}")
    sessions = [Session(connect(), SEED + number * 100 + n, periods) for n in range(SESSIONS)]
    threads, is_over, left = Threads(), threading.Event(), threading.Semaphore(0)

    def run(session: Session) -> None:
        try:
            for _ in range(CALLS):
                session.step()
        finally:
            left.release()

    def sample() -> None:
        session = connect()
        while not is_over.is_set():
            if periods == (None,):
                assert rows(session, TWINS) == []
            assert rows(session, "select * from eram_check()") == []

    for session in sessions:
        threads.start(run, session)
    threads.start(sample)
    for _ in sessions:
        left.acquire()
    is_over.set()
    threads.join(100)
    done = sum((session.done for session in sessions), Counter())
    print(dict(done))
    assert min(done[name] for name in ("enqueue", "claim", "end", "one", "many")) > 20
    assert value(conn, "select count(*) from eram_unique_keys") <= KEYS + 1
    conn.execute("""select eram_cancel_jobs('{"all": true}')""")
    assert value(conn, "select count(*) from eram_unique_keys where expires_at is null") == 0
