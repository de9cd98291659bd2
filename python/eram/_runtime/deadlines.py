"""Timeouts of attempts: when the next one is to be looked at, and what to report of it.

The threads that run the jobs leave a note when they begin one that has a timeout. Nothing rings
for that: nobody can begin earlier than the job was fetched, so whoever looks a timeout after the
fetch, and then as much later as the note says, is never late.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from eram._base import json_text, wording
from eram._jobs.job import Job
from eram._jobs.outcome import Failed, Outcome, Released, Settled
from eram._runtime import execution
from eram._runtime.event_loop import EventLoop

logger = logging.getLogger(__name__)

NEVER = float("inf")
# So many entries of jobs that have ended are kept until they come to the top.
MAX_STALE_ENTRIES = 1_000

UNSEEN = "(where the handler was cannot be seen on free-threaded Python)"


@dataclass(slots=True, eq=False)
class _Begun:
    """What the thread that runs a job has noted."""

    thread_id: int
    cut: Callable[[Job], None]
    ended_at: float | None = None


class Deadlines:
    """The timeouts of the jobs in hand. It costs nothing where there are none.

    Args:
        in_hand: the jobs that have not ended, whether begun or not.
        loop: where async handlers run.
    """

    def __init__(self, in_hand: Collection[Job], loop: EventLoop) -> None:
        self._in_hand = in_hand
        self._loop = loop
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, Job]] = []
        self._begun: dict[Job, _Begun] = {}

    def watch(self, jobs: Iterable[Job]) -> None:
        """Take the jobs that have a timeout out of those that were fetched just now."""
        now = time.monotonic()
        for job in jobs:
            if (seconds := job.timeout_seconds) is not None:
                self._push(now + seconds, job)
        if len(self._heap) > 2 * len(self._in_hand) + MAX_STALE_ENTRIES:
            self._heap = [entry for entry in self._heap if entry[2] in self._in_hand]
            heapq.heapify(self._heap)

    def begin(self, job: Job, cut: Callable[[Job], None]) -> None:
        """Note that the calling thread begins a job now.

        Args:
            job: the job.
            cut: cuts the job off from the database when it has timed out.
        """
        job.mark_begun()
        self._begun[job] = _Begun(threading.get_ident(), cut)

    def note_end(self, job: Job) -> None:
        """Note that the calling thread has ended a job now."""
        if (begun := self._begun.get(job)) is not None:
            begun.ended_at = time.monotonic()

    def end(self, outcome: Outcome) -> Outcome | None:
        """Forget the job of an outcome; say what counts of it: nothing once it has timed out."""
        job = outcome.job
        begun = self._begun.pop(job, None)
        # What was committed just before stands, and the report of the timeout is in vain.
        if begun is None or begun.ended_at is None or isinstance(outcome, Settled):
            return outcome
        late_seconds = begun.ended_at - job.late_at
        if not job.timed_out:
            if late_seconds < 0 or job.cancelled or isinstance(outcome, Released):
                return outcome
            # Nobody has looked in between.
            job.mark_timed_out()
            place = outcome.detail.get("traceback", "") if isinstance(outcome, Failed) else ""
            return _timed_out(job, place)
        logger.warning(
            "job %s has ended %.1f s after run %s of it timed out; what came of it is dropped",
            job.id,
            late_seconds,
            job.run,
            extra={"job_id": job.id, "run": job.run},
        )
        return None

    def seconds_left(self) -> float:
        """Say after how long to look again."""
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else NEVER

    def expire(self, report: Callable[[Failed], None]) -> bool:
        """Mark and report the attempts that have timed out by now; say whether there are any."""
        if not self._heap or self._heap[0][0] > (now := time.monotonic()):
            return False
        has_any = False
        while self._heap and self._heap[0][0] <= now:
            _, _, job = heapq.heappop(self._heap)
            # One that was cancelled has nothing to report any more.
            if job not in self._in_hand or job.cancelled:
                continue
            begun = self._begun.get(job)
            at = job.late_at if begun else now + (job.timeout_seconds or 0.0)
            if begun is None or at > now:
                self._push(at, job)
                continue
            # Whether that was in time is known when its outcome is looked at.
            if begun.ended_at is not None:
                continue
            # Marked first: what the handler does from now on is in vain.
            job.mark_timed_out()
            report(_timed_out(job, self._place_of(job, begun.thread_id)))
            self._loop.cancel(job)
            begun.cut(job)
            has_any = True
        return has_any

    def _place_of(self, job: Job, thread_id: int) -> str:
        if not _can_look():
            return UNSEEN
        frames = self._loop.frames_of(job)
        if frames is None:
            frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the way there is
            place = wording.stack(frame, execution.MAX_TRACEBACK_ENTRIES)
        else:
            place = wording.entries(frames, execution.MAX_TRACEBACK_ENTRIES)
        return json_text.storable_text(place, execution.MAX_TRACEBACK_CHARACTERS)

    def _push(self, at: float, job: Job) -> None:
        heapq.heappush(self._heap, (at, next(self._numbers), job))


def _can_look() -> bool:
    """Say whether one thread may look at what another one runs: without the lock it may be gone."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _timed_out(job: Job, place: str) -> Failed:
    error = f"timed out after {job.timeout_seconds:g} s"
    return Failed(job, error, {"type": "timeout", "traceback": place})
