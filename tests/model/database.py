"""The database as the model's test sees it: calls that can be read, and one look at everything."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
from hypothesis import currently_in_test_context, note
from psycopg.types.json import Jsonb

from sql.helpers import empty, wait_until

from .moments import SECOND, Moment

SESSIONS = 3
QUEUES = ("default", "mail", "tx")

# What the passing of time moves. Beats of workers are left: who has its lock goes on beating.
TIMES = {
    "eram_job_specs": ["inserted_at", "scheduled_at", "unique_until"],
    "eram_queued_jobs": ["scheduled_at"],
    "eram_running_jobs": ["attempted_at"],
    "eram_finished_jobs": ["attempted_at", "finalized_at"],
    "eram_completions": ["finalized_at"],
    "eram_job_errors": ["errored_at"],
    "eram_unique_keys": ["expires_at"],
    "eram_workers": ["started_at", "missing_since", "last_missing_at", "ended_at"],
}

LOOK = """
select jsonb_build_object(
    'now', {us}(statement_timestamp()),
    'jobs', (
        select jsonb_object_agg(
            jobs.id,
            jsonb_build_object(
                'state', jobs.state, 'queue', jobs.queue, 'handler', jobs.handler,
                'args', jobs.args, 'meta', coalesce(jobs.meta, '{}'), 'tags', jobs.tags,
                'attempt', jobs.attempt, 'max_attempts', jobs.max_attempts,
                'priority', jobs.priority, 'result', jobs.result, 'errors', (
                    select jsonb_agg(to_jsonb(failed) order by failed.run)
                    from eram_errors as failed
                    where failed.job_id = jobs.id
                ),
                'attempted_by', jobs.attempted_by, 'backoff', specs.backoff,
                'timeout', extract(epoch from specs.timeout)::float,
                'run', coalesce(queued.run, running.run, finished.run),
                'lane', coalesce(queued.lane, running.lane),
                'scheduled', {us}(queued.scheduled_at),
                'attempted', {us}(jobs.attempted_at),
                'ended', {us}(jobs.finalized_at),
                'until', {us}(specs.unique_until),
                'is_unique', specs.unique_key is not null))
        from eram_jobs as jobs
        join eram_job_specs as specs on specs.job_id = jobs.id
        left join eram_queued_jobs as queued on queued.job_id = jobs.id
        left join eram_running_jobs as running on running.job_id = jobs.id
        left join eram_finished_jobs as finished on finished.job_id = jobs.id
    ),
    'keys', (
        select jsonb_object_agg(keys.job_id, {us}(keys.expires_at))
        from eram_unique_keys as keys
        where keys.expires_at is null or keys.expires_at > statement_timestamp()
    ),
    'counts', (
        select jsonb_object_agg(stats.queue, array[
            stats.waiting_count, stats.due_count, stats.running_count, stats.worker_count])
        from eram_queue_stats as stats
    ),
    'paused', (
        select jsonb_agg(stats.queue order by stats.queue)
        from eram_queue_stats as stats
        where stats.is_paused
    ),
    'handlers', (
        select jsonb_object_agg(handlers.name, jsonb_build_object(
            'alias_of', handlers.alias_of,
            'declared', handlers.declared,
            'overrides', handlers.overrides))
        from eram_handlers as handlers
    ),
    'differing', (
        select jsonb_agg(jobs.id)
        from eram_jobs as jobs
        join eram_latest_jobs as latest using (id)
        where to_jsonb(jobs) <> to_jsonb(latest)
    ),
    'violations', (select jsonb_agg(to_jsonb(checked)) from eram_check() as checked)
)
"""

# A cast: what a time is in microseconds.
MICROSECONDS = """
create function pg_temp.us(at timestamptz) returns bigint language sql immutable
as $$ select (extract(epoch from at) * 1000000)::bigint $$
"""


def clock() -> int:
    """Return the time in microseconds: of this machine, which is the server's too."""
    return time.time_ns() // 1000


def say(what: str) -> None:
    """Tell a step, to be printed if it leads to a failure."""
    if currently_in_test_context():
        note(what)


