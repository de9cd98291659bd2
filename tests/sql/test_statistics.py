"""The views of statistics: what they say."""

from __future__ import annotations

import pytest

from .helpers import (
    complete,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    rows,
    start_worker,
    value,
    wait_until,
)
from .statistics_helpers import age, fill_waiting, record, run_jobs, stats

COLUMNS = {
    "eram_queue_stats": "queue, is_paused, waiting_count, due_count, retryable_count, "
    "oldest_due_age, running_count, global_limit, completed_per_minute, failed_per_minute, "
    "worker_count, is_estimate",
    "eram_handler_stats": "handler, running_count, completed_count, failed_count, "
    "discarded_count, wait_p50, wait_p95, run_p50, run_p95, last_errored_at, last_error, "
    "is_estimate",
    "eram_worker_stats": "worker, name, queues, condition, started_at, heartbeat_at, is_direct, "
    "client_pid, running_count, oldest_attempted_at",
    "eram_throughput": "minute, queue, completed_count, failed_count, discarded_count, "
    "cancelled_count, waiting_count, running_count, wait_p50, wait_p95, wait_p99, run_p50, "
    "run_p95, run_p99",
    "eram_latency": "queue, sample_count, wait_p50, wait_p95, wait_p99, run_p50, run_p95, "
    "run_p99, newest_at",
    "eram_totals": "queue, completed_count, failed_count, discarded_count, cancelled_count, since",
}


@pytest.mark.parametrize("view", COLUMNS)
def test_columns_are_as_documented(conn, view):
    cursor = conn.execute(f"select * from {view}")
    assert ", ".join(column.name for column in cursor.description or ()) == COLUMNS[view]
    assert cursor.fetchall() == []


def test_what_a_queue_does(conn):
    worker = start_worker(conn, "mail")
    run_jobs(conn, worker, 7, "mail")
    enqueue_many(conn, 5, queue="mail")
    failing, running = fetch(conn, worker, 2, "mail")
    conn.execute("select eram_fail_job(%s, 1, 'no')", [failing.id])
    conn.execute("select eram_set_queue('mail', global_limit => 9)")
    mail = stats(conn, "mail")
    assert (mail.waiting_count, mail.due_count, mail.retryable_count) == (4, 3, 1)
    assert (mail.running_count, mail.global_limit, mail.worker_count) == (1, 9, 1)
    assert (mail.completed_per_minute, mail.failed_per_minute) == (7, 1)
    assert not mail.is_estimate
    assert value(conn, "select state from eram_jobs where id = %s", running.id) == "executing"


