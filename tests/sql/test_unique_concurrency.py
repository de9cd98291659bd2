"""One job per key, whoever races: many real connections, at every isolation level.

ERAM_TEST_SEED makes a run of its own.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import errors

from .helpers import Threads, at_once, column, complete, fetch, rows, start_worker, value
from .unique_helpers import HOUR, TAKEN, TWINS, document, pass_window, put, put_all

Connect = Callable[..., psycopg.Connection]

SEED = int(os.environ.get("ERAM_TEST_SEED", "20260401"))
LEVELS = ("read committed", "repeatable read", "serializable")
PRODUCERS = 16
KEYS = 5

each_level = pytest.mark.parametrize("level", LEVELS)


class Said(NamedTuple):
    """What one enqueue was told, and what became of its transaction."""

    key: object
    id: int
    is_duplicate: bool
    is_committed: bool


class Producer:
    """A session that enqueues unique jobs, in transactions that it commits or rolls back."""

    def __init__(self, conn: psycopg.Connection, level: str, seed: int) -> None:
        self.conn = conn
        self.level = level
        self.random = random.Random(seed)
        self.said: list[Said] = []
        self.failures = 0

    def enqueue(self, keys: list[Any], *, commits: bool, unique: Any = HOUR) -> None:
        """Enqueue jobs with these keys by one call; try again after a serialization error."""
        jobs = [document(args={"key": key}, unique=unique) for key in keys]
        for _ in range(200):
            self.conn.execute(f"begin isolation level {self.level}")
            try:
                if self.random.random() < 0.3:
                    self.conn.execute("select count(*) from eram_unique_keys")
                found = put_all(self.conn, *jobs) if jobs[1:] else [put(self.conn, **jobs[0])]
                if self.random.random() < 0.3:
                    self.conn.execute("select pg_sleep(%s)", [self.random.random() / 200])
                self.conn.execute("commit" if commits else "rollback")
            except errors.SerializationFailure:
                self.conn.execute("rollback")
                self.failures += 1
                continue
            self.said += [
                Said(key, one.id, one.is_duplicate, commits)
                for key, one in zip(keys, found, strict=True)
            ]
            return
        pytest.fail("200 serialization failures in a row")

    def enqueue_any(self, prefix: object, *, rollbacks: float = 0.3, unique: Any = HOUR) -> int:
        """Enqueue one or several of the keys, in any order; return how many."""
        size = self.random.choice((1, 1, 2, 4, 7))
        keys = [(prefix, self.random.randrange(KEYS)) for _ in range(size)]
        self.enqueue(keys, commits=self.random.random() >= rollbacks, unique=unique)
        return size


@pytest.fixture
def producers(connect: Connect) -> Callable[..., list[Producer]]:
    """Make producers of one isolation level."""

    def make(level: str = LEVELS[0], count: int = PRODUCERS) -> list[Producer]:
        return [Producer(connect(), level, SEED + number) for number in range(count)]

    return make


def judge(conn: psycopg.Connection, said: list[Said], jobs_per_key: int = 1) -> None:
    """One job per key; whoever was told of a job can find it; nothing was lost or made twice."""
    stored = set(column(conn, "select job_id from eram_job_specs"))
    fresh = Counter(one.key for one in said if one.is_committed and not one.is_duplicate)
    wanted = {one.key for one in said if one.is_committed}
    assert fresh == dict.fromkeys(wanted, jobs_per_key)
    ids = {one.id for one in said if one.is_committed and not one.is_duplicate}
    assert stored == ids
    own = {(one.key, one.id) for one in said if not one.is_duplicate}
    for one in said:
        if one.is_committed:
            assert one.id in stored
        # Of a transaction that was rolled back: it was told of another's job, or of its own.
        assert one.id in stored or (one.key, one.id) in own, one


@each_level
def test_exactly_one_job_per_window(conn, producers, level):
    """A thousand enqueues and more of a few keys at a time, by sixteen sessions."""
    print(f"ERAM_TEST_SEED={SEED}")
    team = producers(level)
    barrier = threading.Barrier(PRODUCERS)

    def run(producer: Producer) -> None:
        for number in range(15):
            barrier.wait(60)
            count = 0
            while count < 5:
                count += producer.enqueue_any(number)

    at_once(*[lambda one=one: run(one) for one in team])
    said = [one for producer in team for one in producer.said]
    assert len(said) >= 1000
    assert len({one.is_committed for one in said}) == 2
    judge(conn, said)
    failures = sum(producer.failures for producer in team)
    print(f"{level}: {len(said)} enqueues, {failures} serialization failures")
    if level == LEVELS[0]:
        assert failures == 0


@each_level
def test_no_enqueue_is_lost_when_a_rival_rolls_back(conn, connect, producers, level):
    """Whoever waits for it then has the job, or a serialization error."""
    for batch in (1, 3):
        rival = connect()
        rival.execute("begin")
        put_all(rival, *[document(args={"key": [batch, n]}, unique=HOUR) for n in range(batch)])
        team = producers(level, 4)
        threads = Threads()
        for producer in team:
            keys = [[batch, n] for n in range(batch)]
            producer.random.shuffle(keys)
            threads.start(lambda one=producer, keys=keys: one.enqueue(keys, commits=True))
        for producer in team:
            pid = producer.conn.info.backend_pid
            while not value(conn, "select cardinality(pg_blocking_pids(%s)) > 0", pid):
                assert not threads.stop.wait(0.002), "a producer did not wait"
        rival.execute("rollback")
        threads.join()
        said = [one for producer in team for one in producer.said]
        fresh = [one for one in said if not one.is_duplicate]
        assert len(said) == 4 * batch
        assert sorted(one.key for one in fresh) == sorted([batch, n] for n in range(batch))
    assert value(conn, TAKEN) == 4


@each_level
@pytest.mark.parametrize("unique", [HOUR, True], ids=["window", "until the end"])
def test_expired_windows_are_taken_over_once(conn, producers, level, unique):
    team = producers(level)
    barrier = threading.Barrier(PRODUCERS)
    for number in range(6):
        wanted = [[number, n] for n in range(KEYS)]
        conn.execute("select eram_cancel_job(id) from eram_jobs where finalized_at is null")
        put_all(conn, *[document(args={"key": key}, unique=HOUR) for key in wanted])
        pass_window(conn)
        for producer in team:
            producer.said.clear()

        def run(producer: Producer, wanted: list[Any] = wanted) -> None:
            keys = wanted.copy()
            producer.random.shuffle(keys)
            barrier.wait(60)
            if producer.random.random() < 0.5:
                producer.enqueue(keys, commits=producer.random.random() < 0.5, unique=unique)
            for key in keys:
                producer.enqueue([key], commits=producer.random.random() < 0.5, unique=unique)
            producer.enqueue(keys, commits=True, unique=unique)

        at_once(*[lambda one=one: run(one) for one in team])
        said = [one for producer in team for one in producer.said if one.is_committed]
        fresh = Counter(one.key[1] for one in said if not one.is_duplicate)
        assert fresh == dict.fromkeys(range(KEYS), 1)
        owners = {one.key[1]: one.id for one in said if not one.is_duplicate}
        assert all(one.id == owners[one.key[1]] for one in said)
        assert sorted(column(conn, "select job_id from eram_unique_keys")) == sorted(
            owners.values()
        )


@pytest.mark.parametrize("unique", [HOUR, True], ids=["window", "until the end"])
@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
@each_level
def test_an_open_duplicate_blocks_neither_the_job_nor_its_batch(
    conn, connect, worker, level, unique, on_conflict
):
    unique = {**(unique if unique is not True else {}), "on_conflict": on_conflict}
    first = put(conn, unique=unique)
    others = [put(conn, args={"n": n}, unique=unique) for n in range(5)]
    waiting = put(conn, args={"waits": True}, unique=unique, delay=3600)
    jobs = fetch(conn, worker)
    assert len(jobs) == 6
    opened = connect()
    opened.execute(f"begin isolation level {level}")
    assert put(opened, unique=unique) == (first.id, True)
    again = put_all(
        opened,
        *[document(args={"n": n}, unique=unique) for n in range(3)],
        document(args={"waits": True}, unique=unique, delay=3600, priority=3),
        document(args={"new": True}, unique=unique),
    )
    assert [one.is_duplicate for one in again] == [True] * 4 + [False]
    conn.execute("set statement_timeout = '5s'")
    assert sorted(complete(conn, jobs)) == [first.id, *(one.id for one in others)]
    late = put(conn, unique=unique)
    assert late.is_duplicate is ("period" in unique)
    opened.execute("commit")
    assert put(conn, args={"new": True}, unique=unique) == (again[4].id, True)
    assert put(conn, args={"waits": True}, unique=unique, delay=3600) == (waiting.id, True)


@pytest.mark.parametrize("end", ["cancel", "fail", "discard", "release", "snooze", "rescue"])
def test_an_open_duplicate_blocks_no_other_end(conn, connect, worker, end):
    unique = {"on_conflict": "replace"}
    first = put(conn, unique=unique, max_attempts=1)
    (job,) = fetch(conn, worker)
    opened = connect()
    opened.execute("begin")
    put_all(opened, document(unique=unique), document(args={"new": 1}, unique=HOUR))
    conn.execute("set statement_timeout = '5s'")
    query = {
        "cancel": "select eram_cancel_job(%s::bigint) from (values (%s)) as runs (run)",
        "fail": "select eram_fail_job(%s, %s, 'x')",
        "discard": "select eram_discard_job(%s, %s)",
        "release": "select eram_release_jobs(array[%s::bigint], array[%s])",
        "snooze": "select eram_snooze_job(%s, %s, '1 hour')",
        "rescue": "select eram_rescue_jobs() from (values (%s, %s)) as job (id, run)",
    }[end]
    if end == "rescue":
        conn.execute("update eram_running_jobs set worker = 4711")
    assert value(conn, query, job.id, job.run)
    opened.execute("commit")
    assert put(conn, unique=unique).is_duplicate is (end in ("release", "snooze"))
    assert first.id == job.id


def test_ends_race_with_enqueues(conn, connect, producers):
    """Workers end jobs in batches while others enqueue the same until-the-job-ends keys."""
    print(f"ERAM_TEST_SEED={SEED}")
    team, producing, threads = producers(count=6), threading.Event(), Threads()
    left = threading.Semaphore(0)
    ended: list[int] = []

    def produce(producer: Producer) -> None:
        try:
            for _ in range(3000):
                producer.enqueue_any("k", unique=True, rollbacks=0.2)
                if len(ended) > 200 or threads.stop.is_set():
                    return
        finally:
            left.release()

    def work(number: int) -> None:
        session, generator = connect(), random.Random(SEED - number)
        session_worker = start_worker(session)
        while True:
            is_over = producing.is_set()
            jobs = fetch(session, session_worker, generator.randrange(1, 6))
            generator.shuffle(jobs)
            cut = generator.randrange(len(jobs) + 1)
            ended.extend(complete(session, jobs[:cut]))
            for job in jobs[cut:]:
                query = generator.choice(
                    (
                        "select eram_cancel_job(%s::bigint) from (values (%s)) as runs (run)",
                        "select eram_discard_job(%s, %s)",
                        "select eram_fail_job(%s, %s, 'x', delay => '0') is null",
                        "select eram_release_jobs(array[%s::bigint], array[%s]) is null",
                    )
                )
                if value(session, query, job.id, job.run):
                    ended.append(job.id)
            if is_over and not jobs:
                waiting = value(session, "select count(*) from eram_queued_jobs")
                if waiting == 0:
                    return

    def sample() -> None:
        session = connect()
        while not producing.is_set():
            assert rows(session, TWINS) == []
            assert rows(session, "select * from eram_check()") == []

    for producer in team:
        threads.start(produce, producer)
    for number in range(3):
        threads.start(work, number)
    threads.start(sample)
    for _ in team:
        left.acquire()
    producing.set()
    threads.join(90)
    said = [one for producer in team for one in producer.said]
    fresh = [one.id for one in said if one.is_committed and not one.is_duplicate]
    assert len(fresh) == len(set(fresh))
    stored = column(conn, "select id from eram_jobs where finalized_at is not null")
    assert sorted(stored) == sorted(fresh) == sorted(ended)
    own = {one.id for one in said if not one.is_duplicate}
    # Whoever was told of a job was told of one that was there.
    assert {one.id for one in said if one.is_duplicate and one.is_committed} <= set(fresh)
    assert {one.id for one in said if one.is_duplicate} <= set(fresh) | own
    assert value(conn, TAKEN) == 0
    print(f"{len(said)} enqueues, {len(fresh)} jobs")
    assert len(fresh) > 200
