"""Queues without a worker, queues that fall behind, queues whose attempts fail."""

from __future__ import annotations

import shlex

import pytest

from .health_helpers import act, check, level
from .helpers import complete, enqueue, enqueue_many, fetch, start_worker


def age(conn, ago: str, queue: str = "mail") -> None:
    """Have the jobs that wait in a queue wait for so long already."""
    conn.execute("update eram_job_specs set inserted_at = inserted_at - interval '1 day'")
    conn.execute(
        "update eram_queued_jobs set scheduled_at = clock_timestamp() - %s::interval"
        " where queue = %s",
        [ago, queue],
    )


def test_a_queue_that_nobody_serves(conn, worker):
    enqueue_many(conn, 3, queue="mail")
    assert level(conn, "queues") == "ok"
    steps = (("30 seconds", "ok"), ("61 seconds", "warn"), ("301 seconds", "critical"))
    for ago, expected in steps:
        age(conn, ago)
        assert level(conn, "queues") == expected, ago
    found = check(conn, "queues")
    assert found.finding.startswith(
        'nobody serves a queue: "mail" has 3 due jobs, the first for 00:05'
    )
    assert found.action == "python -m eram worker --queue mail=10 --allow MODULE"
    assert found.value == 1
    # It is no backlog as long as nobody works on it.
    age(conn, "2 hours")
    assert level(conn, "backlog") == "ok"

    conn.execute("select eram_pause_queue('mail')")
    assert level(conn, "queues") == "ok"
    conn.execute("select eram_resume_queue('mail')")
    assert level(conn, "queues") == "critical"
    start_worker(conn, "mail")
    assert level(conn, "queues") == "ok"


def test_the_oldest_of_several_queues_is_named(conn):
    for queue, ago in (("a", "2 minutes"), ("b; it's", "3 minutes"), ("c", "10 seconds")):
        enqueue(conn, queue=queue)
        age(conn, ago, queue)
    found = check(conn, "queues")
    assert '"b; it\'s" has 1 due jobs' in found.finding
    assert found.finding.endswith("; such queues: 2")
    assert found.value == 2
    words = shlex.split(found.action)
    assert words[words.index("--queue") + 1] == "b; it's=10"
    start_worker(conn, "a", "b; it's", "c")
    found = check(conn, "backlog")
    assert found.finding.startswith("the oldest due job waits for 00:03:")
    assert found.value >= 180


def test_a_queue_that_falls_behind(conn):
    worker = start_worker(conn, "mail")
    enqueue(conn, queue="mail", priority=5)
    oldest = enqueue(conn, queue="mail", priority=9)
    age(conn, "1 minute")
    assert level(conn, "backlog") == "ok"
    for ago, expected in (("11 minutes", "warn"), ("61 minutes", "critical")):
        conn.execute(
            "update eram_queued_jobs set scheduled_at = clock_timestamp() - %s::interval"
            " where job_id = %s",
            [ago, oldest],
        )
        found = check(conn, "backlog")
        assert found.level == expected
    assert found.finding.startswith('queue "mail" has 2 due jobs, the first for 01:01')
    assert found.action == f"select public.eram_why({oldest});"
    act(conn, found)
    assert 3660 <= found.value < 4000
    assert level(conn, "queues") == "ok"

    conn.execute("select eram_pause_queue('mail')")
    assert level(conn, "backlog") == "ok"
    conn.execute("select eram_resume_queue('mail')")
    complete(conn, fetch(conn, worker, 10, "mail"))
    found = check(conn, "backlog")
    assert (found.level, found.finding, found.value) == ("ok", "no due job waits", 0)


def fail(conn, jobs) -> None:
    for job in jobs:
        conn.execute(
            "select eram_fail_job(%s, %s, 'no luck', delay => '1 hour')", [job.id, job.run]
        )


@pytest.mark.parametrize(
    ("failed", "completed", "expected"),
    [(4, 0, "ok"), (5, 25, "ok"), (5, 15, "warn"), (10, 12, "warn"), (10, 10, "critical")],
)
def test_a_queue_whose_attempts_fail(conn, failed, completed, expected):
    worker = start_worker(conn, "mail", "other")
    # Another queue that goes well hides nothing.
    enqueue_many(conn, 100, queue="other")
    complete(conn, fetch(conn, worker, 100, "other"))
    enqueue_many(conn, failed + completed, queue="mail")
    jobs = fetch(conn, worker, 100, "mail")
    fail(conn, jobs[:failed])
    complete(conn, jobs[failed:])
    found = check(conn, "failures")
    assert found.level == expected
    if expected != "ok":
        assert found.finding.startswith(
            f'queue "mail": {failed} of {failed + completed} attempts failed'
        )
        act(conn, found)
    # What is over is over.
    conn.execute("update eram_job_errors set errored_at = errored_at - interval '1 hour'")
    assert level(conn, "failures") == "ok"
