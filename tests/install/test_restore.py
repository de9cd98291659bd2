"""A restored copy has all that the original had, goes on where it was, and repeats nothing."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from eram.install import install
from install.copying import (
    Copy,
    by_archive,
    by_folder,
    by_halves,
    by_text,
    by_text_without_owner,
    run,
)
from install.in_use import check_copy, contents, enqueue, fetch, in_schema, used, value
from install.test_same_objects import ODD, owner_of


def by_extension(conn: psycopg.Connection, *, schema: str) -> None:
    name = sql.Identifier(schema)
    conn.execute(sql.SQL("create schema if not exists {}").format(name))
    conn.execute(sql.SQL("create extension eram schema {}").format(name))


WAYS = pytest.mark.parametrize("way", [by_extension, install], ids=["extension", "script"])


def copied(way, copy: Copy, bin_dir: Path, folder: Path, schema: str, dsns: tuple[str, str]):
    """Copy a database in use to the second DSN, with all that was there; return its jobs."""
    source, target = dsns
    with psycopg.connect(source, autocommit=True) as conn:
        way(conn, schema=schema)
        assert not any(contents(in_schema(source, schema)).get("eram_job_specs", ()))
    with used(in_schema(source, schema)) as jobs:
        before = contents(in_schema(source, schema))
        empty = {name for name, rows in before.items() if not rows}
        assert empty == {"eram_declared_schedules", "eram_queue_grants"}
        copy(bin_dir, folder, source, target)
        assert contents(in_schema(source, schema)) == before
    assert contents(in_schema(target, schema)) == before
    return jobs


@pytest.mark.parametrize(
    ("way", "copy", "schema"),
    [
        pytest.param(by_extension, by_text, "public", id="extension-script"),
        pytest.param(by_extension, by_halves, "jobs", id="extension-halves"),
        pytest.param(install, by_text, ODD, id="plain-script"),
        pytest.param(install, by_halves, "jobs", id="plain-halves"),
    ],
)
def test_copy_goes_on(create_bare_database, bin_dir, tmp_path, way, copy, schema):
    source, target = create_bare_database(), create_bare_database()
    jobs = copied(way, copy, bin_dir, tmp_path, schema, (source, target))
    check_copy(in_schema(target, schema), jobs)


@pytest.mark.parametrize(
    ("way", "copy", "schema"),
    [
        pytest.param(by_extension, by_archive, ODD, id="extension-archive"),
        pytest.param(by_extension, by_text_without_owner, "public", id="extension-script"),
        pytest.param(install, by_archive, "public", id="plain-archive"),
        pytest.param(install, by_folder, "jobs", id="plain-folder"),
    ],
)
def test_copy_that_belongs_to_another_goes_on(
    create_bare_database, bin_dir, tmp_path, way, copy, schema
):
    """To a role that is no superuser."""
    source = create_bare_database()
    with owner_of(create_bare_database()) as target:
        jobs = copied(way, copy, bin_dir, tmp_path, schema, (source, target))
        check_copy(in_schema(target, schema), jobs)
        foreign = """
            select count(*)
            from pg_class
            where relname ~ '^eram_' and relowner <> current_user::regrole
        """
        with psycopg.connect(target) as conn:
            assert value(conn, foreign) == 0


@WAYS
def test_roles_keep_their_queues(create_bare_database, bin_dir, tmp_path, way):
    source, target = create_bare_database(), create_bare_database()
    role = f"{psycopg.conninfo.conninfo_to_dict(source)['dbname']}_clerk"
    with psycopg.connect(source, autocommit=True) as conn:
        way(conn, schema="public")
        conn.execute(f"create role {role}")
        try:
            conn.execute(f"select eram_grant('{role}', 'enqueue', queues => '{{mail}}')")
            by_archive(bin_dir, tmp_path, source, target)
            with psycopg.connect(target, autocommit=True) as restored:
                restored.execute(f"set role {role}")
                assert enqueue(restored, "app:work", queue="mail") > 0
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match='queue "default"'):
                    enqueue(restored, "app:work")
        finally:
            for dsn in (source, target):
                with psycopg.connect(dsn, autocommit=True) as there:
                    there.execute(f"drop owned by {role}")
            conn.execute(f"drop role {role}")


@WAYS
def test_dump_of_a_database_at_work_is_whole(create_bare_database, bin_dir, tmp_path, way):
    source, target = create_bare_database(), create_bare_database()
    with psycopg.connect(source, autocommit=True) as conn:
        way(conn, schema="public")
    is_over = threading.Event()
    moved: list[int] = []

    def work() -> None:
        with psycopg.connect(source, autocommit=True) as conn:
            worker = value(conn, "select eram_start_worker('busy', '{default}')")
            while not is_over.is_set():
                for _ in range(5):
                    enqueue(conn, "app:work")
                jobs = fetch(conn, "default", 4, worker)
                ids, runs = ([row[i] for row in jobs] for i in (0, 1))
                query = "select eram_complete_jobs(%s::bigint[], %s::integer[])"
                conn.execute(query, (ids[:3], runs[:3]))
                if ids[3:]:
                    conn.execute("select eram_fail_job(%s, %s, 'no')", (ids[3], runs[3]))
                moved.extend(ids)

    threads = [threading.Thread(target=work) for _ in range(2)]
    with contextlib.ExitStack() as ending:
        ending.callback(is_over.set)
        for thread in threads:
            thread.start()
            ending.callback(thread.join)
            ending.callback(is_over.set)
        while len(moved) < 100:
            assert all(thread.is_alive() for thread in threads)
            is_over.wait(0.01)
        before = len(moved)
        by_folder(bin_dir, tmp_path, source, target)
        assert len(moved) > before
    with psycopg.connect(target, autocommit=True) as conn:
        assert conn.execute("select * from eram_check()").fetchall() == []
        ids = "select count(*), max(id) from eram_jobs"
        count, last = conn.execute(ids).fetchone()
        assert count >= 100
        assert enqueue(conn, "app:new") > last


def test_dump_of_one_schema_lacks_the_extension_unless_it_is_named(bare_dsn, bin_dir):
    """It has the rows, which nothing that it makes could hold."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        by_extension(conn, schema="jobs")
        conn.execute("set search_path to jobs")
        enqueue(conn, "app:marked_job")
    said = run(bin_dir / "pg_dump", "--schema", "jobs", bare_dsn)
    assert "app:marked_job" in said
    assert not re.search("CREATE (EXTENSION|TABLE)", said)
    said = run(bin_dir / "pg_dump", "--schema", "jobs", "--extension", "eram", bare_dsn)
    assert "app:marked_job" in said
    assert "CREATE EXTENSION IF NOT EXISTS eram WITH SCHEMA jobs" in said
