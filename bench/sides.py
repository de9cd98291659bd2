"""Who is compared, behind one face: eram (of_eram.py), the yardstick and the peers (peer.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lab import Bench

CALL_JOBS = 1_000
START_SECONDS = 30.0
STOP_SECONDS = 30.0

Fetch = Callable[[int], list[Any]]
Complete = Callable[[list[Any]], None]
Stamps = dict[int, int]  # nanoseconds by what identifies a job


class Producer(Protocol):
    """Who enqueues; three of the four return how many seconds it took."""

    def enqueue_documents(self, jobs: int) -> float:
        """Enqueue a thousand a call, each with arguments of its own."""

    def enqueue_set(self, jobs: int) -> float:
        """Enqueue by a query over rows, a thousand at a time."""

    def enqueue_singly(self, jobs: int, producers: int) -> float:
        """Enqueue and commit one by one, by several at once."""

    def enqueue_steadily(self, jobs: int, rate: float) -> Stamps:
        """Enqueue and commit at a rate; return when each was about to be committed."""


class Worker(Protocol):
    """A worker process that is ready, and does nothing before it is let go."""

    pid: int

    def let_go(self) -> None:
        """Let it begin."""

    def stop(self) -> Stamps:
        """Stop it; return when it started jobs, where it knows."""

    def kill(self) -> None:
        """End it at once, if it has not ended."""


class Side(Protocol):
    """What a measurement needs of each who is compared."""

    name: str
    label: str
    share: float  # of the jobs of a full run, for the slow ones
    without: Mapping[str, str]  # what it cannot do, and why

    def install(self, dsn: str) -> None:
        """Make the tables."""

    def describe(self) -> dict[str, str]:
        """Say what it is: its version, its settings, what it keeps."""

    def producer(self, bench: Bench) -> AbstractContextManager[Producer]:
        """Connect a producer."""

    def start_worker(self, bench: Bench, *, is_listening: bool = False) -> Worker:
        """Start a worker process."""

    def finished(self, bench: Bench) -> int:
        """Return how many jobs have been finished, by its own tables."""

    def span(self, bench: Bench, since: datetime) -> float | None:
        """Return the seconds from the first start since then to the last end, where they tell."""
