"""Queues, schedules, workers and handlers, as lists and one by one."""

from __future__ import annotations

from typing import LiteralString

import psycopg

from eram._web.database import Database
from eram._web.http import document, not_found
from eram._web.overview import throughput

# By name, because a name is the cursor that nothing moves.
_LIST: LiteralString = """
with stats as materialized (
    select *
    from eram_queue_stats as stats
    where %(search)s::text is null or strpos(lower(stats.queue), lower(%(search)s::text)) > 0
),
listed as (
    select *
    from stats
    where %(after)s::text is null or stats.queue > %(after)s::text
    order by stats.queue
    limit %(limit)s::integer + 1
),
page as (
    select *
    from listed
    order by listed.queue
    limit %(limit)s::integer
)
select
    coalesce(
        (
            select
                jsonb_agg(
                    to_jsonb(page) || jsonb_build_object(
                        'oldest_due_age', extract(epoch from page.oldest_due_age))
                    order by page.queue)
            from page
        ),
        '[]')::text,
    coalesce(
        (
            select to_json(max(page.queue))
            from page
            where (select count(*) from listed) > %(limit)s::integer
        ),
        'null')::text,
    (select count(*) from stats)::text
"""

_ONE: LiteralString = """
select
    (
        select to_jsonb(stats) || jsonb_build_object(
            'oldest_due_age', extract(epoch from stats.oldest_due_age))
        from eram_queue_stats as stats
        where stats.queue = %(queue)s::text
    )::text,
    (
        select json_build_object(
            'name', queues.name,
            'is_paused', queues.is_paused,
            'is_notifying', queues.is_notifying,
            'is_announcing', queues.is_announcing,
            'global_limit', queues.global_limit,
            'priority', queues.priority,
            'max_attempts', queues.max_attempts,
            'backoff', queues.backoff,
            'max_age', queues.max_age,
            'rescue_after', extract(epoch from queues.rescue_after)::float8)
        from eram_queues as queues
        where queues.name = %(queue)s::text
    )::text,
    (
        select json_build_object(
            'queue', latency.queue,
            'sample_count', latency.sample_count,
            'wait_p50', extract(epoch from latency.wait_times[1])::float8,
            'wait_p95', extract(epoch from latency.wait_times[2])::float8,
            'wait_p99', extract(epoch from latency.wait_times[3])::float8,
            'run_p50', extract(epoch from latency.run_times[1])::float8,
            'run_p95', extract(epoch from latency.run_times[2])::float8,
            'run_p99', extract(epoch from latency.run_times[3])::float8,
            'newest_at', latency.newest_at)
        from eram_measure_latency(%(queue)s::text) as latency
    )::text
"""

# The first of the next runs is known; what cannot be computed any more, because the server has lost
# a time zone, shall not hide the rest.
_SCHEDULES: LiteralString = """
with found as materialized (
    select *
    from eram_schedules as schedules
    where
        %(search)s::text is null
        or strpos(lower(schedules.name), lower(%(search)s::text)) > 0
),
listed as (
    select *
    from found
    where %(after)s::text is null or found.name > %(after)s::text
    order by found.name
    limit %(limit)s::integer + 1
),
page as (
    select *
    from listed
    order by listed.name
    limit %(limit)s::integer
)
select
    coalesce(
        (
            select json_agg(rows order by rows.name)
            from (
                select
                    page.name,
                    page.action,
                    page.schedule,
                    page.timezone,
                    page.job,
                    left(page.command, 10000) as command,
                    page.options,
                    extract(epoch from page.timeout)::float8 as timeout,
                    page.missed,
                    page.allows_overlap,
                    page.is_paused,
                    page.declared_by,
                    page.next_run_at,
                    page.last_run_at,
                    page.last_job_id,
                    page.last_error,
                    page.run_count,
                    page.inserted_at,
                    array_remove(array[page.next_run_at, second.run_at, third.run_at], null)
                        as next_runs
                from page
                left join lateral (
                    select eram_next_run(page.schedule, page.timezone, page.next_run_at) as run_at
                    where page.next_run_at is not null and %(is_looking_ahead)s::boolean
                ) as second on true
                left join lateral (
                    select eram_next_run(page.schedule, page.timezone, second.run_at) as run_at
                    where second.run_at is not null
                ) as third on true
            ) as rows
        ),
        '[]')::text,
    coalesce(
        (
            select to_json(max(page.name))
            from page
            where (select count(*) from listed) > %(limit)s::integer
        ),
        'null')::text,
    (select count(*) from found)::text
"""

