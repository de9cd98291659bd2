"""DROP EXTENSION, and the plain uninstall, leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from eram import uninstall
from eram.install import install
from install.in_use import enqueue, in_schema, used, value
from install.test_same_objects import ODD, by_extension, owner_of

WAYS = pytest.mark.parametrize("way", ["extension", "script"])

# What analyses and vacuums write says nothing of objects.
CATALOGS = """
    select relname
    from pg_class
    where
        relnamespace = 'pg_catalog'::regnamespace
        and relkind = 'r'
        and relname !~ '^pg_(statistic|largeobject)'
    order by relname
"""


def counts(dsn: str) -> dict[str, int]:
    """Count the rows of each catalog: those of the database, and those of the whole server."""
    with psycopg.connect(dsn) as conn:
        names = [row[0] for row in conn.execute(CATALOGS)]
        return {name: value(conn, f"select count(*) from {name}") for name in names}


@pytest.fixture
def role(bare_dsn: str) -> Iterator[str]:
    name = f"{psycopg.conninfo.conninfo_to_dict(bare_dsn)['dbname']}_clerk"
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(f"create role {name}")
        yield name
        conn.execute(f"drop role {name}")


def install_by(way: str, dsn: str, schema: str) -> None:
    if way == "extension":
        by_extension(dsn, schema)
    else:
        with psycopg.connect(dsn) as conn:
            install(conn, schema=schema)


@WAYS
@pytest.mark.parametrize("schema", ["public", ODD])
def test_nothing_is_left(bare_dsn, role, capsys, way, schema):
    with psycopg.connect(bare_dsn) as conn:
        conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    before = counts(bare_dsn)
    install_by(way, bare_dsn, schema)
    where = in_schema(bare_dsn, schema)
    with used(where):
        pass
    with psycopg.connect(where, autocommit=True) as conn:
        conn.execute(f"select eram_grant('{role}', 'admin')")
        conn.execute(f"select eram_grant('{role}', 'enqueue', queues => '{{mail}}')")
        unfinished = value(conn, "select count(*) from eram_jobs where finalized_at is null")
    assert counts(bare_dsn) != before
    assert uninstall.main(["--dsn", bare_dsn, "--drop-jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": schema,
        "is_extension": way == "extension",
        "unfinished_count": unfinished,
    }
    assert counts(bare_dsn) == before


def test_drop_extension_leaves_nothing(bare_dsn, role):
    before = counts(bare_dsn)
    by_extension(bare_dsn, "public")
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("select eram_tick(0)")
        conn.execute(f"select eram_grant('{role}', 'work')")
        enqueue(conn, "app:work")
        conn.execute("drop extension eram")
    assert counts(bare_dsn) == before


@WAYS
def test_unfinished_jobs_are_not_dropped_unasked(bare_dsn, capsys, way):
    install_by(way, bare_dsn, "public")
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        enqueue(conn, "app:work")
        worker = value(conn, "select eram_start_worker('w', '{default}')")
        conn.execute("select eram_fetch('default', 1, %s)", (worker,))
        enqueue(conn, "app:later", delay="1 day")
        before = counts(bare_dsn)
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        assert '2 jobs wait or run in schema "public", and would be lost' in capsys.readouterr().err
        assert counts(bare_dsn) == before
        conn.execute("select eram_delete_jobs('{\"all\": true}')")
        conn.execute("select eram_stop_worker(%s)", (worker,))
        conn.execute("select eram_delete_jobs('{\"all\": true}')")
        assert uninstall.main(["--dsn", bare_dsn]) == 0


@WAYS
def test_what_others_have_built_on_it_is_not_dropped(bare_dsn, capsys, way):
    install_by(way, bare_dsn, "jobs")
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("create view mine as select id from jobs.eram_jobs")
        before = counts(bare_dsn)
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        assert "view public.mine depends on view eram_jobs" in capsys.readouterr().err
        assert counts(bare_dsn) == before
        conn.execute("drop view mine")
        assert uninstall.main(["--dsn", bare_dsn]) == 0


@WAYS
def test_owner_who_is_no_superuser_removes_it(bare_dsn, way):
    with owner_of(bare_dsn) as dsn:
        before = counts(bare_dsn)
        install_by(way, dsn, "public")
        assert uninstall.main(["--dsn", dsn]) == 0
        assert counts(bare_dsn) == before


@WAYS
@pytest.mark.parametrize("schema", ["public", "jobs"])
def test_who_does_not_own_it_cannot_remove_it(bare_dsn, role, way, schema):
    install_by(way, bare_dsn, schema)
    before = counts(bare_dsn)
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(f"set role {role}")
        said = 'eram belongs to role ".+", who alone can remove it'
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=said):
            uninstall.uninstall(conn, drop_jobs=True)
    assert counts(bare_dsn) == before


def test_a_database_without_eram(bare_dsn, capsys):
    assert uninstall.main(["--dsn", bare_dsn]) == 2
    assert "eram is not installed in the database" in capsys.readouterr().err
