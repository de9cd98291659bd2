"""What pruning costs, in buffers, and what it costs others: little, whatever is held open."""

from __future__ import annotations

import json
import statistics
import threading
import time
from typing import Any

import psycopg
import pytest

from .helpers import (
    Threads,
    complete,
    enqueue_many,
    fetch,
    plan_of,
    row,
    shared_buffers,
    start_worker,
    value,
)
from .prune_helpers import completed_many, ended, kept, let_pass, prune, run_prune

PRUNE_10 = "select _eram_run_prune('{\"limit\": 10}')"
PRUNE_100 = "select _eram_run_prune('{\"limit\": 100}')"


def fill(conn: psycopg.Connection, first: int, last: int, batch: int, queue: str = "q") -> None:
    """Write completed jobs of two days ago, as calls with so many each would have left them."""
    conn.execute(
        """
        insert into eram_job_specs (
            job_id, handler, args, meta, tags, queue, priority, max_attempts, inserted_at,
            scheduled_at)
        overriding system value
        select id, 'app:run', '{}', null, '{}', %(queue)s, 0, 20, times.at, times.at
        from generate_series(%(first)s::bigint, %(last)s) as id
        cross join (select now() - interval '3 days') as times (at)
        """,
        {"first": first, "last": last, "queue": queue},
    )
    conn.execute(
        """
        with added as (
            insert into eram_finished_jobs (job_id, finalized_at, run, attempt, state, queue)
            select
                id, now() - interval '2 days' + id * interval '1 microsecond', 1, 1, 'completed',
                %(queue)s
            from generate_series(%(first)s::bigint, %(last)s) as id
            returning *
        )
        insert into eram_completions (queue, finalized_at, ids)
        select queue, max(finalized_at), array_agg(job_id)
        from added
        group by queue, (job_id - %(first)s) / %(batch)s
        """,
        {"first": first, "last": last, "batch": batch, "queue": queue},
    )
    conn.execute("select setval('eram_job_specs_job_id_seq', %s)", [last])


def read_cursor(conn: psycopg.Connection) -> dict[str, Any]:
    """Return what the session remembers of the last prune."""
    return json.loads(value(conn, "select current_setting(_eram_prune_setting())"))


def write_cursor(conn: psycopg.Connection, text: str) -> None:
    value(conn, "select set_config(_eram_prune_setting(), %s, false)", text)


def make_looks_dear(conn: psycopg.Connection) -> None:
    """As if the last look from the front, an hour ago, had taken ten minutes."""
    cursor = read_cursor(conn)
    cursor["looked_at"] = value(conn, "select to_json(now() - interval '1 hour') #>> '{}'")
    cursor["cost"] = 600
    write_cursor(conn, json.dumps(cursor))


@pytest.mark.parametrize("batch", [1, 100])
def test_a_prune_reads_only_what_it_removes(conn, batch):
    """No statistics, plans made when the tables were empty, 100,000 jobs."""
    conn.execute("alter table eram_finished_jobs set (autovacuum_enabled = off)")
    for _ in range(8):
        run_prune(conn)
    fill(conn, 1, 100_000, batch)
    cost = shared_buffers(conn, PRUNE_100)
    assert len(kept(conn)) == 99_900
    again = shared_buffers(conn, PRUNE_100)
    print(f"100 of 100,000 in batches of {batch}: {cost} buffers, then {again}")
    assert max(cost, again) < 100 * 30 + 200
    conn.execute("alter table eram_finished_jobs reset (autovacuum_enabled)")


def test_a_prune_of_the_rare_ends_reads_only_what_it_removes(conn):
    fill(conn, 1, 30_000, 100)
    conn.execute(
        """
        delete from eram_completions;
        update eram_finished_jobs
        set
            state = case job_id % 2 when 0 then 'discarded' else 'cancelled' end,
            finalized_at = finalized_at - interval '7 days'
        """
    )
    cost = shared_buffers(conn, PRUNE_100)
    assert len(kept(conn)) == 29_900
    print(f"100 of 30,000: {cost} buffers")
    assert cost < 100 * 30 + 200


def test_an_idle_prune_reads_next_to_nothing(conn):
    """Neither what is young nor what is kept for ever."""
    fill(conn, 1, 20_000, 10)
    let_pass(conn, "-2 days")
    fill(conn, 20_001, 40_000, 10, "audit")
    conn.execute("select eram_set_queue('audit', max_age => '\"infinity\"')")
    conn.execute("vacuum eram_completions")
    cost = min(shared_buffers(conn, PRUNE_100) for _ in range(3))
    assert len(kept(conn)) == 40_000
    print(f"idle: {cost} buffers")
    assert cost < 150


