"""Every statement that the runtime sends: each is a call of one function of the extension."""

from __future__ import annotations

from typing import LiteralString

ENQUEUE_JOBS: LiteralString = "select id, is_duplicate from eram_enqueue_jobs(%s::jsonb)"

START_WORKER: LiteralString = "select eram_start_worker(%s::text, %s::text[], %s::integer)"
HEARTBEAT: LiteralString = (
    "select is_alive, cancelled_ids, cancelled_runs from eram_heartbeat(%s::bigint)"
)
STOP_WORKER: LiteralString = "select eram_stop_worker(%s::bigint)"
# All in one call, in the order given; a list of objects with the arguments' names.
REGISTER_HANDLERS: LiteralString = (
    "select eram_register_handler(handlers.handler, handlers.queue, handlers.max_attempts,"
    " handlers.priority, handlers.tags, handlers.unique_by, handlers.backoff,"
    " make_interval(secs => handlers.timeout), handlers.meta, handlers.aliases)"
    " from jsonb_to_recordset(%s::jsonb) as handlers (handler text, queue text,"
    " max_attempts integer, priority integer, tags text[], unique_by jsonb, backoff jsonb,"
    " timeout float8, meta jsonb, aliases text[]), set_config('lock_timeout', '100ms', true)"
)
REGISTER_SCHEDULES: LiteralString = (
    "select name, change, declared_by from eram_register_schedules(%s::text, %s::jsonb)"
)
RETENTION: LiteralString = "select state, max_age from eram_retention(%s::text)"
VERSION: LiteralString = "select eram_version()"

# In the order of eram._jobs.job.JobRow.
FETCH: LiteralString = (
    "select id, run, handler, args, meta, tags, queue, priority, attempt, max_attempts,"
    " inserted_at, scheduled_at, attempted_at, extract(epoch from timeout)::float8"
    " from eram_fetch(%s::text, %s::integer, %s::bigint)"
)
# What others have locked is waited for no longer than this, in the transaction of one statement.
# It is said there: behind a pooler nothing can be said for the session.
_BRIEFLY: LiteralString = " from set_config('lock_timeout', '100ms', true)"

COMPLETE_JOBS: LiteralString = (
    "select eram_complete_jobs(%s::bigint[], %s::integer[], %s::jsonb[])" + _BRIEFLY
)
FAIL_JOB: LiteralString = (
    "select eram_fail_job(%s::bigint, %s::integer, %s::text, %s::jsonb, %s::interval)" + _BRIEFLY
)
SNOOZE_JOB: LiteralString = (
    "select eram_snooze_job(%s::bigint, %s::integer, %s::interval)" + _BRIEFLY
)
CANCEL_JOB: LiteralString = (
    "select eram_cancel_job(%s::bigint, reason => %s::text, run => %s::integer)" + _BRIEFLY
)
DISCARD_JOB: LiteralString = "select eram_discard_job(%s::bigint, %s::integer, %s::text)" + _BRIEFLY
RELEASE_JOBS: LiteralString = "select eram_release_jobs(%s::bigint[], %s::integer[])" + _BRIEFLY
RELEASE_OTHER_JOBS: LiteralString = (
    "select eram_release_other_jobs(%s::bigint, %s::text, %s::bigint[], %s::integer[])" + _BRIEFLY
)

# The server's clock alone counts, so a time comes as how long it is until then, and a
# timeout as what statement_timeout takes.
TICK: LiteralString = (
    "select extract(epoch from next_tick_at - clock_timestamp())::float8,"
    " run_id, command, schedule, ceil(1000 * extract(epoch from timeout))::bigint"
    " from eram_tick(%s::integer)"
)
BEGIN_COMMAND: LiteralString = "select eram_begin_command(%s::bigint)"
FINISH_COMMAND: LiteralString = "select eram_finish_command(%s::bigint, %s::text)"

# The time until the next job is due is taken on the server, whose clock alone counts.
START_WAITING: LiteralString = (
    "select mark::text, is_settled, extract(epoch from next_due_at - clock_timestamp())::float8,"
    " is_limited from eram_start_waiting(%s::text, %s::text::xid8)"
)
STOP_WAITING: LiteralString = "select eram_stop_waiting(%s::text)"

# The handler's work and the completion of its job are one transaction. The mark, which is gone as
# soon as that transaction has ended, tells whether the handler ended it itself: nothing is
# completed then. It is made of numbers, and by no query, after which a transaction could not change
# its isolation level any more.
MARK_TRANSACTION: LiteralString = "set local eram.transaction = '{}'"
COMPLETE_JOB: LiteralString = (
    "select current_setting('eram.transaction', true),"
    " array(select eram_complete_jobs(array[%s::bigint], array[%s::integer], array[%s::jsonb])"
    " where current_setting('eram.transaction', true) = %s::text)"
)
# What a driver must be able to do: its answer is the mark, and which transaction it is.
TRY_TRANSACTION: LiteralString = (
    "select current_setting('eram.transaction', true), pg_current_xact_id()::text, eram_version(),"
    " current_database()::text, extract(epoch from pg_postmaster_start_time())::text"
)
CANCEL_SESSION: LiteralString = (
    "select pg_cancel_backend(pid) from pg_stat_activity where pid = %s"
    " and datname = current_database() and usename = session_user and state = 'active'"
)
TRANSACTION_STATUS: LiteralString = "select pg_xact_status(%s::text::xid8)"

# In the order of _Row in eram._jobs.watch. How long to wait for locks is said first, in
# milliseconds, or null. The result comes as text: what a connection makes of jsonb is the business
# of its owner.
OUTCOME: LiteralString = (
    "select found.state, found.result::text, found.error, found.is_final, found.channel,"
    " found.channel is not null and channel in (select pg_listening_channels()),"
    " pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_isolation')"
    " from set_config("
    "'lock_timeout', coalesce(%s::text, current_setting('lock_timeout')), true) as limits (value)"
    " cross join lateral"
    " eram_outcome(case when limits.value is not null then %s::bigint end) as found"
)

# A pooler hands out a server process other than the one that the client began with.
BACKEND_PID: LiteralString = "select pg_backend_pid()"
SESSION: LiteralString = "select pg_backend_pid(), pg_is_in_recovery()"
# The server notices within about 15 seconds that a client has vanished without a word, and what it
# had locked is free then.
SET_UP_SESSION: LiteralString = (
    "select set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('tcp_keepalives_idle', '5', false),"
    " set_config('tcp_keepalives_interval', '3', false),"
    " set_config('tcp_keepalives_count', '3', false),"
    " set_config('tcp_user_timeout', '15000', false)"
)

# The one thing that is read from a view: what a result of a Django task shows. As text, because
# what a connection makes of jsonb is the business of its owner.
DJANGO_TASK: LiteralString = (
    "select args::text, state, inserted_at, attempted_at, finalized_at, result::text, errors::text,"
    " attempted_by from eram_jobs where id = %s::bigint and handler = %s::text"
)
