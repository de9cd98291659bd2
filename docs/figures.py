"""Writes what pages say of speed and of costs, out of the record of the benchmark.

    python docs/figures.py

rewrites the tables between their markers; a test compares them with what this would write.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "bench" / "results" / "record.json"

Record = dict[str, Any]

# As the benchmark calls them, and as people do.
PEERS = {
    "graphile": "graphile-worker, nothing kept",
    "pgboss": "pg-boss",
    "pgqueuer": "pgqueuer",
    "awa": "awa",
    "chancy": "chancy",
    "oban": "Oban (Python)",
    "procrastinate": "procrastinate",
}


def figure(record: Record, measure: str, side: str, name: str, form: str) -> str:
    """Return the median of the rounds, or nothing where it was not measured."""
    rounds = record["measures"][measure]["sides"].get(side, [])
    values = [each[name] for each in rounds if each.get(name) is not None]
    return format(statistics.median(values), form) if values else ""


def _row(record: Record, side: str, title: str) -> str:
    latency, pinned = (
        " / ".join(figure(record, measure, side, name, ".1f") for name in names).strip(" /")
        for measure, names in (
            ("latency", ("p50_ms", "p99_ms")),
            ("worker_waves", ("pinned_p50_ms", "pinned_p99_ms")),
        )
    )
    cells = [
        title,
        figure(record, "drain", side, "jobs_per_second", ",.0f"),
        figure(record, "enqueue_by_many", side, "jobs_per_second", ",.0f"),
        latency,
        pinned,
    ]
    return f"| {' | '.join(cells)} |"


def table(record: Record, peers: dict[str, str]) -> str:
    """Return the table of the sides that were measured."""
    head = (
        "| | drain, jobs/s | enqueue one by one, 8 producers, jobs/s"
        " | commit to start, p50 / p99 ms | the same under an old snapshot |"
    )
    rows = (_row(record, side, title) for side, title in peers.items())
    kept = _row(record, "eram", "eram, history kept")
    removed = _row(record, "eram, nothing kept", "eram, nothing kept")
    return "\n".join([head, "|---|--:|--:|--:|--:|", kept, removed, *rows])


def _few(record: Record) -> str:
    return table(record, dict(list(PEERS.items())[:3]))


def _all(record: Record) -> str:
    return table(record, PEERS)


def _costs(record: Record) -> str:
    def eram(measure: str, name: str, form: str = ",.0f") -> str:
        return figure(record, measure, "eram", name, form)

    def cpu_and_wal(measure: str) -> str:
        cpu, wal = eram(measure, "server_cpu_us"), eram(measure, "wal_bytes")
        return f"{cpu} µs of the server's CPU, {wal} bytes of WAL"

    one, five = (
        eram(measure, "statements_per_second", ".1f") for measure in ("idle", "idle_queues")
    )
    worker, server = (eram("idle", f"{whose}_cpu_percent", ".2f") for whose in ("worker", "server"))
    rows = {
        "enqueue, a thousand a call": cpu_and_wal("enqueue_documents"),
        "enqueue, one by one": cpu_and_wal("enqueue_one"),
        "claim and complete, in batches": cpu_and_wal("drain"),
        "claim, with ten million jobs waiting": (
            f"{eram('claims', 'many_buffers_ratio', '.2f')} times the buffers of one with few"
        ),
        "kept after it has ended": f"{eram('drain', 'disk_bytes')} bytes on disk, with small args",
        "one worker process": f"{eram('drain', 'jobs_per_second')} empty jobs a second",
        "an idle worker": (
            f"{one} statements a second for one queue, {five} for five;"
            f" {worker} % of a core, and {server} % for the server"
        ),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {row} | {rows[row]} |" for row in rows)])


# Which table stands on which page.
PAGES: dict[str, Callable[[Record], str]] = {
    "README.md": _few,
    "docs/comparison.md": _all,
    "docs/operations/sizing.md": _costs,
}


def rewrite(page: str, text: str) -> str:
    """Return the page's text with the figures of the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    begin, end = "<!-- begin: figures -->", "<!-- end: figures -->"
    made, count = re.subn(
        f"{begin}.*?{end}",
        lambda _: f"{begin}\n\n{PAGES[page](record)}\n\n{end}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit(f"{page} has no place for the figures")
    return made


if __name__ == "__main__":
    for page in PAGES:
        path = PROJECT / page
        path.write_text(rewrite(page, path.read_text(encoding="utf-8")), encoding="utf-8")
