"""Why a job is not running: a sentence for each reason there is."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import errors

from .helpers import (
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    shared_buffers,
    start_worker,
    value,
    wait_until,
)

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S+"
SPAN = r"(\d+ days? )?\d\d:\d\d:\d\d"


def why(conn: psycopg.Connection, job_id: int) -> str:
    return value(conn, "select eram_why(%s)", job_id)


def says(conn: psycopg.Connection, job_id: int, *sentences: str) -> None:
    """Expect these sentences and no other; TIME and SPAN stand for any of their kind."""
    said = why(conn, job_id)
    pattern = " ".join(map(re.escape, sentences))
    pattern = pattern.replace("TIME", TIME).replace("SPAN", SPAN)
    assert re.fullmatch(pattern, said), said


def set_limit(conn: psycopg.Connection, limit: int) -> None:
    conn.execute("select eram_set_queue('default', global_limit => %s)", [limit])


def wait_for_end(conn: psycopg.Connection, worker: int) -> None:
    """Wait until the server has noticed that a worker's session is gone."""
    held = "select %s = any (_eram_held_keys('eram_workers'))"
    wait_until(lambda: not value(conn, held, worker), "the session has ended")


@pytest.mark.usefixtures("worker")
def test_a_job_that_is_due_and_next(conn):
    says(
        conn,
        enqueue(conn),
        "It is due since TIME.",
        "It is the next to be claimed, once a worker has room.",
        'There is 1 worker in queue "default" and none of its jobs running.',
    )


def test_jobs_ahead_of_it_and_busy_workers(conn, connect, worker):
    other = connect()
    start_worker(other, "default", "mail")
    enqueue_many(conn, 3)
    assert len(fetch(conn, worker)) == 3
    enqueue(conn, queue="mail", priority=0)
    enqueue(conn, priority=0, delay=3600)
    enqueue(conn, priority=4)
    second = enqueue(conn, priority=3)
    behind = enqueue(conn, priority=3)
    enqueue(conn, priority=3)
    both = 'There are 2 workers in queue "default" and 3 of its jobs running.'
    says(conn, behind, "It is due since TIME.", "1 job is ahead of it.", both)
    urgent = enqueue(conn, priority=2)
    says(conn, behind, "It is due since TIME.", "2 jobs are ahead of it.", both)
    says(conn, second, "It is due since TIME.", "1 job is ahead of it.", both)
    assert "It is the next" in why(conn, urgent)


@pytest.mark.usefixtures("worker")
def test_no_more_than_a_thousand_are_counted(conn):
    for priority in (0, 1, 2):
        enqueue_many(conn, 1000, priority=priority)
    later = enqueue_many(conn, 10, priority=1, delay=3600)
    last = enqueue(conn, priority=2)
    assert "More than 1000 jobs are ahead of it." in why(conn, last)
    for _ in range(7):
        enqueue_many(conn, 1000, priority=0)
    why(conn, last)
    assert shared_buffers(conn, "select eram_why(%s)", last) < 600
    assert "It is scheduled for" in why(conn, later[0])


@pytest.mark.usefixtures("worker")
def test_the_queue_is_paused(conn):
    conn.execute("select eram_pause_queue('default')")
    says(conn, enqueue(conn), 'Queue "default" is paused.')


@pytest.mark.usefixtures("worker")
def test_it_is_scheduled(conn):
    job = enqueue(conn, delay=90_000)
    says(conn, job, "It is scheduled for TIME (in SPAN).")
    assert "(in 1 day 00:59:" in why(conn, job)


def test_it_waits_for_its_retry(conn, worker):
    job = enqueue(conn, max_attempts=5)
    fetch(conn, worker)
    conn.execute(
        "select eram_fail_job(%s, 1, %s, delay => '1 hour')", [job, "no route.\nTraceback: ..."]
    )
    says(
        conn, job, "It waits for its retry until TIME (for SPAN): attempt 1 of 5 failed: no route."
    )


def test_its_reason_for_a_cancel_is_no_failure(conn, worker):
    """A job that was cancelled and retried, and then put off."""
    waiting = enqueue(conn)
    conn.execute("select eram_cancel_job(%s, 'withdrawn')", [waiting])
    running = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_cancel_job(%s, 'withdrawn')", [running])
    for job in (waiting, running):
        conn.execute("select eram_retry_job(%s)", [job])
        conn.execute("select eram_update_job(%s, delay => '1 day')", [job])
        says(conn, job, "It was put off until TIME (for SPAN).")


