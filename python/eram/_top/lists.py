"""The lists of the picture: queues in the chosen order, and workers with what they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eram._top.overview import Overview, Queue, Run, Worker
from eram._top.table import Column, Line, Span, table
from eram._top.text import Script, count, duration

# By what queues are sorted, and which comes first: the largest, or the first by name.
SORTS: dict[str, Callable[[Queue], Any]] = {
    "waiting": lambda queue: -queue.waiting,
    "due": lambda queue: -queue.due,
    "oldest": lambda queue: -(queue.oldest_due_seconds or -1.0),
    "running": lambda queue: -queue.running,
    "done": lambda queue: -queue.completed_per_minute,
    "failed": lambda queue: -queue.failed_per_minute,
    "name": lambda queue: 0,  # noqa: ARG005 - the name decides anyway
}

LEAST_NAME = 12

_CONDITION_STYLES = {"alive": "", "missing": "bad", "silent": "warning"}


def ordered(overview: Overview, sort: str) -> list[Queue]:
    """Return the queues in the order in which they are shown."""
    return sorted(overview.queues, key=lambda queue: (SORTS[sort](queue), queue.name))


def queues(
    overview: Overview, sort: str, selected: str | None, script: Script, width: int | None
) -> list[Line]:
    """Draw the queues, the selected one marked."""
    rows = ordered(overview, sort)
    if not rows:
        return [[Span("no queue has jobs, workers or settings yet", "faint")]]
    chosen = next((row for row in rows if row.name == selected), None)

    def name(queue: Queue) -> str:
        mark = "> " if queue is chosen else "  " if chosen else ""
        return f"{mark}{'(paused) ' if queue.is_paused else ''}{queue.name}"

    def waiting(queue: Queue) -> str:
        return count(queue.waiting, is_estimate=queue.is_estimate)

    def due(queue: Queue) -> str:
        return count(queue.due, is_estimate=queue.is_estimate)

    def running(queue: Queue) -> str:
        limit = "" if queue.limit is None else f"/{count(queue.limit)}"
        return f"{count(queue.running)}{limit}"

    def mark(title: str, name: str) -> str:
        return f"{title}*" if name == sort else title

    def paused(queue: Queue) -> str:
        return "warning" if queue.is_paused else ""

    def failed(queue: Queue) -> str:
        return "bad" if queue.failed_per_minute else ""

    columns = [
        Column(title=mark("QUEUE", "name"), cell=name, style=paused, is_number=False),
        Column(title=mark("WAITING", "waiting"), cell=waiting, width=8),
        Column(title=mark("DUE", "due"), cell=due, width=7, rank=4),
        Column(title="RETRY", cell=lambda queue: count(queue.retryable), width=6, rank=6),
        Column(
            title=mark("OLDEST", "oldest"),
            cell=lambda queue: duration(queue.oldest_due_seconds),
            width=7,
            rank=2,
        ),
        Column(title=mark("RUNNING", "running"), cell=running, width=8),
        Column(
            title=mark("DONE/MIN", "done"),
            cell=lambda queue: count(queue.completed_per_minute),
            width=9,
            rank=1,
        ),
        Column(
            title=mark("FAILED", "failed"),
            cell=lambda queue: count(queue.failed_per_minute),
            width=7,
            rank=3,
            style=failed,
        ),
        Column(title="WORKERS", cell=lambda queue: count(queue.workers), width=7, rank=5),
    ]
    return table(columns, rows, width=width, script=script, least=LEAST_NAME, chosen=chosen)


def workers(overview: Overview, script: Script, width: int | None) -> list[Line]:
    """Draw the workers."""
    if not overview.workers:
        return []
    runs: dict[str | None, list[Run]] = {}
    for run in overview.runs:
        runs.setdefault(run.worker, []).append(run)

    def busy(worker: Worker) -> str:
        return ", ".join(
            f"{run.handler} {script.times}{run.job_count}" if run.job_count > 1 else run.handler
            for run in runs.get(worker.name, ())
        )

    def condition(worker: Worker) -> str:
        if worker.condition == "alive":
            return "alive"
        return f"{worker.condition} {duration(worker.heartbeat_seconds)}"

    columns = [
        Column(title="WORKER", cell=lambda worker: worker.name, is_number=False),
        Column(
            title="CONDITION",
            cell=condition,
            width=14,
            rank=2,
            style=lambda worker: _CONDITION_STYLES.get(worker.condition, ""),
            is_number=False,
        ),
        Column(title="RUNNING", cell=lambda worker: count(worker.running), width=7),
        Column(
            title="LONGEST", cell=lambda worker: duration(worker.oldest_seconds), width=7, rank=1
        ),
        Column(title="RUNS", cell=busy, is_number=False, rank=3),
    ]
    return table(columns, overview.workers, width=width, script=script, least=LEAST_NAME)