def test_many_queues_cost_one_look_each(conn):
    for number in range(100):
        fill(conn, number * 5 + 1, number * 5 + 5, 1, f"queue {number}")
    let_pass(conn, "-2 days")
    cost = min(shared_buffers(conn, PRUNE_100) for _ in range(3))
    print(f"100 queues: {cost} buffers")
    assert cost < 100 * 15


def test_a_session_does_not_walk_again_over_what_was_removed(conn, connect):
    """While an old snapshot is held, the entries of removed jobs stay in the index."""
    fill(conn, 1, 25_000, 1)
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from eram_completions")
    shared_buffers(conn, PRUNE_10)
    before = shared_buffers(conn, PRUNE_10)
    while len(kept(conn)) > 5000:
        run_prune(conn, limit=20_000)
    from_the_front = shared_buffers(conn, "select eram_prune_jobs(null, 10)")
    make_looks_dear(conn)
    after = [shared_buffers(conn, PRUNE_10) for _ in range(5)]
    print(f"{before} buffers, after 20,000 jobs {after}, from the front {from_the_front}")
    # Neighbours in the index lie in one page of the table: it is walked by pages.
    assert from_the_front > before + 150
    assert max(after) < before * 1.3 + 20
    pin.execute("commit")


def test_what_appeared_behind_is_found_by_the_next_look_from_the_front(conn):
    fill(conn, 101, 200, 1)
    fill(conn, 1001, 1100, 1, "z")
    assert run_prune(conn, limit=50) is True
    make_looks_dear(conn)
    fill(conn, 1, 100, 1)
    let_pass(conn, "1 hour", *range(1, 101))
    fill(conn, 2001, 2010, 1, "new")
    assert run_prune(conn) is False
    assert kept(conn) == [*range(1, 101), *range(2001, 2011)]
    assert read_cursor(conn)["cost"] == 600
    cursor = read_cursor(conn)
    cursor["cost"] = 60
    write_cursor(conn, json.dumps(cursor))
    assert run_prune(conn) is False
    assert kept(conn) == []


def test_by_hand_it_always_looks_from_the_front(conn):
    fill(conn, 101, 200, 1)
    run_prune(conn)
    make_looks_dear(conn)
    fill(conn, 1, 100, 1)
    let_pass(conn, "1 hour")
    assert prune(conn) == 100


def test_a_prune_that_is_rolled_back_takes_its_cursor_with_it(conn):
    fill(conn, 1, 200, 1)
    run_prune(conn, limit=50)
    make_looks_dear(conn)
    before = read_cursor(conn)
    with conn.transaction(force_rollback=True):
        run_prune(conn, limit=100)
        assert read_cursor(conn) != before
    assert read_cursor(conn) == before
    run_prune(conn)
    assert kept(conn) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        "7",
        '{"cost": 600}',
        '{"cost": "x", "looked_at": "2001-01-01 00:00:00Z"}',
        '{"cost": 600, "looked_at": "soon"}',
        '{"cost": 600, "looked_at": "infinity"}',
        '{"cost": -600, "looked_at": "2001-01-01 00:00:00Z"}',
        '{"cost": 600, "looked_at": %s, "states": 7, "queues": {}, "positions": []}',
        '{"cost": 600, "looked_at": %s, "states": [], "queues": [], "positions": ["x"]}',
        '{"cost": "9 years", "looked_at": "2010-01-01 00:00:00Z", "states": [], "queues": []}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_anything_in_the_setting_does_no_harm(conn, worker, text):
    ended(conn, worker)
    let_pass(conn, "2 days")
    ago = value(conn, "select to_json(now() - interval '1 hour')::text")
    write_cursor(conn, text.replace("%s", f'"{ago}"'))
    run_prune(conn)
    assert kept(conn) == []


def test_a_foreign_cursor_only_delays(conn, worker):
    """Lists of unequal length, states that there are not."""
    ended(conn, worker)
    let_pass(conn, "2 days")
    ago = value(conn, "select to_json(now() - interval '1 hour')")
    foreign = {
        "cost": 600,
        "looked_at": ago,
        "states": ["what", None],
        "queues": ["default"],
        "positions": ["2001-01-01 00:00:00Z", ago, ago],
    }
    write_cursor(conn, json.dumps(foreign))
    run_prune(conn)
    assert prune(conn) == 1


def test_the_look_for_removals_costs_a_completion_next_to_nothing(conn, worker):
    enqueue_many(conn, 10)
    jobs = fetch(conn, worker)
    plan = plan_of(conn, "select exists (select from eram_removals)", analyze=True)
    assert "eram_removals" in plan
    conn.execute("set enable_seqscan = off")
    complete(conn, jobs[:5])
    assert shared_buffers(conn, "select exists (select from eram_removals)") <= 2


