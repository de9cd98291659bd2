"""The books in the end: what producers and workers say, against what eram's tables say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from by_sql import count

from soak.ledger import Ledger

# Counted by the server as rows go, so it knows of those that the prune has removed. Sessions send
# these numbers when they end, at the latest.
REMOVED: LiteralString = (
    "select n_tup_del from pg_stat_user_tables where relname = 'eram_job_specs'"
)
OVERDUE: LiteralString = (
    "select count(*) from eram_finished_jobs"
    " where finalized_at < clock_timestamp() - interval '{} seconds'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What eram has in the end."""

    states: dict[str, int]  # of the jobs that are there
    scheduled_ids: set[int]
    stored: int
    removed: int
    overdue: int  # that have ended so long ago that they should be gone
    contradictions: list[str]  # between eram's finished jobs and the evidence
    violations: list[str]  # what eram_check() finds

    @classmethod
    def read(cls, conn: psycopg.Connection, ledger: Ledger, gone_seconds: float) -> Accounts:
        """Ask a database in which nothing is at work any more."""
        finished = conn.execute("select job_id, state from eram_finished_jobs").fetchall()
        states = conn.execute("select state, count(*) from eram_jobs group by state").fetchall()
        scheduled = conn.execute("select id from eram_jobs where state = 'scheduled'").fetchall()
        violations = conn.execute("select * from eram_check()").fetchall()
        return cls(
            states=dict(states),
            scheduled_ids={job_id for (job_id,) in scheduled},
            stored=count(conn, "select count(*) from eram_job_specs"),
            removed=count(conn, REMOVED),
            overdue=count(conn, OVERDUE.format(gone_seconds)),
            contradictions=[
                f"job {job_id} is {state}, and was said to be {ledger.lately[job_id]}"
                for job_id, state in finished
                if ledger.lately.get(job_id, state) != state
            ],
            violations=[" ".join(map(str, row)) for row in violations],
        )

    def faults(self, ledger: Ledger) -> Iterator[str]:
        """Say which jobs are not accounted for."""
        yield from ledger.faults()
        if ledger.tomorrow != self.scheduled_ids:
            there = ledger.tomorrow & self.scheduled_ids
            yield f"of {len(ledger.tomorrow):,} jobs for tomorrow {len(there):,} are there"
        enqueued, fired = ledger.enqueued_counts.total(), len(ledger.occurrences.due())
        if enqueued + fired != self.stored + self.removed:
            yield (
                f"{enqueued:,} jobs were enqueued and {fired:,} scheduled, "
                f"but {self.stored:,} are there and {self.removed:,} were removed"
            )
        yield from self.contradictions[:10]

    def describe(self, ledger: Ledger) -> dict[str, Any]:
        """Write it down, for the result."""
        return {
            "enqueued": dict(ledger.enqueued_counts),
            "by schedules": len(ledger.occurrences.due()),
            "ended": dict(ledger.ended_counts),
            "runs": ledger.run_count,
            "there": self.states,
            "removed": self.removed,
            "unique": {
                name: {"stored": uniques.stored, "refused": uniques.refused}
                for name, uniques in ledger.uniques.items()
            },
        }
