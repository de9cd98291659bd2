"""A publication of all tables, as tools for replication make it, is in eram's way nowhere."""

from __future__ import annotations

import psycopg

from install.in_use import enqueue, fetch, value
from replication.test_logical import (
    replicated,  # noqa: F401 - a fixture
    wait_until_equal,
)


def test_prune_goes_on_and_is_followed(replicated):  # noqa: F811 - the fixture
    with psycopg.connect(replicated.first, autocommit=True) as conn:
        worker = value(conn, "select eram_start_worker('busy', '{default}')")
        for _ in range(3):
            enqueue(conn, "app:work")
        ids, runs = zip(*fetch(conn, "default", 3, worker), strict=True)
        query = "select eram_complete_jobs(%s::bigint[], %s::integer[])"
        conn.execute(query, (list(ids), list(runs)))
        wait_until_equal(replicated)
        for table in ("eram_finished_jobs", "eram_completions"):
            conn.execute(f"update {table} set finalized_at = finalized_at - interval '3 days'")
        assert value(conn, "select eram_prune_jobs()") == 3
        assert value(conn, "select count(*) from eram_completions") == 0
        wait_until_equal(replicated)


def test_every_table_says_which_row_is_meant(dsn):
    nameless = """
        select relname
        from pg_class
        where
            relname ~ '^eram_'
            and relkind = 'r'
            and relreplident <> 'f'
            and not exists (
                select
                from pg_index
                where indrelid = pg_class.oid and indisprimary
            )
    """
    with psycopg.connect(dsn) as conn:
        assert conn.execute(nameless).fetchall() == []