def test_a_removal_on_completion_reads_only_what_it_removes(conn, worker):
    conn.execute("vacuum analyze")
    conn.execute("select eram_set_queue('default', max_age => '0')")
    enqueue_many(conn, 5000)
    jobs = fetch(conn, worker, 5000)
    ids, runs = [job.id for job in jobs[:100]], [job.run for job in jobs[:100]]
    cost = shared_buffers(conn, "select eram_complete_jobs(%s, %s)", ids, runs)
    assert len(kept(conn)) == 4900
    print(f"100 of 5,000 running: {cost} buffers")
    assert cost < 100 * 25 + 200


def test_the_plans_inside_a_prune_have_no_sequential_scan(conn, worker):
    """Shown by auto_explain, where the server has it."""
    try:
        conn.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        pytest.skip("this server has no auto_explain")
    completed_many(conn, worker, 250)
    for state in ("cancelled", "discarded"):
        ended(conn, worker, state)
    let_pass(conn, "8 days")
    said: list[str] = []
    conn.add_notice_handler(lambda diag: said.append(diag.message_primary or ""))
    conn.execute(
        """
        set auto_explain.log_min_duration = 0;
        set auto_explain.log_nested_statements = on;
        set auto_explain.log_level = 'notice';
        """
    )
    said.clear()
    run_prune(conn)
    conn.execute("set auto_explain.log_min_duration = -1")
    plans = "\n".join(said)
    for index in ("eram_completions_queue_idx", "eram_finished_jobs_state_idx", "Tid Scan"):
        assert index in plans
    for table in ("completions", "finished_jobs", "job_specs", "job_errors"):
        assert f"Seq Scan on eram_{table}" not in plans, plans
        assert f"Bitmap Heap Scan on eram_{table}" not in plans, plans


BACKLOG = 1_000_000
SECONDS = 2.0  # of draining at a time
PAIRS = 10


@pytest.mark.nightly
@pytest.mark.timing
@pytest.mark.timeout(900)
def test_a_drain_keeps_its_rate_while_a_million_jobs_are_pruned(conn, connect):
    """Two workers drain; pruning goes on and off, so that what else the machine does hits both.

    The prune runs as the schedule does it: batches of 10,000, and then a pause four times as long.
    """
    for first in range(1, BACKLOG, 100_000):
        fill(conn, first, first + 99_999, 100)
    conn.execute("vacuum analyze")
    waiting = 200_000
    for _ in range(waiting // 10_000):
        enqueue_many(conn, 10_000)
    is_pruning, stop = threading.Event(), threading.Event()
    counts = [0, 0]
    pruned: list[float] = []

    def drain(number: int) -> None:
        session = connect()
        worker = start_worker(session)
        while not stop.is_set():
            jobs = fetch(session, worker, 100)
            counts[number] += len(complete(session, jobs))
            if len(jobs) < 100:
                enqueue_many(session, 5000)

    def prune_on_demand() -> None:
        session = connect()
        while not stop.is_set():
            if not is_pruning.wait(0.1):
                continue
            start = time.monotonic()
            run_prune(session, limit=10_000)
            pruned.append(time.monotonic() - start)
            stop.wait(4 * pruned[-1])

    threads = Threads()
    for number in range(2):
        threads.start(drain, number)
    threads.start(prune_on_demand)
    rates: dict[bool, list[float]] = {True: [], False: []}
    try:
        while value(conn, "select min(job_id) from eram_job_specs") <= BACKLOG:
            for with_prune in (False, True):
                (is_pruning.set if with_prune else is_pruning.clear)()
                start, before = time.monotonic(), sum(counts)
                stop.wait(SECONDS)
                rates[with_prune].append((sum(counts) - before) / (time.monotonic() - start))
            assert not threads._errors
            assert len(rates[True]) < 100, "it does not get on"
    finally:
        stop.set()
        threads.join(120)
    ratios = [on / off for on, off in zip(rates[True], rates[False], strict=True)]
    seen = row(conn, "select max(job_id) as jobs, pg_size_pretty(sum(1)) from eram_job_specs")
    print(
        f"drained {statistics.median(rates[False]):.0f} jobs/s alone,"
        f" {statistics.median(rates[True]):.0f} beside the prune,"
        f" ratio {statistics.median(ratios):.2f} of {len(ratios)} pairs;"
        f" {len(pruned)} batches, at most {max(pruned) * 1000:.0f} ms; last id {seen.jobs}"
    )
    assert statistics.median(ratios) >= 0.8
