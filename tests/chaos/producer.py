"""A producer: a process that enqueues jobs of all kinds, and puts on record what it was told.

Each call of eram is an event before it and an event after it. What a call came to is `committed`,
`rolled back` (also when the server refused it), or `unknown`: the connection was lost in between.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

import eram
from chaos import handlers
from chaos.evidence import Record

THREADS = 2
AT_ONCE = {"strategy": "fixed", "base": 0.1, "jitter": 0}
KEYS = 4
PERIOD_SECONDS = 1.0
MOST_ATTEMPTS = 40
# What runs do, and how likely it is.
DOINGS = {".": 60, "f.": 10, "ff.": 4, "s.": 6, "fs.": 4, "c": 2, "d": 2, "t.": 2, "f": 2}
PLAIN = ("plain", "plain", "patient")
PLAIN_QUEUES = ("default",) * 12 + ("long",)
QUEUES_OF = {
    "plain": PLAIN_QUEUES,
    "patient": PLAIN_QUEUES,
    "transactional": ("money",) * 12 + ("long",),
}
HANDLERS = {None: (*PLAIN, "transactional"), "narrow": PLAIN, "default": PLAIN}
COMMIT_NOTE = "insert into committed (call) values (%s)"

Job = dict[str, Any]


class Enqueuer:
    """One thread of a producer.

    Args:
        dsn: where the database is.
        record: what everything is put on record in.
        name: of this thread, unlike all others.
        seed: of what it enqueues.
    """

    def __init__(self, dsn: str, record: Record, name: str, seed: str) -> None:
        self._dsn = dsn
        self._record = record
        self._name = name
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._conn: psycopg.Connection[Any] | None = None

    def keep_enqueueing(self, stopping: threading.Event, pause: float) -> None:
        """Enqueue until it is told to stop; wait for the database while it is away."""
        ways = (self._one, self._batch, self._transaction, self._unique)
        while not stopping.wait(self._random.uniform(0, 2 * pause)):
            way = self._random.choices(ways, (4, 2, 3, 4))[0]
            try:
                way(self._connection())
            except psycopg.Error:
                # Said already, or it could not connect.
                stopping.wait(0.1)
        if self._conn is not None:
            self._conn.close()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self._dsn, autocommit=True, connect_timeout=5)
        return self._conn

    def _one(self, conn: psycopg.Connection[Any]) -> None:
        job = self._job()
        with self._call([job]) as call:
            call.answers = [self._enqueue(conn, job)]

    def _batch(self, conn: psycopg.Connection[Any]) -> None:
        # Many at once for a queue with a limit are what all workers reach for.
        queue = self._random.choice([None, None, "narrow"])
        jobs = [self._job(queue) for _ in range(self._random.randint(2, 6))]
        with self._call(jobs) as call:
            call.answers = eram.enqueue_many(conn, [_as_new(job) for job in jobs])

    def _transaction(self, conn: psycopg.Connection[Any]) -> None:
        """Enqueue beside a row of its own, which says whether the transaction was committed."""
        jobs = [self._job() for _ in range(self._random.randint(1, 3))]
        is_to_fail = self._random.random() < 0.25
        with self._call(jobs, is_noted=True) as call:
            conn.execute("begin")
            conn.execute(COMMIT_NOTE, (call.name,))
            answers = [self._enqueue(conn, job) for job in jobs]
            call.is_committing = not is_to_fail
            conn.execute("rollback" if is_to_fail else "commit")
            call.answers = [] if is_to_fail else answers

    def _unique(self, conn: psycopg.Connection[Any]) -> None:
        period = self._random.choice([None, PERIOD_SECONDS])
        kind = "windowed" if period else "held"
        key = f"{kind} {self._random.randrange(KEYS)}"
        unique: Any = {"keys": ["key"]} | ({"period": period} if period else {})
        # Jobs of different queues would have different keys.
        job = self._job("default", handler="plain", args={"key": key}, options={"unique": unique})
        with self._call([job], key=key, period=period) as call:
            call.answers = [self._enqueue(conn, job)]

    def _job(
        self,
        queue: str | None = None,
        *,
        handler: str | None = None,
        args: Job | None = None,
        options: Job | None = None,
    ) -> Job:
        draw = self._random
        handler = handler or draw.choice(HANDLERS[queue])
        does = draw.choices(list(DOINGS), list(DOINGS.values()))[0]
        if handler == "transactional":
            does = does.replace("t", "f")  # its timeout is another story
        seconds = draw.choice([0, 0.02, 0.02, 0.1, 0.5])
        if queue is None:
            queue = draw.choice(QUEUES_OF[handler])
        if queue == "long":
            does, seconds = does.replace("t", "f"), round(draw.uniform(1, 4), 2)
        made: Job = {
            "queue": queue,
            "backoff": AT_ONCE,
            "max_attempts": 2 if does == "f" else MOST_ATTEMPTS,
            **(options or {}),
        }
        if "t" in does:
            # So that the other runs can end in time on a busy machine.
            made["timeout"], seconds = 0.8, 0
        if draw.random() < 0.15:
            made["delay"] = round(draw.uniform(0.05, 2), 3)
        if draw.random() < 0.2:
            made["priority"] = draw.randrange(10)
        token = f"{self._name}-{next(self._numbers)}"
        said = {"token": token, "does": does, "seconds": seconds, **(args or {})}
        return {"handler": getattr(handlers, handler), "args": said, **made}

    def _enqueue(self, conn: psycopg.Connection[Any], job: Job) -> eram.Enqueued:
        new = _as_new(job)
        return eram.enqueue(conn, new.pop("handler"), new.pop("args"), **new)

    @contextlib.contextmanager
    def _call(self, jobs: list[Job], **facts: Any) -> Iterator[Call]:
        call = Call(f"{self._name}+{next(self._numbers)}")
        tokens = [job["args"]["token"] for job in jobs]
        self._record.write("call begun", call=call.name, tokens=tokens, **facts)
        try:
            yield call
        except psycopg.Error as error:
            conn = self._conn
            is_alive = conn is not None and not conn.broken
            is_over = is_alive or (facts.get("is_noted") and not call.is_committing)
            came_to = "rolled back" if is_over else "unknown"
            self._record.write("call ended", call=call.name, came_to=came_to, error=str(error))
            if conn is not None:
                conn.close()
            raise
        came_to = "committed" if call.answers else "rolled back"
        answers = [list(answer) for answer in call.answers]
        self._record.write("call ended", call=call.name, came_to=came_to, answers=answers)


class Call:
    """What is known of a call while it is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_committing = False
        self.answers: list[eram.Enqueued] = []


def _as_new(job: Job) -> Any:
    return dict(job)


def main() -> None:
    """Enqueue until SIGTERM, or until the process that started this one has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--evidence", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--pause", type=float, required=True)
    chosen = parser.parse_args()
    stopping = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stopping.set())
    print("producing", flush=True)
    handlers.end_with_parent()
    record = Record(chosen.evidence)
    threads = []
    for number in range(THREADS):
        name = f"{chosen.name}.{number}"
        enqueuer = Enqueuer(chosen.dsn, record, name, f"{chosen.seed} {name}")
        arguments = (stopping, chosen.pause)
        threads.append(threading.Thread(target=enqueuer.keep_enqueueing, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
