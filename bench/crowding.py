"""Measurements of very many connections that claim from one queue.

They belong to a few client processes: in one alone, Python's lock would be what is measured.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

import psycopg
from lab import Lab
from measure import Measure, filled
from of_eram import Eram
from of_yardstick import Yardstick
from running import Figures

CONNECTIONS = 64
CLIENTS = 4
BATCH = 100
SECONDS = 120.0


def crowd(lab: Lab, side: Eram | Yardstick, jobs: int) -> Figures:
    """Let 64 connections claim and complete all jobs of one queue, and one alone."""
    alone = _claim_all(lab, side, jobs, clients=1, connections=1)
    many = _claim_all(lab, side, jobs, clients=CLIENTS, connections=CONNECTIONS // CLIENTS)
    return {
        "jobs_per_second": many.rate,
        "crowd_to_one": many.rate / alone.rate,
        "errors": alone.errors + many.errors,
        "deadlocks": alone.deadlocks + many.deadlocks,
    }


MEASURES: Mapping[str, Measure] = {
    "crowd": Measure(
        title=f"claim and complete {BATCH} at a time by {CONNECTIONS} connections",
        jobs=60_000,
        least=2_000,
        run=crowd,
    ),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    rate: float
    errors: int
    deadlocks: int


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all clients know: how many jobs are left, how many errors there were, when to begin."""

    left: Synchronized[int]
    errors: Synchronized[int]
    start: Barrier


def _claim_all(
    lab: Lab, side: Eram | Yardstick, jobs: int, *, clients: int, connections: int
) -> _Outcome:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(clients * connections + 1)
    shared = _Shared(context.Value("q", jobs), context.Value("q", 0), start)
    with lab.bench(side) as bench:
        filled(bench, side, jobs)
        processes = [
            context.Process(
                target=_be_client, args=(side, bench.dsn, connections, shared), daemon=True
            )
            for _ in range(clients)
        ]
        try:
            for process in processes:
                process.start()
            start.wait(SECONDS)
            begun_at, jobs_left = time.perf_counter(), shared.left.value
            for process in processes:
                process.join()
            rate = jobs_left / (time.perf_counter() - begun_at)
        finally:
            for process in processes:
                process.kill()
        query = "select deadlocks from pg_stat_database where datname = current_database()"
        deadlocks = int(bench.conn.execute(query).fetchall()[0][0])
        finished = side.finished(bench)
    if finished != jobs and not shared.errors.value:
        raise RuntimeError(f"{side.label} finished {finished:,} of {jobs:,} jobs")
    return _Outcome(rate, shared.errors.value, deadlocks)


def _be_client(side: Eram | Yardstick, dsn: str, connections: int, shared: _Shared) -> None:
    threads = [
        threading.Thread(target=_claim, args=(side, dsn, shared)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _claim(side: Eram | Yardstick, dsn: str, shared: _Shared) -> None:
    """Go on until no job is left."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
        fetch, complete = side.claims(conn)
        # One job each beforehand: sixty-four sessions that plan are not what is measured.
        complete(fetch(1))
        with shared.left.get_lock():
            shared.left.value -= 1
        shared.start.wait(SECONDS)
        deadline = time.monotonic() + SECONDS
        while shared.left.value > 0 and time.monotonic() < deadline:
            rows = []
            try:
                rows = fetch(BATCH)
                complete(rows) if rows else time.sleep(0.001)
            except psycopg.Error:
                with shared.errors.get_lock():
                    shared.errors.value += 1
            with shared.left.get_lock():
                shared.left.value -= len(rows)
