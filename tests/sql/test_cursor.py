"""The fetch cursor: whatever is committed behind it is found."""

from __future__ import annotations

import time

import psycopg
import pytest

from .cursor_helpers import (
    DEAR,
    FIRST,
    NOTED,
    SAFE,
    advance,
    fetch_when_idle,
    hold_open,
    latest,
    positions,
)
from .helpers import (
    Threads,
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    read_cursor,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
    wait_until,
)


def test_a_cursor_moves_with_the_claims(conn, worker):
    advance(conn, worker)
    cursor = read_cursor(conn)
    now = value(conn, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    assert 0 < now - latest(cursor, FIRST) < 20_000_000
    assert latest(cursor, SAFE) <= latest(cursor, FIRST)


@pytest.mark.parametrize("seconds", [0, 0.3, 1.5])
def test_a_late_commit_on_a_quiet_server_is_claimed_soon(conn, connect, worker, seconds):
    """Nothing else goes on; the worker polls meanwhile, and its cursor has passed the job by."""
    advance(conn, worker)
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert fetch(conn, worker) == []
    assert fetch(conn, worker) == []
    producer.commit()
    assert [job.id for job in fetch_late(conn, worker, seconds=1)] == [job_id]


def test_a_late_commit_behind_claimed_jobs_is_claimed_soon(conn, connect, worker):
    producer = connect(autocommit=False)
    advance(conn, worker)
    late = enqueue(producer)
    for _ in range(20):
        enqueue_many(conn, 50)
        fetch(conn, worker, 50)
    producer.commit()
    assert late in [job.id for job in fetch_late(conn, worker, seconds=2)]


def test_an_enqueue_that_waited_for_a_lock_is_not_late(conn, connect, worker):
    """The clock is read after the last wait: between them others' claims go on."""
    advance(conn, worker)
    producer, blocker = connect(), connect(autocommit=False)
    blocker.execute("lock table eram_job_specs in share row exclusive mode")
    threads = Threads()
    ids: list[int] = []
    threads.start(lambda: ids.append(enqueue(producer)))
    wait_for_lock_wait(blocker, producer)
    for _ in range(20):
        assert fetch(conn, worker) == []
    released = value(blocker, "select clock_timestamp()")
    blocker.commit()
    threads.join(10)
    (job,) = fetch_late(conn, worker, seconds=1)
    assert job.id == ids[0]
    # Its wait was on the insert itself, so its time may be earlier; it is found all the same.
    assert job.attempted_at >= released


SPEC = """
    jsonb_populate_record(null::eram_job_specs, '{
        "handler": "a:b", "args": {}, "tags": [], "queue": "default",
        "priority": 0, "max_attempts": 20}')
"""


@pytest.mark.parametrize(
    "way_in",
    [
        f"_eram_insert_job({SPEC})",
        f"_eram_insert_jobs(array[{SPEC}], '{{default}}')",
        "eram_snooze_job(%(id)s, %(run)s, '0')",
        "eram_fail_job(%(id)s, %(run)s, 'x', delay => '0')",
        "eram_release_jobs(array[%(id)s], array[%(run)s])",
    ],
    ids=["insert one", "insert many", "snooze", "fail", "release"],
)
def test_whoever_waits_on_the_way_into_a_lane_reads_the_clock_afterwards(
    conn, connect, worker, way_in
):
    """Held up where it looks whether to notify; what is claimed meanwhile lies before it."""
    enqueue(conn)
    (job,) = fetch(conn, worker)
    waiter, producer, blocker = connect(), connect(), connect(autocommit=False)
    waiter.execute("select eram_start_waiting('default')")
    blocker.execute("lock table eram_queues in access exclusive mode")
    threads = Threads()
    known = {"id": job.id, "run": job.run}
    threads.start(lambda: producer.execute(f"select {way_in}", known))
    wait_for_lock_wait(blocker, producer)
    released = value(blocker, "select clock_timestamp()")
    blocker.commit()
    threads.join(10)
    assert value(conn, "select scheduled_at from eram_queued_jobs") >= released


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_nothing_is_lost_while_another_transaction_is_open(conn, connect, worker, kind):
    other, producer = connect(), connect(autocommit=False)
    hold_open(other, kind)
    claimed, committed = [], []
    for number in range(30):
        late = enqueue(producer)
        committed += [*enqueue_many(conn, 5), late]
        claimed += [job.id for job in fetch(conn, worker, 3)]
        producer.commit()
        if number % 3 == 0:
            claimed += [job.id for job in fetch(conn, worker)]
    claimed += [job.id for job in fetch_late(conn, worker, len(committed) - len(claimed))]
    assert sorted(claimed) == sorted(committed)
    other.execute("commit")


def test_the_job_of_a_long_writer_is_claimed_after_its_commit(conn, connect, worker):
    writer = connect(autocommit=False)
    late = enqueue(writer)
    for _ in range(10):
        ids = enqueue_many(conn, 20)
        assert [job.id for job in fetch(conn, worker)] == ids
    writer.commit()
    assert [job.id for job in fetch_late(conn, worker)] == [late]


def test_a_reader_does_not_hold_back_the_safe_cursor(conn, connect, worker):
    """A dump or a report has no transaction id; what it holds open costs no sweep."""
    hold_open(connect(), "reader")
    advance(conn, worker)
    before = latest(read_cursor(conn), SAFE)
    wait_until(
        lambda: (enqueue(conn), fetch(conn, worker)) and latest(read_cursor(conn), SAFE) > before,
        "the safe cursor moves",
    )


def test_a_writer_holds_back_the_safe_cursor(conn, connect, worker):
    """Its jobs would lie behind it."""
    advance(conn, worker)
    writer = connect(autocommit=False)
    late = enqueue(writer)
    for _ in range(50):
        enqueue(conn)
        fetch(conn, worker)
    at = value(
        writer,
        "select (extract(epoch from scheduled_at) * 1000000)::bigint from eram_jobs where id = %s",
        late,
    )
    assert latest(read_cursor(conn), SAFE) <= at
    writer.commit()
    assert [job.id for job in fetch_late(conn, worker)] == [late]


def test_lanes_are_passed_by_one_by_one(conn, connect, worker):
    """A limit reached in one lane must not hide what lies in the lanes after it."""
    late = connect(autocommit=False)
    expected = [enqueue_many(conn, 7, priority=priority) for priority in range(10)]
    late_ids = [enqueue(late, priority=priority) for priority in range(10)]
    claimed = [job.id for _ in range(9) for job in fetch(conn, worker, 4)]
    late.commit()
    claimed += [job.id for job in fetch_late(conn, worker, 80 - len(claimed))]
    assert sorted(claimed) == sorted([*(job_id for lane in expected for job_id in lane), *late_ids])


def test_an_urgent_newcomer_overtakes_a_backlog(conn, worker):
    enqueue_many(conn, 200, priority=5)
    assert {job.priority for job in fetch(conn, worker, 50)} == {5}
    urgent = enqueue(conn, priority=1)
    assert fetch(conn, worker, 1)[0].id == urgent


def test_a_returned_job_is_found_in_a_lane_read_to_its_end(conn, worker):
    for _ in range(3):
        job_id = enqueue(conn)
        (job,) = fetch(conn, worker)
        assert fetch(conn, worker) == []
        conn.execute("select eram_release_jobs(%s, %s)", [[job.id], [job.run]])
        assert [again.id for again in fetch(conn, worker)] == [job_id]


@pytest.mark.parametrize("end", ["rollback", "kill"])
def test_a_late_job_claimed_by_a_younger_transaction_that_fails_is_not_passed_over(
    conn, connect, worker, end
):
    """The safe cursor waits for it: its own transaction has ended, but its claim may not last."""
    lane = 1  # the normal one of priority 0

    def busy() -> list[int]:
        enqueue(conn)
        fetch(conn, worker)
        return read_cursor(conn)

    late, young = connect(autocommit=False), connect(autocommit=False)
    wait_until(lambda: busy()[0] > 0, "a note is marked")
    job_id = enqueue(late)
    at = value(
        late,
        "select (extract(epoch from scheduled_at) * 1000000)::bigint"
        " from eram_queued_jobs where job_id = %s",
        job_id,
    )
    wait_until(
        lambda: (cursor := busy())[0] > 0 and positions(cursor, NOTED)[lane][0] > at,
        "the note is past the job",
    )
    late.commit()
    young_worker = start_worker(young)
    assert job_id in [job.id for job in fetch(young, young_worker, 1000)]
    mark = read_cursor(conn)[0]
    wait_until(lambda: busy()[0] != mark, "the note has been settled")
    assert positions(read_cursor(conn), SAFE)[lane][0] <= at
    if end == "rollback":
        young.rollback()
    else:
        conn.execute("select pg_terminate_backend(%s)", [young.info.backend_pid])
    found: list[int] = []

    def is_found() -> bool:
        found.extend(job.id for job in fetch(conn, worker, 100))
        return job_id in found

    wait_until(is_found, "the job is found long before the next full scan", seconds=10)


def test_to_look_and_find_nothing_takes_no_transaction_id(conn, worker):
    advance(conn, worker)
    for _ in range(10):
        with conn.transaction():
            assert fetch_when_idle(conn, worker) == []
            assert value(conn, "select pg_current_xact_id_if_assigned()") is None


def safe_after_first_fetch(session: psycopg.Connection, worker: int) -> int:
    """Return how far a session's first fetch, in vain, has brought its safe cursor."""
    assert fetch(session, worker) == []
    return latest(read_cursor(session), SAFE)


def test_the_first_fetch_of_a_session_walks_for_the_later_ones(conn, connect, worker):
    """Where a reader holds what was consumed, they begin behind it, unless someone was writing."""
    hold_open(connect(), "reader")
    enqueue_many(conn, 50)
    assert len(fetch(conn, worker)) == 50
    before = value(conn, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    # A vacuum may be writing.
    wait_until(lambda: safe_after_first_fetch(connect(), worker) > before, "nobody was writing")


@pytest.mark.parametrize("kind", ["enqueued", "claimed", "prepared"])
def test_the_first_fetch_of_a_session_waits_for_whoever_was_writing(conn, connect, worker, kind):
    late = enqueue(conn)
    other, session = connect(), connect()
    other.execute("begin")
    if kind == "claimed":
        assert [job.id for job in fetch(other, worker)] == [late]
    else:
        fetch(conn, worker)
        late = enqueue(other)
    if kind == "prepared":
        other.execute("prepare transaction 'eram'")
    assert safe_after_first_fetch(session, worker) == 0
    end = {"enqueued": "commit", "claimed": "rollback", "prepared": "commit prepared 'eram'"}
    other.execute(end[kind])
    assert [job.id for job in fetch_late(session, worker)] == [late]
    wait_until(
        lambda: fetch(session, worker) or latest(read_cursor(session), SAFE) > 0,
        "the note of the first scan has become safe",
    )


def test_an_idle_session_takes_note_when_sweeps_have_become_dear(conn, worker):
    """Others have claimed what they walk over."""
    advance(conn, worker)
    before = latest(read_cursor(conn), SAFE)
    for _ in range(4):
        assert fetch_when_idle(conn, worker, DEAR) == []
    assert latest(read_cursor(conn), SAFE) > before


@pytest.mark.parametrize("kind", ["open", "prepared"])
def test_a_note_of_an_idle_session_waits_for_whoever_was_writing(conn, connect, worker, kind):
    """A prepared transaction is one, too."""
    advance(conn, worker)
    writer = connect()
    writer.execute("begin")
    late = enqueue(writer)
    at = value(
        writer,
        "select (extract(epoch from scheduled_at) * 1000000)::bigint from eram_jobs where id = %s",
        late,
    )
    xid = value(writer, "select pg_current_xact_id()::text::bigint")
    if kind == "prepared":
        writer.execute("prepare transaction 'eram'")
    found = [fetch_when_idle(conn, worker, DEAR) for _ in range(10)]
    cursor = read_cursor(conn)
    writer.execute("commit" if kind == "open" else "commit prepared 'eram'")
    assert not any(found)
    assert latest(cursor, SAFE) <= at
    assert cursor[0] >= xid
    assert [job.id for job in fetch_late(conn, worker)] == [late]
    for _ in range(10):
        assert fetch_when_idle(conn, worker, DEAR) == []
    assert latest(read_cursor(conn), SAFE) > at


def test_a_note_of_an_idle_session_waits_for_a_claim_that_may_be_rolled_back(conn, connect, worker):
    advance(conn, worker)
    holder = connect(autocommit=False)
    holder_worker = start_worker(holder)
    holder.commit()
    job_id = enqueue(conn)
    assert [job.id for job in fetch(holder, holder_worker)] == [job_id]
    at = value(
        conn,
        "select (extract(epoch from scheduled_at) * 1000000)::bigint"
        " from eram_queued_jobs where job_id = %s",
        job_id,
    )
    for _ in range(10):
        assert fetch_when_idle(conn, worker, DEAR) == []
    assert latest(read_cursor(conn), SAFE) <= at
    holder.rollback()
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


def test_a_prepared_transaction_that_enqueues(conn, connect, worker):
    """Two-phase commit, by anyone: the job appears with COMMIT PREPARED, behind the cursor."""
    advance(conn, worker)
    other = connect()
    other.execute("begin")
    job_id = enqueue(other)
    other.execute("prepare transaction 'eram'")
    for _ in range(20):
        assert fetch(conn, worker) == []
    other.execute("commit prepared 'eram'")
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


def test_a_prepared_transaction_while_a_worker_waits_needs_notify_off(conn, connect, worker):
    waiter, other = connect(), connect()
    waiter.execute("select eram_start_waiting('default')")
    other.execute("begin")
    enqueue(other)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="PREPARE"):
        other.execute("prepare transaction 'eram'")
    other.execute("set eram.notify = off")
    other.execute("begin")
    job_id = enqueue(other)
    other.execute("prepare transaction 'eram'")
    other.execute("commit prepared 'eram'")
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


def test_state_of_a_late_job_is_available_before_it_is_found(conn, connect, worker):
    """The view knows nothing of cursors."""
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    fetch(conn, worker)
    producer.commit()
    assert state_of(conn, job_id) == "available"
