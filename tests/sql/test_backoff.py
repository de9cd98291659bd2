"""How long a failed job waits."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from .helpers import enqueue, fetch, row, value

SECONDS = "select extract(epoch from _eram_backoff(%s, %s))::float8"


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 17), (2, 19), (3, 23), (4, 31), (5, 47), (8, 271), (10, 1039), (12, 4111), (16, 65551)],
)
@pytest.mark.parametrize("backoff", [None, {"strategy": "exponential"}])
def test_exponential_is_the_default_with_up_to_a_tenth_of_jitter(shared, backoff, attempt, seconds):
    found = [
        value(shared, SECONDS, None if backoff is None else Jsonb(backoff), attempt)
        for _ in range(100)
    ]
    assert seconds <= min(found)
    assert max(found) <= min(seconds * 1.1, 86400)
    assert max(found) - min(found) > seconds * 0.02


@pytest.mark.parametrize("attempt", [17, 20, 21, 1000, 999_999, 2147483647])
def test_exponential_never_exceeds_a_day(shared, attempt):
    assert value(shared, SECONDS, None, attempt) == 86400


@pytest.mark.parametrize(
    ("base", "seconds"), [(0, 0), (1.5, 1.5), ("2 minutes", 120), ("1 day", 86400)]
)
@pytest.mark.parametrize("attempt", [1, 2, 2147483647])
def test_fixed_is_always_the_same(shared, base, seconds, attempt):
    assert value(shared, SECONDS, Jsonb({"strategy": "fixed", "base": base}), attempt) == seconds


def failed(conn, worker, **options):
    """Enqueue, claim and fail a job; return its row."""
    job_id = enqueue(conn, **options)
    (job,) = [job for job in fetch(conn, worker) if job.id == job_id]
    conn.execute("select eram_fail_job(%s, %s, 'x')", [job.id, job.run])
    return row(
        conn,
        """
        select *, extract(epoch from scheduled_at - clock_timestamp()) as waits
        from eram_jobs
        where id = %s
        """,
        job_id,
    )


def test_a_failed_job_waits_for_its_own_backoff(conn, worker):
    job = failed(conn, worker, backoff={"strategy": "fixed", "base": "1 hour"})
    assert job.state == "retryable"
    assert 3590 < job.waits <= 3600


def test_a_failed_job_without_one_waits_exponentially(conn, worker):
    assert 16 < failed(conn, worker).waits < 19


def test_a_failed_job_waits_for_the_backoff_of_its_queue(conn, worker):
    conn.execute(
        "select eram_set_queue('default', backoff => %s)",
        [Jsonb({"strategy": "fixed", "base": 100})],
    )
    assert 90 < failed(conn, worker).waits <= 100
    assert 16 < failed(conn, worker, backoff={"strategy": "exponential"}).waits < 19
