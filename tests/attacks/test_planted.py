"""What others have put into the schema before eram is installed into it."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors, sql

from eram.install import install
from sql.helpers import value
from sql.role_helpers import Place

# Each fits better than the server's own where the install script works with the schema's name.
PLANTS = {
    "a function": (
        "create function public.quote_ident(name) returns text language plpgsql as $$ begin"
        " perform nextval('public.hits'); return pg_catalog.quote_ident($1::text); end $$"
    ),
    "an operator": (
        "create function public.cat(text, name) returns text language plpgsql as $$ begin"
        " perform nextval('public.hits'); return $1::text; end $$;"
        " create operator public.|| (function = public.cat, leftarg = text, rightarg = name)"
    ),
    # And what fits better than eram's own, or has its name.
    "an overload of an internal function": (
        "create function public._eram_held_keys(held text) returns bigint[] language plpgsql as $$"
        " begin perform nextval('public.hits'); return '{}'; end $$"
    ),
    "a view in the place of a sequence": (
        "create function public.hit() returns bigint language sql as"
        " $$ select nextval('public.hits') $$;"
        " create view public.eram_job_specs_job_id_seq as"
        " select public.hit() as last_value, true as is_called"
    ),
    "a sequence": "create sequence public.eram_job_specs_job_id_seq",
    "a type": "create domain public.eram_claimed_job as text",
}
WAYS: dict[str, Callable[[psycopg.Connection], object]] = {
    "extension": lambda conn: conn.execute("create extension eram"),
    "script": install,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_is_installed_over_a_trap(bare_dsn, plant, way):
    """Not by a superuser either, who has most to lose: the trap must not run even once."""
    place = Place(bare_dsn, "public")
    try:
        place.admin.execute("grant create on schema public to public")
        mallory = place.connect(place.make_role())
        mallory.execute("create sequence public.hits; grant all on public.hits to public")
        mallory.execute(PLANTS[plant])
        for installer in (place.admin, place.owner):
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                WAYS[way](installer)
            assert "schema of its own" in (caught.value.diag.message_hint or "")
        # A sequence remembers what a rollback undoes.
        assert not value(place.admin, "select is_called from public.hits")
        tables = "select count(*) from pg_class where relname ~ '^eram_' and relkind = 'r'"
        assert value(place.admin, tables) == 0
        # A schema of its own, as the hint says, is out of reach.
        place.owner.execute("create schema jobs; set search_path = jobs")
        WAYS[way](place.owner)
        assert not value(place.admin, "select is_called from public.hits")
    finally:
        place.close()


def test_what_is_trusted_may_be_there(bare_dsn):
    """Overloads of the installer's own, and of superusers, such as other extensions bring."""
    place = Place(bare_dsn, "public")
    try:
        schema = "grant create on schema public to {}"
        place.admin.execute(sql.SQL(schema).format(sql.Identifier(place.owner_role)))
        make = "create function public.{}(point) returns int language sql as 'select 1'"
        place.admin.execute(sql.SQL(make).format(sql.Identifier("lower")))
        place.owner.execute(sql.SQL(make).format(sql.Identifier("upper")))
        place.owner.execute("create extension eram")
        assert value(place.owner, "select count(*) from eram_check()") == 0
    finally:
        place.close()


@pytest.mark.parametrize("way", WAYS)
def test_default_privileges_of_the_installer_give_nobody_anything(bare_dsn, way):
    place = Place(bare_dsn, "public")
    try:
        role = sql.Identifier(place.make_role())
        for privileges in ("execute on functions", "all on tables", "all on sequences"):
            grant = f"alter default privileges grant {privileges} to {{}}"
            place.admin.execute(sql.SQL(grant).format(role))
        WAYS[way](place.admin)
        for catalog, acl, owner, name in (
            ("pg_proc", "proacl", "proowner", "proname"),
            ("pg_class", "relacl", "relowner", "relname"),
        ):
            others = f"""
                select count(*)
                from {catalog} as objects
                cross join aclexplode(objects.{acl}) as rights
                where objects.{name} ~ '^_?eram_' and rights.grantee <> objects.{owner}
            """
            assert value(place.admin, others) == 0
    finally:
        place.admin.execute(sql.SQL("drop owned by {}").format(role))
        place.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_schema_that_belongs_to_another_is_warned_of(bare_dsn, way):
    place = Place(bare_dsn, "public")
    try:
        role = place.make_role()
        make = sql.SQL("create schema theirs authorization {}").format(sql.Identifier(role))
        place.admin.execute(make)
        said: list[str] = []
        place.admin.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        place.admin.execute("set search_path = theirs")
        WAYS[way](place.admin)
        assert [each for each in said if "may create objects" in each and role in each]
    finally:
        place.close()
