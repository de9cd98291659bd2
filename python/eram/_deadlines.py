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
from typing import NamedTuple

from eram import _executor, _json, _wording
from eram._job import Job
from eram._outcome import Failed, Outcome, Settled

logger = logging.getLogger(__name__)

NEVER = float("inf")
# So many entries of jobs that have ended are kept until they come to the top.
MAX_STALE_ENTRIES = 1_000


class _Begun(NamedTuple):
    """What the thread that runs a job has noted."""

    at: float
    thread_id: int
    cut: Callable[[Job], None]


class Deadlines:
    """The timeouts of the jobs in hand. It costs nothing where there are none.

    Args:
        in_hand: the jobs that have not ended, whether begun or not.
    """

    def __init__(self, in_hand: Collection[Job]) -> None:
        self._in_hand = in_hand
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
        self._begun[job] = _Begun(time.monotonic(), threading.get_ident(), cut)

    def end(self, outcome: Outcome) -> bool:
        """Forget the job of an outcome; say whether that counts, which it does before a timeout."""
        job = outcome.job
        begun = self._begun.pop(job, None)
        # What was committed just before stands, and the report of the timeout is in vain.
        if begun is None or not job.timed_out or isinstance(outcome, Settled):
            return True
        logger.warning(
            "job %s has ended %.1f s after run %s of it timed out; what came of it is dropped",
            job.id,
            time.monotonic() - begun.at - (job.timeout_seconds or 0.0),
            job.run,
            extra={"job_id": job.id, "run": job.run},
        )
        return False

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
            at = (now if begun is None else begun.at) + (job.timeout_seconds or 0.0)
            if begun is None or at > now:
                self._push(at, job)
                continue
            # Marked first: what the handler does from now on is in vain.
            job.mark_timed_out()
            report(_timed_out(job, begun.thread_id))
            begun.cut(job)
            has_any = True
        return has_any

    def _push(self, at: float, job: Job) -> None:
        heapq.heappush(self._heap, (at, next(self._numbers), job))


def _timed_out(job: Job, thread_id: int) -> Failed:
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the way there is
    place = _wording.stack(frame, _executor.MAX_TRACEBACK_ENTRIES)
    detail = {
        "type": "timeout",
        "traceback": _json.storable_text(place, _executor.MAX_TRACEBACK_CHARACTERS),
    }
    return Failed(job, f"timed out after {job.timeout_seconds:g} s", detail)
