"""Measurements of enqueueing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from lab import Bench, Lab
from measure import Measure, figures_of
from of_bare_insert import BareInsert
from of_eram import Eram
from of_yardstick import Yardstick
from running import Figures, start_workers
from sides import Producer, Side

PRODUCERS = 8
HANDLER_THREADS = 10
BUSY_SECONDS = 30.0
BUSY_TURNS = 5


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


def enqueue_busy(lab: Lab, side: Eram, jobs: int) -> Figures:
    """Enqueue one by one while all threads of a worker are busy, so that nobody waits for jobs."""
    jobs -= jobs % PRODUCERS
    with lab.bench(side) as bench, side.producer(bench) as producer:
        with start_workers(bench, side, 1) as (worker,):
            _keep_busy(bench)
            worker.let_go()
            _wait_until_busy(bench)
            alone = jobs // PRODUCERS
            # In turns: what is compared is a few hundredths.
            turns = [
                (producer.enqueue_singly(jobs, PRODUCERS), producer.enqueue_singly(alone, 1))
                for _ in range(1 if lab.is_brief else BUSY_TURNS)
            ]
        return {
            "jobs_per_second": jobs / statistics.median(many for many, _ in turns),
            "alone_jobs_per_second": alone / statistics.median(one for _, one in turns),
        }


MEASURES: Mapping[str, Measure] = {
    "enqueue_documents": Measure(
        title="enqueue, 1,000 a call",
        jobs=20_000,
        least=1_000,
        run=enqueue_documents,
        has_peers=True,
    ),
    "enqueue_set": Measure(
        title="enqueue, set-based, 1,000 a statement",
        jobs=20_000,
        least=1_000,
        run=enqueue_set,
        has_peers=True,
    ),
    "enqueue_one": Measure(
        title="enqueue one by one, 1 producer",
        jobs=2_000,
        least=20,
        run=enqueue_one,
        sides=(Eram(), BareInsert(), Yardstick()),
        has_peers=True,
    ),
    "enqueue_by_many": Measure(
        title=f"enqueue one by one, {PRODUCERS} producers",
        jobs=6_000,
        least=80,
        run=enqueue_by_many,
        sides=(Eram(), BareInsert(), Yardstick()),
        has_peers=True,
    ),
    "enqueue_busy": Measure(
        title=f"enqueue one by one, {PRODUCERS} producers, a worker is busy",
        jobs=8_000,
        least=80,
        run=enqueue_busy,
        sides=(Eram(), Eram(is_notifying=False)),
    ),
}


def _enqueue(lab: Lab, side: Side, jobs: int, enqueue: Callable[[Producer], float]) -> Figures:
    with lab.bench(side) as bench, side.producer(bench) as producer:
        before = bench.read()
        seconds = enqueue(producer)
        used = bench.read() - before
    return figures_of(used, jobs, seconds)


def _keep_busy(bench: Bench) -> None:
    query = "select eram_enqueue_job('noop:hold') from generate_series(1, %s::integer)"
    bench.conn.execute(query, (10 * HANDLER_THREADS,))


def _wait_until_busy(bench: Bench) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    query = "select count(*) >= %s from eram_running_jobs"
    while not bench.conn.execute(query, (HANDLER_THREADS,)).fetchall()[0][0]:
        if time.monotonic() > deadline:
            raise TimeoutError("the worker of eram did not become busy")
        time.sleep(0.05)
    time.sleep(0.5)  # until it has claimed all that it wants to have in hand
