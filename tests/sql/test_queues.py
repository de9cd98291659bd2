"""What administrators set for a queue."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from .helpers import enqueue, fetch, row, value

QUEUE = "select * from eram_queues where name = %s"


def test_settings_are_changed_one_by_one(conn):
    conn.execute("select eram_set_queue('mail', priority => 2)")
    conn.execute("select eram_set_queue('mail', max_attempts => 5, is_notifying => false)")
    backoff = {"strategy": "fixed", "base": 1}
    conn.execute("select eram_set_queue('mail', backoff => %s)", [Jsonb(backoff)])
    conn.execute("select eram_set_queue('mail')")
    seen = row(conn, QUEUE, "mail")
    assert (seen.priority, seen.max_attempts, seen.backoff) == (2, 5, backoff)
    assert (seen.is_notifying, seen.is_paused) == (False, False)


def test_pausing_says_whether_it_changed_anything(conn):
    assert value(conn, "select eram_pause_queue('mail')") is True
    assert value(conn, "select eram_pause_queue('mail')") is False
    assert row(conn, QUEUE, "mail").is_paused
    assert value(conn, "select eram_resume_queue('mail')") is True
    assert value(conn, "select eram_resume_queue('mail')") is False


def test_a_queue_that_nobody_paused_was_not_paused(conn):
    """It says "false when it was not paused", and a queue without settings is not."""
    assert value(conn, "select eram_resume_queue('mail')") is False


def test_pausing_keeps_the_settings_and_settings_keep_the_pause(conn):
    conn.execute("select eram_set_queue('mail', priority => 2)")
    conn.execute("select eram_pause_queue('mail')")
    conn.execute("select eram_set_queue('mail', max_attempts => 3)")
    seen = row(conn, QUEUE, "mail")
    assert (seen.priority, seen.max_attempts, seen.is_paused) == (2, 3, True)


def test_a_pause_leaves_running_jobs_and_enqueueing_alone(conn, worker):
    running = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_pause_queue('default')")
    enqueue(conn)
    assert value(conn, "select eram_fail_job(%s, 1, 'x')", running) == "retryable"
    assert fetch(conn, worker) == []


@pytest.mark.parametrize("queue", ["null", "🦀", "a\"b'c"])
def test_odd_names_of_queues(conn, queue):
    conn.execute("select eram_pause_queue(%s)", [queue])
    assert row(conn, QUEUE, queue).is_paused
