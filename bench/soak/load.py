"""The load of a soak: what kinds of jobs there are, and the producers that enqueue them."""

from __future__ import annotations

import functools
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg

from soak.ledger import Ledger
from soak.plan import Plan

BATCHES_PER_SECOND = 20  # by each of the two producers that enqueue in batches
BATCH_PRODUCERS = 2
UNIQUE_PRODUCERS = 2  # so that they race for keys
TOMORROW_JOBS = 500

ENQUEUE_ONE = "select eram_enqueue_job(%s::jsonb)"
ENQUEUE_MANY = "select id, is_duplicate from eram_enqueue_jobs(%s::jsonb)"
CANCEL = "select eram_cancel_job(%s, 'the soak cancels it')"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job: how much of the load it is, and what must become of each."""

    share: float  # of the rate
    handler: str = "plain"
    queue: str = "mixed"
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = "completed"
    runs: int = 1


BATCHED = {
    "plain": Kind(0.655, queue="bulk"),
    "unkept": Kind(0.1, queue="unkept"),
    "ahead": Kind(0.05, options={"delay": 2}),
    "flaky": Kind(0.04, handler="flaky", options={"backoff": [1]}, runs=2),
    "hopeless": Kind(
        0.01,
        handler="hopeless",
        options={"backoff": [1], "max_attempts": 2},
        state="discarded",
        runs=2,
    ),
    "snoozed": Kind(0.015, handler="snoozed", runs=2),
    "given_up": Kind(0.01, handler="given_up", state="discarded"),
    "called_off": Kind(0.01, handler="called_off", state="cancelled"),
    "in_transaction": Kind(0.01, handler="in_transaction"),
    "distinct": Kind(0.02, options={"unique": True}),
}
SINGLE = Kind(0.05, queue="single")
CANCELLED = Kind(0.01, options={"delay": 1}, state="cancelled", runs=0)
UNIQUE = {
    "unique": Kind(0.01, handler="unique", options={"unique": True}),
    "windowed": Kind(0.01, handler="unique"),  # its window is the plan's
}
TOMORROW = Kind(0, options={"delay": 86400}, state="scheduled", runs=0)
LATE = Kind(0, queue="single")  # enqueued by the long writing transaction

KINDS = {
    **BATCHED,
    **UNIQUE,
    "single": SINGLE,
    "cancelled": CANCELLED,
    "tomorrow": TOMORROW,
    "late": LATE,
}
KEYS = {"unique": 10, "windowed": 1000}  # how many there are to draw from


class Producers:
    """Threads that enqueue at a rate until they are stopped.

    Args:
        dsn: where.
        plan: the rate, and the windows of unique jobs.
        ledger: what is told of each job.
    """

    def __init__(self, dsn: str, plan: Plan, ledger: Ledger) -> None:
        self._dsn = dsn
        self._plan = plan
        self._ledger = ledger
        self._stopping = threading.Event()
        self.error: BaseException | None = None
        batches = BATCHES_PER_SECOND * BATCH_PRODUCERS
        size = sum(kind.share for kind in BATCHED.values()) * plan.rate / batches
        pairs = UNIQUE["unique"].share * plan.rate / UNIQUE_PRODUCERS
        doings: list[tuple[float, Callable[[psycopg.Connection, random.Random], None]]] = [
            *[(BATCHES_PER_SECOND, functools.partial(self._enqueue_batch, size=size))]
            * BATCH_PRODUCERS,
            (SINGLE.share * plan.rate, self._enqueue_one),
            (CANCELLED.share * plan.rate, functools.partial(self._enqueue_and_cancel, deque())),
            *[(pairs, self._enqueue_unique)] * UNIQUE_PRODUCERS,
        ]
        self._threads = [
            threading.Thread(
                target=self._keep_doing, args=(seed, *doing), name=f"soak-producer-{seed}"
            )
            for seed, doing in enumerate(doings)
        ]

    def __enter__(self) -> Self:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            self._enqueue_many(conn, ["tomorrow"] * TOMORROW_JOBS, random.Random(0))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Enqueue no more."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _keep_doing(
        self,
        seed: int,
        per_second: float,
        act: Callable[[psycopg.Connection, random.Random], None],
    ) -> None:
        randomly = random.Random(seed)
        number = 0
        try:
            with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=0) as conn:
                begun_at = time.monotonic()
                while not self._stopping.wait(
                    max(0.0, begun_at + number / per_second - time.monotonic())
                ):
                    act(conn, randomly)
                    number += 1
        # Whoever watches ends the soak, and says why.
        except Exception as error:
            self.error = error

    def _enqueue_batch(
        self, conn: psycopg.Connection, randomly: random.Random, *, size: float
    ) -> None:
        count = int(size + randomly.random())  # on average as many as it should be
        weights = [kind.share for kind in BATCHED.values()]
        self._enqueue_many(conn, randomly.choices(list(BATCHED), weights, k=count), randomly)

    def _enqueue_many(
        self, conn: psycopg.Connection, names: list[str], randomly: random.Random
    ) -> None:
        documents = json.dumps([document(name, randomly) for name in names])
        with conn.transaction():
            rows = conn.execute(ENQUEUE_MANY, (documents,)).fetchall()
            committed_at = time.time_ns()
        for name, (job_id, is_duplicate) in zip(names, rows, strict=True):
            if not is_duplicate:  # which random arguments make next to impossible
                self._ledger.enqueued(job_id, name, committed_at)

    def _enqueue_one(self, conn: psycopg.Connection, randomly: random.Random) -> None:
        enqueue_one(conn, "single", randomly, self._ledger)

    def _enqueue_and_cancel(
        self,
        waiting: deque[tuple[int, float]],
        conn: psycopg.Connection,
        randomly: random.Random,
    ) -> None:
        """Enqueue a job ahead, and cancel those whose time has come: some run already."""
        job_id = enqueue_one(conn, "cancelled", randomly, self._ledger)
        waiting.append((job_id, time.monotonic() + 1))
        while waiting and waiting[0][1] < time.monotonic():
            job_id, _ = waiting.popleft()
            if conn.execute(CANCEL, (job_id,)).fetchall()[0][0]:
                self._ledger.cancelled(job_id)

    def _enqueue_unique(self, conn: psycopg.Connection, randomly: random.Random) -> None:
        names = list(UNIQUE)
        keys = [f"{name} {randomly.randrange(KEYS[name])}" for name in names]
        window = {"period": self._plan.window_seconds}
        documents = [
            _document(UNIQUE[name], {"key": key})
            | ({"unique": window} if name == "windowed" else {})
            for name, key in zip(names, keys, strict=True)
        ]
        called_at = time.time_ns()
        rows = conn.execute(ENQUEUE_MANY, (json.dumps(documents),)).fetchall()
        returned_at = time.time_ns()
        for name, key, (job_id, is_duplicate) in zip(names, keys, rows, strict=True):
            self._ledger.told_unique(
                name,
                key,
                job_id,
                is_duplicate=is_duplicate,
                called_at=called_at,
                returned_at=returned_at,
            )


def enqueue_one(
    conn: psycopg.Connection, name: str, randomly: random.Random, ledger: Ledger
) -> int:
    """Enqueue a job in a transaction of its own, and note it with the moment of its commit."""
    with conn.transaction():
        job_id = enqueue_in(conn, document(name, randomly))
        committed_at = time.time_ns()
    ledger.enqueued(job_id, name, committed_at)
    return job_id


def enqueue_in(conn: psycopg.Connection, described: dict[str, Any]) -> int:
    """Enqueue a job in the transaction that is open."""
    return int(conn.execute(ENQUEUE_ONE, (json.dumps(described),)).fetchall()[0][0])


def document(name: str, randomly: random.Random) -> dict[str, Any]:
    """Describe a job of a kind, with arguments and a priority of its own."""
    made = _document(KINDS[name], {"n": randomly.randrange(2**31)})
    return made | {"priority": randomly.randrange(10)} if name == "plain" else made


def _document(kind: Kind, args: dict[str, Any]) -> dict[str, Any]:
    handler = f"soak.handlers:{kind.handler}"
    return {"handler": handler, "queue": kind.queue, "args": args, **kind.options}
