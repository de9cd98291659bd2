"""What is measured: each function takes a lab, a side and a size, and returns figures."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab import Bench, Lab, Reading
from of_eram import Eram
from of_yardstick import Yardstick
from running import LATENCY_RATE, Figures, cpu_of, measure_latency, run, start_workers
from sides import Producer, Side

PRODUCERS = 8
PINNED_LATENCY_JOBS = 250
BRIEF_PINNED_LATENCY_JOBS = 25
WAVES = 6
WORKER_WAVES = 10
BRIEF_WORKER_WAVES = 2
WAVE_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measurement, and how many jobs it takes at full size."""

    title: str
    jobs: int
    least: int
    run: Callable[[Lab, Any, int], Figures]
    sides: tuple[Side, ...] = (Eram(), Yardstick())
    has_peers: bool = True
    is_shared: bool = False  # slow sides get their share of the jobs

    def size(self, scale: float, share: float) -> int:
        """Return how many jobs it takes at this scale."""
        return max(self.least, round(self.jobs * scale * (share if self.is_shared else 1)))


def enqueue_documents(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue a thousand jobs a call, each with arguments of its own."""
    return _enqueue(lab, side, jobs, lambda producer: producer.enqueue_documents(jobs))


def enqueue_set(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue by a query over rows, a thousand at a time."""
    return _enqueue(lab, side, jobs, lambda producer: producer.enqueue_set(jobs))


def enqueue_one(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue and commit one by one."""
    return _enqueue(lab, side, jobs, lambda producer: producer.enqueue_singly(jobs, 1))


def enqueue_by_many(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue and commit one by one, by several producers at once."""
    jobs -= jobs % PRODUCERS
    return _enqueue(lab, side, jobs, lambda producer: producer.enqueue_singly(jobs, PRODUCERS))


def drain(lab: Lab, side: Side, jobs: int) -> Figures:
    """Let one worker process run jobs that do nothing."""
    return _drain(lab, side, jobs, processes=1)


def drain_pair(lab: Lab, side: Side, jobs: int) -> Figures:
    """Let two worker processes run them."""
    return _drain(lab, side, jobs, processes=2)


def latency(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue at a steady rate; measure from the call of commit to the start of the handler."""
    with lab.bench(side) as bench, side.producer(bench) as producer:
        return measure_latency(bench, side, producer, jobs)


def waves(lab: Lab, side: Eram | Yardstick, jobs: int) -> Figures:
    """Fill and drain again and again, by one session, while another holds a snapshot."""
    rates = []
    with lab.bench(side) as bench, _snapshot(bench), side.producer(bench) as producer:
        fetch, complete = side.claims(bench.conn)
        for _ in range(WAVES):
            producer.enqueue_set(jobs)
            begun_at = time.perf_counter()
            finished = 0
            while rows := fetch(WAVE_BATCH):
                complete(rows)
                finished += len(rows)
            if finished != jobs:
                raise RuntimeError(f"{side.name} claimed {finished} of {jobs} jobs of a wave")
            rates.append(jobs / (time.perf_counter() - begun_at))
    return _wave_figures(rates)


def worker_waves(lab: Lab, side: Side, jobs: int) -> Figures:
    """Fill and let a fresh worker process drain, again and again, while a snapshot is held.

    In the end the latency is measured, the snapshot still being open: a drain in big batches hides
    what single jobs suffer from.
    """
    rates = []
    with lab.bench(side) as bench, _snapshot(bench), side.producer(bench) as producer:
        for _ in range(BRIEF_WORKER_WAVES if lab.is_brief else WORKER_WAVES):
            _fill(bench, producer, jobs)
            with start_workers(bench, side, 1) as workers:
                seconds, _ = run(bench, side, workers, jobs)
            rates.append(jobs / seconds)
        count = BRIEF_PINNED_LATENCY_JOBS if lab.is_brief else PINNED_LATENCY_JOBS
        after = measure_latency(bench, side, producer, count)
    return {**_wave_figures(rates), **{f"pinned_{key}": value for key, value in after.items()}}


MEASURES: Mapping[str, Measure] = {
    "enqueue_documents": Measure(
        title="enqueue, 1,000 a call", jobs=20_000, least=1_000, run=enqueue_documents
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
    "drain": Measure(
        title="drain by one worker process",
        jobs=60_000,
        least=500,
        run=drain,
        is_shared=True,
        sides=(Eram(), Eram(is_keeping=False), Yardstick()),
    ),
    "drain_pair": Measure(
        title="drain by two worker processes",
        jobs=60_000,
        least=500,
        run=drain_pair,
        is_shared=True,
    ),
    "latency": Measure(
        title=f"commit to start, {LATENCY_RATE} jobs/s", jobs=500, least=20, run=latency
    ),
    "waves": Measure(
        title="drain in waves under an open snapshot, by one session",
        jobs=10_000,
        least=100,
        run=waves,
        sides=(Eram(), Yardstick(), Yardstick(has_cursor=False)),
        has_peers=False,
    ),
    "worker_waves": Measure(
        title="drain in waves under an open snapshot, by a worker process",
        jobs=20_000,
        least=100,
        run=worker_waves,
        is_shared=True,
        sides=(Eram(),),
    ),
}


def _enqueue(lab: Lab, side: Side, jobs: int, enqueue: Callable[[Producer], float]) -> Figures:
    with lab.bench(side) as bench, side.producer(bench) as producer:
        before = bench.read()
        seconds = enqueue(producer)
        used = bench.read() - before
    return _figures(used, jobs, seconds)


def _drain(lab: Lab, side: Side, jobs: int, *, processes: int) -> Figures:
    with lab.bench(side) as bench:
        with side.producer(bench) as producer:
            _fill(bench, producer, jobs)
        bench.conn.execute("vacuum analyze")
        with start_workers(bench, side, processes) as workers:
            before, cpu_before = bench.read(), cpu_of(workers)
            seconds, cpu_after = run(bench, side, workers, jobs, read_cpu=True)
            used = bench.read() - before
        figures = _figures(used, jobs, seconds)
        figures["disk_bytes"] = bench.grown() / jobs
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_us"] = (cpu_after - cpu_before) / jobs * 1e6
    return figures


@contextlib.contextmanager
def _snapshot(bench: Bench) -> Any:
    """Hold a snapshot, so that nothing can be vacuumed."""
    with bench.connect(autocommit=False) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pg_class")
        yield


def _fill(bench: Bench, producer: Producer, jobs: int) -> None:
    producer.enqueue_documents(jobs)
    bench.enqueued += jobs


def _wave_figures(rates: list[float]) -> Figures:
    return {
        "jobs_per_second": statistics.median(rates),
        "last_to_first": rates[-1] / rates[0],
        "jobs_per_second_by_wave": rates,
    }


def _figures(used: Reading, jobs: int, seconds: float) -> Figures:
    figures: Figures = {"jobs_per_second": jobs / seconds, "wal_bytes": used.wal_bytes / jobs}
    if used.server_cpu is not None:
        figures["server_cpu_us"] = used.server_cpu / jobs * 1e6
    return figures
