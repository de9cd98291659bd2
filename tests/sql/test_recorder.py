"""The recorder: what it counts, once, whatever else is going on."""

from __future__ import annotations

import time

import pytest

from .helpers import (
    Threads,
    complete,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    rows,
    start_worker,
    value,
)
from .schedule_helpers import call, entry, make_due, tick
from .statistics_helpers import age, fill_waiting, minutes, prune, record, run_jobs, totals


def test_what_happened_is_counted_once(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 5)
    enqueue_many(conn, 3, max_attempts=1)
    failing, discarded, cancelled = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'no')", [failing.id])
    conn.execute("select eram_discard_job(%s, 1)", [discarded.id])
    conn.execute("select eram_cancel_job(%s)", [cancelled.id])
    for _ in range(3):
        record(conn)
        assert totals(conn) == minutes(conn) == (5, 2, 2, 1)
    run_jobs(conn, worker, 1)
    assert totals(conn) == (5, 2, 2, 1)
    assert minutes(conn) == (6, 2, 2, 1)
    record(conn)
    assert totals(conn) == minutes(conn) == (6, 2, 2, 1)


def test_what_is_committed_late_is_counted_late(conn, connect):
    """Its time is before that of the last recording."""
    worker = start_worker(conn)
    enqueue_many(conn, 4)
    jobs = fetch(conn, worker, 4)
    late = connect(autocommit=False)
    complete(late, jobs[:2])
    complete(conn, jobs[2:])
    record(conn)
    assert totals(conn) == minutes(conn) == (2, 0, 0, 0)
    late.commit()
    assert minutes(conn) == (4, 0, 0, 0)
    for _ in range(2):
        record(conn)
        assert totals(conn) == minutes(conn) == (4, 0, 0, 0)


def test_what_is_rolled_back_is_not_counted(conn, connect):
    worker = start_worker(conn)
    enqueue_many(conn, 2)
    jobs = fetch(conn, worker, 2)
    other = connect(autocommit=False)
    complete(other, jobs)
    record(conn)
    other.rollback()
    record(conn)
    assert totals(conn) == (0, 0, 0, 0)


@pytest.mark.parametrize("is_committing", [True, False])
def test_a_recording_counts_if_it_is_committed(conn, connect, is_committing):
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    recorder = connect(autocommit=False)
    record(recorder)
    # Another does not wait for it, and counts nothing meanwhile.
    conn.execute("set lock_timeout = '10s'")
    record(conn)
    assert totals(conn) == (0, 0, 0, 0)
    assert minutes(conn) == (3, 0, 0, 0)
    run_jobs(conn, worker, 2)
    (recorder.commit if is_committing else recorder.rollback)()
    assert totals(conn)[0] == (3 if is_committing else 0)
    assert minutes(conn) == (5, 0, 0, 0)
    record(conn)
    assert totals(conn) == (5, 0, 0, 0)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("with_savepoint", [True, False])
def test_what_the_same_transaction_did_is_counted_once(conn, connect, with_savepoint, is_first):
    """A tick rescues, and records, in one transaction; others go on meanwhile."""
    worker = start_worker(conn)
    enqueue_many(conn, 3)
    jobs = fetch(conn, worker, 3)
    both = connect(autocommit=False)
    if not is_first:
        complete(conn, jobs[1:2])
    if with_savepoint:
        both.execute("savepoint one")
    complete(both, jobs[:1])
    if is_first:
        complete(conn, jobs[1:2])
    record(both)
    complete(conn, jobs[2:])
    both.commit()
    assert totals(conn) == (2, 0, 0, 0)
    for _ in range(2):
        record(conn)
        assert totals(conn) == minutes(conn) == (3, 0, 0, 0)


def test_a_tick_that_rescues_counts_that_once(conn, connect):
    tick(conn, 0)
    enqueue(conn)
    with connect() as gone:
        fetch(gone, start_worker(gone))
    conn.execute("update eram_workers set ended_at = now(), end_reason = 'died'")
    make_due(conn, "eram:recorder")
    # Another session: each looks for such jobs every few seconds only.
    tick(connect(), 0)
    for _ in range(3):
        assert totals(conn) == minutes(conn) == (0, 1, 0, 0)
        record(conn)


def test_what_a_prune_removes_is_counted_before(conn):
    tick(conn, 0)
    worker = start_worker(conn)
    run_jobs(conn, worker, 5)
    enqueue(conn, max_attempts=1)
    (job,) = fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'no')", [job.id])
    assert prune(conn, "0 seconds") == 6
    assert totals(conn) == minutes(conn) == (5, 1, 1, 0)


def test_what_the_prune_names_anew_is_not_counted_again(conn, connect):
    tick(conn, 0)
    worker = start_worker(conn)
    run_jobs(conn, worker, 10)
    holder = connect(autocommit=False)
    holder.execute("select from eram_finished_jobs order by job_id limit 3 for update")
    assert prune(conn, "0 seconds", 6) == 6
    assert value(conn, "select count(*) from eram_completions where is_repeated") > 0
    holder.rollback()
    for _ in range(2):
        record(conn)
        assert totals(conn) == minutes(conn) == (10, 0, 0, 0)


