"""What eram_health() is like: its checks, their order, who may ask, and what he is told."""

from __future__ import annotations

import re

import psycopg
import pytest

from .health_helpers import CHECKS, act, check, level
from .helpers import column, contents, row, rows, value

LEVELS = ["critical", "warn", "unknown", "ok"]
ACTION = re.compile(r"(select|call|alter|grant|vacuum|reindex|drop|rollback) .*;|python -m eram .*")


def test_always_all_checks(conn):
    found = rows(conn, "select * from eram_health()")
    assert {each.name for each in found} == CHECKS
    assert len(found) == len(CHECKS)


def test_a_fresh_database_is_well_but_for_the_tick_that_nobody_has_made(conn):
    found = rows(conn, "select * from eram_health() where level <> 'ok'")
    assert [(each.name, each.level, each.finding) for each in found] == [
        ("ticker", "warn", "nobody has ticked yet")
    ]
    conn.execute("select * from eram_tick()")
    assert {*column(conn, "select level from eram_health()")} == {"ok"}


def test_each_check_is_explained_and_has_something_to_do_only_if_it_is_not_well(conn):
    for each in rows(conn, "select * from eram_health()"):
        assert re.fullmatch(r"[a-z\"].*[^.]", each.finding), each
        assert re.fullmatch(r"[A-Z].*\.", each.meaning), each
        assert (each.action is None) is (each.level == "ok"), each
        assert each.value is not None


def test_the_worst_comes_first(conn):
    conn.execute("select eram_start_worker('w', '{default}', 0)")
    conn.execute("update eram_workers set heartbeat_at = now() - interval '3 minutes'")
    found = column(conn, "select level from eram_health()")
    assert found[:2] == ["critical", "warn"]
    assert found == sorted(found, key=LEVELS.index)


def test_it_writes_nothing(conn):
    before = contents(conn)
    with conn.transaction():
        rows(conn, "select * from eram_health()")
        assert value(conn, "select pg_current_xact_id_if_assigned()") is None
    assert contents(conn) == before


def test_it_works_where_nothing_can_be_written(conn):
    with conn.transaction():
        conn.execute("set transaction read only, isolation level serializable")
        assert len(rows(conn, "select * from eram_health()")) == len(CHECKS)


def test_every_threshold_is_used(conn):
    """By its name, in a function; and nothing is judged by one that there is not."""
    used = column(
        conn,
        r"""
        select distinct found.names[1]
        from pg_proc as functions
        cross join lateral regexp_matches(
            functions.prosrc, '_eram_health_(?:level|warns_at)\(\s*''(\w+)''', 'g')
            as found (names)
        where functions.proname ~ '^_eram_'
        """,
    )
    assert sorted(used) == sorted(column(conn, "select measure from _eram_health_limits()"))
    assert value(conn, "select bool_and(warn < critical) from _eram_health_limits()")


@pytest.mark.parametrize(
    ("measured", "expected"), [(None, "ok"), (119.9, "ok"), (120, "warn"), (300, "critical")]
)
def test_thresholds_are_where_a_level_begins(conn, measured, expected):
    query = "select _eram_health_level('tick_delay', %s::double precision)"
    assert value(conn, query, measured) == expected


# Whose eyes it has.


def test_an_owner_who_may_not_see_others_says_so(home, open_as):
    owner, admin = open_as(home.owner), open_as(home.admin)
    found = check(owner, "snapshot")
    assert (found.level, found.value) == ("unknown", None)
    assert found.finding == (
        f'role "{home.owner_role}", the owner of eram, cannot see how old the snapshots of'
        " others are"
    )
    assert "pg_read_all_stats" in found.meaning
    others = rows(owner, "select * from eram_health() where name not in ('snapshot', 'ticker')")
    assert {each.level for each in others} == {"ok"}
    samples = column(owner, "select name from eram_metrics where name ~ '^eram_oldest_snapshot'")
    assert samples == ["eram_oldest_snapshot_transactions"]
    assert (
        value(
            owner,
            "select value from eram_metrics where labels ->> 'check' = 'snapshot'",
        )
        == -1
    )
    # What it says is to be done helps.
    act(admin, found)
    try:
        assert level(owner, "snapshot") == "ok"
    finally:
        admin.execute(f'revoke pg_read_all_stats from "{home.owner_role}"')
    assert level(owner, "snapshot") == "unknown"


def test_whoever_reads_is_told_what_the_owner_sees(home, open_as):
    owner, worker = open_as(home.owner), open_as(home.worker)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute("select * from eram_health()")
    owner.execute("select eram_grant(%s, 'read')", [home.worker_role])
    query = "select name, level from eram_health() order by name"
    try:
        assert rows(worker, query) == rows(owner, query)
        assert value(worker, "select count(*) from eram_metrics") > 20
    finally:
        owner.execute("select eram_revoke(%s, 'read')", [home.worker_role])


# The version.


def test_an_extension_that_is_not_what_it_says(conn):
    found = check(conn, "version")
    version = value(conn, "select eram_version()")
    assert (found.level, found.finding.split(" on ")[0]) == ("ok", f"eram {version}")
    conn.execute("update pg_extension set extversion = '0.0.1' where extname = 'eram'")
    try:
        found = check(conn, "version")
        assert (found.level, found.action) == ("critical", "python -m eram upgrade")
        assert found.finding == f"the extension is noted as 0.0.1, its functions are of {version}"
    finally:
        conn.execute("update pg_extension set extversion = eram_version() where extname = 'eram'")
    assert level(conn, "version") == "ok"


def test_what_is_not_an_extension_has_the_version_of_its_functions(conn):
    """A plain installation, or what became one."""
    with conn.transaction(force_rollback=True):
        conn.execute("update pg_extension set extname = 'other' where extname = 'eram'")
        found = row(conn, "select * from eram_health() where name = 'version'")
    assert found.level == "ok"
