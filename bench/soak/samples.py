"""What is measured while a soak runs, as series: a list of numbers for each name, equally long."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import LiteralString

from lab import Bench, Reading, cpu

from soak.ledger import Ledger
from soak.processes import Worker, private_bytes

QUEUES: LiteralString = """
select
    queue,
    due_count,
    running_count,
    coalesce(extract(epoch from oldest_due_age), 0)::float8
from eram_queue_stats
"""
TABLES: LiteralString = r"""
select relname, n_dead_tup, pg_relation_size(relid)
from pg_stat_user_tables
where relname like 'eram\_%'
"""
INDEXES: LiteralString = r"""
select indexrelname, pg_relation_size(indexrelid)
from pg_stat_user_indexes
where relname like 'eram\_%'
"""
BACKENDS: LiteralString = """
select pid
from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid()
"""


class Series:
    """Lists of numbers by group and name; what is not there in a sample is None in it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.holds: list[str | None] = []
        self.groups: defaultdict[str, dict[str, list[float | None]]] = defaultdict(dict)

    def begin(self, at: float, hold: str | None) -> None:
        """Begin a sample."""
        self.times.append(round(at, 2))
        self.holds.append(hold)
        for names in self.groups.values():
            for values in names.values():
                values.append(None)

    def put(self, group: str, name: str, value: float | None) -> None:
        """Add a number to the sample."""
        values = self.groups[group].setdefault(name, [None] * len(self.times))
        values[-1] = None if value is None else float(f"{value:.6g}")

    def last(self, group: str, name: str) -> float:
        """Return what was measured last, or zero."""
        values = [value for value in self.groups[group].get(name, ()) if value is not None]
        return values[-1] if values else 0.0


class Sampler:
    """Takes samples.

    Args:
        bench: the database and its meters.
        workers: the processes that run the jobs.
        ledger: what knows how many jobs have ended, and how long they waited.
    """

    def __init__(self, bench: Bench, workers: Sequence[Worker], ledger: Ledger) -> None:
        self.series = Series()
        self._bench = bench
        self._workers = workers
        self._ledger = ledger
        self._begun_at = time.monotonic()
        self._before = self._read()

    def take(self, hold: str | None) -> None:
        """Take a sample."""
        self.series.begin(time.monotonic() - self._begun_at, hold)
        self._put_rates()
        self._put_queues()
        self._put_sizes()
        self._put_memory()

    def _put_rates(self) -> None:
        before, self._before = self._before, self._read()
        used = self._before[0] - before[0]
        ended = self._before[1] - before[1]
        put = self.series.put
        put("rates", "ended per second", ended / used.seconds)
        if ended:
            put("per job", "WAL bytes", used.wal_bytes / ended)
        if used.server_cpu is not None:
            put("cpu", "server", used.server_cpu / used.seconds)
            if ended:
                put("per job", "server CPU us", used.server_cpu / ended * 1e6)
        for worker in self._workers:
            now, then = self._before[2][worker.name], before[2][worker.name]
            if now is not None and then is not None:
                put("cpu", worker.name, (now - then) / used.seconds)
        waits = self._ledger.take_latencies()
        if len(waits) >= 2:
            cuts = statistics.quantiles(waits, n=20, method="inclusive")
            put("latency", "p50 ms", cuts[9] * 1e3)
            put("latency", "p95 ms", cuts[18] * 1e3)

    def _put_queues(self) -> None:
        put = self.series.put
        rows = self._bench.conn.execute(QUEUES).fetchall()
        put("jobs", "due", sum(due for _, due, _, _ in rows))
        put("jobs", "running", sum(running for _, _, running, _ in rows))
        for queue, due, _, age in rows:
            put("jobs", f"due in {queue}", due)
            put("oldest due", f"{queue} s", age)

    def _put_sizes(self) -> None:
        conn, put = self._bench.conn, self.series.put
        for table, dead, size in conn.execute(TABLES).fetchall():
            put("dead rows", table, dead)
            put("bytes", table, size)
        for index, size in conn.execute(INDEXES).fetchall():
            put("bytes", index, size)
        (row,) = conn.execute("select pg_database_size(current_database())").fetchall()
        put("bytes", "database", row[0])

    def _put_memory(self) -> None:
        for worker in self._workers:
            self.series.put("memory", worker.name, private_bytes(worker.pid))
        pids = [pid for (pid,) in self._bench.conn.execute(BACKENDS)]
        sizes = [size for size in map(private_bytes, pids) if size is not None]
        if sizes:
            self.series.put("memory", "backends", sum(sizes))
            self.series.put("memory", "largest backend", max(sizes))

    def _read(self) -> tuple[Reading, int, dict[str, float | None]]:
        used = {worker.name: cpu(worker.pid) for worker in self._workers}
        return self._bench.read(), self._ledger.ended_counts.total(), used
