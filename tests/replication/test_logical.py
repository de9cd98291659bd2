"""Logical replication of eram's tables: a warm copy on another server, which can take over."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from eram.install import install
from install.in_use import SEQUENCES, check_copy, contents, enqueue, fetch, used, value
from replication.conftest import Pair, socket_of

PATIENCE = 60
_names = itertools.count(1)

# What docs/administration.md says: the one thing that is not replicated.
SET_SEQUENCES = """
    select setval('eram_job_specs_job_id_seq', max(job_id)) from eram_job_specs;
    select setval('eram_workers_id_seq', max(id)) from eram_workers;
    select setval('eram_schedule_runs_id_seq', max(id)) from eram_schedule_runs;
"""


def rows(dsn: str) -> dict[str, list[str]]:
    return {name: rows for name, rows in contents(dsn).items() if name not in SEQUENCES}


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_equal(pair: Pair) -> None:
    wait_until(lambda: rows(pair.first) == rows(pair.second))


def violations(dsn: str) -> set[str]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return {row[0] for row in conn.execute("select violation from eram_check()")}


@pytest.fixture
def replicated(
    two_databases: Callable[[str], Pair],
) -> Iterator[Pair]:
    """Two databases with eram, of which the second subscribes to all tables of the first."""
    number = next(_names)
    is_plain = number % 2 == 0
    pair = two_databases(f"shop_{number}")
    for dsn in pair:
        with psycopg.connect(dsn, autocommit=True) as conn:
            # The tables are the same either way.
            if is_plain:
                install(conn)
            else:
                conn.execute("create extension eram")
    source = psycopg.conninfo.make_conninfo(
        host=socket_of(pair.first), port="5432", user="postgres", dbname=f"shop_{number}"
    )
    with psycopg.connect(pair.first, autocommit=True) as conn:
        conn.execute("create publication everything for all tables")
    with psycopg.connect(pair.second, autocommit=True) as conn:
        conn.execute(
            f"create subscription warm_{number} connection '{source}' publication everything"
        )
        # Until its first copy is there each table is as of a moment of its own.
        unready = "select count(*) from pg_subscription_rel where srsubstate <> 'r'"
        wait_until(lambda: value(conn, unready) == 0)
    yield pair
    drop_subscription(pair.second)


def drop_subscription(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        query = "select subname from pg_subscription where subdbid = (select oid from pg_database"
        query += " where datname = current_database())"
        for (name,) in conn.execute(query).fetchall():
            conn.execute(f"drop subscription {name}")


def test_copy_follows_whatever_is_done(replicated):
    with used(replicated.first) as jobs:
        wait_until_equal(replicated)
        with psycopg.connect(replicated.first, autocommit=True) as conn:
            conn.execute("select eram_retry_job(%s)", (jobs["discarded"],))
            conn.execute("select eram_update_job(%s, priority => 8)", (jobs["available"],))
            conn.execute("select eram_delete_job(%s)", (jobs["cancelled"],))
            conn.execute("select eram_move_jobs('{\"queue\": \"odd\"}', 'elsewhere')")
            conn.execute("select eram_pause_queue('elsewhere')")
            conn.execute("select eram_schedule('hourly', '2 hours', 'app:hourly')")
            conn.execute("select eram_unschedule('changed')")
            conn.execute("select * from eram_tick(10)")
        wait_until_equal(replicated)


def test_copy_of_a_database_at_work_is_consistent(replicated):
    """Each transaction comes as a whole, in the order of the commits."""
    with psycopg.connect(replicated.first, autocommit=True) as conn:
        worker = value(conn, "select eram_start_worker('busy', '{default}')")
        enqueue(conn, "app:work")
        wait_until_equal(replicated)
        seen = set()
        for number in range(30):
            enqueue(conn, "app:work", args={"number": number}, unique=True)
            jobs = fetch(conn, "default", 2, worker)
            ids, runs = ([job[i] for job in jobs] for i in (0, 1))
            conn.execute("select eram_complete_jobs(%s::bigint[], %s::integer[])", (ids, runs))
            seen |= violations(replicated.second)
        wait_until_equal(replicated)
        assert seen | violations(replicated.second) <= {"sequence behind its table"}
    assert violations(replicated.first) == set()


def test_copy_takes_over_once_its_sequences_are_set(replicated):
    with used(replicated.first) as jobs:
        wait_until_equal(replicated)
    drop_subscription(replicated.second)
    assert violations(replicated.second) == {"sequence behind its table"}
    with psycopg.connect(replicated.second, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.UniqueViolation):
            enqueue(conn, "app:too_early")
        conn.execute(SET_SEQUENCES)
    check_copy(replicated.second, jobs)


def test_rights_and_objects_are_not_replicated(replicated):
    """Only rows are; who subscribes has installed the same version, and grants by himself."""
    with psycopg.connect(replicated.first, autocommit=True) as conn:
        conn.execute("create role clerk")
        try:
            conn.execute("select eram_grant('clerk', 'enqueue', queues => '{mail}')")
            wait_until_equal(replicated)
            with psycopg.connect(replicated.second, autocommit=True) as second:
                assert value(second, "select count(*) from eram_queue_grants") == 1
                assert value(second, "select to_regrole('clerk')") is None
        finally:
            conn.execute("drop owned by clerk")
            conn.execute("drop role clerk")
