"""Measurements while another session holds a snapshot, or a transaction that writes, open."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from lab import Bench, Lab
from measure import Measure, fill, filled, hold_snapshot
from of_eram import Eram
from of_yardstick import Yardstick
from running import LATENCY_RATE, Figures, measure_latency, run, start_workers
from sides import Side

PINNED_LATENCY_JOBS = 250
BRIEF_PINNED_LATENCY_JOBS = 15
WAVES = 6
WORKER_WAVES = 10
BRIEF_WORKER_WAVES = 2
WAVE_BATCH = 100
BACKLOG_BATCH = 500
PARTS = 10

RATES = """
with parts as (
    select
        attempted_at,
        finalized_at,
        ntile({parts}) over (order by finalized_at) as part
    from {table}
),
ends as (
    select part, count(*) as jobs, min(attempted_at) as begun_at, max(finalized_at) as ended_at
    from parts
    group by part
)
select
    jobs / extract(epoch from
        ended_at - coalesce(lag(ended_at) over (order by part), begun_at))::float8
from ends
order by part
"""


def waves(lab: Lab, side: Eram | Yardstick, jobs: int) -> Figures:
    """Fill and drain again and again, by one session, while another holds a snapshot."""
    rates = []
    with lab.bench(side) as bench, hold_snapshot(bench), side.producer(bench) as producer:
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
    with lab.bench(side) as bench, hold_snapshot(bench), side.producer(bench) as producer:
        for _ in range(BRIEF_WORKER_WAVES if lab.is_brief else WORKER_WAVES):
            fill(bench, producer, jobs)
            with start_workers(bench, side, 1) as workers:
                seconds, _ = run(bench, side, workers, jobs)
            rates.append(jobs / seconds)
        after = measure_latency(bench, side, producer, _latency_jobs(lab))
    return {**_wave_figures(rates), **{f"pinned_{key}": value for key, value in after.items()}}


def long_drain(lab: Lab, side: Eram | Yardstick, jobs: int) -> Figures:
    """Let one worker process run very many jobs, all under one snapshot."""
    with lab.bench(side) as bench, hold_snapshot(bench):
        filled(bench, side, jobs)
        with start_workers(bench, side, 1) as workers:
            seconds, _ = run(bench, side, workers, jobs, looks_seldom=True)
        query = RATES.format(parts=PARTS, table=side.finished_table)
        rates = [rate for (rate,) in bench.conn.execute(query.encode())]
    return {
        "jobs_per_second": jobs / seconds,
        "last_tenth_to_first": rates[-1] / rates[0],
        "jobs_per_second_by_tenth": rates,
    }


def pinned_latency(lab: Lab, side: Side, jobs: int) -> Figures:
    """Measure the latency of single jobs after a drain; then after one under an open snapshot.

    In the end again with a second worker process on the same queue, which has little to do.
    """
    count = _latency_jobs(lab)
    with lab.bench(side) as bench:
        free = _drain_then_measure(bench, side, jobs, count)
    with lab.bench(side) as bench, hold_snapshot(bench):
        pinned = _drain_then_measure(bench, side, jobs, count)
        with side.producer(bench) as producer:
            pair = measure_latency(bench, side, producer, count, processes=2)
    return {
        **{key: free[key] for key in ("p50_ms", "p99_ms")},
        **{f"snapshot_{key}": pinned[key] for key in ("p50_ms", "p99_ms")},
        **{f"pair_{key}": pair[key] for key in ("p50_ms", "p99_ms")},
        "snapshot_p50_ratio": pinned["p50_ms"] / free["p50_ms"],
        "pair_p50_ratio": pair["p50_ms"] / free["p50_ms"],
    }


def backlog(lab: Lab, side: Eram | Yardstick, jobs: int) -> Figures:
    """Claim a backlog in batches, under an open reader and under an open writer."""
    reader = _claim_backlog(lab, side, jobs, hold_snapshot)
    writer = _claim_backlog(lab, side, jobs, lambda bench: _write(bench, side))
    return {
        "reader_fetch_ms": statistics.median(reader),
        "reader_last_to_first": _last_to_first(reader),
        "writer_fetch_ms": statistics.median(writer),
        "writer_last_to_first": _last_to_first(writer),
    }


MEASURES: Mapping[str, Measure] = {
    "pinned_latency": Measure(
        title=f"commit to start, {LATENCY_RATE} jobs/s, after a drain",
        jobs=100_000,
        least=500,
        run=pinned_latency,
        sides=(Eram(),),
    ),
    "waves": Measure(
        title="drain in waves under an open snapshot, by one session",
        jobs=10_000,
        least=100,
        run=waves,
        sides=(Eram(), Yardstick(), Yardstick(has_cursor=False)),
    ),
    "worker_waves": Measure(
        title="drain in waves under an open snapshot, by a worker process",
        jobs=20_000,
        least=100,
        run=worker_waves,
        is_shared=True,
        sides=(Eram(),),
        has_peers=True,
    ),
    "long_drain": Measure(
        title="drain under one snapshot",
        jobs=1_000_000,
        least=2_000,
        run=long_drain,
    ),
    "backlog": Measure(
        title=f"claims of {BACKLOG_BATCH} out of a backlog",
        jobs=300_000,
        least=5_000,
        run=backlog,
    ),
}


def _latency_jobs(lab: Lab) -> int:
    return BRIEF_PINNED_LATENCY_JOBS if lab.is_brief else PINNED_LATENCY_JOBS


def _wave_figures(rates: list[float]) -> Figures:
    return {
        "jobs_per_second": statistics.median(rates),
        "last_to_first": rates[-1] / rates[0],
        "jobs_per_second_by_wave": rates,
    }


def _drain_then_measure(bench: Bench, side: Side, jobs: int, count: int) -> Figures:
    with side.producer(bench) as producer:
        fill(bench, producer, jobs)
        with start_workers(bench, side, 1) as workers:
            run(bench, side, workers, jobs)
        return measure_latency(bench, side, producer, count)


@contextlib.contextmanager
def _write(bench: Bench, side: Eram | Yardstick) -> Iterator[None]:
    """Hold a transaction open that has enqueued a job."""
    with bench.connect(autocommit=False) as writer:
        side.enqueue_and_wake(writer)
        yield
        writer.rollback()


def _claim_backlog(
    lab: Lab,
    side: Eram | Yardstick,
    jobs: int,
    hold: Callable[[Bench], AbstractContextManager[None]],
) -> list[float]:
    """Return how many milliseconds each claim took."""
    took = []
    with lab.bench(side) as bench:
        filled(bench, side, jobs)
        with hold(bench):
            fetch, complete = side.claims(bench.conn)
            for _ in range(jobs // BACKLOG_BATCH):
                begun_at = time.perf_counter()
                rows = fetch(BACKLOG_BATCH)
                took.append((time.perf_counter() - begun_at) * 1e3)
                if len(rows) != BACKLOG_BATCH:
                    raise RuntimeError(f"{side.label} claimed {len(rows)} of {BACKLOG_BATCH} jobs")
                complete(rows)
    return took


def _last_to_first(took: Sequence[float]) -> float:
    """Compare the last tenth with the first."""
    count = max(1, len(took) // PARTS)
    return statistics.median(took[-count:]) / statistics.median(took[:count])
