"""What a claim touches when little waits, when very much waits, and when very much is kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import LiteralString

import psycopg
from lab import Bench, Lab
from measure import Measure
from of_eram import Eram
from running import Figures

CLAIM = 100
FEW = 1_000
CLAIMS = 50
BRIEF_CLAIMS = 15
WARM_UP = 5  # the first claim of a session looks from the front, and plans

# Straight into the tables: by its functions eram would take minutes for ten million. The indexes
# for searching, which no claim reads, are made afterwards.
DROP: LiteralString = "drop index eram_jobs_args_index, eram_jobs_meta_index"
SPECS: LiteralString = """
insert into eram_job_specs
    (handler, args, meta, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
select
    'noop:nothing', jsonb_build_object('n', n %% 1000), null, '{}', 'default', 0, 20, at, at
from
    generate_series(1, %s::integer) as numbers (n),
    lateral (
        select now() - interval '1 hour' + n * interval '1 microsecond' as at
    ) as times
"""
QUEUED: LiteralString = """
insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
select job_id, scheduled_at, 0, 0, 1, queue
from eram_job_specs
where job_id > %s
order by job_id
"""
CREATE: tuple[LiteralString, ...] = (
    "create index eram_jobs_args_index on eram_job_specs using gin (args jsonb_path_ops)",
    """
    create index eram_jobs_meta_index on eram_job_specs using gin (meta jsonb_path_ops)
        where meta is not null
    """,
)
FINISH: LiteralString = """
with ended as (
    insert into eram_finished_jobs
        (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
    select job_id, 1, now(), now(), 1, 1, 'completed', queue
    from eram_queued_jobs
    order by job_id
    returning job_id, queue
)
insert into eram_completions (queue, finalized_at, ids)
select min(queue), now(), array_agg(job_id)
from ended
group by job_id / 200
"""
COMPLETE: LiteralString = """
select count(*)
from
    (
        select array_agg(job_id) as ids, array_agg(run) as runs
        from eram_running_jobs
    ) as held,
    eram_complete_jobs(held.ids, held.runs)
"""


def claims(lab: Lab, side: Eram, jobs: int) -> Figures:
    """Claim with little waiting, with as many jobs waiting, and with as many finished ones."""
    count = BRIEF_CLAIMS if lab.is_brief else CLAIMS
    with lab.bench(side) as bench:
        _enqueue(bench, side, FEW)
        few = _claim(bench, side, count)
        _fill(bench, jobs)
        many = _claim(bench, side, count)
        bench.conn.execute(FINISH)
        bench.conn.execute("truncate eram_queued_jobs")
        bench.conn.execute("vacuum analyze")
        _enqueue(bench, side, FEW)
        kept = _claim(bench, side, count)
    return {
        "few_buffers": few["buffers"],
        "many_buffers": many["buffers"],
        "kept_buffers": kept["buffers"],
        "many_buffers_ratio": many["buffers"] / few["buffers"],
        "kept_buffers_ratio": kept["buffers"] / few["buffers"],
        "few_ms": few["ms"],
        "many_ms": many["ms"],
        "kept_ms": kept["ms"],
        "many_ms_ratio": many["ms"] / few["ms"],
        "kept_ms_ratio": kept["ms"] / few["ms"],
    }


MEASURES: Mapping[str, Measure] = {
    "claims": Measure(
        title=f"claim of {CLAIM}: {FEW:,} waiting; very many waiting; very many kept",
        jobs=10_000_000,
        least=5_000,
        run=claims,
        sides=(Eram(),),
        most_rounds=1,
    ),
}


def _enqueue(bench: Bench, side: Eram, jobs: int) -> None:
    bench.conn.execute(side.enqueue_set, (jobs,))


def _fill(bench: Bench, jobs: int) -> None:
    conn = bench.conn
    last = conn.execute("select coalesce(max(job_id), 0) from eram_job_specs").fetchall()[0][0]
    conn.execute(DROP)
    conn.execute(SPECS, (jobs,))
    conn.execute(QUEUED, (last,))
    for statement in (*CREATE, "vacuum analyze", "checkpoint"):
        conn.execute(statement)


def _claim(bench: Bench, side: Eram, count: int) -> Figures:
    """Claim by a session of its own; what is claimed is completed, and as much comes after it.

    The buffers are those of the whole call, as EXPLAIN counts them: the statements inside the
    function included.
    """
    buffers, took = [], []
    with bench.connect() as conn:
        worker_id = _start_worker(conn)
        for number in range(WARM_UP + count):
            query = "explain (analyze, buffers, format json) select * from eram_fetch(%s, %s, %s)"
            ((plans,),) = psycopg.ClientCursor(conn).execute(query, ("default", CLAIM, worker_id))
            plan = plans[0]["Plan"]
            if plan["Actual Rows"] != CLAIM:
                raise RuntimeError(f"{side.label} claimed {plan['Actual Rows']} of {CLAIM} jobs")
            if number >= WARM_UP:
                buffers.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
                took.append(plans[0]["Execution Time"])
            bench.conn.execute(COMPLETE)
            _enqueue(bench, side, CLAIM)
    return {"buffers": statistics.median(buffers), "ms": statistics.median(took)}


def _start_worker(conn: psycopg.Connection) -> int:
    query = "select eram_start_worker('bench', '{default}', %s)"
    return int(conn.execute(query, (conn.info.backend_pid,)).fetchall()[0][0])
