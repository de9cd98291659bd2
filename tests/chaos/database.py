"""What is in the database: before a run what chaos needs, after it what the judge is to know."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from chaos.history import Final, JobRow, Occurrences

WORKER_ROLE, PRODUCER_ROLE, FILLER_ROLE = "chaos_worker", "chaos_producer", "chaos_filler"
PATIENCE_SECONDS = 60.0
LIMITS = {"narrow": 2}  # global limits that hold throughout

SET_UP: LiteralString = """
create extension eram;
create role chaos_worker login;
create role chaos_producer login;
create role chaos_filler login;
-- Without constraints: what happens twice is to be seen.
create table effects (job_id bigint, run integer);
create table committed (call text);
grant insert on effects to chaos_worker;
grant insert on committed to chaos_producer;
select eram_grant('chaos_worker', 'work');
select eram_grant('chaos_producer', 'enqueue');
select eram_set_queue('narrow', global_limit => 2);
"""

# Names of the schedules, what they are, and how far occurrences are apart.
SCHEDULES = {"each_second": ("1 second", timedelta(seconds=1))}
SCHEDULE = """
select eram_schedule(
    %s, %s, 'chaos.handlers:occur', missed => 'all', options => '{"queue": "default"}')
"""

# What is kept of jobs that an administrator removes, with why they are gone.
JOBS: LiteralString = """
select
    specs.job_id,
    specs.handler,
    specs.args ->> 'token' as token,
    specs.meta ->> 'schedule' as schedule,
    specs.meta ->> 'scheduled_for' as scheduled_for,
    coalesce(finished.state, jobs.state) as state,
    coalesce(finished.run, running.run, queued.run) as run,
    jobs.attempt,
    specs.max_attempts,
    (
        select jsonb_agg(jsonb_build_array(
            errors.run, errors.detail ->> 'type', extract(epoch from errors.errored_at)))
        from eram_job_errors as errors
        where errors.job_id = specs.job_id
    ) as errors,
    extract(epoch from specs.scheduled_at)::double precision as due_at,
    null::text as removed_by
from eram_job_specs as specs
join eram_jobs as jobs on jobs.id = specs.job_id
left join eram_queued_jobs as queued on queued.job_id = specs.job_id
left join eram_running_jobs as running on running.job_id = specs.job_id
left join eram_finished_jobs as finished on finished.job_id = specs.job_id
"""
ARCHIVE: LiteralString = (
    f"create table archive as {JOBS} with no data; create unique index on archive (job_id)"
)
KEEP: LiteralString = f"insert into archive {JOBS} where specs.job_id = any (%s) "
KEEP += """
on conflict (job_id) do update set
    (state, run, attempt, max_attempts, errors)
    = (excluded.state, excluded.run, excluded.attempt, excluded.max_attempts, excluded.errors)
"""
# What has not been removed in the end is not gone.
GONE: LiteralString = """
update archive
set removed_by = %s
where job_id = any (%s)
    and not exists (select from eram_job_specs as specs where specs.job_id = archive.job_id)
"""
THERE: LiteralString = JOBS
REMOVED: LiteralString = """
select *
from archive
where not exists (select from eram_job_specs as specs where specs.job_id = archive.job_id)
"""
LEFT: LiteralString = """
select
    (select count(*) from eram_queued_jobs)
    + (select count(*) from eram_running_jobs)
    + (select count(*) from eram_schedule_runs)
"""
STUCK: LiteralString = """
select id, format('%s: %s', state, eram_why(id))
from eram_jobs
where state not in ('completed', 'discarded', 'cancelled')
"""


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Connect as the superuser, in autocommit, as soon as that is possible."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def connect_briefly(dsn: str) -> psycopg.Connection[Any]:
    """Connect likewise, to do what must not take long: in the midst of harm, it may be in vain."""
    dsn = make_conninfo(dsn, options="-c statement_timeout=5s -c lock_timeout=1s")
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5)


def set_up(conn: psycopg.Connection[Any]) -> dict[str, datetime]:
    """Prepare a database; return when each schedule is due first."""
    for statement in (SET_UP, ARCHIVE):
        conn.execute(statement)
    first = {}
    for name, (schedule, _) in SCHEDULES.items():
        ((first[name],),) = conn.execute(SCHEDULE, (name, schedule)).fetchall()
    return first


def end_schedules(
    conn: psycopg.Connection[Any], first: dict[str, datetime]
) -> dict[str, Occurrences]:
    """Pause the schedules; return which occurrences there were."""
    ended = {}
    for name, (_, apart) in SCHEDULES.items():
        with conn.transaction():
            # The lock keeps tickers away until it is paused.
            query = "select next_run_at from eram_schedules where name = %s for update"
            ((after_last,),) = conn.execute(query, (name,)).fetchall()
            conn.execute("select eram_pause_schedule(%s)", (name,))
        ended[name] = Occurrences(first[name], after_last, apart)
    return ended


@contextlib.contextmanager
def removing(conn: psycopg.Connection[Any], how: str, jobs: list[int]) -> Iterator[None]:
    """Keep what is known of jobs, and note which of them are gone after the block.

    It is one transaction with one snapshot, so nothing is removed that was not kept as it was.
    """
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        conn.execute(KEEP, (jobs,))
        yield
        conn.execute(GONE, (how, jobs))


def read_final(
    conn: psycopg.Connection[Any],
    schedules: dict[str, Occurrences],
    stuck: Mapping[int, str] = MappingProxyType({}),
) -> Final:
    """Read what the judge is to know."""
    # To convert the server's times: it is the same machine.
    offset = time.time_ns() - time.monotonic_ns()
    rows = [*conn.execute(THERE).fetchall(), *conn.execute(REMOVED).fetchall()]
    check = "select violation, job_id, detail from eram_check()"
    return Final(
        jobs=tuple(_job_row(row, offset, stuck.get(row[0])) for row in rows),
        effects=tuple(conn.execute("select job_id, run from effects").fetchall()),
        committed=frozenset(call for (call,) in conn.execute("select call from committed")),
        schedules=schedules,
        violations=tuple(f"{what} ({job}): {why}" for what, job, why in conn.execute(check)),
        limits=LIMITS,
    )


def _job_row(row: tuple[Any, ...], offset: int, why: str | None) -> JobRow:
    job, handler, token, schedule, scheduled_for, state, run, attempt, most, *more = row
    errors, due_at, gone = more
    return JobRow(
        id=job,
        token=token if schedule is None else f"{schedule} {scheduled_for}",
        state=state,
        run=run,
        attempt=attempt,
        max_attempts=most,
        handler=handler.rpartition(":")[2],
        due_at=due_at * 1e9 - offset,
        schedule=schedule,
        scheduled_for=scheduled_for and datetime.fromisoformat(scheduled_for),
        removed_by=gone,
        why=why,
        errors=tuple((number, kind, at * 1e9 - offset) for number, kind, at in errors or ()),
    )
