"""The books of a soak: each job that was enqueued, and what the evidence says became of it.

A job is kept here until all is known of it, so that the books stay as short as the queues are. What
workers write comes in no certain order: a run may be heard of before its job, or after its end.
What is found wrong is kept as faults, a sentence each.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from soak.occurrences import Occurrences
from soak.uniques import Uniques

LATELY = 20_000  # ended jobs that are remembered, to be compared with eram's tables
UNTOLD = "called_off"  # the handler that cancels its job, of which no listener is told
TIMED = {"single"}  # whose latency is measured: the others wait for their batch
FIRST_FAULTS = 20
LATE_CANCELS = {("completed", 1), ("cancelled", 1)}


class Expectation(Protocol):
    """What must become of jobs of a kind."""

    @property
    def state(self) -> str:
        """How they end."""

    @property
    def runs(self) -> int:
        """How often they run."""


@dataclass(slots=True)
class Entry:
    """A job of which not all is known that must be."""

    kind: str
    committed_at: int
    runs: int = 0
    state: str | None = None  # how it ended


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a handler, as a worker put it on record."""

    job_id: int
    number: int
    handler: str
    begun_at: int
    ended_at: int
    note: str


class Ledger:
    """Compares what producers were told with what workers put on record.

    Args:
        kinds: what must become of jobs, by the name of their kind.
        window_seconds: of unique jobs that have a window.
    """

    def __init__(self, kinds: Mapping[str, Expectation], window_seconds: float) -> None:
        self._kinds = kinds
        self._lock = threading.Lock()
        self._early: dict[int, list[Callable[[], None]]] = {}
        self.open: dict[int, Entry] = {}
        self.lately: OrderedDict[int, str] = OrderedDict()
        self.cancelled_ids: set[int] = set()
        self.occurrences = Occurrences()
        self.uniques = {"unique": Uniques(), "windowed": Uniques(round(window_seconds * 1e9))}
        self.enqueued_counts: Counter[str] = Counter()
        self.ended_counts: Counter[str] = Counter()
        self.run_count = 0
        self._fault_count = 0
        self._faults: list[str] = []
        self._latencies: list[float] = []

    def faults(self) -> Iterator[str]:
        """Say what is wrong with jobs, when no more evidence is to come; the first ones."""
        half = [
            self._contradiction(job_id, entry)
            for job_id, entry in self.open.items()
            if entry.state is not None
        ]
        yield from [*self._faults, *half][:FIRST_FAULTS]
        if (count := self._fault_count + len(half)) > FIRST_FAULTS:
            yield f"and {count - FIRST_FAULTS:,} more"
        unended = {job_id for job_id, entry in self.open.items() if entry.state is None}
        if lost := unended - self.tomorrow:
            yield f"{len(lost):,} jobs have not ended, such as {_some(lost)}"
        if self._early:
            yield f"jobs ran that nobody has enqueued, such as {_some(self._early)}"

    @property
    def tomorrow(self) -> set[int]:
        """Jobs that are not due before tomorrow."""
        return {job_id for job_id, entry in self.open.items() if entry.kind == "tomorrow"}

    def enqueued(self, job_id: int, kind: str, committed_at: int) -> None:
        """Note that a job was stored."""
        with self._lock:
            self._enqueue(job_id, kind, committed_at)

    def told_unique(
        self,
        kind: str,
        key: str,
        job_id: int,
        *,
        is_duplicate: bool,
        called_at: int,
        returned_at: int,
    ) -> None:
        """Note what was said of a unique job."""
        with self._lock:
            self.uniques[kind].told(
                key,
                job_id,
                is_duplicate=is_duplicate,
                called_at=called_at,
                returned_at=returned_at,
            )
            if not is_duplicate:
                self._enqueue(job_id, kind, returned_at)

    def cancelled(self, job_id: int) -> None:
        """Note that a job was cancelled, before its end."""
        with self._lock:
            self.cancelled_ids.add(job_id)
            self._end(job_id, "cancelled")

    def read(self, lines: Iterable[str]) -> None:
        """Take evidence."""
        with self._lock:
            for line in lines:
                match line.split():
                    case ["ran", job_id, run, handler, begun_at, ended_at, note]:
                        self.run_count += 1
                        self._ran(
                            Run(int(job_id), int(run), handler, int(begun_at), int(ended_at), note)
                        )
                    case ["ended", job_id, state, handler, told_at]:
                        self._ended(int(job_id), state, handler, int(told_at))
                    case _:
                        self._fault(f"a worker has written {line!r}")

    def take_latencies(self) -> list[float]:
        """Return the seconds from commit to start of jobs that began since the last call."""
        with self._lock:
            taken, self._latencies = self._latencies, []
            return taken

    def _enqueue(self, job_id: int, kind: str, committed_at: int) -> None:
        if job_id in self.open or job_id in self.lately:
            self._fault(f"two jobs have the id {job_id}")
        self.enqueued_counts[kind] += 1
        self.open[job_id] = Entry(kind, committed_at)
        for catch_up in self._early.pop(job_id, ()):
            catch_up()

    def _ran(self, run: Run) -> None:
        if run.note != "-":
            self.occurrences.ran(run.note, run.job_id)
            return
        entry = self.open.get(run.job_id)
        if entry is None:
            self._ran_when_not_open(run)
            return
        entry.runs += 1
        if run.number == 1 and entry.kind in TIMED:
            self._latencies.append((run.begun_at - entry.committed_at) / 1e9)
        if entry.kind in self.uniques:
            self.uniques[entry.kind].ran(run.job_id, run.ended_at)
        if run.handler == UNTOLD:
            self._end(run.job_id, "cancelled")
        elif entry.state is not None:
            self._close(run.job_id, entry)

    def _ran_when_not_open(self, run: Run) -> None:
        if run.job_id in self.cancelled_ids:  # while it was running
            return
        if run.job_id in self.lately:
            self._fault(f"job {run.job_id} ran more often than it should")
            return
        # Its producer has not come to note it yet.
        self._early.setdefault(run.job_id, []).append(lambda: self._ran(run))

    def _ended(self, job_id: int, state: str, handler: str, told_at: int) -> None:
        if handler == "occur":
            self.ended_counts[state] += 1
            return
        entry = self.open.get(job_id)
        if entry is None and job_id not in self.lately:
            self._early.setdefault(job_id, []).append(
                lambda: self._ended(job_id, state, handler, told_at)
            )
            return
        if entry is not None and entry.kind in self.uniques:
            self.uniques[entry.kind].ended(job_id, told_at)
        self._end(job_id, state)

    def _end(self, job_id: int, state: str) -> None:
        entry = self.open.get(job_id)
        if entry is None or entry.state is not None:
            before = self.lately.get(job_id) if entry is None else entry.state
            self._fault(f"job {job_id} ended twice: {before}, {state}")
            return
        entry.state = state
        self.ended_counts[state] += 1
        self._close(job_id, entry)

    def _close(self, job_id: int, entry: Entry) -> None:
        """Forget a job that has ended, once its runs are known as well."""
        expected = self._kinds[entry.kind]
        if entry.state is None or entry.runs < expected.runs:
            return
        del self.open[job_id]
        self.lately[job_id] = entry.state
        while len(self.lately) > LATELY:
            self.lately.popitem(last=False)
        # A cancel may come too late: then the job has run, and may have been completed.
        is_late = entry.kind == "cancelled" and (entry.state, entry.runs) in LATE_CANCELS
        if (entry.state, entry.runs) != (expected.state, expected.runs) and not is_late:
            self._fault(self._contradiction(job_id, entry))

    def _contradiction(self, job_id: int, entry: Entry) -> str:
        expected = self._kinds[entry.kind]
        return (
            f"job {job_id} ({entry.kind}) was {entry.state} after {entry.runs} runs "
            f"instead of {expected.state} after {expected.runs}"
        )

    def _fault(self, text: str) -> None:
        self._fault_count += 1
        if len(self._faults) < FIRST_FAULTS:
            self._faults.append(text)


def _some(ids: Collection[int]) -> str:
    return ", ".join(map(str, sorted(ids)[:3]))
