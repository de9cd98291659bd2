"""What a measurement is, and what several of them need."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab import Bench, Lab, Reading
from of_eram import Eram
from of_yardstick import Yardstick
from running import Figures
from sides import Producer, Side

PART = 20_000  # so many documents are made before they are sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measurement, and how many jobs it takes at full size."""

    title: str
    jobs: int
    least: int
    run: Callable[[Lab, Any, int], Figures]
    sides: tuple[Any, ...] = (Eram(), Yardstick())
    has_peers: bool = False
    is_shared: bool = False  # slow sides get their share of the jobs
    most_rounds: int = 100

    def size(self, scale: float, share: float) -> int:
        """Return how many jobs it takes at this scale."""
        return max(self.least, round(self.jobs * scale * (share if self.is_shared else 1)))


@contextlib.contextmanager
def hold_snapshot(bench: Bench) -> Iterator[None]:
    """Hold a snapshot, so that nothing can be vacuumed."""
    with bench.connect(autocommit=False) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from pg_class")
        yield


def fill(bench: Bench, producer: Producer, jobs: int) -> None:
    """Enqueue jobs that do nothing."""
    for at in range(0, jobs, PART):
        producer.enqueue_documents(min(PART, jobs - at))
    bench.enqueued += jobs


def filled(bench: Bench, side: Side, jobs: int) -> None:
    """Enqueue jobs that do nothing, and have the tables tidy."""
    with side.producer(bench) as producer:
        fill(bench, producer, jobs)
    bench.conn.execute("vacuum analyze")


def figures_of(used: Reading, jobs: int, seconds: float) -> Figures:
    """Say what a job took."""
    figures: Figures = {"jobs_per_second": jobs / seconds, "wal_bytes": used.wal_bytes / jobs}
    if used.server_cpu is not None:
        figures["server_cpu_us"] = used.server_cpu / jobs * 1e6
    return figures
