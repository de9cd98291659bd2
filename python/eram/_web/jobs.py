"""Jobs: lists by filter, and one job with all that is known of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, LiteralString

from eram._web.database import Database
from eram._web.http import document, not_found

# The database looks at so much in a call; for so long the next call follows at once.
SEARCH_SECONDS = 1.0
MAX_COUNTED = 10_000

# The states that an action is for.
ACTION_STATES: Mapping[str, tuple[str, ...]] = {
    "retry": ("completed", "discarded", "cancelled", "retryable"),
    "cancel": ("available", "scheduled", "retryable", "executing"),
    "delete": ("available", "scheduled", "retryable", "completed", "discarded", "cancelled"),
}

_FIND: LiteralString = """
select
    found.ids,
    found.next_before
from eram_find_jobs(%s::jsonb, %s::bigint, %s::integer) as found
"""

# Arguments may be of any size: a list shows what they begin with, unless they take more than this
# in the table, where they are compressed, perhaps to a hundredth. "offset 0" makes them text only
# once. A lateral limit, because any other join may be planned the wrong way round.
_LIST: LiteralString = """
with found as materialized (
    select *
    from eram_find_jobs(
        %(filter)s::jsonb, %(before)s::bigint, %(limit)s::integer)
)
select
    coalesce(
        (
            select json_agg(rows order by rows.id desc)
            from (
                select
                    jobs.id,
                    jobs.state,
                    jobs.queue,
                    jobs.handler,
                    case when texts.is_short then jobs.args end as args,
                    left(texts.args, 300) as args_text,
                    not texts.is_short as is_args_cut,
                    jobs.tags,
                    jobs.attempt,
                    jobs.max_attempts,
                    jobs.priority,
                    jobs.scheduled_at,
                    jobs.attempted_at,
                    jobs.finalized_at,
                    jobs.inserted_at,
                    (
                        select left(errors.error, 500)
                        from eram_errors as errors
                        where errors.job_id = jobs.id
                        order by errors.run desc
                        limit 1
                    ) as last_error
                from found
                cross join lateral unnest(found.ids) as listed (id)
                cross join lateral (
                    select *
                    from eram_latest_jobs as latest
                    where latest.id = listed.id
                    limit 1
                ) as jobs
                cross join lateral (
                    select
                        whole.args,
                        length(whole.args) <= 4000 as is_short
                    from (
                        select
                            case
                                when pg_column_size(jobs.args) < 16000 then jobs.args::text
                                else repeat('.', 5000)
                            end as args
                        offset 0
                    ) as whole
                ) as texts
            ) as rows
        ),
        '[]')::text,
    cardinality(found.ids),
    found.next_before
from found
"""

_ONE: LiteralString = """
select (
    select to_json(rows)
    from (
        select
            jobs.id,
            jobs.state,
            jobs.queue,
            jobs.handler,
            case when length(texts.args) < 200000 then jobs.args end as args,
            left(texts.args, 200000) as args_text,
            case when length(texts.meta) < 200000 then jobs.meta end as meta,
            left(texts.meta, 200000) as meta_text,
            case when length(texts.result) < 200000 then jobs.result end as result,
            left(texts.result, 200000) as result_text,
            jobs.tags,
            jobs.attempt,
            jobs.max_attempts,
            jobs.priority,
            jobs.attempted_by,
            jobs.inserted_at,
            jobs.scheduled_at,
            jobs.attempted_at,
            jobs.finalized_at,
            eram_why(jobs.id) as why
        from eram_latest_jobs as jobs
        cross join lateral (
            select
                jsonb_pretty(jobs.args) as args,
                jsonb_pretty(jobs.meta) as meta,
                jsonb_pretty(jobs.result) as result
            offset 0
        ) as texts
        where jobs.id = %(id)s::bigint
    ) as rows
)::text
"""

_ATTEMPTS: LiteralString = """
select
    coalesce(json_agg(rows order by rows.run desc), '[]')::text,
    (
        select count(*)
        from eram_errors as errors
        where errors.job_id = %(id)s::bigint
    )::text
from (
    select
        errors.run,
        errors.attempt,
        errors.errored_at,
        errors.attempted_by,
        errors.error,
        errors.type,
        left(errors.traceback, 50000) as traceback
    from eram_errors as errors
    where errors.job_id = %(id)s::bigint
    order by errors.run desc
    limit 100
) as rows
"""


def jobs(database: Database, wanted: Mapping[str, Any], before: int | None, limit: int) -> str:
    """Return api/jobs."""
    parts: list[str] = []
    count = 0
    following = before
    ends_at = time.monotonic() + SEARCH_SECONDS
    with database.read() as look:
        while True:
            rows, found, following = look.row_named(
                _LIST, filter=json.dumps(wanted), before=following, limit=limit - count
            )
            count += found
            # The brackets around each list are left out, and put around them all below.
            parts += [rows[1:-1]] if found else []
            if following is None or count >= limit or time.monotonic() >= ends_at:
                break
    return document(rows=f"[{','.join(parts)}]", next=json.dumps(following))


def count(database: Database, wanted: Mapping[str, Any], action: str) -> str:
    """Return api/jobs/count: how many jobs an action would be for."""
    narrowed = narrow(wanted, action)
    if narrowed is None:
        return json.dumps({"count": 0, "is_exact": True})
    total = 0
    before: int | None = None
    ends_at = time.monotonic() + SEARCH_SECONDS
    with database.read() as look:
        while True:
            ids, before = look.row(_FIND, json.dumps(narrowed), before, MAX_COUNTED - total)
            total += len(ids)
            if before is None or total >= MAX_COUNTED or time.monotonic() >= ends_at:
                break
    return json.dumps({"count": total, "is_exact": before is None})


def narrow(wanted: Mapping[str, Any], action: str) -> dict[str, Any] | None:
    """Leave in a filter only the states that an action is for; None when there are none left."""
    states = wanted.get("state", ACTION_STATES[action])
    states = [states] if isinstance(states, str) else states
    # What the database refuses is left to it, to say what is wrong.
    is_readable = isinstance(states, list | tuple) and all(each in _STATES for each in states)
    if not states or not is_readable or ("all" in wanted and wanted != {"all": True}):
        return dict(wanted)
    left = [each for each in ACTION_STATES[action] if each in states]
    kept = {name: each for name, each in wanted.items() if name != "all"}
    return {**kept, "state": left} if left else None


# A list, because anything can be looked for in it.
_STATES = [each for states in ACTION_STATES.values() for each in states]


def job(database: Database, job_id: int) -> str:
    """Return api/jobs/ID."""
    with database.read() as look:
        (found,) = look.row_named(_ONE, id=job_id)
        if found is None:
            raise not_found(f"job {job_id} does not exist", "It was pruned, or never was.")
        attempts, attempt_count = look.row_named(_ATTEMPTS, id=job_id)
    return document(job=found, attempts=attempts, attempt_count=attempt_count)
