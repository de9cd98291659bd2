"""Running jobs by worker processes: all that are queued, or one after the other as they come."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from lab import Bench, cpu
from sides import Producer, Side, Worker

LATENCY_RATE = 50
OFTEN, SELDOM = (0.005, 0.25), (0.5, 5.0)  # seconds between two looks at what is finished
DEADLINE_SECONDS = 300.0

Figures: TypeAlias = dict[str, Any]


def run(
    bench: Bench,
    side: Side,
    workers: Sequence[Worker],
    jobs: int,
    *,
    read_cpu: bool = False,
    looks_seldom: bool = False,
) -> tuple[float, float | None]:
    """Let workers run all that is queued; return the seconds, and the CPU they have used by then.

    The seconds are what the side's tables say, or else those from the start of the first handler
    to the moment when the tables have all jobs as finished.
    """
    row = bench.conn.execute("select clock_timestamp()").fetchone()
    for worker in workers:
        worker.let_go()
    let_go_at = time.monotonic_ns()
    ended_at = _wait(bench, side, bench.enqueued - jobs, SELDOM if looks_seldom else OFTEN)
    cpu_after = cpu_of(workers) if read_cpu else None
    handled = [worker.stop() for worker in workers]
    starts = [at for stamps in handled for at in stamps.values()]
    if starts and len(starts) != jobs:
        raise RuntimeError(f"its handlers ran {len(starts):,} of {jobs:,} jobs")
    if starts and ended_at < max(starts):
        raise RuntimeError("its tables had jobs as finished before they were run")
    seconds = side.span(bench, row[0]) if row else None
    if seconds is None:
        seconds = (ended_at - min(starts, default=let_go_at)) / 1e9
    return seconds, cpu_after


def _wait(bench: Bench, side: Side, finished_before: int, look_seconds: tuple[float, float]) -> int:
    """Wait until all is finished; return when it was, in nanoseconds.

    To look costs the server something, so it is done the more seldom the more is left.
    """
    least, most = look_seconds
    begun_at = time.monotonic()
    while True:
        looked_at = time.monotonic_ns()
        finished = side.finished(bench)
        if finished == bench.enqueued:
            return looked_at
        took = time.monotonic() - begun_at
        if took > DEADLINE_SECONDS:
            raise TimeoutError(
                f"{side.label} finished {finished:,} of {bench.enqueued:,} jobs in time"
            )
        done = finished - finished_before
        pause = (bench.enqueued - finished) / done * took / 2 if done else 4 * least
        time.sleep(min(most, max(least, pause)))


def measure_latency(
    bench: Bench, side: Side, producer: Producer, jobs: int, *, processes: int = 1
) -> Figures:
    """Enqueue jobs at a rate, and say how long it took from the commit of each to its start."""
    with start_workers(bench, side, processes, is_listening=True) as workers:
        for worker in workers:
            worker.let_go()
        time.sleep(1.0)
        committed = producer.enqueue_steadily(jobs, LATENCY_RATE)
        bench.enqueued += jobs
        time.sleep(0.5)
        started = {job: at for worker in workers for job, at in worker.stop().items()}
    if missing := committed.keys() - started.keys():
        raise RuntimeError(f"{side.label} did not run {len(missing):,} of {jobs:,} jobs")
    waits = sorted((started[job] - at) / 1e6 for job, at in committed.items())
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "worst_ms": waits[-1]}


@contextlib.contextmanager
def start_workers(
    bench: Bench, side: Side, count: int, *, is_listening: bool = False
) -> Iterator[list[Worker]]:
    """Start worker processes that are ready; whatever happens, they end with the block."""
    workers: list[Worker] = []

    def start() -> None:
        workers.append(side.start_worker(bench, is_listening=is_listening))

    try:
        # All at once: eight one after the other would take longer than what they are to do.
        with ThreadPoolExecutor(count) as threads:
            for started in [threads.submit(start) for _ in range(count)]:
                started.result()
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def cpu_of(workers: Sequence[Worker]) -> float | None:
    """Return the seconds of CPU that workers have used, where the system tells."""
    used = [cpu(worker.pid) for worker in workers]
    return None if None in used else sum(filter(None, used))
