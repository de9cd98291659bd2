"""The fetch cursor: whatever is committed behind it is found, whatever a session's setting says."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest

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
    write_cursor,
)

NAME = "select _eram_cursor_setting(%s)"
LENGTH = 127


def advance(conn: psycopg.Connection, worker: int) -> None:
    """Let a session fetch until its cursor, the safe one included, has moved."""
    for _ in range(3):
        enqueue(conn)
        wait_until(lambda: fetch(conn, worker), "the job is claimed")
    wait_until(
        lambda: fetch(conn, worker) or max(read_cursor(conn)[46:66]) > 0, "the safe cursor moves"
    )


def hold_open(conn: psycopg.Connection, kind: str) -> None:
    """Hold a reader's snapshot open, or a transaction that has written."""
    conn.execute("begin isolation level repeatable read")
    if kind == "writer":
        conn.execute("select pg_current_xact_id()")
    conn.execute("select count(*) from eram_queued_jobs")


def test_a_cursor_moves_with_the_claims(conn, worker):
    advance(conn, worker)
    cursor = read_cursor(conn)
    now = value(conn, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
    assert len(cursor) == LENGTH
    assert 0 < now - max(cursor[6:26]) < 20_000_000
    assert max(cursor[46:66]) <= max(cursor[6:26])


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
        "handler": "a:b", "args": {}, "meta": {}, "tags": [], "queue": "default",
        "priority": 0, "max_attempts": 20}')
"""


@pytest.mark.parametrize(
    "way_in",
    [
        f"_eram_insert_job({SPEC})",
        f"_eram_insert_jobs(array[{SPEC}])",
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
    before = max(read_cursor(conn)[46:66])
    wait_until(
        lambda: (enqueue(conn), fetch(conn, worker)) and max(read_cursor(conn)[46:66]) > before,
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
    assert max(read_cursor(conn)[46:66]) <= at
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
    note, safe = 87, 47  # the normal lane of priority 0

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
    wait_until(lambda: (cursor := busy())[0] > 0 and cursor[note] > at, "the note is past the job")
    late.commit()
    young_worker = start_worker(young)
    assert job_id in [job.id for job in fetch(young, young_worker, 1000)]
    mark = read_cursor(conn)[0]
    wait_until(lambda: busy()[0] != mark, "the note has been settled")
    assert read_cursor(conn)[safe] <= at
    if end == "rollback":
        young.rollback()
    else:
        conn.execute("select pg_terminate_backend(%s)", [young.info.backend_pid])
    found: list[int] = []

    def is_found() -> bool:
        found.extend(job.id for job in fetch(conn, worker, 100))
        return job_id in found

    wait_until(is_found, "the job is found long before the next full scan", seconds=10)


@pytest.mark.parametrize("ahead", [1, 3600, 10**7])
def test_a_clock_set_back_drops_the_cursor(conn, worker, ahead):
    """As if everything had been read up to a time that is still to come."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    for spans in (range(6, 26), range(46, 66), range(86, 106)):
        for place in spans:
            cursor[place] += ahead * 1_000_000
    job_id = enqueue(conn)
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_sweep_in_the_future_drops_the_cursor(conn, worker, place):
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[place] += 10**12
    job_id = enqueue(conn)
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


def test_a_full_scan_finds_what_a_wrong_cursor_hides(conn, worker):
    """The net under the net: once a minute, everything is read from the front."""
    advance(conn, worker)
    job_id = enqueue(conn)
    wait_until(lambda: fetch(conn, worker), "the job is claimed")
    # Back it goes, behind every cursor: what must never happen.
    conn.execute(
        """
        with gone as (delete from eram_running_jobs where job_id = %s returning *)
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select job_id, timestamptz '2020-01-01 00:00:00Z', run, attempt, lane, queue from gone
        """,
        [job_id],
    )
    conn.execute("update eram_job_specs set inserted_at = '2020-01-01 00:00:00Z'")
    assert fetch(conn, worker) == []
    cursor = read_cursor(conn)
    cursor[4] -= 61_000_000
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


GARBAGE = [
    "",
    " ",
    "null",
    "{}",
    "{1}",
    "garbage",
    "{" + ",".join(["0"] * (LENGTH - 1)) + "}",
    "{" + ",".join(["0"] * (LENGTH + 1)) + "}",
    "{" + ",".join(["0"] * LENGTH) + "}",
    "{" + ",".join(["x"] * LENGTH) + "}",
    "{" + ",".join(["-1"] * LENGTH) + "}",
    "{" + ",".join(["1.5"] * LENGTH) + "}",
    "{" + ",".join(["null"] * LENGTH) + "}",
    "{" + ",".join(["9" * 18] * LENGTH) + "}",
    "{" + ",".join(["9" * 30] * LENGTH) + "}",
    "{" + ",".join(["1"] * 63 + ["{1}"] * 63) + "}",
    "{{" + ",".join(["0"] * LENGTH) + "}}",
    "[0:125]={" + ",".join(["0"] * LENGTH) + "}",
    "{" + ",".join(["0"] * LENGTH) + "}\n",
    "{" + ", ".join(["0"] * LENGTH) + "}",
    "{" + "0," * 100_000 + "0}",
    "'; drop table eram_job_specs; --",
    "🦀" * 1000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: repr(text[:12]))
def test_a_garbage_setting_is_dropped(conn, worker, garbage):
    advance(conn, worker)
    job_id = enqueue(conn)
    write_cursor(conn, garbage)
    assert [job.id for job in fetch(conn, worker)] == [job_id]
    assert len(read_cursor(conn)) == LENGTH


