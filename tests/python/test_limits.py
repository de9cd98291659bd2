"""A queue's global limit, as workers meet it."""

from __future__ import annotations

import pytest
import sample_jobs
from helpers import eventually, value

# So long that nothing in these tests can come from polling.
NEVER_POLL = 3600
JOBS = 40


@pytest.mark.parametrize("slots", [1, 5])
def test_workers_keep_a_limited_queue_busy_without_polling(conn, start_worker, slots):
    """Whoever has finished a job fetches the next one at once, though the limit refused it before.

    With one slot each fetch fills the demand; with five each is cut short.
    """
    conn.execute("select eram_set_queue('default', global_limit => 1)")
    for _ in range(2):
        start_worker(queues={"default": slots}, poll_interval=NEVER_POLL)
    for _ in range(JOBS):
        sample_jobs.nothing.enqueue(conn)
    completed = "select count(*) from eram_jobs where state = 'completed'"
    eventually(lambda: value(conn, completed) == JOBS)


def test_jobs_enqueued_at_a_full_queue_wake_nobody_and_run_all_the_same(conn, start_worker):
    """The idle worker has withdrawn, and the busy one finds them when its job has ended."""
    conn.execute("select eram_set_queue('default', global_limit => 1)")
    for _ in range(2):
        start_worker(queues={"default": 5}, poll_interval=NEVER_POLL)
    first = sample_jobs.wait.enqueue(conn, name="gate")
    assert sample_jobs.started["gate"].wait(sample_jobs.PATIENCE)
    declared = """
        select count(*)
        from unnest(_eram_held_keys('eram_queues')) as held (key)
        where held.key = hashtext('default')::bigint & 4294967295
    """
    eventually(lambda: value(conn, declared) == 0)
    second = sample_jobs.nothing.enqueue(conn)
    assert value(conn, "select state from eram_jobs where id = %s", first.id) == "executing"
    sample_jobs.gates["gate"].set()
    query = "select state = 'completed' from eram_jobs where id = %s"
    eventually(lambda: value(conn, query, second.id))
