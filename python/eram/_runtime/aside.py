"""Reports put aside, because someone has locked what they are about.

An administrator's transaction that is left open may hold a job for hours. Its report is tried again
now and then, those of other jobs go on, and of a batch those that can be taken are soon told apart.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from eram._jobs.job import Job
from eram._jobs.outcome import Outcome

logger = logging.getLogger(__name__)

NEVER = float("inf")
# Between two tries when one was in vain: each takes as long as it waits for a lock.
SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0

# What one call reports: completions, or releases, or one outcome of another kind.
Group: TypeAlias = Sequence[Outcome]


class Aside:
    """The groups that are to be tried again, one at a time.

    As long as they succeed the next one follows at once; after each one in vain there is a pause.
    """

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._taken: Group | None = None
        self._pause = SHORTEST_PAUSE_SECONDS
        self._next_at = 0.0
        self._known: set[Job] = set()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __iter__(self) -> Iterator[Outcome]:
        return (outcome for group in list(self._groups) for outcome in group)

    def seconds_left(self) -> float:
        """Say after how long there is something to be tried."""
        return max(0.0, self._next_at - time.monotonic()) if self._groups else NEVER

    def put(self, group: Group) -> None:
        """Keep a group that someone is in the way of; by halves it is found out of which job."""
        if group is self._taken:
            self._taken = None
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        elif not self._groups:
            self._pause = SHORTEST_PAUSE_SECONDS
        self._next_at = time.monotonic() + self._pause
        if len(group) > 1:
            half = len(group) // 2
            self._groups.extend((group[:half], group[half:]))
        else:
            self._groups.append(group)
            self._complain(group[0].job)

    def take(self) -> Group | None:
        """Hand out a group to be tried now, if it is time for one."""
        # The one before has not come back.
        if self._taken is not None:
            self._taken = None
            self._pause = SHORTEST_PAUSE_SECONDS
        if self.seconds_left() > 0:
            return None
        self._taken = self._groups.popleft()
        return self._taken

    def _complain(self, job: Job) -> None:
        """Say so, but not with every try."""
        if job in self._known:
            return
        self._known.intersection_update([outcome.job for outcome in self])
        self._known.add(job)
        logger.warning(
            "job %s is locked by someone: the report of run %s waits until it is not",
            job.id,
            job.run,
            extra={"job_id": job.id, "run": job.run},
        )