@pytest.mark.parametrize(
    ("place", "number"),
    [(3, 10**18 - 1), (5, 10**18 - 1), (0, 10**18 - 1), (0, -1), (0, -5), (3, 10**17), (5, 10**16)],
)
def test_one_absurd_number_in_a_setting_neither_raises_nor_hides_a_job(conn, worker, place, number):
    """A mark from another cluster, or a scan that is said to have cost a thousand years."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[place] = number
    write_cursor(conn, cursor)
    job_id = enqueue(conn)
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


@pytest.mark.parametrize(("place", "cost_place"), [(4, 5), (2, 3)])
def test_a_cost_that_cannot_be_true_does_not_switch_a_scan_off(conn, worker, place, cost_place):
    """A scan that is said to have taken longer than the time since it began never was."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[cost_place] = 10**15
    cursor[place] -= 10 * 60 * 1_000_000
    write_cursor(conn, cursor)
    fetch(conn, worker)
    after = read_cursor(conn)
    assert after[place] > cursor[place] or after[cost_place] < 10**15


def test_random_settings_never_raise_and_never_lose_a_job_for_long(conn, worker):
    """Numbers at random in the right form. What they hide comes with the next full scan."""
    rnd = random.Random(7)
    for _ in range(150):
        advance_by = [
            rnd.choice([0, 1, 10**6, 10**15, 10**18 - 1, rnd.randrange(10**18)])
            for _ in range(LENGTH)
        ]
        # Costs are another test's matter.
        advance_by[3] = advance_by[5] = rnd.randrange(10**6)
        write_cursor(conn, advance_by)
        job_id = enqueue(conn, priority=rnd.randint(0, 9))
        found = fetch(conn, worker)
        if not found:
            cursor = read_cursor(conn)
            cursor[4], cursor[5] = 0, 0
            write_cursor(conn, cursor)
            found = fetch(conn, worker)
        assert [job.id for job in found] == [job_id]


def test_discard_all_costs_nothing_but_a_full_scan(conn, connect):
    session = connect()
    worker = start_worker(conn)
    advance(session, worker)
    job_id = enqueue(conn)
    session.execute("discard all")
    assert [job.id for job in fetch(session, worker)] == [job_id]


def test_another_client_of_a_pooled_session_can_use_its_cursor(conn, connect):
    session = connect()
    first, second = start_worker(conn), start_worker(conn)
    ids = enqueue_many(conn, 10)
    claimed = [fetch(session, [first, second][n % 2], 1)[0].id for n in range(10)]
    assert claimed == ids


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


@pytest.mark.parametrize("pin", [None, "reader", "writer"])
def test_stress(conn, connect, pin):
    """Commits up to 2 s late, a tenth rolled back; claims rolled back and held: each job once."""
    seconds = 4
    committed: dict[int, float] = {}
    claimed: dict[int, float] = {}
    lock, producers, consumers = threading.Lock(), Threads(), Threads()
    stop, is_done = threading.Event(), threading.Event()
    if pin:
        hold_open(connect(), pin)

    def produce(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        while not stop.is_set():
            priority = rnd.choice([0, 0, 0, 1, 5])
            ids = enqueue_many(session, rnd.choice([1, 1, 2, 50, 200]), priority=priority)
            late = rnd.random()
            if late < 0.05:
                stop.wait(rnd.uniform(0.2, 2))
            elif late < 0.3:
                stop.wait(rnd.uniform(0, 0.05))
            if rnd.random() < 0.1:
                session.rollback()
                continue
            with lock:  # The commit inside, so that no claim is earlier in this book than the job.
                session.commit()
                committed.update(dict.fromkeys(ids, time.monotonic()))
            stop.wait(rnd.uniform(0, 0.02))

    def consume(session: psycopg.Connection, seed: int) -> None:
        rnd = random.Random(seed)
        worker = start_worker(session)
        session.commit()
        while not is_done.is_set():
            jobs = fetch(session, worker, rnd.choice([1, 10, 100, 300]))
            if rnd.random() < 0.03:
                stop.wait(rnd.uniform(0, 0.5))
                session.rollback()
                continue
            session.commit()
            with lock:
                twice = [job.id for job in jobs if job.id in claimed]
                assert not twice
                claimed.update({job.id: time.monotonic() for job in jobs})
            if not jobs:
                is_done.wait(0.01)

    for seed in range(4):
        producers.start(produce, connect(autocommit=False), seed)
    for seed in range(3):
        consumers.start(consume, connect(autocommit=False), 100 + seed)
    stop.wait(seconds)
    stop.set()
    producers.join(20)
    wait_until(
        lambda: len(claimed) >= len(committed) or consumers.stop.is_set(),
        "all are claimed",
        seconds=20,
    )
    is_done.set()
    consumers.join(10)
    assert claimed.keys() == committed.keys()
    assert value(conn, "select count(*) from eram_queued_jobs") == 0
    waits = sorted(claimed[job_id] - committed[job_id] for job_id in committed)
    print(
        f"{len(waits)} jobs, from commit to claim: "
        f"median {waits[len(waits) // 2]:.3f} s, max {waits[-1]:.3f} s"
    )
    assert waits[-1] < 10


def test_state_of_a_late_job_is_available_before_it_is_found(conn, connect, worker):
    """The view knows nothing of cursors."""
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    fetch(conn, worker)
    producer.commit()
    assert state_of(conn, job_id) == "available"
