"""Snapshots that a standby holds on its primary: by its feedback, by its slot, and when gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg

from eram.embedded import EmbeddedServer
from replication.conftest import Pair
from sql.health_helpers import act, burn_transactions, check, level, limits, wait_for_level
from sql.helpers import value, wait_until

CHECKS = "select count(*) from eram_health()"


def holder(conn: psycopg.Connection, words: str) -> bool:
    """Say whether this holds a snapshot that is thousands of transactions old."""
    found = check(conn, "snapshot")
    return found.level == "warn" and found.finding.startswith(words)


def test_what_a_standby_wants_to_see(
    two_servers: Pair, start_standby: Callable[[str], EmbeddedServer]
):
    with psycopg.connect(two_servers.first, autocommit=True) as conn:
        conn.execute("create extension eram")
        conn.execute("select pg_create_physical_replication_slot('away', true)")
        standby = start_standby(two_servers.first)
        with (
            contextlib.ExitStack() as ending,
            contextlib.closing(psycopg.connect(standby.dsn, autocommit=True)) as there,
            limits(conn, snapshot_transactions=(2000, 1e9)),
        ):
            there.execute("alter system set hot_standby_feedback = on")
            there.execute("alter system set wal_receiver_status_interval = '1s'")
            there.execute("select pg_reload_conf()")
            assert level(conn, "snapshot") == "ok"
            assert value(there, CHECKS) == value(conn, CHECKS) == 14

            report = ending.enter_context(contextlib.closing(psycopg.connect(standby.dsn)))
            report.execute("set transaction isolation level repeatable read")
            report.execute("select count(*) from eram_job_specs")
            shown = """
                select count(*) = 1
                from pg_stat_activity
                where backend_type = 'walsender' and backend_xmin is not null
            """
            wait_until(lambda: value(conn, shown), "the primary is told", seconds=60)
            burn_transactions(conn, 3000)
            wait_until(lambda: holder(conn, 'standby "'), "it is found", seconds=60)
            found = check(conn, "snapshot")
            assert " pins a snapshot, 3" in found.finding
            assert found.action.startswith("End the oldest query at that standby, or set")
            assert found.value < 60

            # The same by a slot.
            there.execute("alter system set primary_slot_name = 'away'")
            there.execute("select pg_reload_conf()")
            words = 'active replication slot "away" pins a snapshot, 3'
            wait_until(lambda: holder(conn, words), "the slot holds it", seconds=60)

            # The standby is gone, and its slot is not.
            standby.stop("immediate")
            words = 'abandoned replication slot "away" pins a snapshot, 3'
            wait_until(lambda: holder(conn, words), "nobody is there", seconds=60)
            found = check(conn, "snapshot")
            assert found.action == "select pg_drop_replication_slot('away');"
            act(conn, found)
            wait_for_level(conn, "snapshot", "ok")
        conn.execute("drop extension eram")
