"""Whether each occurrence of a schedule was enqueued once, by the jobs that ran for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg

# Names of the soak's schedules, what they are, and how far occurrences are apart.
SCHEDULES = {
    "soak_each_second": ("1 second", timedelta(seconds=1)),
    "soak_each_minute": ("* * * * *", timedelta(minutes=1)),
}
# A tick that comes late on a busy machine enqueues all that it has missed.
SCHEDULE = """
select eram_schedule(
    %s, %s, 'soak.handlers:occur', missed => 'all', options => '{"queue": "mixed"}')
"""
# The lock keeps tickers away until it is paused.
NEXT = "select next_run_at from eram_schedules where name = %s for update"
PAUSE = "select eram_pause_schedule(%s)"


class Occurrences:
    """Which occurrences there were, and which job ran for which."""

    def __init__(self) -> None:
        self.first: dict[str, datetime] = {}
        self.after_last: dict[str, datetime] = {}
        self._jobs: defaultdict[tuple[str, datetime], set[int]] = defaultdict(set)

    def begin(self, conn: psycopg.Connection) -> None:
        """Make the schedules."""
        for name, (schedule, _) in SCHEDULES.items():
            ((self.first[name],),) = conn.execute(SCHEDULE, (name, schedule)).fetchall()

    def end(self, conn: psycopg.Connection) -> None:
        """Pause the schedules."""
        for name in SCHEDULES:
            with conn.transaction():
                ((self.after_last[name],),) = conn.execute(NEXT, (name,)).fetchall()
                conn.execute(PAUSE, (name,))

    def ran(self, note: str, job_id: int) -> None:
        """Note a run; the note is the schedule's name and the occurrence, with an @ between."""
        name, _, scheduled_for = note.partition("@")
        self._jobs[name, datetime.fromisoformat(scheduled_for)].add(job_id)

    def due(self) -> set[tuple[str, datetime]]:
        """Return all occurrences that there were."""
        return {
            (name, self.first[name] + number * apart)
            for name, (_, apart) in SCHEDULES.items()
            for number in range((self.after_last[name] - self.first[name]) // apart)
        }

    def faults(self) -> Iterator[str]:
        """Say what is wrong."""
        due = self.due()
        for name, at in sorted(due - self._jobs.keys()):
            yield f"no job ran for {name} at {at}"
        for (name, at), jobs in sorted(self._jobs.items()):
            if (name, at) not in due:
                yield f"a job ran for {name} at {at}, which was not due"
            elif len(jobs) > 1:
                yield f"{len(jobs)} jobs ran for {name} at {at}"
