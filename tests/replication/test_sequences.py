"""Sequences are not replicated, and eram_check() says which of them must be set."""

from __future__ import annotations

import psycopg

from replication.test_logical import (
    drop_subscription,
    replicated,  # noqa: F401 - a fixture
    violations,
    wait_until_equal,
)


def test_each_sequence_that_is_behind_is_seen(replicated):  # noqa: F811 - the fixture
    with psycopg.connect(replicated.first, autocommit=True) as conn:
        conn.execute("select eram_start_worker('w', '{default}')")
        conn.execute("select eram_schedule_sql('sql', '1 day', 'select 1')")
        conn.execute("select eram_run_schedule('sql')")
        wait_until_equal(replicated)
    drop_subscription(replicated.second)
    assert violations(replicated.second) == {"sequence behind its table"}
    with psycopg.connect(replicated.second, autocommit=True) as conn:
        details = "select detail from eram_check() order by detail"
        assert [row[0].split(":")[0] for row in conn.execute(details)] == [
            "eram_schedule_runs_id_seq",
            "eram_workers_id_seq",
        ]
