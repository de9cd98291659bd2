"""Everything that can be done to jobs, at once from many sessions, over few jobs and keys."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from .helpers import at_once, complete, fetch, rows, start_worker, value
from .lifecycle_helpers import STATES, bulk
from .unique_helpers import HOUR, TWINS, put_all

# What a caller may be told when another was quicker. A deadlock is not among it.
LOST = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UniqueViolation,
)
ROUNDS = 150


def produce(conn: psycopg.Connection, rnd: random.Random) -> None:
    """Enqueue a batch of unique and other jobs, whose keys others have too."""
    documents: list[dict[str, Any]] = []
    for _ in range(rnd.randint(1, 8)):
        kind = rnd.choice([True, HOUR, {"on_conflict": "replace"}, None])
        documents.append(
            {
                "handler": "app:run",
                "queue": rnd.choice("ab"),
                "args": {"n": rnd.randint(1, 10)},
                "priority": rnd.randint(0, 9),
                "delay": rnd.choice([0, 0, 3600]),
                **({} if kind is None else {"unique": kind}),
            }
        )
    put_all(conn, *documents)


def work(conn: psycopg.Connection, rnd: random.Random, worker: int) -> None:
    """Claim some jobs, and end their runs in all ways."""
    jobs = fetch(conn, worker, rnd.randint(1, 8), rnd.choice("ab"))
    rnd.shuffle(jobs)
    kept = rnd.randint(0, len(jobs))
    complete(conn, jobs[:kept])
    for job in jobs[kept:]:
        end = rnd.choice(["fail", "fail", "snooze", "discard", "keep"])
        if end == "fail":
            conn.execute("select eram_fail_job(%s, %s, 'x')", [job.id, job.run])
        elif end == "snooze":
            conn.execute("select eram_snooze_job(%s, %s, '1 second')", [job.id, job.run])
        elif end == "discard":
            conn.execute("select eram_discard_job(%s, %s)", [job.id, job.run])


def administer(conn: psycopg.Connection, rnd: random.Random) -> None:
    """Do something to one job or to many."""
    newest = value(conn, "select coalesce(max(job_id), 1) from eram_job_specs")
    job_id = rnd.randint(max(1, newest - 30), newest)
    filters: list[dict[str, Any]] = [
        {"all": True},
        {"state": rnd.sample(STATES, 2)},
        {"queue": rnd.choice("ab")},
        {"args": {"n": rnd.randint(1, 10)}},
        {"ids": list(range(job_id, job_id + 10))},
    ]
    filter_ = rnd.choice(filters)
    actions: list[Callable[[], object]] = [
        lambda: bulk(conn, "cancel", filter_),
        lambda: bulk(conn, "retry", filter_),
        lambda: bulk(conn, "retry", filter_),
        lambda: bulk(conn, "delete", filters[-1]),
        lambda: bulk(conn, "move", filter_, rnd.choice("ab")),
        lambda: conn.execute("select eram_cancel_job(%s)", [job_id]),
        lambda: conn.execute("select eram_retry_job(%s)", [job_id]),
        lambda: conn.execute("select eram_delete_job(%s)", [job_id]),
        lambda: conn.execute(
            "select eram_update_job(%s, priority => %s, max_attempts => 50)",
            [job_id, rnd.randint(0, 9)],
        ),
        lambda: conn.execute("select eram_prune_jobs('1 millisecond', 5)"),
    ]
    rnd.choice(actions)()


def repeat(action: Callable[..., None], conn: psycopg.Connection, seed: int, *args: Any) -> None:
    """Do it many times, and commit or roll back at random."""
    rnd = random.Random(seed)
    for _ in range(ROUNDS):
        try:
            with conn.transaction(force_rollback=rnd.random() < 0.15):
                action(conn, rnd, *args)
        except LOST:
            pass


def test_everything_at_once_ends_in_order(conn, connect):
    sessions = [connect() for _ in range(7)]
    workers = [start_worker(session, "a", "b") for session in sessions[:2]]
    at_once(
        *(
            partial(repeat, work, session, n, worker)
            for n, (session, worker) in enumerate(zip(sessions, workers, strict=False))
        ),
        *(partial(repeat, produce, session, n) for n, session in enumerate(sessions[2:4], 10)),
        *(partial(repeat, administer, session, n) for n, session in enumerate(sessions[4:], 20)),
        seconds=120,
    )
    assert rows(conn, "select * from eram_check()") == []
    held = """
        select unique_keys.job_id
        from eram_unique_keys as unique_keys
        where
            unique_keys.expires_at is null
            and not exists (
                select
                from eram_queued_jobs as queued
                where queued.job_id = unique_keys.job_id
                union all
                select
                from eram_running_jobs as running
                where running.job_id = unique_keys.job_id
            )
    """
    assert rows(conn, held) == []
    assert rows(conn, TWINS) == []
    bulk(conn, "cancel", {"all": True})
    bulk(conn, "delete", {"all": True})
    left = "select (select count(*) from eram_job_specs) + (select count(*) from eram_job_errors)"
    assert value(conn, left) == 0
