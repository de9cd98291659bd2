"""What uniqueness costs: a unique job is enqueued for at most twice the CPU of a plain one.

What a process has used of the CPU is known to the nanosecond, and other load only adds to it: of
many rounds in turn, the cheapest counts.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import complete, enqueue_many, fetch, shared_buffers, value
from .unique_helpers import HOUR, TAKEN, document, pass_window, put, put_all

ROUNDS = 12
JOBS = 1500
# In the place of the two braces: nothing, or that the job is unique.
WAYS = {
    "single": (
        f"""
        select count(eram_enqueue_job('app:run', jsonb_build_object('id', n, 'x', random()) {{}}))
        from generate_series(1, {JOBS}) as n
        """,
        ", unique_by => '{}'",
    ),
    "batch": (
        f"""
        select count(*)
        from (
            select jsonb_agg(jsonb_build_object(
                'handler', 'app:run',
                'args', jsonb_build_object('id', n, 'x', random()) {{}})) as jobs
            from generate_series(1, {JOBS}) as n
            group by n / 100
        ) as batches
        cross join eram_enqueue_jobs(batches.jobs)
        """,
        ", 'unique', '{}'::jsonb",
    ),
}
KINDS = {"until the end": "true", "window": '{"period": 30}', "keys": '{"keys": ["id", "x"]}'}
ENQUEUE = "select eram_enqueue_job(%s)"


def cpu_nanoseconds(pid: int) -> int:
    """Return what CPU a process of this machine has used."""
    path = Path(f"/proc/{pid}/schedstat")
    if not path.exists():
        pytest.skip("this system does not tell exactly what CPU a process has used")
    return int(path.read_text(encoding="ascii").split()[0])


def cpu_per_job(conn: psycopg.Connection, query: str) -> float:
    """Run a query in a transaction that is rolled back; return the backend's CPU in µs per job."""
    pid = conn.info.backend_pid
    with conn.transaction(force_rollback=True):
        before = cpu_nanoseconds(pid)
        assert value(conn, query) == JOBS
        return (cpu_nanoseconds(pid) - before) / 1000 / JOBS


@pytest.mark.nightly
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_cpu_of_a_unique_enqueue(conn, way, kind):
    query, unique = WAYS[way]
    queries = (query.format(""), query.format(unique.format(KINDS[kind])))
    costs: list[list[float]] = []
    plain, dear = 0.0, 1.0
    # On a busy machine it takes longer until each has had a round to itself.
    while dear > 2 * plain and len(costs) < 3 * ROUNDS:
        costs += [[cpu_per_job(conn, each) for each in queries] for _ in range(ROUNDS)]
        plain, dear = (min(cost) for cost in zip(*costs, strict=True))
    print(f"{way}, {kind}: {plain:.1f} µs plain, {dear:.1f} µs unique: {dear / plain:.2f} times")
    assert dear <= 2 * plain


def test_a_unique_enqueue_costs_the_same_among_many_keys(conn):
    """And a duplicate no more than it, and the taking over of a window."""
    jobs = [Jsonb(document(args={"n": -n}, unique=HOUR)) for n in range(1, 30)]
    for job in jobs[:10]:
        value(conn, ENQUEUE, job)
    few = min(shared_buffers(conn, ENQUEUE, job) for job in jobs[10:15])
    for number in range(10):
        put_all(conn, *[document(args={"n": number * 2000 + n}) for n in range(2000)])
    many = min(shared_buffers(conn, ENQUEUE, job) for job in jobs[15:20])
    again = min(shared_buffers(conn, ENQUEUE, job) for job in jobs[15:20])
    pass_window(conn)
    over = min(shared_buffers(conn, ENQUEUE, job) for job in jobs[10:15])
    print(f"{few} buffers among few keys, {many} among 20,000, {again} again, {over} taken over")
    # Indexes are a level or two deeper by now.
    assert many <= few + 25
    assert again <= many
    assert over <= many + 25


def test_plans_made_on_empty_tables_serve_big_ones(conn):
    """A session keeps its plans, and tables fill while it does."""
    conn.execute("vacuum analyze")
    for number in range(8):
        put(conn, args={"n": f"x{number}"}, unique={**HOUR, "on_conflict": "replace"})
        put(conn, args={"n": f"x{number}"}, unique={**HOUR, "on_conflict": "replace"})
    conn.execute("select eram_cancel_job(id) from eram_jobs")
    for number in range(5):
        put_all(conn, *[document(args={"n": number * 2000 + n}) for n in range(2000)])
    replace = Jsonb(document(args={"n": 5}, unique={"on_conflict": "replace"}, priority=1))
    fresh = Jsonb(document(args={"n": -1}))
    costs = {
        "new": shared_buffers(conn, ENQUEUE, fresh),
        "duplicate": shared_buffers(conn, ENQUEUE, fresh),
        "replaced": shared_buffers(conn, ENQUEUE, replace),
        "cancelled": shared_buffers(
            conn, "select eram_cancel_job(max(job_id)) from eram_job_specs"
        ),
    }
    print(costs)
    assert max(costs.values()) < 150


def test_jobs_that_are_not_unique_do_not_touch_the_keys(conn, worker):
    """Neither their enqueue nor their end."""
    before = value(conn, "select pg_stat_get_xact_numscans('eram_unique_keys_pkey'::regclass)")
    with conn.transaction():
        enqueue_many(conn, 100)
        jobs = fetch(conn, worker)
        assert len(complete(conn, jobs)) == 100
        query = "select pg_stat_get_xact_numscans('eram_unique_keys_pkey'::regclass)"
        assert value(conn, query) == before == 0
    assert value(conn, TAKEN) == 0