def test_the_last_minute_ends(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    age(conn, "61 seconds")
    assert stats(conn).completed_per_minute == 0


def test_who_cancels_has_not_failed(conn):
    job_id = enqueue(conn)
    fetch(conn, start_worker(conn))
    conn.execute("select eram_cancel_job(%s, 'no more')", [job_id])
    assert stats(conn).failed_per_minute == 0
    record(conn)
    found = row(conn, "select * from eram_totals")
    assert (found.failed_count, found.discarded_count, found.cancelled_count) == (0, 0, 1)


def test_what_handlers_do(conn):
    worker = start_worker(conn)
    for handler in ("app:good", "app:bad", "app:slow"):
        enqueue(conn, handler, max_attempts=1)
    good, bad, _slow = fetch(conn, worker)
    complete(conn, [good])
    conn.execute("select eram_fail_job(%s, 1, 'it broke')", [bad.id])
    conn.execute(
        "update eram_finished_jobs set attempted_at = finalized_at - interval '3 seconds'; "
        "update eram_job_specs set scheduled_at = scheduled_at - interval '1 hour', "
        "inserted_at = inserted_at - interval '1 hour'"
    )
    found = {seen.handler: seen for seen in rows(conn, "select * from eram_handler_stats")}
    assert sorted(found) == ["app:bad", "app:good", "app:slow"]
    seen = found["app:good"]
    assert (seen.running_count, seen.completed_count, seen.failed_count) == (0, 1, 0)
    assert (seen.run_p50.total_seconds(), seen.run_p95.total_seconds()) == (3, 3)
    assert 3500 < seen.wait_p50.total_seconds() < 3700
    assert (seen.last_errored_at, seen.last_error, seen.is_estimate) == (None, None, False)
    seen = found["app:bad"]
    assert (seen.failed_count, seen.discarded_count, seen.last_error) == (1, 1, "it broke")
    assert (seen.completed_count, seen.run_p50) == (0, None)
    assert found["app:slow"].running_count == 1


def test_what_is_cut_off_says_so(conn):
    """Of two queues half of the ten thousand each are looked up."""
    conn.execute(
        """
        insert into eram_job_specs (
            job_id, handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
        overriding system value
        select
            number, 'app:run', '{}', '{}', case number when 1 then 'few' else 'many' end, 0, 1,
            now(), now()
        from generate_series(1, 5002) as number;
        insert into eram_finished_jobs (
            job_id, attempted_at, finalized_at, run, attempt, state, queue)
        select job_id, now(), now(), 1, 1, 'discarded', queue
        from eram_job_specs;
        select setval('eram_job_specs_job_id_seq', 5002)
        """
    )
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.discarded_count, seen.is_estimate) == (5001, True)
    conn.execute('select eram_delete_jobs(\'{"queue": "few"}\')')
    seen = row(conn, "select * from eram_handler_stats")
    assert (seen.discarded_count, seen.is_estimate) == (5001, False)


def test_a_job_that_was_completed_twice_is_one_job(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 2)
    job_id = value(conn, "select min(job_id) from eram_finished_jobs")
    conn.execute("select eram_retry_job(%s)", [job_id])
    complete(conn, fetch_late(conn, worker))
    assert value(conn, "select completed_count from eram_handler_stats") == 2
    assert value(conn, "select sample_count from eram_latency") == 2
    record(conn)
    assert value(conn, "select sum(run_sample_count) from eram_minutes") == 2
    # It was completed three times nevertheless.
    assert value(conn, "select completed_count from eram_totals") == 3


def test_what_workers_do(conn, connect):
    enqueue_many(conn, 3)
    alive = start_worker(conn, name="alive")
    fetch(conn, alive, 2)
    pooled = value(conn, "select eram_start_worker('pooled', '{a,b}')")
    stopped = start_worker(conn)
    conn.execute("select eram_stop_worker(%s)", [stopped])
    with connect() as other:
        lost = start_worker(other, name="lost")
    query = "select condition from eram_worker_stats where worker = %s"
    assert value(conn, query, alive) == value(conn, query, pooled) == "alive"
    # Its session may take a moment to end.
    wait_until(lambda: value(conn, query, lost) == "missing", "the lost worker is missing")
    found = {seen.worker: seen for seen in rows(conn, "select * from eram_worker_stats")}
    assert sorted(found) == sorted([alive, pooled, lost])
    assert (found[alive].running_count, found[pooled].running_count) == (2, 0)
    assert found[alive].oldest_attempted_at is not None
    assert (found[alive].client_pid, found[alive].is_direct) == (conn.info.backend_pid, True)
    assert (found[pooled].queues, found[pooled].is_direct) == (["a", "b"], False)


@pytest.mark.parametrize(
    ("is_direct", "silence", "condition"),
    [
        (True, "9 minutes", "alive"),
        (True, "11 minutes", "silent"),
        (False, "50 seconds", "alive"),
        (False, "70 seconds", "silent"),
    ],
)
def test_who_is_silent(conn, is_direct, silence, condition):
    if is_direct:
        start_worker(conn)
    else:
        conn.execute("select eram_start_worker('w', '{default}')")
    conn.execute("update eram_workers set heartbeat_at = now() - %s::interval", [silence])
    assert value(conn, "select condition from eram_worker_stats") == condition


