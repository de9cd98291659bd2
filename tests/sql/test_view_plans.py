"""Each question to the views reads only where its answer is, at 50,000 jobs."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import plan_of, rows, shared_buffers

PLACES = {
    "available": {"eram_queued_jobs"},
    "scheduled": {"eram_queued_jobs"},
    "retryable": {"eram_queued_jobs"},
    "executing": {"eram_running_jobs"},
    "completed": {"eram_finished_jobs"},
    "discarded": {"eram_finished_jobs"},
    "cancelled": {"eram_finished_jobs"},
}


@pytest.fixture(scope="module")
def full(module_dsn: str):
    """A database with 50,000 jobs in all states; nobody writes to it."""
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        conn.execute(
            """
            select count(*) from eram_enqueue_jobs(
                (select jsonb_agg('{"handler": "app:run"}'::jsonb) from generate_series(1, 50000)));
            delete from eram_queued_jobs where job_id between 5001 and 49000;
            insert into eram_finished_jobs
                (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
            select n, 1, now(), now(), 1, 1,
                case n % 100
                    when 0 then 'discarded' when 1 then 'cancelled' else 'completed'
                end,
                'default'
            from generate_series(5001, 48000) as n;
            insert into eram_completions (queue, finalized_at, ids)
            select queue, max(finalized_at), array_agg(job_id)
            from eram_finished_jobs
            where state = 'completed'
            group by queue;
            insert into eram_workers
                (name, queues, is_direct, timeline, stalled_after, started_at, heartbeat_at)
            values ('w', '{default}', false, _eram_timeline(), '0', now(), now());
            insert into eram_running_jobs (job_id, worker, attempted_at, run, attempt, lane, queue)
            select n, 1, now(), 1, 1, 1, 'default' from generate_series(48001, 49000) as n;
            update eram_queued_jobs
            set
                scheduled_at = scheduled_at + interval '1 day',
                attempt = job_id % 2,
                run = job_id % 2
            where job_id <= 2000;
            """
        )
        conn.execute("vacuum analyze")
        assert conn.execute("select * from eram_check()").fetchall() == []
        yield conn


@pytest.mark.parametrize("state", PLACES)
def test_a_state_reads_only_its_own_place(full, state):
    plan = plan_of(full, f"select * from eram_jobs where state = '{state}'")
    for place in ("eram_queued_jobs", "eram_running_jobs", "eram_finished_jobs"):
        assert (place in plan) == (place in PLACES[state]), plan


@pytest.mark.parametrize("view", ["eram_jobs", "eram_latest_jobs"])
@pytest.mark.parametrize("job_id", [1, 3000, 5100, 20000, 48500, 49500, 10**9])
def test_one_job_is_found_by_indexes(full, view, job_id):
    query = f"select * from {view} where id = {job_id}"
    plan = plan_of(full, query)
    for place in ("job_specs", "queued_jobs", "running_jobs", "finished_jobs"):
        assert f"Seq Scan on eram_{place}" not in plan, plan
    assert shared_buffers(full, query) < 60


def test_the_latest_jobs_are_read_only_as_far_as_the_limit(full):
    query = "select * from eram_latest_jobs order by id desc limit 20"
    assert shared_buffers(full, query) < 400
    assert [job.id for job in rows(full, query)] == list(range(50_000, 49_980, -1))


def test_rare_ends_are_found_without_reading_the_common_one(full):
    plan = plan_of(full, "select id from eram_jobs where state = 'discarded'")
    assert "Seq Scan on eram_finished_jobs" not in plan, plan


def test_counts_by_state_agree(full):
    count = "select state, count(*) from {} group by state"
    counts = dict(full.execute(count.format("eram_jobs")).fetchall())
    assert counts == dict(full.execute(count.format("eram_latest_jobs")).fetchall())
    assert sum(counts.values()) == 50_000
    assert set(counts) == set(PLACES)