class Database:
    """Several sessions of one database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.observer = self.connect()
        self.sessions = [self.connect() for _ in range(SESSIONS)]
        self.transaction = self.connect()
        # Sessions and queues whose cursor still holds: no time was shifted since.
        self.swept: set[tuple[psycopg.Connection, str]] = set()

    def connect(self) -> psycopg.Connection:
        """Open a session; what waits for another one's lock fails, as nothing here should wait."""
        conn = psycopg.connect(
            self.dsn,
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
            options="-c lock_timeout=5s -c timezone=UTC -c jit=off",
        )
        conn.execute(MICROSECONDS)
        conn.execute(f"prepare look as {LOOK.replace('{us}', 'pg_temp.us')}")
        return conn

    def close(self) -> None:
        """Close all sessions."""
        for conn in (self.observer, self.transaction, *self.sessions):
            conn.close()

    def empty(self) -> None:
        """Begin anew, with the same sessions."""
        if self.transaction.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self.transaction.execute("rollback")
        for conn in (self.transaction, *self.sessions):
            conn.execute("select pg_advisory_unlock_all(), pg_notification_queue_usage()")
        empty(self.observer)
        self.swept.clear()

    def begin(self) -> None:
        """Open the transaction."""
        self.transaction.execute("begin")

    def finish(self, *, commit: bool) -> None:
        """End the transaction; what was done in it appears behind the cursors of others."""
        self.transaction.execute("commit" if commit else "rollback")
        self.swept.clear()

    def reopen(self, number: int) -> None:
        """Close a session, wait until the server knows it, and open another in its place."""
        conn = self.sessions[number]
        pid = conn.info.backend_pid
        conn.close()
        wait_until(
            lambda: self.observer.execute(
                "select not exists (select from pg_stat_activity where pid = %s)", [pid]
            ).fetchone()[0],
            "the session has ended",
            pause=0.001,
        )
        self.sessions[number] = self.connect()

    def call(self, conn: psycopg.Connection, function: str, **args: Any) -> list[Any]:
        """Call a function with named arguments, and return the rows."""
        passed = ", ".join(f"{name} => {literal(conn, value)}" for name, value in args.items())
        query = f"select * from {function}({passed})"
        say(f"  {query};")
        with contextlib.ExitStack() as stack:
            if conn is self.transaction:
                stack.enter_context(conn.transaction())  # a savepoint
            return conn.execute(query).fetchall()

    def sweep(self, conn: psycopg.Connection, queue: str) -> None:
        """Let the next fetch look at the whole queue, if time was shifted or a commit was late."""
        if (conn, queue) not in self.swept:
            conn.execute("select set_config(_eram_cursor_setting(%s), '', false)", [queue])
            self.swept.add((conn, queue))

    def pass_time(self, seconds: float, lost_workers: list[int]) -> None:
        """Move everything into the past."""
        with self.observer.transaction():
            for table, columns in TIMES.items():
                moved = ", ".join(f"{name} = {name} - %(by)s::interval" for name in columns)
                self.observer.execute(f"update {table} set {moved}", {"by": f"{seconds} s"})
            self.observer.execute(
                "update eram_workers set heartbeat_at = heartbeat_at - %s::interval"
                " where id = any (%s)",
                [f"{seconds} s", lost_workers],
            )
        say(f"  -- {seconds} s pass")
        self.swept.clear()

    def age_heartbeats(self, workers: list[int]) -> None:
        """Let workers have been silent for longer than a heartbeat may be late."""
        self.observer.execute(
            "update eram_workers set heartbeat_at = heartbeat_at - interval '2 minutes'"
            " where id = any (%s) and heartbeat_at > clock_timestamp() - interval '1 minute'",
            [workers],
        )

    def prepare_rescue(self, conn: psycopg.Connection, living: list[int]) -> None:
        """Let the living have beaten just now, and the next rescue look at all jobs."""
        self.observer.execute(
            "update eram_workers set heartbeat_at = clock_timestamp() where id = any (%s)",
            [living],
        )
        conn.execute("select set_config('eram.rescue_swept', '', false)")

    def look(self, conn: psycopg.Connection | None = None) -> dict[str, Any]:
        """Return all that the model knows of too, of one moment."""
        row = (conn or self.observer).execute("execute look").fetchone()
        assert row is not None
        return row[0]


def literal(conn: psycopg.Connection, value: Any) -> str:
    """Write a value as SQL; JSON is wrapped, moments are times."""
    if isinstance(value, Moment):
        value = text(value)
    cursor = psycopg.ClientCursor(conn)
    return cursor.mogrify("%s", [value])


def text(moment: Moment) -> str:
    """Write a moment as a time with an offset."""
    whole, rest = divmod(moment.earliest, SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{rest:06d}Z"


def as_json(value: Any) -> Jsonb:
    """Wrap JSON, with moments written as times."""

    def written(value: Any) -> Any:
        if isinstance(value, Moment):
            return text(value)
        if isinstance(value, dict):
            return {key: written(entry) for key, entry in value.items()}
        return [written(entry) for entry in value] if isinstance(value, list) else value

    return Jsonb(written(value))
