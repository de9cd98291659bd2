"""What is measured: each function takes a lab, a side and a size, and returns figures."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
import yardstick
from lab import Bench, Lab, Reading, cpu
from sides import Eram, Side, Yardstick

CALL_JOBS = 1_000
PRODUCERS = 8
LATENCY_RATE = 50
WAVES = 6
WAVE_BATCH = 100
LOOK_SECONDS = 0.1
DEADLINE_SECONDS = 300.0

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measurement, and how many jobs it takes at full size."""

    title: str
    jobs: int
    least: int
    run: Callable[[Lab, Side, int], Figures]
    sides: tuple[Side, ...] = (Eram(), Yardstick())

    def size(self, scale: float) -> int:
        """Return how many jobs it takes at this scale."""
        return max(self.least, round(self.jobs * scale))


def enqueue_documents(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue JSON arrays of a thousand jobs."""
    return _enqueue_calls(lab, side, jobs, side.enqueue_documents, yardstick.documents)


def enqueue_set(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue by a query over rows, a thousand at a time."""
    return _enqueue_calls(lab, side, jobs, side.enqueue_set, int)


def enqueue_one(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue and commit one by one."""
    return _enqueue_singly(lab, side, jobs, producers=1)


def enqueue_by_many(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue and commit one by one, by several producers at once."""
    return _enqueue_singly(lab, side, jobs, producers=PRODUCERS)


def drain(lab: Lab, side: Side, jobs: int) -> Figures:
    """Let one worker process run jobs that do nothing; the finished ones are kept."""
    with lab.bench(side) as bench:
        _fill(bench, side, jobs)
        bench.conn.execute("vacuum analyze")
        worker = side.start_worker(bench.dsn, bench.conn, listening=False)
        try:
            before, cpu_before = bench.read(), cpu(worker.pid)
            side.let_go(bench.conn, worker)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while True:
                cpu_after = cpu(worker.pid)
                finished, seconds = bench.conn.execute(side.finished).fetchone() or (0, 0.0)
                if finished >= jobs:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{side.name} finished {finished} of {jobs} jobs in time")
                time.sleep(LOOK_SECONDS)
            after = bench.read()
            side.stop_worker(bench.conn, worker)
        finally:
            worker.kill()
            worker.wait()
    figures = _figures(after - before, jobs)
    # As the database has it: from the first claim to the last completion.
    figures["jobs_per_second"] = jobs / seconds
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_us"] = (cpu_after - cpu_before) / jobs * 1e6
    return figures


def latency(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue at a steady rate; measure from the call of commit to the start of the handler."""
    with lab.bench(side) as bench, bench.connect(autocommit=False) as producer:
        worker = side.start_worker(bench.dsn, bench.conn, listening=True)
        try:
            side.let_go(bench.conn, worker)
            time.sleep(0.5)
            committed: dict[int, int] = {}
            begun_at = time.perf_counter()
            for number in range(jobs):
                pause = begun_at + number / LATENCY_RATE - time.perf_counter()
                time.sleep(max(0.0, pause))
                job_id = side.enqueue_and_wake(producer)
                committed[job_id] = time.time_ns()
                producer.commit()
            time.sleep(0.5)
            started = side.stop_worker(bench.conn, worker)
        finally:
            worker.kill()
            worker.wait()
    waits = sorted((started[job_id] - at) / 1e6 for job_id, at in committed.items())
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "worst_ms": waits[-1]}


def waves(lab: Lab, side: Side, jobs: int) -> Figures:
    """Fill and drain again and again, by one session, while another holds a snapshot."""
    rates = []
    with lab.bench(side) as bench, bench.connect(autocommit=False) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pg_class")
        fetch, complete = side.claims(bench.conn)
        for _ in range(WAVES):
            _fill(bench, side, jobs)
            begun_at = time.perf_counter()
            finished = 0
            while rows := fetch(WAVE_BATCH):
                complete(rows)
                finished += len(rows)
            if finished != jobs:
                raise RuntimeError(f"{side.name} claimed {finished} of {jobs} jobs of a wave")
            rates.append(jobs / (time.perf_counter() - begun_at))
    return {
        "jobs_per_second": statistics.median(rates),
        "last_to_first": rates[-1] / rates[0],
        "jobs_per_second_by_wave": rates,
    }


MEASURES: Mapping[str, Measure] = {
    "enqueue_documents": Measure(
        title="enqueue, 1,000 documents a call", jobs=20_000, least=1_000, run=enqueue_documents
    ),
    "enqueue_set": Measure(
        title="enqueue, set-based, 1,000 a statement", jobs=20_000, least=1_000, run=enqueue_set
    ),
    "enqueue_one": Measure(
        title="enqueue one by one, 1 producer", jobs=2_000, least=20, run=enqueue_one
    ),
    "enqueue_by_many": Measure(
        title=f"enqueue one by one, {PRODUCERS} producers",
        jobs=6_000,
        least=80,
        run=enqueue_by_many,
    ),
    "drain": Measure(title="drain by one worker process", jobs=60_000, least=500, run=drain),
    "latency": Measure(
        title=f"commit to start, {LATENCY_RATE} jobs/s", jobs=500, least=20, run=latency
    ),
    "waves": Measure(
        title="drain in waves under an open snapshot",
        jobs=10_000,
        least=100,
        run=waves,
        sides=(Eram(), Yardstick(), Yardstick(has_cursor=False)),
    ),
}


def _enqueue_calls(
    lab: Lab, side: Side, jobs: int, query: str, argument: Callable[[int], object]
) -> Figures:
    calls = jobs // CALL_JOBS
    with lab.bench(side) as bench:
        value = argument(CALL_JOBS)
        before = bench.read()
        for _ in range(calls):
            bench.conn.execute(query.encode(), (value,))
        after = bench.read()
    return _figures(after - before, calls * CALL_JOBS)


def _enqueue_singly(lab: Lab, side: Side, jobs: int, *, producers: int) -> Figures:
    share = jobs // producers
    query = side.enqueue_one.encode()
    start = threading.Barrier(producers + 1)

    def produce(conn: psycopg.Connection) -> None:
        start.wait()
        for number in range(share):
            conn.execute(query, ("noop:nothing", f'{{"n": {number}}}'))

    with lab.bench(side) as bench, contextlib.ExitStack() as connections:
        threads = [
            threading.Thread(target=produce, args=(connections.enter_context(bench.connect()),))
            for _ in range(producers)
        ]
        for thread in threads:
            thread.start()
        before = bench.read()
        start.wait()
        for thread in threads:
            thread.join()
        after = bench.read()
    return _figures(after - before, share * producers)


def _fill(bench: Bench, side: Side, jobs: int) -> None:
    left = jobs
    while left:
        count = min(left, CALL_JOBS)
        bench.conn.execute(side.enqueue_set.encode(), (count,))
        left -= count


def _figures(used: Reading, jobs: int) -> Figures:
    figures: Figures = {
        "jobs_per_second": jobs / used.seconds,
        "wal_bytes": used.wal_bytes / jobs,
    }
    if used.server_cpu is not None:
        figures["server_cpu_us"] = used.server_cpu / jobs * 1e6
    return figures