def test_it_was_put_off(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_snooze_job(%s, 1, '1 hour')", [job])
    says(conn, job, "It was put off until TIME (for SPAN).")


def test_the_global_limit_is_reached(conn, worker):
    enqueue_many(conn, 4)
    set_limit(conn, 3)
    assert len(fetch(conn, worker)) == 3
    says(conn, 4, 'The global limit of queue "default" is reached: 3 of 3 are running.')
    set_limit(conn, 2)
    says(conn, 4, 'The global limit of queue "default" is reached: 3 of 2 are running.')
    set_limit(conn, 4)
    assert "It is the next to be claimed" in why(conn, 4)


def test_no_more_than_a_thousand_running_are_counted(conn, worker):
    enqueue_many(conn, 1000)
    enqueue_many(conn, 2)
    for limit in (1000, 1):
        assert len(fetch(conn, worker, limit)) == limit
        job = enqueue(conn)
        number = "1000" if limit == 1000 else "more than 1000"
        assert f"and {number} of its jobs running." in why(conn, job)
        set_limit(conn, 3)
        says(
            conn,
            job,
            f'The global limit of queue "default" is reached: {number} of 3 are running.',
        )
        set_limit(conn, 0)


@pytest.mark.parametrize("queue", ["a", "b", "c", "d"])
def test_a_claim_of_a_limited_queue_is_open(conn, connect, queue):
    """Whatever the sign of the hash of its name, by which the lock goes."""
    other = connect()
    worker = start_worker(conn, queue)
    enqueue_many(conn, 2, queue=queue)
    conn.execute("select eram_set_queue(%s, global_limit => 5)", [queue])
    conn.execute("begin")
    assert len(fetch(conn, worker, 1, queue)) == 1
    says(
        other,
        2,
        f'Queue "{queue}" has a global limit, and a claim in the open transaction of session '
        f"{conn.info.backend_pid} is not committed.",
    )
    conn.execute("commit")


def test_no_worker_has_ever_served_the_queue(conn):
    start_worker(conn, "mail")
    says(conn, enqueue(conn), 'No worker serves queue "default": none is known that ever did.')


def test_the_last_worker_has_stopped(conn):
    start_worker(conn, "mail")
    for name in ("first", "last"):
        worker = start_worker(conn, name=name)
        conn.execute("select eram_stop_worker(%s)", [worker])
    says(
        conn,
        enqueue(conn),
        f'No worker serves queue "default": the last one, worker {worker} ("last"), has stopped '
        "at TIME.",
    )


def test_the_workers_are_missing(conn, connect):
    session = connect()
    worker = start_worker(session)
    session.close()
    wait_for_end(conn, worker)
    says(
        conn, enqueue(conn), 'The workers of queue "default" (1) give no sign of life, since TIME.'
    )
    start_worker(conn)
    assert "It is the next to be claimed" in why(conn, 1)
    assert "There is 1 worker in queue" in why(conn, 1)


def test_workers_behind_a_pooler_are_silent(conn):
    value(conn, "select eram_start_worker('pooled', '{default}', 0)")
    job = enqueue(conn)
    assert "It is the next to be claimed" in why(conn, job)
    conn.execute("update eram_workers set heartbeat_at = heartbeat_at - interval '2 minutes'")
    assert "give no sign of life" in why(conn, job)


def test_several_reasons_are_all_told(conn):
    set_limit(conn, 1)
    conn.execute("select eram_pause_queue('default')")
    says(
        conn,
        enqueue(conn, delay=3600),
        "It is scheduled for TIME (in SPAN).",
        'Queue "default" is paused.',
        'No worker serves queue "default": none is known that ever did.',
    )


def test_it_is_executing(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    says(conn, job, f'It is executing: worker {worker} ("tester") has run it since TIME (SPAN).')


def test_its_timeout_is_over(conn, worker):
    job = enqueue(conn, timeout=60)
    fetch(conn, worker)
    assert "timeout" not in why(conn, job)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 minutes'")
    assert why(conn, job).endswith(" Its timeout of 00:01:00 is over.")


def test_its_worker_is_missing_and_then_dead(conn, connect):
    session = connect()
    worker = start_worker(session)
    job = enqueue(conn)
    fetch(session, worker)
    session.close()
    wait_for_end(conn, worker)
    said = why(conn, job)
    assert "That worker is missing since " in said
    assert said.endswith("it is declared dead if it does not come back.")
    conn.execute("update eram_workers set ended_at = clock_timestamp(), end_reason = 'died'")
    assert re.search(f"That worker has died at {TIME}: the job will be rescued[.]", why(conn, job))
    conn.execute("delete from eram_workers")
    assert why(conn, job).endswith("That worker is not known: the job will be rescued.")
    conn.execute("select eram_rescue_jobs()")


def test_its_worker_is_silent(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_workers set heartbeat_at = heartbeat_at - interval '2 minutes'")
    assert re.search(f" That worker is silent since {TIME}[.]$", why(conn, job))


def test_it_was_completed(conn, worker):
    job = enqueue(conn)
    complete(conn, fetch(conn, worker))
    says(conn, job, f'It was completed at TIME, in attempt 1 of 20 by worker {worker} ("tester").')


def test_its_attempts_are_spent(conn, worker):
    job = enqueue(conn, max_attempts=2)
    for run in (1, 2):
        wait_until(lambda: fetch(conn, worker), "it is claimed")
        conn.execute("select eram_fail_job(%s, %s, 'boom', delay => '0')", [job, run])
    says(
        conn,
        job,
        f'It was discarded at TIME, in attempt 2 of 2 by worker {worker} ("tester"), the last '
        "one: boom.",
    )


def test_its_handler_gave_it_up(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_discard_job(%s, 1, 'no such user')", [job])
    says(
        conn,
        job,
        f'It was discarded at TIME, in attempt 1 of 20 by worker {worker} ("tester"): no such '
        "user.",
    )


def test_it_was_cancelled_while_it_waited(conn):
    silent, told = enqueue_many(conn, 2)
    conn.execute("select eram_cancel_job(%s), eram_cancel_job(%s, 'sold out')", [silent, told])
    says(conn, silent, "It was cancelled at TIME, while it waited.")
    says(conn, told, "It was cancelled at TIME, while it waited: sold out.")


def test_it_was_cancelled_while_it_ran(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_cancel_job(%s, 'sold out')", [job])
    by = f'in attempt 1 of 20 by worker {worker} ("tester"): sold out.'
    says(conn, job, f"It was cancelled at TIME, {by}", "That worker has not been told yet.")
    conn.execute("select eram_heartbeat(%s)", [worker])
    says(conn, job, f"It was cancelled at TIME, {by}")


@pytest.mark.parametrize("job", [1, 0, -5, 9_000_000_000_000_000_000])
def test_it_never_was(conn, job):
    assert why(conn, job) == "There never was such a job: the last id is 0."


def test_it_was_pruned_or_rolled_back(conn, worker):
    enqueue_many(conn, 2)
    complete(conn, fetch(conn, worker))
    value(conn, "select eram_prune_jobs('0')")
    for job in (1, 2):
        assert why(conn, job).startswith("There is no such job: it was pruned or deleted, ")
    assert why(conn, 3) == "There never was such a job: the last id is 2."


def test_it_is_in_no_place(conn):
    job = enqueue(conn)
    conn.execute("delete from eram_queued_jobs")
    assert why(conn, job) == "It is in no place, which eram_check() reports."
    conn.execute("delete from eram_job_specs")


def test_null_is_a_mistake(conn):
    with pytest.raises(errors.NullValueNotAllowed):
        conn.execute("select eram_why(null)")


def test_it_changes_nothing_and_hinders_nobody(conn, connect, worker):
    other = connect()
    job = enqueue(conn)
    before = contents(conn)
    other.execute("begin")
    why(other, job)
    assert value(other, "select pg_current_xact_id_if_assigned()") is None
    assert contents(conn) == before
    assert len(fetch(conn, worker)) == 1
    other.execute("commit")


def test_it_says_percent_signs_as_they_are(conn, worker):
    job = enqueue(conn)
    fetch(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, '100%%s', delay => '1 hour')", [job])
    assert why(conn, job).endswith("attempt 1 of 20 failed: 100%s.")
