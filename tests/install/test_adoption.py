"""A plain installation becomes an extension, and keeps all that is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from eram import upgrade
from eram._server import extension
from eram.install import install
from install.copying import by_text
from install.in_use import check_copy, contents, enqueue, in_schema, used, value
from install.test_same_objects import ODD, by_extension, owner_of
from upgrades import described, differences

VERSION = extension.version()


@pytest.fixture
def plain(bare_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to a plain installation in a schema of its own."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        install(conn, schema=ODD)
        yield conn


def by_hand(conn: psycopg.Connection) -> None:
    name = sql.Identifier(ODD)
    create = sql.SQL("create extension eram schema {} version 'unpackaged'")
    conn.execute(create.format(name))
    conn.execute("alter extension eram update")


def command(conn: psycopg.Connection) -> int:
    parameters = conn.info.get_parameters() | {"password": conn.info.password}
    return upgrade.main(["--dsn", psycopg.conninfo.make_conninfo(**parameters), "--adopt"])


def by_command(conn: psycopg.Connection) -> None:
    assert command(conn) == 0


@pytest.mark.parametrize("way", [by_hand, by_command])
def test_adopted_install_is_like_a_fresh_extension(create_bare_database, plain, bare_dsn, way):
    fresh = create_bare_database()
    by_extension(fresh, ODD)
    with used(in_schema(bare_dsn, ODD)) as jobs:
        before = contents(in_schema(bare_dsn, ODD))
        way(plain)
        assert contents(in_schema(bare_dsn, ODD)) == before
    with psycopg.connect(fresh) as conn:
        assert differences(described(plain, ODD), described(conn, ODD)) == []
    check_copy(in_schema(bare_dsn, ODD), jobs)
    plain.execute("drop extension eram")
    leftovers = "select count(*) from pg_class where relname ~ 'eram_'"
    assert value(plain, leftovers) == 0


def test_owner_who_is_no_superuser_adopts_and_a_copy_has_all(
    create_bare_database, bare_dsn, bin_dir, tmp_path
):
    """Rights granted before are in the copy too: pg_dump leaves out what a member begins with."""
    target = create_bare_database()
    role = f"{psycopg.conninfo.conninfo_to_dict(bare_dsn)['dbname']}_clerk"
    with owner_of(bare_dsn) as dsn:
        with psycopg.connect(bare_dsn, autocommit=True) as admin:
            admin.execute(f"create role {role}")
        try:
            with psycopg.connect(dsn, autocommit=True) as conn:
                install(conn, schema=ODD)
                conn.execute(sql.SQL("set search_path to {}").format(sql.Identifier(ODD)))
                conn.execute(f"select eram_grant('{role}', 'enqueue')")
                conn.execute(f"select eram_grant('{role}', 'read')")
                conn.execute(
                    sql.SQL("grant usage on schema {} to {}").format(
                        sql.Identifier(ODD), sql.Identifier(role)
                    )
                )
                rights = rights_of(conn, role)
                assert len(rights) > 10
                by_command(conn)
                assert rights_of(conn, role) == rights
            by_text(bin_dir, tmp_path, dsn, target, "--no-owner")
            with psycopg.connect(in_schema(target, ODD), autocommit=True) as restored:
                assert rights_of(restored, role) == rights
                restored.execute(f"set role {role}")
                assert enqueue(restored, "app:work") == 1
        finally:
            for where in (bare_dsn, target):
                with psycopg.connect(where, autocommit=True) as admin:
                    admin.execute(f"drop owned by {role}")
            with psycopg.connect(bare_dsn, autocommit=True) as admin:
                admin.execute(f"drop role {role}")


def rights_of(conn: psycopg.Connection, role: str) -> list[tuple[str, str]]:
    query = """
        select class.relname, rights.privilege_type
        from pg_class as class
        cross join aclexplode(class.relacl) as rights
        where rights.grantee = %(role)s::regrole
        union all
        select
            functions.proname || pg_get_function_identity_arguments(functions.oid),
            rights.privilege_type
        from pg_proc as functions
        cross join aclexplode(functions.proacl) as rights
        where rights.grantee = %(role)s::regrole
        order by 1, 2
    """
    return conn.execute(query, {"role": role}).fetchall()


def test_by_hand_rights_of_others_are_refused(plain):
    role = f"{plain.info.dbname}_clerk"
    plain.execute(f"create role {role}")
    try:
        plain.execute(sql.SQL("set search_path to {}").format(sql.Identifier(ODD)))
        plain.execute(f"select eram_grant('{role}', 'enqueue')")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=role) as error:
            by_hand(plain)
        assert "Take them away first" in str(error.value.diag.message_hint)
        plain.execute("drop extension eram")
        assert value(plain, "select eram_version()") == VERSION
        plain.execute(f"select eram_revoke('{role}', 'enqueue')")
        by_hand(plain)
        plain.execute(f"select eram_grant('{role}', 'enqueue')")
    finally:
        plain.execute(f"drop owned by {role}")
        plain.execute(f"drop role {role}")


@pytest.mark.parametrize(
    ("given", "taken", "what"),
    [
        (
            "grant select (job_id, queue) on eram_job_specs to {role}",
            "revoke select (job_id, queue) on eram_job_specs from {role}",
            "column eram_job_specs.job_id",
        ),
        (
            "grant usage on type eram_claimed_job to {role}",
            "revoke usage on type eram_claimed_job from {role}",
            "type eram_claimed_job",
        ),
    ],
)
def test_rights_to_columns_and_types_are_refused(plain, capsys, given, taken, what):
    """A dump of the extension would leave them out."""
    role = f"{plain.info.dbname}_clerk"
    plain.execute(f"create role {role}")
    try:
        plain.execute(sql.SQL("set search_path to {}").format(sql.Identifier(ODD)))
        plain.execute(given.format(role=role))
        earlier = described(plain, ODD)
        assert command(plain) == 1
        said = capsys.readouterr().err
        assert said == (
            f"eram was not upgraded: role {role} has rights to {what}; take them away first, and"
            " grant them again afterwards\n"
        )
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=role) as error:
            by_hand(plain)
        assert "Take them away first" in str(error.value.diag.message_hint)
        plain.execute("drop extension eram")
        assert differences(described(plain, ODD), earlier) == []
        plain.execute(taken.format(role=role))
        by_command(plain)
    finally:
        plain.execute(f"drop owned by {role}")
        plain.execute(f"drop role {role}")


def test_what_others_have_put_there_is_not_adopted(plain, capsys):
    """Nor what has another name; the extension would take it along when it goes."""
    role = f"{plain.info.dbname}_guest"
    plain.execute(f"create role {role}")
    try:
        plain.execute(sql.SQL("set search_path to {}").format(sql.Identifier(ODD)))
        name = sql.Identifier(ODD).as_string()
        plain.execute(f"grant create, usage on schema {name} to {role}")
        plain.execute(f"set role {role}")
        plain.execute("create function eram_guest() returns int language sql as 'select 1'")
        plain.execute("create table eram_guests ()")
        plain.execute("reset role")
        plain.execute("create table orders (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="would be taken for"):
            by_hand(plain)
        assert command(plain) == 1
        assert (
            "this is not eram's: function eram_guest(); table eram_guests; move it to another"
            " schema first" in capsys.readouterr().err
        )
        plain.execute("alter function eram_guest() set schema public")
        plain.execute("alter table eram_guests set schema public")
        by_hand(plain)
        plain.execute("drop extension eram")
        left = "select array_agg(relname::text order by relname) from pg_class where relname ~ %s"
        assert value(plain, left, "^(eram_|orders)") == ["eram_guests", "orders"]
        assert value(plain, "select public.eram_guest()") == 1
    finally:
        plain.execute(f"drop owned by {role}")
        plain.execute(f"drop role {role}")


@pytest.mark.parametrize(
    ("before", "where", "said"),
    [
        ("create schema other", "other", 'eram is not in schema "other"'),
        (
            (
                "create or replace function {schema}.eram_version() returns text immutable"
                " language sql as $$ select '0.0.9' $$"
            ),
            ODD,
            f"eram is at version 0.0.9 here, not {VERSION}",
        ),
    ],
)
def test_what_cannot_be_adopted_is_refused_and_untouched(plain, before, where, said):
    plain.execute(sql.SQL(before).format(schema=sql.Identifier(ODD)))
    earlier = described(plain, ODD)
    create = "create extension eram schema {} version 'unpackaged'"
    with pytest.raises(psycopg.Error, match=said), plain.transaction():
        plain.execute(sql.SQL(create).format(sql.Identifier(where)))
        plain.execute("alter extension eram update")
    assert differences(described(plain, ODD), earlier) == []


def test_superuser_is_told_to_act_as_the_owner(bare_dsn):
    with owner_of(bare_dsn) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            install(conn, schema=ODD)
            owner = conn.info.user
        with psycopg.connect(bare_dsn, autocommit=True) as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=owner) as error:
                by_hand(conn)
            assert f"SET ROLE {owner}" in str(error.value.diag.message_hint)
            conn.execute(f"set role {owner}")
            by_hand(conn)


def test_extension_is_left_as_it_is(dsn, capsys):
    assert upgrade.main(["--dsn", dsn, "--adopt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_extension"]


def test_each_release_can_be_adopted():
    """The script is renamed with each version, and its text says which one it is for."""
    upgrades = extension._sql_directory() / "upgrades"
    (script,) = upgrades.glob("eram--unpackaged--*.sql")
    assert script.name == f"eram--unpackaged--{VERSION}.sql"
    assert f"c_version constant text := '{VERSION}';" in script.read_text(encoding="utf-8")


def test_server_gets_the_script_that_it_begins_with(tmp_path):
    extension.write_to(tmp_path)
    assert (tmp_path / "eram--unpackaged.sql").exists()


def test_adoption_looks_for_what_others_have_planted_first():
    sources = extension._sql_directory()
    traps = (sources / "schema" / "traps.sql").read_text(encoding="utf-8")
    assert traps in (sources / "upgrades" / "eram--unpackaged.sql").read_text(encoding="utf-8")
