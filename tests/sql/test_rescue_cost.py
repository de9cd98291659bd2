"""What a rescue reads and writes when there is nothing to rescue."""

from __future__ import annotations

import psycopg

from .helpers import contents, enqueue, enqueue_many, fetch, shared_buffers, start_worker, value
from .rescue_helpers import RESCUE, declare_dead


def read_by_rescue(session: psycopg.Connection) -> int:
    """Call the rescue, and return how many running tickets it read."""
    # Counts of earlier transactions are in it until they are passed on.
    count = "select pg_stat_get_xact_tuples_returned('eram_running_jobs_pkey'::regclass)"
    with session.transaction():
        before = value(session, count)
        session.execute(RESCUE)
        return value(session, count) - before


def test_after_a_death_only_who_found_it_looks_through_all_running_jobs(conn, connect):
    living, victim, other = connect(), connect(), connect()
    enqueue_many(conn, 300)
    assert len(fetch(living, start_worker(living), 300)) == 300
    assert [read_by_rescue(session) for session in (conn, other)] == [300, 300]
    assert [read_by_rescue(session) for session in (conn, other)] == [0, 0]
    worker = start_worker(victim)
    enqueue(conn)
    fetch(victim, worker)
    assert declare_dead(conn, victim, worker) == 1
    # Once more, for what was locked or too much at first; the rescued one may be read again.
    once_more, *later = [read_by_rescue(conn) for _ in range(3)]
    assert 300 <= once_more <= 301
    assert later == [0, 0]
    assert [read_by_rescue(other) for _ in range(3)] == [0, 0, 0]


def test_an_idle_rescue_reads_no_worker_that_has_ended(conn):
    """They pile up, and it is called by each worker once a second."""
    start_worker(conn)
    value(conn, RESCUE)
    before = shared_buffers(conn, RESCUE)
    conn.execute(
        """
        insert into eram_workers
            (name, queues, is_direct, timeline, stalled_after, started_at, heartbeat_at, ended_at,
            end_reason)
        select 'old', '{default}', true, '00000001', '0', now(), now(), now(), 'stopped'
        from generate_series(1, 3000)
        """
    )
    conn.execute("analyze eram_workers")
    value(conn, RESCUE)
    assert shared_buffers(conn, RESCUE) <= before + 10


def test_an_idle_rescue_writes_nothing(conn, connect):
    session = connect()
    worker = start_worker(session)
    enqueue(conn)
    fetch(session, worker)
    value(conn, RESCUE)
    before = contents(conn)
    with conn.transaction():
        for _ in range(3):
            assert value(conn, RESCUE) == 0
        assert value(conn, "select pg_current_xact_id_if_assigned()") is None
    assert contents(conn) == before
