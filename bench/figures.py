"""Figures of a run: what they are called, and how those of several rounds become one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

ERAM, YARDSTICK = "eram", "yardstick"

Result = dict[str, Any]
Row = tuple[str, ...]
Sides = dict[str, list[dict[str, Any]]]


class Figure(NamedTuple):
    """A figure by its name in the results."""

    title: str
    form: str
    is_better_higher: bool


HIGHER, LOWER = True, False
MS, TIMES = ".1f", ".2f"

FIGURES = {
    key: Figure(title, form, is_better_higher)
    for key, title, form, is_better_higher in (
        ("jobs_per_second", "jobs/s", ",.0f", HIGHER),
        ("alone_jobs_per_second", "jobs/s by 1 producer", ",.0f", HIGHER),
        ("server_cpu_us", "CPU of the server a job, µs", ",.1f", LOWER),
        ("worker_cpu_us", "CPU of the worker a job, µs", ",.1f", LOWER),
        ("wal_bytes", "WAL a job, bytes", ",.0f", LOWER),
        ("wal_enqueue_bytes", "of which its enqueue, bytes", ",.0f", LOWER),
        ("wal_drain_bytes", "of which the rest, bytes", ",.0f", LOWER),
        ("disk_bytes", "on disk afterwards a job, bytes", ",.0f", LOWER),
        ("processes_2_to_one", "jobs/s of 2 processes to one", TIMES, HIGHER),
        ("processes_4_to_one", "jobs/s of 4 processes to one", TIMES, HIGHER),
        ("processes_8_to_one", "jobs/s of 8 processes to one", TIMES, HIGHER),
        ("crowd_to_one", "jobs/s to those of one connection", TIMES, HIGHER),
        ("errors", "errors", ",.0f", LOWER),
        ("deadlocks", "deadlocks", ",.0f", LOWER),
        ("p50_ms", "p50, ms", MS, LOWER),
        ("p95_ms", "p95, ms", MS, LOWER),
        ("p99_ms", "p99, ms", MS, LOWER),
        ("snapshot_p50_ms", "p50 under an open snapshot, ms", MS, LOWER),
        ("snapshot_p99_ms", "p99 under an open snapshot, ms", MS, LOWER),
        ("snapshot_p50_ratio", "p50 under it to p50 without", TIMES, LOWER),
        ("pair_p50_ms", "p50 under it, a second worker idle, ms", MS, LOWER),
        ("pair_p99_ms", "p99 under it, a second worker idle, ms", MS, LOWER),
        ("pair_p50_ratio", "p50 with both to p50 without", TIMES, LOWER),
        ("last_to_first", "last wave to first", TIMES, HIGHER),
        ("pinned_p50_ms", "then commit to start, p50, ms", MS, LOWER),
        ("pinned_p99_ms", "then commit to start, p99, ms", MS, LOWER),
        ("last_tenth_to_first", "jobs/s, last tenth to first", TIMES, HIGHER),
        ("reader_fetch_ms", "a claim under an open reader, ms", TIMES, LOWER),
        ("reader_last_to_first", "time of the last tenth to the first", TIMES, LOWER),
        ("writer_fetch_ms", "a claim under an open writer, ms", TIMES, LOWER),
        ("writer_last_to_first", "time of the last tenth to the first", TIMES, LOWER),
        ("few_buffers", "buffers, little waiting", ",.0f", LOWER),
        ("many_buffers", "buffers, very many waiting", ",.0f", LOWER),
        ("many_buffers_ratio", "to those with little waiting", TIMES, LOWER),
        ("kept_buffers", "buffers, very many kept", ",.0f", LOWER),
        ("kept_buffers_ratio", "to those with little waiting", TIMES, LOWER),
        ("few_ms", "time, little waiting, ms", TIMES, LOWER),
        ("many_ms", "time, very many waiting, ms", TIMES, LOWER),
        ("many_ms_ratio", "to that with little waiting", TIMES, LOWER),
        ("kept_ms", "time, very many kept, ms", TIMES, LOWER),
        ("kept_ms_ratio", "to that with little waiting", TIMES, LOWER),
        ("statements_per_second", "statements/s", TIMES, LOWER),
        ("transaction_ids", "transaction ids taken by looking", ",.0f", LOWER),
        ("worker_cpu_percent", "CPU of the worker, % of a core", TIMES, LOWER),
        ("server_cpu_percent", "CPU of the server, % of a core", TIMES, LOWER),
    )
}


def peers(result: Result) -> list[str]:
    """Name the peers that have any figures."""
    named = [label for label, about in result["sides"].items() if "version" in about]
    measures = result["measures"].values()
    return [label for label in named if any(label in each["sides"] for each in measures)]


def ratio(sides: Sides, key: str, other: str, own: str = ERAM) -> float:
    """Divide eram's figure by another's: the median of what the rounds say."""
    # One that failed in a round has fewer of them.
    pairs = zip(sides[own], sides[other], strict=False)
    return statistics.median(
        mine[key] / its[key] if its[key] else float("nan") for mine, its in pairs
    )


def better(sides: Sides, key: str, other: str, own: str = ERAM) -> float:
    """Say how many times better eram is: above 1 is ahead, whatever the figure."""
    quotient = ratio(sides, key, other, own)
    return quotient if FIGURES[key].is_better_higher or not quotient else 1 / quotient


def by_wave(runs: Sequence[dict[str, Any]]) -> list[float]:
    """Return the jobs/s of each wave, or of each tenth."""
    (key,) = (key for key in runs[0] if key.startswith("jobs_per_second_by_"))
    waves = zip(*(run[key] for run in runs), strict=True)
    return [statistics.median(wave) for wave in waves]


def median(runs: Sequence[dict[str, float]], key: str) -> float:
    """Return the median of the rounds."""
    return statistics.median(run[key] for run in runs)
