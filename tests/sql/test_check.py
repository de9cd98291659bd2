"""eram_check() names every violation that it knows; nothing else checks what it checks."""

from __future__ import annotations

import re

import pytest

from .helpers import column, complete, enqueue, enqueue_many, fetch, start_worker

# What is done by hand, and what it must be called. Job 1 is queued, 2 and 5 run, 3 has completed,
# 4 waits for its retry.
VIOLATIONS = [
    (
        "insert into eram_running_jobs values (1, 1, now(), 1, 1, 1, 'default')",
        "job in several places",
    ),
    (
        "insert into eram_queued_jobs values (3, clock_timestamp(), 1, 1, 1, 'default')",
        "job in several places",
    ),
    ("delete from eram_queued_jobs where job_id = 1", "job in no place"),
    ("delete from eram_running_jobs where job_id = 2", "job in no place"),
    ("delete from eram_job_specs where job_id = 1", "job without a spec"),
    ("delete from eram_job_specs where job_id = 3", "job without a spec"),
    (
        "update eram_running_jobs set attempt = 21, run = 21 where job_id = 2",
        "more attempts than allowed",
    ),
    (
        "update eram_queued_jobs set attempt = 20, run = 20 where job_id = 1",
        "more attempts than allowed",
    ),
    ("update eram_queued_jobs set lane = 5 where job_id = 1", "lane of another priority"),
    ("update eram_running_jobs set lane = 2 where job_id = 2", "lane of another priority"),
    ("update eram_queued_jobs set queue = 'x' where job_id = 1", "queue differs from its spec"),
    ("update eram_finished_jobs set queue = 'x' where job_id = 3", "queue differs from its spec"),
    (
        "update eram_queued_jobs set scheduled_at = '2001-01-01 00:00:00Z' where job_id = 1",
        "scheduled before it was enqueued",
    ),
    (
        "insert into eram_job_errors values (1, 1, 1, null, now(), 'x', '{}')",
        "error of a run that never was",
    ),
    (
        "insert into eram_job_errors values (99, 1, 1, null, now(), 'x', '{}')",
        "error of a run that never was",
    ),
    (
        "insert into eram_job_errors values (2, 1, 1, null, now(), 'x', '{}')",
        "run that failed is still running",
    ),
    ("update eram_running_jobs set worker = 99 where job_id = 2", "worker is gone"),
    (
        "update eram_workers set ended_at = now() - interval '2 minutes', end_reason = 'died'",
        "worker is gone",
    ),
    ("delete from eram_completions", "completed job that no completion names"),
    ("update eram_completions set ids = '{1,2}'", "completed job that no completion names"),
    ("update eram_completions set queue = 'x'", "completed job that no completion names"),
    (
        "update eram_completions set finalized_at = finalized_at - interval '1 second'",
        "completed job that no completion names",
    ),
    *[
        (f"update eram_job_specs set {change} where job_id = 1", "spec out of range")
        for change in (
            "priority = -1",
            "max_attempts = 0",
            "timeout = '-1 s'",
            "args = '[]'",
            "meta = 'null'",
            "meta = '{}'",
            "unique_by = '{}'",
            "unique_key = 'x'",
            "unique_until = now()",
        )
    ],
    ("update eram_running_jobs set attempt = 0 where job_id = 2", "ticket out of range"),
    ("update eram_queued_jobs set run = -1 where job_id = 1", "ticket out of range"),
    ("update eram_finished_jobs set run = 0 where job_id = 3", "ticket out of range"),
    ("update eram_finished_jobs set state = 'done'", "unknown state"),
    (
        "update eram_queued_jobs set unique_key = 'x' where job_id = 1",
        "unique key differs from its spec",
    ),
    ("insert into eram_unique_keys values ('x', 1)", "unique key in force for no job"),
    ("insert into eram_unique_keys values ('x', 3)", "unique key in force for no job"),
    ("insert into eram_unique_keys values ('x', 99)", "unique key in force for no job"),
    (
        """
        update eram_queued_jobs set unique_key = 'x' where job_id = 1;
        update eram_job_specs set unique_by = '{}', unique_key = 'x' where job_id = 1
        """,
        "unique job without its key",
    ),
    (
        """
        insert into eram_unique_keys values ('x', 2, now() + interval '1 day');
        update eram_queued_jobs set unique_key = 'x' where job_id = 1;
        update eram_job_specs
        set unique_by = '{}', unique_key = 'x', unique_until = now() + interval '1 day'
        where job_id = 1
        """,
        "unique job without its key",
    ),
    (
        """
        select eram_register_schedules('app', '[{"schedule": "@daily", "handler": "app:run"}]');
        delete from eram_declared_schedules
        """,
        "schedule that its application has not declared",
    ),
    (
        "select setval('eram_job_specs_job_id_seq', 2)",
        "sequence behind its table",
    ),
]


@pytest.fixture
def healthy(shared):
    """A database with jobs in every place; the ids are 1 to 5."""
    shared.execute("select setval('eram_job_specs_job_id_seq', 1, false)")
    worker = start_worker(shared)
    enqueue_many(shared, 5)
    jobs = fetch(shared, worker)
    complete(shared, jobs[2:3])
    shared.execute("select eram_fail_job(4, 1, 'x'), eram_release_jobs('{1}', '{1}')")
    shared.execute("update eram_queued_jobs set run = 0 where job_id = 1")
    assert shared.execute("select * from eram_check()").fetchall() == []
    return shared


@pytest.mark.parametrize(
    ("damage", "violation"), VIOLATIONS, ids=[damage for damage, _ in VIOLATIONS]
)
def test_a_violation_is_named(healthy, damage, violation):
    with healthy.transaction(force_rollback=True):
        healthy.execute(damage)
        found = column(healthy, "select violation from eram_check()")
        assert violation in found
    # A sequence does not roll back.
    healthy.execute("select setval('eram_job_specs_job_id_seq', 5)")


def test_every_violation_that_it_names_is_tested(conn):
    source = conn.execute("select prosrc from pg_proc where proname = 'eram_check'").fetchone()[0]
    named = re.findall(r"select\s+'([^']+)'", re.sub(r"--.*", "", source))
    assert set(named) == {violation for _, violation in VIOLATIONS}


def test_a_database_without_jobs_is_healthy(conn):
    assert column(conn, "select violation from eram_check()") == []


def test_what_is_under_way_is_no_violation(conn, connect, worker):
    """One statement sees one snapshot: a job on its way is where it was."""
    enqueue_many(conn, 10)
    mover = connect(autocommit=False)
    fetch(mover, worker)
    assert column(conn, "select violation from eram_check()") == []
    mover.commit()
    assert column(conn, "select violation from eram_check()") == []


def test_the_jobs_of_a_worker_that_just_died_are_no_violation(conn, worker):
    enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_workers set ended_at = now(), end_reason = 'died'")
    assert column(conn, "select violation from eram_check()") == []
