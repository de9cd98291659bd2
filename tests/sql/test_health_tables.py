"""Tables with dead rows, tables that no vacuum reaches, tables that are mostly room."""

from __future__ import annotations

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
from .helpers import value, wait_until

TABLE = "eram_queued_jobs"
# Tickets of no job, for tests that delete them again.
MAKE = """
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
    select -number, now() + interval '1 hour', 0, 0, 1, 'none'
    from generate_series(1, %s) as number
"""


@pytest.fixture
def table(conn: psycopg.Connection) -> str:
    """A table without history, that no vacuum comes to but the test's own."""
    conn.execute(f"alter table {TABLE} set (autovacuum_enabled = off)")
    wait_until(lambda: _is_left_alone(conn), "no vacuum is there")
    conn.execute(f"truncate {TABLE}")
    wait_until(lambda: _is_forgotten(conn), "the server has forgotten what it counted")
    yield TABLE
    conn.execute(f"delete from {TABLE} where job_id < 0")
    conn.execute(f"alter table {TABLE} reset (autovacuum_enabled)")
    conn.execute(f"vacuum (freeze, analyze) {TABLE}")


def _is_left_alone(conn) -> bool:
    return value(conn, "select count(*) = 0 from pg_stat_progress_vacuum")


def _is_forgotten(conn) -> bool:
    # PostgreSQL 14 does so in its own time.
    conn.execute("select pg_stat_reset_single_table_counters(%s::regclass)", [TABLE])
    return value(conn, "select pg_stat_get_dead_tuples(%s::regclass) = 0", TABLE)


def make_dead(conn, count: int) -> None:
    conn.execute(MAKE, [count])
    conn.execute(f"delete from {TABLE} where job_id < 0")
    dead = "select pg_stat_get_dead_tuples(%s::regclass) >= %s"
    wait_until(lambda: value(conn, dead, TABLE, count), "the server has counted")


def test_dead_rows_that_an_old_snapshot_keeps(conn, connect, table):
    report = connect()
    assert level(conn, "dead_tuples") == "ok"
    with report.transaction():
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from eram_job_specs")
        make_dead(conn, 101_000)
        found = check(conn, "dead_tuples")
        assert found.level == "warn"
        assert found.finding.startswith(f'table "{table}" has 101')
        assert found.value >= 101_000
        assert found.action == f"vacuum public.{table};"
        with limits(conn, dead_rows=(1, 100_000)):
            assert level(conn, "dead_tuples") == "critical"
        # As the check says of a vacuum: in vain, while the snapshot is held.
        act(conn, found)
        assert level(conn, "dead_tuples") == "warn"
    act(conn, found)
    wait_for_level(conn, "dead_tuples", "ok")


def test_dead_rows_among_many_living_ones_are_no_matter(conn, table):
    conn.execute(MAKE, [6000])
    conn.execute(f"delete from {TABLE} where job_id < -5100")
    counted = "select pg_stat_get_dead_tuples(%s::regclass) >= 900"
    wait_until(lambda: value(conn, counted, table), "the server has counted")
    with limits(conn, dead_rows=(500, 5000)):
        assert level(conn, "dead_tuples") == "ok"
        conn.execute(f"delete from {TABLE} where job_id < -4000")
        wait_for_level(conn, "dead_tuples", "warn")


def test_autovacuum_that_is_off_for_a_table(conn, table):
    found = check(conn, "autovacuum")
    assert (found.level, found.finding) == ("warn", f'autovacuum is off for table "{table}"')
    make_dead(conn, 10_500)
    found = check(conn, "autovacuum")
    assert found.level == "critical"
    assert found.action == f"alter table public.{table} reset (autovacuum_enabled);"
    act(conn, found)
    found = check(conn, "autovacuum")
    assert "is off" not in found.finding


def test_autovacuum_that_falls_behind(conn, connect, table):
    """It passes over a table that somebody has locked."""
    blocker = connect()
    make_dead(conn, 10_500)
    # It would come at 2,000.
    conn.execute(f"alter table {table} set (autovacuum_enabled = on)")
    with blocker.transaction():
        blocker.execute(f"lock table {table} in share update exclusive mode")
        found = check(conn, "autovacuum")
        assert found.level == "warn"
        assert found.finding.startswith(f'table "{table}" has 10')
        assert found.finding.endswith("and was never vacuumed")
        with limits(conn, vacuum_delay=(1, 2)):
            assert level(conn, "autovacuum") == "critical"
    act(conn, found)
    wait_for_level(conn, "autovacuum", "ok")