def test_a_worker_is_judged_as_the_rescue_judges(conn):
    """The view has numbers of its own, for those who look may call no internal function."""
    viewed = value(conn, "select pg_get_viewdef('eram_worker_stats')")
    seconds = value(conn, "select extract(epoch from _eram_longest_silence())::integer")
    assert f"'00:{seconds // 60:02}:{seconds % 60:02}'::interval" in viewed
    # Beyond what a lock can have for a key.
    conn.execute("alter table eram_workers alter id restart with 2147483650")
    worker = start_worker(conn)
    assert worker > 2147483647
    query = "select condition from eram_worker_stats where worker = %s"
    assert value(conn, query, worker) == "alive"


def test_a_worker_that_never_stalls_is_not_silent(conn):
    conn.execute("select eram_start_worker('w', '{default}', pg_backend_pid(), '0')")
    conn.execute("update eram_workers set heartbeat_at = now() - interval '1 day'")
    assert value(conn, "select condition from eram_worker_stats") == "alive"


def test_latency_is_of_the_newest_jobs(conn):
    worker = start_worker(conn, "a", "b")
    run_jobs(conn, worker, 30, "a")
    run_jobs(conn, worker, 5, "b")
    conn.execute(
        """
        update eram_finished_jobs
        set attempted_at = finalized_at - case queue when 'a' then interval '2 seconds' else '5' end
        """
    )
    conn.execute("update eram_finished_jobs set run = 2, attempt = 2 where queue = 'b'")
    found = {seen.queue: seen for seen in rows(conn, "select * from eram_latency")}
    assert (found["a"].sample_count, found["b"].sample_count) == (30, 5)
    assert (found["a"].run_p50.total_seconds(), found["b"].run_p99.total_seconds()) == (2, 5)
    # Jobs were claimed before they were due, by these figures, and only first runs have waited.
    assert found["a"].wait_p99.total_seconds() == 0
    assert found["b"].wait_p50 is None
    age(conn, "61 minutes")
    assert rows(conn, "select * from eram_latency") == []


def test_throughput_says_what_is_recorded_and_what_is_not(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    (live,) = rows(conn, "select * from eram_throughput")
    assert (live.completed_count, live.waiting_count, live.wait_p50) == (3, None, None)
    record(conn)
    run_jobs(conn, worker, 2)
    enqueue(conn, max_attempts=1)
    (failing,) = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'no')", [failing.id])
    found = rows(conn, "select * from eram_throughput")
    assert sum(seen.completed_count for seen in found) == 5
    assert sum(seen.failed_count for seen in found) == 1
    assert sum(seen.discarded_count for seen in found) == 1
    assert any(seen.run_p50 is not None for seen in found)
    assert all(seen.minute.second == 0 for seen in found)


def test_few_jobs_beside_many_are_counted(conn):
    """Of the long queue there is an estimate, of the short ones what there is."""
    fill_waiting(conn, "many", 80_000)
    fill_waiting(conn, "later", 80_000, due_in="1 hour")
    fill_waiting(conn, "few", 5, attempt=1)
    fill_waiting(conn, "few", 3)
    fill_waiting(conn, "later", 4, due_in="-1 hour", lane=5)
    fill_waiting(conn, "later", 3, due_in="-10 minutes", lane=19)
    assert value(conn, "select _eram_page_count('eram_queued_jobs')") > 1000
    many, later, few = (stats(conn, queue) for queue in ("many", "later", "few"))
    assert (few.waiting_count, few.due_count, few.retryable_count) == (8, 8, 5)
    assert not few.is_estimate
    assert (many.is_estimate, later.is_estimate) == (True, True)
    assert 60_000 < many.waiting_count < 100_000
    assert 60_000 < many.due_count <= many.waiting_count
    assert 60_000 < later.waiting_count < 100_000
    assert later.due_count == 7
    assert later.oldest_due_age.total_seconds() > 3500
    conn.execute("truncate eram_queued_jobs")
