"""What a claim costs, in buffers: the same with many jobs as with few, whatever is held open."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import complete, enqueue, enqueue_many, fetch, shared_buffers, start_worker, value

CLAIM = "select * from eram_fetch('default', %s, %s)"
# The depth of an index may grow by a level on the way.
SLACK = 1.3


def claim_buffers(conn: psycopg.Connection, worker: int, demand: int = 100) -> int:
    """Return what claims cost, the least of three: vacuum and hint bits disturb single ones."""
    return min(shared_buffers(conn, CLAIM, demand, worker) for _ in range(3))


def drain(conn: psycopg.Connection, worker: int, count: int) -> None:
    """Claim and complete so many jobs."""
    while count > 0:
        jobs = fetch(conn, worker, min(count, 1000))
        assert complete(conn, jobs) or not jobs
        assert jobs
        count -= len(jobs)


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_claim_under_an_open_transaction_costs_the_same_after_50_000_jobs(
    conn, connect, worker, kind
):
    """Every entry of the claimed jobs is still in the index; the cursor steps over them."""
    for _ in range(6):
        enqueue_many(conn, 10_000)
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from eram_queued_jobs")
    if kind == "writer":
        pin.execute("select pg_current_xact_id()")
    drain(conn, worker, 500)
    before = claim_buffers(conn, worker)
    drain(conn, worker, 50_000)
    after = claim_buffers(conn, worker)
    # A writer may still commit jobs behind the cursor: sweeps go on, a twentieth of the time.
    print(f"{kind}: {before} buffers before, {after} after")
    assert after <= before * SLACK
    pin.execute("commit")


def test_an_idle_fetch_under_an_open_snapshot_costs_the_same_after_30_000_jobs(
    conn, connect, worker
):
    idle = connect()
    idle_worker = start_worker(idle)
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from eram_queued_jobs")
    for _ in range(20):
        fetch(idle, idle_worker)
    before = claim_buffers(idle, idle_worker)
    for _ in range(3):
        enqueue_many(conn, 10_000)
        drain(conn, worker, 10_000)
        fetch(idle, idle_worker)
    for _ in range(50):
        fetch(idle, idle_worker)
    after = claim_buffers(idle, idle_worker)
    print(f"idle: {before} buffers before, {after} after")
    assert after <= before + 40
    pin.execute("commit")


def test_a_claim_from_100_000_waiting_costs_as_one_from_1_000(conn, worker):
    enqueue_many(conn, 1000)
    fetch(conn, worker, 100)
    few = claim_buffers(conn, worker)
    for _ in range(10):
        enqueue_many(conn, 10_000)
    many = claim_buffers(conn, worker)
    print(f"{few} buffers with 1,000 waiting, {many} with 100,000")
    assert many <= few * SLACK


def test_a_claim_from_many_lanes_costs_little_more_than_from_one(conn, worker):
    for priority in range(10):
        enqueue_many(conn, 300, priority=priority)
    fetch(conn, worker, 100)
    assert claim_buffers(conn, worker, 100) < 100 * 20


def test_the_jobs_of_other_queues_cost_nothing(conn, worker):
    enqueue(conn)
    fetch(conn, worker)
    alone = claim_buffers(conn, worker)
    enqueue_many(conn, 10_000, queue="another")
    beside = claim_buffers(conn, worker)
    print(f"{alone} buffers alone, {beside} beside 10,000 jobs of another queue")
    assert beside <= alone + 40


def test_plans_made_on_empty_tables_serve_big_ones(conn, connect):
    """A generic plan is made once; the tables fill afterwards, and no statistics follow."""
    conn.execute("vacuum analyze")
    session = connect()
    worker = start_worker(session)
    for _ in range(8):
        fetch(session, worker, 10)
        session.execute("select eram_complete_jobs('{1}', '{1}')")
    for _ in range(3):
        enqueue_many(conn, 10_000)
    claim = shared_buffers(session, CLAIM, 10, worker)
    assert value(conn, "select count(*) from eram_running_jobs") == 10
    assert claim < 10 * 30 + 200
    jobs = fetch(session, worker, 10_000)
    ids, runs = [job.id for job in jobs[:10]], [job.run for job in jobs[:10]]
    done = shared_buffers(session, "select eram_complete_jobs(%s, %s)", ids, runs)
    print(f"10 of 30,000: {claim} buffers to claim; 10 of 10,000: {done} to complete")
    assert done < 10 * 30 + 200


def test_plans_made_on_big_tables_serve_after_they_have_emptied(conn, worker):
    enqueue_many(conn, 10_000)
    conn.execute("analyze")
    fetch(conn, worker, 1)
    conn.execute(
        "delete from eram_queued_jobs; delete from eram_job_specs; delete from eram_running_jobs"
    )
    conn.execute("vacuum eram_queued_jobs, eram_job_specs, eram_running_jobs")
    enqueue_many(conn, 10)
    assert shared_buffers(conn, CLAIM, 10, worker) < 10 * 30 + 200


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_plans_inside_a_claim_and_a_completion_have_no_sequential_scan(conn, worker, analyzed):
    """Shown by auto_explain, where the server has it."""
    try:
        conn.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        pytest.skip("this server has no auto_explain")
    if analyzed:
        conn.execute("vacuum analyze")
    said: list[str] = []
    conn.add_notice_handler(lambda diag: said.append(diag.message_primary or ""))
    enqueue_many(conn, 3)
    conn.execute(
        """
        set auto_explain.log_min_duration = 0;
        set auto_explain.log_nested_statements = on;
        set auto_explain.log_level = 'notice';
        """
    )
    said.clear()
    jobs = fetch(conn, worker)
    complete(conn, jobs)
    conn.execute("set auto_explain.log_min_duration = -1")
    plans = "\n".join(said)
    assert "eram_queued_jobs_pkey" in plans
    assert "eram_running_jobs_pkey" in plans
    for table in ("queued_jobs", "running_jobs", "job_specs", "finished_jobs"):
        assert f"Seq Scan on eram_{table}" not in plans, plans
        assert f"Bitmap Heap Scan on eram_{table}" not in plans, plans


FINISHES = {
    "complete": "select eram_complete_jobs(array[%s::bigint], array[%s])",
    "fail": "select eram_fail_job(%s, %s, 'x', delay => '1 hour')",
    "snooze": "select eram_snooze_job(%s, %s, '1 hour')",
    "discard": "select eram_discard_job(%s, %s)",
    "cancel": "select eram_cancel_job(%s, run => %s)",
    "release": "select eram_release_jobs(array[%s::bigint], array[%s])",
}


@pytest.mark.parametrize("finish", FINISHES)
def test_a_finish_planned_on_empty_tables_does_not_scan_full_ones(conn, connect, worker, finish):
    """A session keeps its plans, and tables fill while it does."""
    conn.execute("vacuum analyze")
    for _ in range(8):
        enqueue(conn)
        (job,) = fetch(conn, worker, 1)
        conn.execute(FINISHES[finish], [job.id, job.run])
        conn.execute("select eram_cancel_job(%s)", [job.id])
    pin = connect()
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from eram_queued_jobs")
    other = connect()
    other_worker = start_worker(other)
    for _ in range(6):
        enqueue_many(other, 1000)
        drain(other, other_worker, 1000)
    enqueue(conn)
    (job,) = fetch(conn, worker, 1)
    assert shared_buffers(conn, FINISHES[finish], job.id, job.run) < 80
    pin.execute("commit")
