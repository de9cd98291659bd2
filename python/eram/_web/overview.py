"""The overview: what waits, runs and fails, over all queues, and what is not well."""

from __future__ import annotations

import json
from typing import LiteralString

from eram._web.database import Database, Transaction
from eram._web.http import HttpError, document
from eram._web.look import Look

# Looking after the health of everything is dearer than a look at the queues, and changes rarely.
HEALTH_SECONDS = 10.0

# What is in trouble or at work is at the front, where there are many.
_QUEUES: LiteralString = """
with stats as materialized (
    select *
    from eram_queue_stats
)
select
    coalesce(
        (
            select jsonb_agg(listed.row)
            from (
                select
                    to_jsonb(stats) || jsonb_build_object(
                        'oldest_due_age', extract(epoch from stats.oldest_due_age)) as row
                from stats
                order by
                    stats.waiting_count + stats.running_count + stats.completed_per_minute desc,
                    stats.queue
                limit 100
            ) as listed
        ),
        '[]')::text,
    (select count(*) from stats)::text,
    (
        select json_build_object(
            'waiting', coalesce(sum(stats.waiting_count), 0),
            'due', coalesce(sum(stats.due_count), 0),
            'running', coalesce(sum(stats.running_count), 0),
            'retryable', coalesce(sum(stats.retryable_count), 0),
            'completed_per_minute', coalesce(sum(stats.completed_per_minute), 0),
            'failed_per_minute', coalesce(sum(stats.failed_per_minute), 0),
            'workers', (
                select count(*)
                from eram_workers as workers
                where workers.ended_at is null
            ),
            'is_estimate', coalesce(bool_or(stats.is_estimate), false))
        from stats
    )::text
"""

# Percentiles cannot be added up: of several queues the worst is shown.
THROUGHPUT: LiteralString = """
select coalesce(json_agg(summed order by summed.minute), '[]')::text
from (
    select
        minutes.minute,
        sum(minutes.completed_count) as completed,
        sum(minutes.failed_count) as failed,
        sum(minutes.discarded_count) as discarded,
        sum(minutes.cancelled_count) as cancelled,
        sum(minutes.waiting_count) as waiting,
        sum(minutes.running_count) as running,
        extract(epoch from max(minutes.wait_times[1]))::float8 as wait_p50,
        extract(epoch from max(minutes.wait_times[2]))::float8 as wait_p95,
        extract(epoch from max(minutes.run_times[1]))::float8 as run_p50,
        extract(epoch from max(minutes.run_times[2]))::float8 as run_p95
    from eram_count_minutes(%s::text) as minutes
    group by minutes.minute
) as summed
"""

# A check whose role may not see what it needs says so, and is no reason for alarm.
_HEALTH: LiteralString = """
select
    json_build_object(
        'level', case
            when bool_or(checks.level = 'critical') then 'critical'
            when bool_or(checks.level = 'warn') then 'warn'
            when bool_or(checks.level = 'ok') then 'ok'
            else 'unknown'
        end,
        'checks', coalesce(json_agg(checks), '[]'))::text,
    json_build_object(
        'level', case
            when bool_or(checks.level = 'critical') then 'critical'
            when bool_or(checks.level = 'warn') then 'warn'
            when bool_or(checks.level = 'ok') then 'ok'
            else 'unknown'
        end,
        'checks', coalesce(json_agg(checks) filter (where checks.level <> 'ok'), '[]'))::text
from eram_health() as checks
"""


class Looks:
    """What all clients see of the same, looked up once for all of them."""

    def __init__(self, database: Database, refresh: float) -> None:
        self._database = database
        self._refresh = refresh
        self._overview = Look(self._look_at_all)
        self._health = Look(self._look_at_health)

    @property
    def pause(self) -> float:
        """After how many seconds to look again, so that the database rests in between."""
        return max(self._refresh, self.rest)

    @property
    def rest(self) -> float:
        """For how long the database is left alone after a look, whatever happens."""
        return self._overview.rest

    def overview(self) -> str:
        """Return api/overview."""
        return self._overview.get(self._refresh)

    def health(self) -> str:
        """Return api/health."""
        return self._health.get(self._refresh)[0]

    def forget(self) -> None:
        """Have the next look find what an action has changed."""
        self._overview.forget()
        self._health.forget()

    def _look_at_all(self) -> str:
        with self._database.read() as look:
            queues, count, totals = look.row(_QUEUES)
            minutes = look.text(THROUGHPUT, None)
        health = self._health_or_why_not()
        return document(
            queues=queues, queue_count=count, totals=totals, throughput=minutes, health=health
        )

    def _health_or_why_not(self) -> str:
        """Return what is not healthy; that this took too long is no reason to show nothing else."""
        try:
            return self._health.get(HEALTH_SECONDS)[1]
        except HttpError as error:
            if error.code != "timeout":
                raise
            finding = f"this could not be looked at: {error.error}"
            check = {"name": "health", "level": "unknown", "finding": finding}
            return json.dumps({"level": "unknown", "checks": [check]})

    def _look_at_health(self) -> tuple[str, str]:
        with self._database.read() as look:
            everything, trouble = look.row(_HEALTH)
        return everything, trouble


def throughput(look: Transaction, queue: str) -> str:
    """Return the last hour of one queue."""
    return look.text(THROUGHPUT, queue)
