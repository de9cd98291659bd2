"""Measurements of running jobs: by one worker process, and by several."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lab import Lab
from measure import Measure, figures_of, filled
from of_eram import Eram
from of_yardstick import Yardstick
from running import Figures, cpu_of, run, start_workers
from sides import Side

PROCESSES = (2, 4, 8)
BRIEF_PROCESSES = (4,)


def drain(lab: Lab, side: Side, jobs: int, *, processes: int = 1) -> Figures:
    """Let worker processes run jobs that do nothing."""
    with lab.bench(side) as bench:
        filled(bench, side, jobs)
        with start_workers(bench, side, processes) as workers:
            before, cpu_before = bench.read(), cpu_of(workers)
            seconds, cpu_after = run(bench, side, workers, jobs, read_cpu=True)
            used = bench.read() - before
        figures = figures_of(used, jobs, seconds)
        figures["disk_bytes"] = bench.grown() / jobs
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_us"] = (cpu_after - cpu_before) / jobs * 1e6
    return figures


def drain_processes(lab: Lab, side: Side, jobs: int) -> Figures:
    """Let one worker process run them, then more and more on fresh tables."""
    one = drain(lab, side, jobs)["jobs_per_second"]
    figures = {"jobs_per_second": one}
    for processes in BRIEF_PROCESSES if lab.is_brief else PROCESSES:
        rate = drain(lab, side, jobs, processes=processes)["jobs_per_second"]
        figures[f"processes_{processes}_to_one"] = rate / one
    return figures


def drain_wal(lab: Lab, side: Side, jobs: int) -> Figures:
    """Count what the server writes of a job from its enqueue to its end."""
    with lab.bench(side) as bench, side.producer(bench) as producer:
        before = bench.read()
        producer.enqueue_documents(jobs)
        bench.enqueued += jobs
        enqueued = bench.read() - before
        bench.conn.execute("vacuum analyze")
        with start_workers(bench, side, 1) as workers:
            before = bench.read()
            run(bench, side, workers, jobs)
            drained = bench.read() - before
    return {
        "wal_enqueue_bytes": enqueued.wal_bytes / jobs,
        "wal_drain_bytes": drained.wal_bytes / jobs,
        "wal_bytes": (enqueued.wal_bytes + drained.wal_bytes) / jobs,
    }


MEASURES: Mapping[str, Measure] = {
    "drain": Measure(
        title="drain by one worker process",
        jobs=60_000,
        least=500,
        run=drain,
        is_shared=True,
        sides=(Eram(), Eram(is_keeping=False), Yardstick(), Yardstick(is_plain=True)),
        has_peers=True,
    ),
    "drain_pair": Measure(
        title="drain by two worker processes",
        jobs=60_000,
        least=500,
        run=partial(drain, processes=2),
        is_shared=True,
        has_peers=True,
    ),
    "drain_processes": Measure(
        title="drain by one worker process, and by more",
        jobs=60_000,
        least=500,
        run=drain_processes,
    ),
    "drain_wal": Measure(
        title="enqueue 1,000 a call, then drain",
        jobs=60_000,
        least=500,
        run=drain_wal,
        sides=(Eram(), Eram(is_searchable=False), Yardstick()),
    ),
}
