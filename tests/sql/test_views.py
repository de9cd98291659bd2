"""The views: what they say."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import (
    complete,
    enqueue,
    enqueue_many,
    fetch,
    row,
    rows,
    start_worker,
    value,
)

STATES = ("available", "scheduled", "executing", "retryable", "completed", "discarded", "cancelled")


def one_of_each(conn: psycopg.Connection) -> dict[str, int]:
    """Make a job of each state, each in a queue named after it."""
    worker = start_worker(conn, *STATES)
    ids = {state: enqueue(conn, queue=state) for state in STATES if state != "scheduled"}
    ids["scheduled"] = enqueue(conn, queue="scheduled", delay=3600)
    for state in STATES[2:]:
        fetch(conn, worker, queue=state)
    complete(conn, [row(conn, "select %s as id, 1 as run", ids["completed"])])
    for state, call in (
        ("retryable", "eram_fail_job(%s, 1, 'x')"),
        ("discarded", "eram_discard_job(%s, 1)"),
        ("cancelled", "eram_cancel_job(%s)"),
    ):
        conn.execute(f"select {call}", [ids[state]])
    return ids


@pytest.mark.parametrize("view", ["eram_jobs", "eram_latest_jobs"])
def test_every_state_is_said(conn, view):
    ids = one_of_each(conn)
    found = dict(conn.execute(f"select state, id from {view}").fetchall())
    assert found == ids
    assert dict(conn.execute(f"select queue, id from {view}").fetchall()) == ids


def test_a_state_follows_the_clock_by_itself(conn):
    """Nobody has to advance a scheduled job: it reads as available once it is due."""
    job_id = enqueue(conn, delay=3600)
    conn.execute(
        "update eram_queued_jobs set scheduled_at = clock_timestamp(); "
        "update eram_job_specs set inserted_at = inserted_at - interval '1 minute'"
    )
    for view in ("eram_jobs", "eram_latest_jobs"):
        assert value(conn, f"select state from {view} where id = %s", job_id) == "available"


def test_both_views_have_the_same_columns(conn):
    columns = """
        select array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attnum)
        from pg_attribute where attrelid = %s::regclass
    """
    assert value(conn, columns, "eram_jobs") == value(conn, columns, "eram_latest_jobs")


def test_columns_are_as_documented(conn):
    with conn.cursor() as cursor:
        cursor.execute("select * from eram_jobs")
        names = [column.name for column in cursor.description]
    assert names == [
        *("id", "state", "queue", "handler", "args", "meta", "tags", "attempt", "max_attempts"),
        *("priority", "errors", "attempted_by", "inserted_at", "scheduled_at", "attempted_at"),
        *("finalized_at", "result"),
    ]


def test_the_figures_of_a_queue(conn):
    worker = start_worker(conn, "mail", "mail", "idle")
    start_worker(conn, "mail")
    stopped = start_worker(conn, "mail")
    conn.execute("select eram_stop_worker(%s)", [stopped])
    enqueue_many(conn, 5, queue="mail")
    enqueue(conn, queue="mail", delay=3600)
    fetch(conn, worker, 2, "mail")
    conn.execute("select eram_pause_queue('paused')")
    enqueue(conn, queue="other")
    found = {stats.queue: stats for stats in rows(conn, "select * from eram_queue_stats")}
    assert sorted(found) == ["idle", "mail", "other", "paused"]
    mail = found["mail"]
    assert (mail.waiting_count, mail.due_count, mail.running_count, mail.worker_count) == (
        4,
        3,
        2,
        2,
    )
    assert 0 <= mail.oldest_due_age.total_seconds() < 60
    assert not mail.is_paused
    idle, paused = found["idle"], found["paused"]
    assert (idle.waiting_count, idle.running_count, idle.worker_count) == (0, 0, 1)
    assert idle.oldest_due_age is None
    assert (paused.is_paused, paused.worker_count) == (True, 0)
    assert (found["other"].due_count, found["other"].worker_count) == (1, 0)
