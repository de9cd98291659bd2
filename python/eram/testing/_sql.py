"""The statements of the testing helpers: each is a call of one function of the extension.

Parameters and columns are of types that every driver knows, for the connection may be anybody's.
"""

from __future__ import annotations

from typing import LiteralString

START_WORKER: LiteralString = "select eram_start_worker('eram.testing', %s::text[], null::integer)"
STOP_WORKER: LiteralString = "select eram_stop_worker(%s::bigint)"

# In the order of eram._jobs.job.JobRow, but jsonb is text, and times are microseconds since 2000.
FETCH: LiteralString = (
    "select id, run, handler, cast(args as text), cast(meta as text), tags, queue, priority,"
    " attempt, max_attempts,"
    " cast(extract(epoch from inserted_at - timestamptz '2000-01-01 UTC') * 1000000 as bigint),"
    " cast(extract(epoch from scheduled_at - timestamptz '2000-01-01 UTC') * 1000000 as bigint),"
    " cast(extract(epoch from attempted_at - timestamptz '2000-01-01 UTC') * 1000000 as bigint),"
    " cast(extract(epoch from timeout) as float8)"
    " from _eram_fetch_in_test(%s::bigint, %s::text, %s::boolean,"
    " %s::boolean, %s::bigint, %s::bigint[])"
)
NEWEST_JOB: LiteralString = "select _eram_newest_job()"

COMPLETE_JOB: LiteralString = (
    "select eram_complete_jobs(array[%s::bigint], array[%s::integer], array[%s::jsonb])"
)
FAIL_JOB: LiteralString = (
    "select eram_fail_job(%s::bigint, %s::integer, %s::text, %s::jsonb,"
    " make_interval(secs => %s::float8))"
)
SNOOZE_JOB: LiteralString = (
    "select nullif(eram_snooze_job(%s::bigint, %s::integer,"
    " make_interval(secs => %s::float8)), false)"
)
CANCEL_JOB: LiteralString = (
    "select nullif(eram_cancel_job(%s::bigint, run => %s::integer, reason => %s::text), false)"
)
DISCARD_JOB: LiteralString = (
    "select nullif(eram_discard_job(%s::bigint, %s::integer, %s::text), false)"
)

# A job as a JSON object, and the names of the criteria that it does not meet.
COMPARE_JOBS: LiteralString = (
    "select cast(to_jsonb(job) as text), cast(array_to_json(unmet) as text)"
    " from _eram_compare_jobs(%s::jsonb, %s::boolean)"
)

ADVANCE_TIME: LiteralString = "select _eram_advance_time(make_interval(secs => %s::float8))"
TICK: LiteralString = "select _eram_tick_in_test()"

# What `set` and `set local` change, by names that hold wherever a handler has pointed search_path.
# The server lists neither the role nor settings that an application has made up.
SAVE_SETTINGS: LiteralString = (
    "select cast(pg_catalog.json_object_agg(name, setting) as text) from ("
    "select name, setting from pg_catalog.pg_settings where context in ('user', 'superuser')"
    " union all select 'role', pg_catalog.current_setting('role')) as settings"
)
RESTORE_SETTINGS: LiteralString = (
    "select pg_catalog.count(pg_catalog.set_config(name, %s::jsonb ->> name, true)) from ("
    "select name, setting from pg_catalog.pg_settings where context in ('user', 'superuser')"
    " union all select 'role', pg_catalog.current_setting('role')) as settings"
    " where setting <> %s::jsonb ->> name"
)
