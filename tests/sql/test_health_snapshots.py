"""Old snapshots: whoever really holds one is found, and nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from .health_helpers import (
    act,
    burn_transactions,
    check,
    level,
    limits,
    slow_vacuum,
    wait_for_level,
)
from .helpers import column, rows, value

SECONDS = (1.5, 1e9)


@contextlib.contextmanager
def held(conn: psycopg.Connection) -> Iterator[int]:
    """Hold a snapshot, as a report does; yield the process."""
    with conn.transaction(force_rollback=True):
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("select count(*) from eram_job_specs")
        yield conn.info.backend_pid


def test_a_session_that_holds_a_snapshot(conn, connect):
    report = connect(application_name="monthly report")
    with limits(conn, snapshot_seconds=SECONDS):
        assert level(conn, "snapshot") == "ok"
        with held(report) as pid:
            found = wait_for_level(conn, "snapshot", "warn")
            assert found.finding.startswith(
                f'session {pid} of role "postgres" (idle in transaction'
            )
            assert " pins a snapshot of 00:00:0" in found.finding
            assert found.value >= SECONDS[0]
            assert found.action == f"select pg_terminate_backend({pid});"
            with limits(conn, snapshot_seconds=(0.5, 1.5)):
                assert level(conn, "snapshot") == "critical"
        assert level(conn, "snapshot") == "ok"


def test_a_session_that_is_only_idle_holds_nothing(conn, connect):
    idle = connect()
    with idle.transaction():
        idle.execute("select 1")
        assert value(conn, "select count(*) from _eram_snapshot_holders()") == 1  # this one
        # What it has written, a vacuum has to keep.
        idle.execute("create temporary table mine ()")
        assert value(conn, "select count(*) from _eram_snapshot_holders()") == 2


def test_a_session_is_ended_by_what_is_said_to_be_done(conn, dsn):
    with contextlib.closing(psycopg.connect(dsn)) as report:
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from eram_job_specs")
        with limits(conn, snapshot_seconds=SECONDS):
            act(conn, wait_for_level(conn, "snapshot", "warn"))
            wait_for_level(conn, "snapshot", "ok")
        with pytest.raises(psycopg.OperationalError):
            report.execute("select 1")


def test_a_prepared_transaction(conn, connect):
    other = connect(autocommit=False)
    other.execute("select eram_enqueue_job('app:run')")
    other.execute("prepare transaction 'it''s old'")
    other.rollback()
    try:
        with limits(conn, snapshot_seconds=SECONDS):
            found = wait_for_level(conn, "snapshot", "warn")
            assert found.finding.startswith('prepared transaction "it\'s old" pins a snapshot of')
            act(conn, found)
            assert level(conn, "snapshot") == "ok"
    finally:
        for gid in column(conn, "select gid from pg_prepared_xacts"):
            conn.execute(f"rollback prepared '{gid.replace(chr(39), 2 * chr(39))}'")


def test_the_transactions_since_count_where_no_time_is_known(conn, connect):
    """As for a slot, which tests/replication makes."""
    with held(connect()):
        burn_transactions(conn, 2000)
        (oldest,) = rows(
            conn,
            "select * from _eram_snapshot_holders() order by transactions desc limit 1",
        )
        assert 2000 <= oldest.transactions < 10000
        assert (
            value(
                conn,
                "select value from eram_metrics where name = 'eram_oldest_snapshot_transactions'",
            )
            >= 2000
        )
    assert value(conn, "select max(transactions) from _eram_snapshot_holders()") < 2000


def test_a_session_of_another_database_holds_nothing_of_this_one(conn, other_dsn):
    with contextlib.closing(psycopg.connect(other_dsn)) as report:
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from eram_job_specs")
        pid = report.info.backend_pid
        shown = "select backend_xmin is not null from pg_stat_activity where pid = %s"
        assert value(conn, shown, pid)
        assert value(conn, "select count(*) from _eram_snapshot_holders()") == 1
        report.rollback()
        report.execute("select eram_enqueue_job('app:run')")
        report.execute("prepare transaction 'of another'")
        try:
            assert value(conn, "select count(*) from pg_prepared_xacts") == 1
            assert value(conn, "select count(*) from _eram_snapshot_holders()") == 1
        finally:
            report.autocommit = True
            report.execute("rollback prepared 'of another'")


def test_a_vacuum_holds_nothing(conn, connect, dsn):
    conn.execute("create table big as select generate_series(1, 20000) as number")
    named = "select count(*) from _eram_snapshot_holders() where holder ~ ('session ' || %s)"
    try:
        with slow_vacuum(conn, connect(), "big") as pid:
            shown = "select backend_xmin is not null from pg_stat_activity where pid = %s"
            assert value(conn, shown, pid)
            assert value(conn, named, pid) == 0
    finally:
        conn.execute("drop table big")


def test_what_is_not_old_is_told_too(conn):
    found = check(conn, "snapshot")
    assert found.finding.startswith("the oldest snapshot is 00:00:0")
    assert found.value < 5
