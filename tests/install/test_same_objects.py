"""Every way to install eram gives the same objects."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from catalog import difference, fingerprint
from eram._server import extension
from eram.install import install, main

CreateDatabase = Callable[[], str]
ODD = 'Job "Queue"'  # a schema whose name has to be quoted


def by_extension(dsn: str, schema: str) -> None:
    name = sql.Identifier(schema)
    with psycopg.connect(dsn) as conn:
        conn.execute(sql.SQL("create schema if not exists {}").format(name))
        conn.execute(sql.SQL("create extension eram schema {}").format(name))


def by_command(dsn: str, schema: str) -> None:
    assert main(["--dsn", dsn, "--schema", schema]) == 0


@pytest.fixture
def by_file(bin_dir: Path, tmp_path: Path) -> Callable[[str, str], None]:
    def install_file(dsn: str, schema: str) -> None:
        script = tmp_path / "eram.plain.sql"
        script.write_text(extension.plain_script(), encoding="utf-8")
        name = sql.Identifier(schema)
        with psycopg.connect(dsn) as conn:
            conn.execute(sql.SQL("create schema if not exists {}").format(name))
        path = name.as_string().replace(" ", "\\ ")
        subprocess.run(
            [bin_dir / "psql", "-X", "-q", "-f", script, dsn],
            env={**os.environ, "PGOPTIONS": f"-c search_path={path}"},
            check=True,
        )

    return install_file


@pytest.fixture
def installed(create_bare_database: CreateDatabase) -> Callable[..., dict[str, object]]:
    """Install eram in a fresh database, and return what the catalog then says."""

    def describe(way: Callable[[str, str], None], schema: str) -> dict[str, object]:
        dsn = create_bare_database()
        way(dsn, schema)
        with psycopg.connect(dsn) as conn:
            return fingerprint(conn, schema)

    return describe


@pytest.mark.parametrize("schema", ["jobs", ODD])
def test_create_extension_in_a_schema(installed, schema):
    assert difference(installed(by_extension, schema), installed(by_extension, "public")) == {}


@pytest.mark.parametrize("schema", ["public", "jobs", ODD])
def test_the_command(installed, schema):
    assert difference(installed(by_command, schema), installed(by_extension, "public")) == {}


@pytest.mark.parametrize("schema", ["public", "jobs", ODD])
def test_the_plain_file(installed, by_file, schema):
    assert difference(installed(by_file, schema), installed(by_extension, "public")) == {}


def test_the_fingerprint_sees_what_eram_has(installed):
    found = installed(by_extension, "public")
    for what in (
        "function eram_version()",
        "relation eram_jobs",
        "relation eram_job_specs_pkey",
        "column eram_job_specs.job_id",
        "constraint eram_job_specs_pkey of eram_job_specs",
        "type eram_jobs",
    ):
        assert what in found


@pytest.mark.parametrize(
    "change",
    [
        "comment on function eram_version() is 'another'",
        "alter function eram_version() volatile",
        "alter function eram_version() security definer",
        "alter function eram_version() reset search_path",
        "grant execute on function eram_version() to public",
        "grant select on eram_jobs to public",
        "alter table eram_job_specs alter column handler drop not null",
        "alter table eram_job_specs add column extra text",
        "alter table eram_queued_jobs set (autovacuum_vacuum_threshold = 4711)",
        "alter table eram_job_specs add constraint extra check (true)",
        "create index extra on eram_job_specs (handler)",
        "alter sequence eram_job_specs_job_id_seq increment by 2",
        "create view extra as select 1 as one",
        "create type extra as enum ('one')",
        "create function extra() returns int language sql as 'select 1'",
    ],
)
def test_a_changed_object_is_noticed(conn: psycopg.Connection, change: str):
    before = fingerprint(conn, "public")
    assert fingerprint(conn, "public") == before
    with conn.transaction(force_rollback=True):
        conn.execute(change)
        assert fingerprint(conn, "public") != before


def test_everything_belongs_to_the_extension(conn: psycopg.Connection):
    query = """
        select object.type, object.identity
        from pg_depend as depend
        cross join pg_identify_object(depend.classid, depend.objid, depend.objsubid) as object
        where
            depend.refclassid = 'pg_namespace'::regclass
            and depend.refobjid = 'public'::regnamespace
            and not exists (
                select
                from pg_depend as member
                where
                    member.classid = depend.classid
                    and member.objid = depend.objid
                    and member.deptype in ('e', 'i')
            )
            and object.type not in ('index', 'extension')
    """
    assert conn.execute(query).fetchall() == []


@contextlib.contextmanager
def owner_of(dsn: str) -> Iterator[str]:
    """Let an ordinary role own a database; yield the DSN by which it connects."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    role, secret = f"owner_of_{name}", "secret"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"create role {role} login password '{secret}'")
        admin.execute(f"alter database {name} owner to {role}")
        yield psycopg.conninfo.make_conninfo(dsn, user=role, password=secret)
        admin.execute(f"reassign owned by {role} to current_user")
        admin.execute(f"drop owned by {role}")
        admin.execute(f"drop role {role}")


@pytest.mark.parametrize("way", [by_extension, by_command])
def test_the_owner_of_a_database_can_install_it(bare_dsn: str, way):
    with owner_of(bare_dsn) as dsn:
        way(dsn, "jobs")
        with psycopg.connect(dsn) as conn:
            conn.execute("set search_path to jobs")
            assert conn.execute("select eram_version()").fetchone() == (extension.version(),)
            foreign = conn.execute(
                "select relname from pg_class"
                " where relnamespace = 'jobs'::regnamespace and relowner <> current_user::regrole"
                " union all"
                " select proname from pg_proc"
                " where pronamespace = 'jobs'::regnamespace and proowner <> current_user::regrole"
            ).fetchall()
    assert foreign == []


def test_an_install_that_fails_leaves_nothing(bare_dsn: str):
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("create table eram_workers ()")
        before = fingerprint(conn, "public")
        with pytest.raises(psycopg.errors.DuplicateTable):
            install(conn)
        with pytest.raises(psycopg.errors.DuplicateTable):
            install(conn, schema="public")
        assert fingerprint(conn, "public") == before