def test_nobody_counts_what_nobody_wants_counted(conn):
    tick(conn, 0)
    call(conn, "eram_pause_schedule", name="eram:recorder")
    run_jobs(conn, start_worker(conn), 2)
    assert prune(conn, "0 seconds") == 2
    assert totals(conn) == (0, 0, 0, 0)


def test_a_prune_outlives_what_it_cannot_record(conn):
    tick(conn, 0)
    run_jobs(conn, start_worker(conn), 2)
    conn.execute("alter table eram_totals add constraint trap_check check (completed_count > 5)")
    try:
        assert prune(conn, "0 seconds") == 2
    finally:
        conn.execute("alter table eram_totals drop constraint trap_check")
    assert totals(conn) == (0, 0, 0, 0)


@pytest.mark.parametrize("is_mixed", [True, False])
def test_what_is_removed_on_completion_is_counted(conn, is_mixed):
    tick(conn, 0)
    record(conn)
    for queue in ("a", "b"):
        conn.execute("select eram_set_queue(%s, max_age => '0')", [queue])
    queues = ["a", "b", "kept"] if is_mixed else ["a"]
    worker = start_worker(conn, *queues)
    jobs = []
    for queue in queues:
        enqueue_many(conn, 3, queue=queue)
        jobs += fetch(conn, worker, 3, queue)
    complete(conn, jobs)
    for queue in queues:
        assert minutes(conn, queue) == (3, 0, 0, 0)
    # Not taken away at once: the rate is still made of it.
    record(conn)
    assert value(conn, "select completed_per_minute from eram_queue_stats where queue = 'a'") == 3
    age(conn, "2 minutes")
    for _ in range(2):
        record(conn)
        assert [totals(conn, queue)[0] for queue in queues] == [3] * len(queues)
        assert minutes(conn, "a") == (3, 0, 0, 0)
    assert value(conn, "select count(*) from eram_removal_counts") == 0


@pytest.mark.parametrize("is_counted_before", [True, False])
def test_failures_of_what_is_removed_are_counted_once(conn, is_counted_before):
    tick(conn, 0)
    record(conn)
    conn.execute("select eram_set_queue('default', max_age => '0')")
    worker = start_worker(conn)
    job_id = enqueue(conn, backoff={"strategy": "none"})
    fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'no', delay => '0')", [job_id])
    if is_counted_before:
        record(conn)
    complete(conn, fetch(conn, worker))
    assert value(conn, "select count(*) from eram_job_errors") == 0
    assert minutes(conn) == (1, 1, 0, 0)
    age(conn, "2 minutes", of_snapshot=False)
    for _ in range(2):
        record(conn)
        assert totals(conn) == minutes(conn) == (1, 1, 0, 0)


def test_failures_counted_while_their_job_is_being_removed_are_counted_once(conn, connect):
    tick(conn, 0)
    record(conn)
    conn.execute("select eram_set_queue('default', max_age => '0')")
    worker = start_worker(conn)
    job_id = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'no', delay => '0')", [job_id])
    late = connect(autocommit=False)
    complete(late, fetch_late(conn, worker))
    record(conn)
    late.commit()
    assert minutes(conn) == (1, 1, 0, 0)
    age(conn, "2 minutes", of_snapshot=False)
    for _ in range(2):
        record(conn)
        assert totals(conn) == minutes(conn) == (1, 1, 0, 0)


def test_removals_do_not_pile_up_where_nobody_records(conn):
    conn.execute("select eram_set_queue('default', max_age => '0')")
    worker = start_worker(conn)
    run_jobs(conn, worker, 1)
    record(conn)
    conn.execute("update eram_recordings set recorded_at = now() - interval '2 hours'")
    run_jobs(conn, worker, 1)
    assert value(conn, "select count(*) from eram_removal_counts") == 0


def test_minutes_are_kept_for_two_hours_and_totals_for_ever(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 4)
    record(conn)
    age(conn, "61 minutes")
    assert minutes(conn) == (0, 0, 0, 0)
    record(conn)
    assert value(conn, "select count(*) from eram_minutes") == 1
    age(conn, "61 minutes")
    record(conn)
    assert value(conn, "select count(*) from eram_minutes") == 0
    assert totals(conn) == (4, 0, 0, 0)