def test_where_a_vacuum_is_at_work_none_is_late(conn, connect, table):
    make_dead(conn, 10_500)
    with conn.transaction():
        conn.execute(f"alter table {table} set (autovacuum_enabled = on)")
        assert level(conn, "autovacuum") == "warn"
    with slow_vacuum(conn, connect(), table):
        assert level(conn, "autovacuum") == "ok"


def test_without_counters_no_vacuum_comes(conn):
    # Dead rows that another test has left would make it critical.
    conn.execute("vacuum")
    wait_for_level(conn, "autovacuum", "ok")
    conn.execute("set track_counts = off")
    try:
        found = check(conn, "autovacuum")
    finally:
        conn.execute("reset track_counts")
    assert (found.level, found.finding) == ("warn", "track_counts is off for the whole server")
    assert found.action == "alter system set track_counts = on; select pg_reload_conf();"


def test_a_burst_of_jobs_is_no_delay_of_autovacuum(conn, table):
    """It looks once a minute, and nobody has given it a reason to come before."""
    make_dead(conn, 10_500)
    with conn.transaction():
        # This locks the table against autovacuum, too.
        conn.execute(f"alter table {table} set (autovacuum_enabled = on)")
        assert level(conn, "autovacuum") == "warn"
        minute = """
            insert into eram_minutes (
                queue, minute, completed_count, failed_count, discarded_count, cancelled_count)
            values ('default', now() - %s::interval, 11000, 0, 0, 0)
        """
        conn.execute(minute, ["11 minutes"])
        assert level(conn, "autovacuum") == "warn"
        conn.execute(minute, ["5 minutes"])
        assert level(conn, "autovacuum") == "ok"


def test_autovacuum_that_is_off_for_the_server(crash_server):
    server = crash_server(autovacuum="off")
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        found = check(conn, "autovacuum")
        assert (found.level, found.finding) == ("warn", "autovacuum is off for the whole server")
        make_dead(conn, 10_500)
        found = check(conn, "autovacuum")
        assert found.level == "critical"
        conn.execute(f"vacuum {TABLE}")
        wait_for_level(conn, "autovacuum", "warn")
        # A command line goes before what is altered, and the test's is none.
        act(conn, found)
        wait_for_level(conn, "autovacuum", "ok")


def test_rows_that_no_vacuum_has_frozen(conn):
    # Of dead rows that another test has left the check would speak first.
    conn.execute("vacuum")
    wait_for_level(conn, "autovacuum", "ok")
    burn_transactions(conn, 2000)
    share = 1500 / value(conn, "select current_setting('autovacuum_freeze_max_age')::integer")
    with limits(conn, unfrozen_age=(share, 1e9)):
        found = check(conn, "autovacuum")
        assert found.level == "warn"
        assert found.finding.endswith(" times autovacuum_freeze_max_age old")
        with limits(conn, unfrozen_age=(share / 2, share)):
            assert level(conn, "autovacuum") == "critical"
        # One table is named, and then the next.
        for _ in range(40):
            found = check(conn, "autovacuum")
            if found.level == "ok":
                break
            act(conn, found)
        assert found.level == "ok"


def test_room_that_is_left_of_a_crowd(conn, table):
    with limits(conn, hollow_bytes=(1e6, 5e6)):
        assert level(conn, "sizes") == "ok"
        conn.execute(MAKE, [20_000])
        alive = "select pg_stat_get_live_tuples(%s::regclass) >= 20000"
        wait_until(lambda: value(conn, alive, table), "the server has counted")
        # What is needed is not hollow.
        assert level(conn, "sizes") == "ok"
        # Nor is it after a crash, when nothing is known but what the last vacuum has noted.
        conn.execute(f"vacuum {table}")
        conn.execute("select pg_stat_reset_single_table_counters(%s::regclass)", [table])
        assert level(conn, "sizes") == "ok"
        conn.execute(f"delete from {table} where job_id < 0")
        conn.execute(f"vacuum {table}")
        found = wait_for_level(conn, "sizes", "warn")
        assert found.finding.startswith(f'table "{table}" takes ')
        assert found.finding.endswith(" for 0 rows")
        with limits(conn, hollow_bytes=(1, 1e6)):
            assert level(conn, "sizes") == "critical"
        act(conn, found)
        found = check(conn, "sizes")
        assert found.level == "ok"
        assert found.finding.startswith("eram takes ")
        assert found.value == value(
            conn,
            "select sum(pg_total_relation_size(name)) from unnest(_eram_tables()) as tables (name)",
        )
