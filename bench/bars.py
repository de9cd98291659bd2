"""The bars: what eram is required to reach, and whether a run has reached it.

A bar is a figure of eram, or its ratio to that of another side in the same rounds, and a threshold.
One whose side did not take part, or whose measurement was not made, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from figures import ERAM, FIGURES, Result, Row, median, ratio

HEADINGS = ("bar", "required", "measured", "met")
NOTHING_KEPT = "eram, nothing kept"
WITHOUT_GIN = "eram, without GIN indexes"
NOTIFICATION_OFF = "eram, notification off"
BARE_INSERT = "bare insert"
PLAIN_YARDSTICK = "plain yardstick"
GRAPHILE = "graphile"
RATE = "jobs_per_second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A figure and its threshold, which is a least or a most."""

    what: str
    measure: str
    key: str
    least: float | None = None
    most: float | None = None
    own: str = ERAM
    other: str = ""  # whose figure it is divided by

    def value(self, result: Result) -> float | None:
        """Return what was measured, if it was."""
        sides = result["measures"].get(self.measure, {"sides": {}})["sides"]
        for label in filter(None, (self.own, self.other)):
            if not sides.get(label) or any(self.key not in run for run in sides[label]):
                return None
        if self.other:
            return ratio(sides, self.key, self.other, self.own)
        return median(sides[self.own], self.key)

    def is_met(self, value: float) -> bool:
        """Judge; what is no number is not met."""
        least = float("-inf") if self.least is None else self.least
        most = float("inf") if self.most is None else self.most
        return least <= value <= most

    def required(self) -> str:
        """Say what is required."""
        sign, threshold = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {threshold:,}" + (f" of {self.other}" if self.other else "")

    def measured(self, value: float) -> str:
        """Say what was measured, as finely as it is judged."""
        return f"{value:{'.2f' if self.other else FIGURES[self.key].form}}"


def _drain(other: str, least: float, own: str = ERAM) -> Bar:
    what = "drain, nothing kept" if own == NOTHING_KEPT else "drain, history kept"
    return Bar(what=what, measure="drain", key=RATE, least=least, own=own, other=other)


def _idle(measure: str, queues: str, most_statements: int) -> Iterator[Bar]:
    for what, key, most in (
        ("statements a second", "statements_per_second", most_statements),
        ("transaction ids taken by looking", "transaction_ids", 0),
        ("CPU of the worker, % of a core", "worker_cpu_percent", 1),
        ("CPU of the server, % of a core", "server_cpu_percent", 1),
    ):
        yield Bar(what=f"idle worker, {queues}: {what}", measure=measure, key=key, most=most)


BARS: tuple[Bar, ...] = (
    _drain(PLAIN_YARDSTICK, 0.85),
    _drain(GRAPHILE, 1.0),
    _drain("pgboss", 1.5),
    _drain("pgqueuer", 3),
    _drain("awa", 5),
    _drain("procrastinate", 40),
    _drain(GRAPHILE, 1.2, NOTHING_KEPT),
    Bar(
        what="waves under an open snapshot: the last to the first",
        measure="worker_waves",
        key="last_to_first",
        least=0.9,
    ),
    Bar(
        what="long drain under one snapshot: its last tenth to the first",
        measure="long_drain",
        key="last_tenth_to_first",
        least=0.8,
    ),
    Bar(
        what="latency under an open snapshot after a drain: p50 to that without",
        measure="pinned_latency",
        key="snapshot_p50_ratio",
        most=1.5,
    ),
    Bar(
        what="the same with a second, idle worker process",
        measure="pinned_latency",
        key="pair_p50_ratio",
        most=1.5,
    ),
    *(
        Bar(what=f"claim with {what}: {unit}", measure="claims", key=key, most=1.3)
        for what, unit, key in (
            ("very many waiting", "buffers to those with few", "many_buffers_ratio"),
            ("very many kept", "buffers to those with few", "kept_buffers_ratio"),
            ("very many waiting", "time to that with few", "many_ms_ratio"),
            ("very many kept", "time to that with few", "kept_ms_ratio"),
        )
    ),
    *(
        Bar(
            what=f"backlog under an open {who}: time of the last claims to the first",
            measure="backlog",
            key=f"{who}_last_to_first",
            most=1.2,
        )
        for who in ("reader", "writer")
    ),
    Bar(what="WAL a job, enqueue and drain", measure="drain_wal", key="wal_bytes", most=1_000),
    Bar(
        what="WAL a job, enqueue and drain, without GIN indexes",
        measure="drain_wal",
        key="wal_bytes",
        most=750,
        own=WITHOUT_GIN,
    ),
    Bar(
        what="bulk enqueue, by eram_enqueue_jobs",
        measure="enqueue_documents",
        key=RATE,
        least=1.5,
        other=GRAPHILE,
    ),
    Bar(
        what="bulk enqueue, set-based, each by its own SQL",
        measure="enqueue_set",
        key=RATE,
        least=1.5,
        other=GRAPHILE,
    ),
    *(
        Bar(
            what=f"enqueue one by one, {producers}",
            measure=measure,
            key=RATE,
            least=0.85,
            other=BARE_INSERT,
        )
        for producers, measure in (
            ("1 producer", "enqueue_one"),
            ("8 producers", "enqueue_by_many"),
        )
    ),
    *(
        Bar(
            what=f"enqueue one by one while a worker is busy, {producers}",
            measure="enqueue_busy",
            key=key,
            least=0.95,
            other=NOTIFICATION_OFF,
        )
        for producers, key in (("1 producer", "alone_jobs_per_second"), ("8 producers", RATE))
    ),
    *(
        Bar(
            what=f"latency at 50 jobs/s, {key[:3]}",
            measure="latency",
            key=key,
            most=1.0,
            other=GRAPHILE,
        )
        for key in ("p50_ms", "p99_ms")
    ),
    *(
        Bar(
            what=f"drain by {count} worker processes to one",
            measure="drain_processes",
            key=f"processes_{count}_to_one",
            least=1.0,
        )
        for count in (2, 4, 8)
    ),
    Bar(
        what="64 connections on one queue to one connection",
        measure="crowd",
        key="crowd_to_one",
        least=1.0,
    ),
    Bar(what="64 connections on one queue: errors", measure="crowd", key="errors", most=0),
    Bar(what="64 connections on one queue: deadlocks", measure="crowd", key="deadlocks", most=0),
    *_idle("idle", "one queue", 3),
    *_idle("idle_queues", "five queues", 7),
    Bar(
        what="CPU of the worker a job that does nothing, µs",
        measure="drain",
        key="worker_cpu_us",
        most=20,
    ),
)


def judged(result: Result) -> list[tuple[Bar, float]]:
    """Return the bars that the run tells of, with what was measured."""
    values = ((bar, bar.value(result)) for bar in BARS)
    return [(bar, value) for bar, value in values if value is not None]


def rows(result: Result) -> list[Row]:
    """Make the table, its heading included."""
    return [
        HEADINGS,
        *(
            (bar.what, bar.required(), bar.measured(value), "yes" if bar.is_met(value) else "no")
            for bar, value in judged(result)
        ),
    ]


def summary(result: Result) -> str:
    """Say in a sentence how many are met."""
    met = [bar.is_met(value) for bar, value in judged(result)]
    return f"{sum(met)} of {len(met)} bars are met."
