"""What was seen at one look: all queues together, each of them, workers, the last hour, health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


class Queue(NamedTuple):
    """One queue."""

    name: str
    is_paused: bool
    waiting: int
    due: int
    retryable: int
    oldest_due_seconds: float | None
    running: int
    limit: int | None
    completed_per_minute: float
    failed_per_minute: float
    workers: int
    is_estimate: bool


class Totals(NamedTuple):
    """All queues together."""

    queues: int = 0
    waiting: int = 0
    due: int = 0
    retryable: int = 0
    running: int = 0
    completed_per_minute: float = 0
    failed_per_minute: float = 0
    is_estimate: bool = False


class Minute(NamedTuple):
    """What ended in one minute, in all queues together."""

    minute: datetime
    completed: int
    failed: int


class Worker(NamedTuple):
    """A living worker."""

    id: int
    name: str
    queues: Sequence[str]
    condition: str
    started_seconds: float
    heartbeat_seconds: float
    is_direct: bool
    running: int
    oldest_seconds: float | None


class Run(NamedTuple):
    """How many jobs of one handler the workers of one name run."""

    worker: str | None
    handler: str
    job_count: int


class Check(NamedTuple):
    """One check of eram_health()."""

    name: str
    level: str
    finding: str
    action: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What was seen at one look; parts that are looked at less often may be older."""

    at: datetime
    version: str
    place: str
    totals: Totals
    queues: Sequence[Queue]
    worker_count: int
    workers: Sequence[Worker]
    runs: Sequence[Run]
    throughput: Sequence[Minute]
    checks: Sequence[Check]

    @property
    def level(self) -> str:
        """The worst level of all checks, 'ok' at best; what nobody may see is not bad."""
        found = {check.level for check in self.checks}
        return next((level for level in ("critical", "warn") if level in found), "ok")


def document(overview: Overview) -> dict[str, Any]:
    """Return an overview for a program: what can be counted, under the names of the columns."""
    return {
        "version": overview.version,
        "database": overview.place,
        "at": overview.at.isoformat(),
        "totals": overview.totals._asdict() | {"workers": overview.worker_count},
        "queues": [queue._asdict() for queue in overview.queues],
        "workers": [
            worker._asdict()
            | {
                "runs": [
                    {"handler": run.handler, "count": run.job_count}
                    for run in overview.runs
                    if run.worker == worker.name
                ]
            }
            for worker in overview.workers
        ],
        "throughput": [
            minute._asdict() | {"minute": minute.minute.isoformat()}
            for minute in overview.throughput
        ],
        "health": {
            "level": overview.level,
            "checks": [check._asdict() for check in overview.checks if check.level != "ok"],
        },
    }