def test_what_waits_and_runs_is_noted(conn):
    tick(conn, 0)
    worker = start_worker(conn)
    enqueue_many(conn, 5)
    fetch(conn, worker, 2)
    make_due(conn, "eram:recorder")
    tick(conn, 0)
    seen = rows(conn, "select * from eram_throughput")[-1]
    assert (seen.queue, seen.waiting_count, seen.running_count) == ("default", 3, 2)
    conn.execute("select eram_stop_worker(%s)", [worker])
    conn.execute("select eram_delete_jobs('{\"all\": true}')")
    make_due(conn, "eram:recorder")
    tick(conn, 0)
    seen = rows(conn, "select * from eram_throughput order by minute")[-1]
    assert (seen.waiting_count, seen.running_count) in {(0, 0), (3, 2)}
    assert entry(conn, "eram:recorder").last_error is None


def test_times_are_of_a_sample_from_all_over_the_minute(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 100)
    run_jobs(conn, worker, 50)
    conn.execute(
        """
        update eram_finished_jobs
        set attempted_at = finalized_at - job_id * interval '1 second';
        update eram_job_specs set scheduled_at = scheduled_at - interval '1 day'
        """
    )
    conn.execute("select _eram_record(20)")
    (seen,) = rows(conn, "select sum(run_sample_count) as jobs from eram_minutes")
    assert 18 <= seen.jobs <= 42  # the minute may have ended meanwhile: two samples
    latest = rows(conn, "select * from eram_throughput order by minute")[-1]
    assert latest.run_p50 <= latest.run_p95 <= latest.run_p99
    assert latest.run_p99.total_seconds() > 100


def test_after_a_restore_counting_goes_on_by_time(conn):
    """The snapshots of another cluster say nothing of this one's rows."""
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    record(conn)
    conn.execute(
        "update eram_recordings set completions_oid = 1, snapshot = '9000000000:9000000000:'"
    )
    record(conn)
    assert totals(conn) == (3, 0, 0, 0)
    run_jobs(conn, worker, 2)
    record(conn)
    assert totals(conn) == (5, 0, 0, 0)
    assert value(conn, "select count(*) from eram_recordings") == 1


def test_a_clock_that_was_set_back_hides_nothing(conn):
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    record(conn)
    conn.execute("update eram_recordings set recorded_at = recorded_at + interval '1 hour'")
    run_jobs(conn, worker, 2)
    for _ in range(2):
        assert minutes(conn) == (5, 0, 0, 0)
        record(conn)
        assert totals(conn) == (5, 0, 0, 0)


def test_after_a_restore_that_gives_the_same_oids(conn):
    """A new server does, and has begun few transactions."""
    conn.execute("update eram_recordings set snapshot = '9000000000:9000000000:'")
    worker = start_worker(conn)
    run_jobs(conn, worker, 3)
    record(conn)
    assert totals(conn) == minutes(conn) == (3, 0, 0, 0)
    conn.execute("update eram_recordings set snapshot = '9000000000:9000000000:'")
    run_jobs(conn, worker, 2)
    assert minutes(conn)[0] >= 5
    record(conn)
    assert totals(conn)[0] >= 5


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_recording_is_not_later_than_what_it_saw(conn, connect, level):
    """Otherwise the next one begins behind what this one could not see."""
    worker = start_worker(conn)
    recorder = connect(autocommit=False)
    recorder.execute(f"set transaction isolation level {level}")
    recorder.execute("select from eram_totals")
    run_jobs(conn, worker, 3)
    seen_at = value(conn, "select max(finalized_at) from eram_completions")
    record(recorder)
    recorder.commit()
    is_counted = totals(conn) == (3, 0, 0, 0)
    assert is_counted is (level == "read committed")
    assert is_counted is (value(conn, "select recorded_at from eram_recordings") > seen_at)
    record(conn)
    assert totals(conn) == minutes(conn) == (3, 0, 0, 0)


def test_many_at_once_count_everything_once(conn, connect):
    """Tickers and pruners beside workers: in the end the totals are what was done."""
    tick(conn, 0)
    counters, workers = Threads(), Threads()
    done: list[int] = []

    def work(queue: str) -> None:
        mine, late = connect(), connect(autocommit=False)
        worker = start_worker(mine, queue)
        for _ in range(15):
            run_jobs(mine, worker, 4, queue)
            enqueue_many(mine, 2, queue=queue)
            complete(late, fetch(mine, worker, 2, queue))
            time.sleep(0.01)
            late.commit()
            done.append(6)

    def count() -> None:
        mine = connect()
        while not counters.stop.is_set():
            record(mine)
            prune(mine, "0 seconds")

    for _ in range(2):
        counters.start(count)
    for queue in ("a", "b"):
        workers.start(work, queue)
    workers.join()
    counters.stop.set()
    counters.join()
    record(conn)
    assert totals(conn, "a") == totals(conn, "b") == (sum(done) / 2, 0, 0, 0)


def test_a_long_queue_is_recorded_too(conn):
    tick(conn, 0)
    fill_waiting(conn, "many", 90_000)
    make_due(conn, "eram:recorder")
    tick(conn, 0)
    waiting = value(conn, "select waiting_count from eram_throughput where queue = 'many'")
    assert 60_000 < waiting < 120_000
    conn.execute("truncate eram_queued_jobs")
