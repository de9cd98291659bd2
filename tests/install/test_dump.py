"""What pg_dump takes along, and that a restored copy keeps still until somebody ticks."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from eram.install import install

TABLES = "select relname from pg_class where relname ~ '^eram_' and relkind = 'r' order by relname"

# A database in use: entries of all kinds, changed, paused, removed, due, failed; a command that is
# due and one that somebody has taken; jobs in all places.
SET_UP = """
    select eram_tick(0);
    select eram_schedule('mail', '15 8 * * mon-fri', 'app:mail', '{"a": 1}', 'Europe/Berlin',
        options => '{"queue": "mail", "overlap": false}');
    select eram_schedule('due', '1 hour', 'app:due', missed => 'all');
    select eram_schedule('paused', '1 hour', 'app:paused');
    select eram_pause_schedule('paused');
    select eram_schedule('removed', '1 hour', 'app:removed');
    select eram_unschedule('removed');
    select eram_schedule_sql('taken', '1 hour', 'select 1');
    select eram_run_schedule('taken');
    select eram_tick(10);
    select eram_schedule_sql('waiting', '1 hour', 'select 1', is_top_level => true);
    select eram_run_schedule('waiting');
    select eram_schedule_maintenance('prune', '10 minutes', '{"limit": 7}');
    select eram_unschedule('eram:reindexer');
    select eram_pause_schedule('eram:lifeline');
    select eram_register_schedules('app', '[
        {"name": "declared", "schedule": "1 hour", "handler": "app:declared"},
        {"name": "gone", "schedule": "1 hour", "handler": "app:gone"}]');
    select eram_unschedule('gone');
    select eram_run_schedule('mail');
    select eram_enqueue_job('app:other');
    select eram_set_queue('mail', priority => 3);
    update eram_schedules
    set next_run_at = now() - interval '3 hours 10 minutes', last_error = 'no luck'
    where name in ('due', 'eram:prune');
"""


def by_extension(conn: psycopg.Connection) -> None:
    conn.execute("create extension eram")


def contents(dsn: str) -> dict[str, list[str]]:
    """Return every row of every table, as text."""
    with psycopg.connect(dsn) as conn:
        names = [row[0] for row in conn.execute(TABLES)]
        return {
            name: [
                row[0] for row in conn.execute(f"select t::text from {name} as t order by t::text")
            ]
            for name in names
        }


@pytest.fixture
def copy(bin_dir: Path, tmp_path: Path) -> Callable[[str, str], None]:
    """Dump one database and restore it into another one."""

    def dump_and_restore(source: str, target: str) -> None:
        script = tmp_path / "dump.sql"
        subprocess.run([bin_dir / "pg_dump", "-f", script, source], check=True)
        # A newer pg_dump sets parameters that an older server does not know.
        text = script.read_text(encoding="utf-8").replace("SET transaction_timeout = 0;", "")
        script.write_text(text, encoding="utf-8")
        command = [bin_dir / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, target]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return dump_and_restore


@pytest.mark.parametrize("way", [by_extension, install], ids=["extension", "script"])
def test_a_copy_has_all_and_does_nothing_by_itself(create_bare_database, copy, way):
    source, target = create_bare_database(), create_bare_database()
    with psycopg.connect(source, autocommit=True) as conn:
        way(conn)
        conn.execute(SET_UP)
    before = contents(source)
    assert {"eram_schedules", "eram_schedule_runs", "eram_unscheduled"} <= before.keys()
    assert len(before["eram_schedules"]) == 9
    assert len(before["eram_declared_schedules"]) == 2
    assert len(before["eram_schedule_runs"]) == 2
    copy(source, target)
    assert contents(target) == before
    time.sleep(0.5)
    assert contents(target) == before

    with psycopg.connect(target, autocommit=True) as conn:
        conn.execute("select eram_tick(0)")
        found = dict(conn.execute("select name, schedule from eram_schedules").fetchall())
        assert found["eram:prune"] == "10 minutes"
        assert "eram:reindexer" not in found
        assert "removed" not in found
        paused = "select name from eram_schedules where is_paused order by name"
        assert [row[0] for row in conn.execute(paused)] == ["eram:lifeline", "paused"]
        options = "select options ->> 'limit' from eram_schedules where name = 'eram:prune'"
        assert conn.execute(options).fetchone() == ("7",)
        # What was declared is known, also what an administrator has removed since.
        again = """
            select name, change
            from eram_register_schedules('app', '[
                {"name": "declared", "schedule": "1 hour", "handler": "app:declared"},
                {"name": "gone", "schedule": "1 hour", "handler": "app:gone"}]')
        """
        assert conn.execute(again).fetchall() == []
        # What was missed, as its entry wants it.
        jobs = "select count(*) from eram_jobs where handler = 'app:due'"
        assert conn.execute(jobs).fetchone() == (4,)
        # The sequences go on behind what there is.
        conn.execute("select eram_schedule_sql('new', '1 hour', 'select 1')")
        conn.execute("select eram_run_schedule('new')")
        conn.execute("select eram_enqueue_job('app:new')")
        ids = "select array_agg(name order by id) from eram_schedule_runs"
        assert conn.execute(ids).fetchone() == (["taken", "waiting", "new"],)
        assert conn.execute("select * from eram_check()").fetchall() == []


def test_an_install_has_no_rows(create_bare_database):
    """They would collide with those that a restore brings."""
    dsn = create_bare_database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create extension eram")
    assert {name: rows for name, rows in contents(dsn).items() if rows} == {}


@pytest.mark.parametrize("way", [by_extension, install], ids=["extension", "script"])
def test_a_copy_has_the_rights_that_were_granted(create_bare_database, copy, way):
    """And knows which grants they are of. Roles are the cluster's: here they are there already."""
    source, target = create_bare_database(), create_bare_database()
    with psycopg.connect(source, autocommit=True) as conn:
        way(conn)
        conn.execute(
            """
            create role eram_dumped;
            select eram_grant('eram_dumped', 'enqueue');
            select eram_grant('eram_dumped', 'admin');
            """
        )
        try:
            assert len(granted := rights(conn)) > 20
            copy(source, target)
            with psycopg.connect(target, autocommit=True) as restored:
                assert rights(restored) == granted
                restored.execute("select eram_revoke('eram_dumped', 'admin')")
                assert 0 < len(rights(restored)) < 8
                restored.execute("select eram_revoke('eram_dumped', 'enqueue')")
                assert rights(restored) == []
        finally:
            for dsn in (source, target):
                with psycopg.connect(dsn, autocommit=True) as there:
                    there.execute("drop owned by eram_dumped")
            conn.execute("drop role eram_dumped")


def rights(conn: psycopg.Connection) -> list[str]:
    """Return what the role has a right to in this database."""
    query = """
        select oid::regprocedure::text
        from pg_proc
        where has_function_privilege('eram_dumped', oid, 'execute') and proname ~ '^_?eram_'
        union all
        select oid::regclass::text
        from pg_class
        where
            has_table_privilege('eram_dumped', oid, 'select')
            and relname ~ '^eram_'
            and relkind in ('r', 'v')
        order by 1
    """
    return [row[0] for row in conn.execute(query)]