# A worker is known to whoever reads jobs by its name.
_WORKERS: LiteralString = """
with running as materialized (
    select
        ranked.attempted_by,
        json_agg(
            json_build_object(
                'id', ranked.id,
                'queue', ranked.queue,
                'handler', ranked.handler,
                'attempted_at', ranked.attempted_at)
            order by ranked.attempted_at, ranked.id) as jobs
    from (
        select
            jobs.id,
            jobs.queue,
            jobs.handler,
            jobs.attempted_at,
            jobs.attempted_by,
            row_number() over (
                partition by jobs.attempted_by
                order by jobs.attempted_at, jobs.id) as place
        from eram_jobs as jobs
        where jobs.state = 'executing'
    ) as ranked
    where ranked.place <= 20
    group by ranked.attempted_by
)
select
    coalesce(json_agg(rows order by rows.name, rows.worker), '[]')::text,
    (
        select count(*)
        from eram_workers as workers
        where workers.ended_at is null
    )::text
from (
    select
        stats.worker,
        stats.name,
        stats.queues,
        stats.condition,
        stats.started_at,
        stats.heartbeat_at,
        stats.is_direct,
        stats.client_pid,
        stats.running_count,
        stats.oldest_attempted_at,
        coalesce(running.jobs, '[]') as running
    from eram_worker_stats as stats
    left join running on running.attempted_by = stats.name
    order by
        stats.name,
        stats.worker
    limit 500
) as rows
"""

_HANDLERS: LiteralString = """
select coalesce(json_agg(rows), '[]')::text
from (
    select
        stats.handler,
        stats.running_count,
        stats.completed_count,
        stats.failed_count,
        stats.discarded_count,
        extract(epoch from stats.wait_p50)::float8 as wait_p50,
        extract(epoch from stats.wait_p95)::float8 as wait_p95,
        extract(epoch from stats.run_p50)::float8 as run_p50,
        extract(epoch from stats.run_p95)::float8 as run_p95,
        stats.last_errored_at,
        left(stats.last_error, 500) as last_error,
        stats.is_estimate
    from eram_handler_stats as stats
    order by
        stats.failed_count desc,
        stats.completed_count + stats.running_count desc,
        stats.handler
    limit 500
) as rows
"""


def queues(database: Database, search: str | None, after: str | None, limit: int) -> str:
    """Return api/queues."""
    with database.read() as look:
        rows, following, count = look.row_named(_LIST, search=search, after=after, limit=limit)
    return document(rows=rows, next=following, count=count)


def queue(database: Database, name: str) -> str:
    """Return api/queues/NAME."""
    with database.read() as look:
        row, settings, latency = look.row_named(_ONE, queue=name)
        if row is None and settings is None:
            raise not_found(
                f'there is nothing in queue "{name}"',
                "A queue is there as long as it has jobs, workers or settings.",
            )
        minutes = throughput(look, name)
    return document(
        queue=row or "null",
        settings=settings or "null",
        latency=latency or "null",
        throughput=minutes,
    )


def schedules(database: Database, search: str | None, after: str | None, limit: int) -> str:
    """Return api/schedules."""
    named = {"search": search, "after": after, "limit": limit}
    with database.read() as look:
        try:
            with look.attempt():
                rows, following, count = look.row_named(_SCHEDULES, is_looking_ahead=True, **named)
        except psycopg.DataError:
            rows, following, count = look.row_named(_SCHEDULES, is_looking_ahead=False, **named)
    return document(rows=rows, next=following, count=count)


def workers(database: Database) -> str:
    """Return api/workers."""
    with database.read() as look:
        rows, count = look.row(_WORKERS)
    return document(rows=rows, count=count)


def handlers(database: Database) -> str:
    """Return api/handlers."""
    with database.read() as look:
        rows = look.text(_HANDLERS)
    return document(rows=rows)
