"""The views of statistics with ten million jobs waiting, as many ended, in a thousand queues."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import value
from .statistics_helpers import buffers, record, stats

JOBS = 10_000_000
DEAD = 1_000_000
# What each may touch: samples, up to 50,000 entries that are counted, up to 20,000 jobs
# that are looked up in two indexes, two hours of minutes.
MOST = {
    "eram_queue_stats": 150_000,
    "eram_handler_stats": 250_000,
    "eram_worker_stats": 1_000,
    "eram_throughput": 20_000,
    "eram_latency": 250_000,
}
# Four of five wait in one queue; the others, and all that ended, are spread over a thousand.
WAITING = """
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
    select
        number, now() - interval '1 hour' + number * interval '100 us', 0, 0, 1,
        case number % 5 when 0 then 'q' || number / 5 % 1000 else 'big' end
    from generate_series(1::bigint, {count}) as number
    union all
    select {count} + number, now() - interval '2 hours', 1, 1, 1, 'five'
    from generate_series(1, 5) as number
"""
SPECS = """
    insert into eram_job_specs (
        job_id, handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
    overriding system value
    select
        2 * {count} + number, 'app:run' || number % 50, '{{}}', '{{}}', 'q' || number % 1000, 0, 20,
        now() - interval '50 minutes', now() - interval '50 minutes'
    from generate_series(1::bigint, {count}) as number
"""
FINISHED = """
    insert into eram_finished_jobs (job_id, attempted_at, finalized_at, run, attempt, state, queue)
    select
        2 * {count} + number, now() - interval '49 minutes',
        now() - interval '49 minutes' + number * interval '2700 s' / {count}, 1, 1,
        case number % 100 when 0 then 'discarded' else 'completed' end, 'q' || number % 1000
    from generate_series(1::bigint, {count}) as number
"""
COMPLETIONS = """
    insert into eram_completions (queue, finalized_at, ids)
    select queue, max(finalized_at), array_agg(job_id)
    from eram_finished_jobs
    where state = 'completed'
    group by queue, job_id / 100000
"""


def check(conn: psycopg.Connection) -> None:
    """Look at each view, and at what it says of the queue with five jobs."""
    touched = {view: buffers(conn, f"select * from {view}") for view in MOST}
    assert {view: cost for view, cost in touched.items() if cost > MOST[view]} == {}
    few = stats(conn, "five")
    assert (few.waiting_count, few.due_count, few.is_estimate) == (5, 5, False)
    assert stats(conn, "big").is_estimate


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_ten_million(conn, connect):
    for index in ("eram_jobs_args_index", "eram_jobs_meta_index"):
        conn.execute(f"drop index {index}")
    for table in ("eram_queued_jobs", "eram_finished_jobs", "eram_job_specs"):
        conn.execute(f"alter table {table} set (autovacuum_enabled = off)")
    for statement in (WAITING, SPECS, FINISHED, COMPLETIONS):
        conn.execute(statement.format(count=JOBS))
    record(conn)
    assert value(conn, "select sum(completed_count) from eram_totals") == JOBS - JOBS // 100
    check(conn)

    holder = connect(autocommit=False)
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select count(*) from eram_queues")
    conn.execute(
        "delete from eram_queued_jobs where queue = 'big' and job_id <= %s", [DEAD * 5 // 4]
    )
    check(conn)
    holder.rollback()
    conn.execute("truncate eram_queued_jobs, eram_finished_jobs, eram_completions, eram_job_specs")
