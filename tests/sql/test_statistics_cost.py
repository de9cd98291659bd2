"""What looking at statistics costs, in buffers: little, however much waits, ended, or is dead."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .helpers import rows, value
from .statistics_helpers import buffers, fill_waiting, stats

COUNT = "select * from eram_queue_stats"
# The table is read whole up to a thousand pages, and a sample of that size from there on.
MOST = 3000


def fill_finished(conn, count: int) -> None:
    """Write jobs that were completed during the last hour, a hundred a call, in twenty queues."""
    conn.execute(
        """
        insert into eram_job_specs (
            job_id, handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
        overriding system value
        select
            number, 'app:run', '{}', '{}', 'q' || number %% 20, 0, 20,
            now() - interval '2 hours', now() - interval '2 hours'
        from generate_series(1, %(count)s) as number
        """,
        {"count": count},
    )
    conn.execute(
        """
        with ended as (
            insert into eram_finished_jobs (
                job_id, attempted_at, finalized_at, run, attempt, state, queue)
            select
                number, now() - interval '50 minutes',
                now() - interval '40 minutes' + number * interval '1 millisecond', 1, 1,
                'completed', 'q' || number %% 20
            from generate_series(1, %(count)s) as number
            returning *
        )
        insert into eram_completions (queue, finalized_at, ids)
        select queue, max(finalized_at), array_agg(job_id)
        from ended
        group by queue, job_id / 2000
        """,
        {"count": count},
    )
    conn.execute("select setval('eram_job_specs_job_id_seq', %s)", [count])


def test_a_long_queue_costs_a_sample(conn):
    fill_waiting(conn, "many", 150_000)
    assert value(conn, "select _eram_page_count('eram_queued_jobs')") > 1000
    at_first = buffers(conn, COUNT)
    fill_waiting(conn, "many", 100_000)
    assert buffers(conn, COUNT) < MOST
    assert at_first < MOST
    conn.execute("truncate eram_queued_jobs")


def test_dead_rows_are_read_not_walked(conn, connect):
    """Consumed jobs that an old snapshot keeps cost their pages, and nothing in the indexes."""
    conn.execute("alter table eram_queued_jobs set (autovacuum_enabled = off)")
    fill_waiting(conn, "many", 150_000)
    holder = connect(autocommit=False)
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select count(*) from eram_queues")
    fill_waiting(conn, "few", 5)
    conn.execute("delete from eram_queued_jobs where queue = 'many'")
    conn.execute("vacuum eram_queued_jobs")
    pages = value(conn, "select _eram_page_count('eram_queued_jobs')")
    assert buffers(conn, COUNT) < 1000 + pages + 500
    few = stats(conn, "few")
    assert (few.waiting_count, few.is_estimate) == (5, False)
    holder.rollback()
    conn.execute("truncate eram_queued_jobs")
    conn.execute("alter table eram_queued_jobs reset (autovacuum_enabled)")


def test_what_is_not_committed_is_read_not_walked(conn, connect):
    """With fewer pages for seven million tickets than there are for the real ones."""
    before = value(conn, "select pg_get_functiondef('_eram_count_waiting'::regproc)")
    changed = re.sub(r"(c_most_pages +constant bigint +:=) 50000", r"\1 1200", before)
    assert changed != before
    conn.execute("alter table eram_queued_jobs set (autovacuum_enabled = off)")
    conn.execute(changed)
    fill_waiting(conn, "few", 5)
    producer = connect(autocommit=False)
    try:
        fill_waiting(producer, "many", 200_000)
        pages = value(conn, "select _eram_page_count('eram_queued_jobs')")
        assert pages > 1200
        assert buffers(conn, COUNT) < 1000 + pages + 500
        few = stats(conn, "few")
        assert (few.waiting_count, few.is_estimate) == (5, False)
    finally:
        producer.rollback()
        conn.execute(before)
        conn.execute("truncate eram_queued_jobs")
        conn.execute("alter table eram_queued_jobs reset (autovacuum_enabled)")


@pytest.mark.parametrize(
    ("view", "function", "most"),
    [
        ("eram_latency", "eram_measure_latency", 11 * 1000),
        ("eram_throughput", "eram_count_minutes", 2000),
    ],
)
def test_of_one_queue_less_is_read(conn, view, function, most):
    fill_finished(conn, 40_000)
    assert buffers(conn, f"select * from {function}('q7')") < most
    counts = "queue, max(newest_at)" if view == "eram_latency" else "queue, sum(completed_count)"
    of_one = rows(conn, f"select {counts} from {function}('q7') group by queue")
    assert of_one == rows(conn, f"select {counts} from {view} where queue = 'q7' group by queue")
    assert len(of_one) == 1
    assert rows(conn, f"select * from {function}('none')") == []


def rows_of(plan: dict[str, Any]) -> int:
    """Return how many rows all steps of a plan have handled."""
    handled = plan["Actual Rows"] + plan.get("Rows Removed by Join Filter", 0)
    return handled * plan["Actual Loops"] + sum(map(rows_of, plan.get("Plans", [])))


def test_each_handler_costs_the_same_however_many_there_are(conn):
    fill_finished(conn, 1000)
    conn.execute("update eram_job_specs set handler = 'app:run' || job_id")
    conn.execute(
        """
        insert into eram_job_errors (job_id, run, attempt, errored_at, error, detail)
        select job_id, 1, 1, now(), 'no', '{}' from eram_job_specs
        """
    )
    assert value(conn, "select count(*) from eram_handler_stats") == 1000
    function = "'eram_count_handlers()'::regprocedure"
    with conn.transaction():
        for setting in value(conn, f"select proconfig from pg_proc where oid = {function}"):
            conn.execute("select set_config(%s, %s, true)", setting.split("=", 1))
        body = value(conn, f"select prosrc from pg_proc where oid = {function}")
        (plan,) = value(conn, f"explain (analyze, format json) {body}")
    assert rows_of(plan["Plan"]) < 100 * 1000


@pytest.mark.parametrize(
    ("view", "most"),
    [
        # Each job that is looked up costs a descent of two indexes.
        ("eram_latency", 11 * 20_000),
        ("eram_handler_stats", 11 * 10_000),
        ("eram_throughput", 2000),
        ("eram_queue_stats", 1000),
        ("eram_worker_stats", 300),
    ],
)
def test_history_is_not_read(conn, view, most):
    fill_finished(conn, 40_000)
    before = buffers(conn, f"select * from {view}")
    assert before < most
    history = value(
        conn,
        "select sum(_eram_page_count(name::regclass)) from unnest(%s::text[]) as name",
        ["eram_finished_jobs", "eram_job_specs"],
    )
    assert history > 500
