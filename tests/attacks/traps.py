"""Traps for whoever calls eram: overloads, operators, types, temporary objects of its names."""

from __future__ import annotations

import psycopg
from psycopg import sql

from sql.helpers import TABLES
from sql.role_helpers import Place

from .places import ODD

# Types whose functions and operators eram uses.
TYPES = (
    *("text", "integer", "bigint", "boolean", "jsonb", "interval", "timestamptz", "numeric"),
    *("text[]", "bigint[]", "integer[]", "jsonb[]", "name", "oid", "xid8", "regclass", "smallint"),
)
# Twins of whatever the sources name that the server has too. A sequence remembers a call, whatever
# becomes of its transaction; the error is for those that would go on.
PLANT = """
do $$
declare
    v_body text :=
        'begin perform pg_catalog.nextval(''evil.hits''); raise exception ''hijacked''; end';
    v_make text := 'create function evil.%s returns text language plpgsql as %L';
    v_twin record;
begin
    for v_twin in
        select distinct
            functions.proname as name,
            pg_get_function_identity_arguments(functions.oid) as arguments,
            format_type(functions.prorettype, null) as result
        from pg_proc as functions
        where
            functions.pronamespace = 'pg_catalog'::regnamespace
            and functions.prokind = 'f'
            and functions.proname = any (array(
                select words[1]
                from pg_proc as sources
                cross join regexp_matches(sources.prosrc, '([a-z_0-9]+)[(]', 'g') as words
                where
                    sources.pronamespace
                    = quote_ident(current_setting('attack.home'))::regnamespace
            ))
            and not exists (
                select
                from unnest(functions.proargtypes::oid[] || functions.prorettype) as used (type)
                join pg_type as types on types.oid = used.type
                where
                    types.typtype = 'p'
                    and types.typname not in ('anyelement', 'anyarray', 'void')
            )
            and functions.provariadic = 0
    loop
        begin
            execute format(
                'create function evil.%I(%s) returns %s language plpgsql as %L',
                v_twin.name, v_twin.arguments, v_twin.result, v_body);
        exception
            when duplicate_function or invalid_function_definition or ambiguous_function then null;
        end;
    end loop;
    for v_twin in
        select
            operators.oprname as name,
            format_type(operators.oprleft, null) as left_type,
            format_type(operators.oprright, null) as right_type,
            format_type(operators.oprresult, null) as result
        from pg_operator as operators
        where
            operators.oprnamespace = 'pg_catalog'::regnamespace
            and operators.oprleft = any (current_setting('attack.types')::regtype[])
            and operators.oprright = any (current_setting('attack.types')::regtype[])
    loop
        execute format(
            'create or replace function evil.trap_%s(%s, %s) returns %s language plpgsql as %L',
            md5(v_twin.result), v_twin.left_type, v_twin.right_type, v_twin.result, v_body);
        execute format(
            'create operator evil.%s (function = evil.trap_%s, leftarg = %s, rightarg = %s)',
            v_twin.name, md5(v_twin.result), v_twin.left_type, v_twin.right_type);
    end loop;
    -- What only fits better: nothing of the server's has these types.
    execute format(v_make, 'lower(varchar)', v_body);
    execute format(v_make, 'btrim(varchar)', v_body);
    execute format(v_make, 'quote_ident(name)', v_body);
    execute format(v_make, 'cat(text, name)', v_body);
    create operator evil.|| (function = evil.cat, leftarg = text, rightarg = name);
end
$$;
"""


def plant(place: Place) -> None:
    """Have a role that may create a schema fill it with traps."""
    attacker = place.connect(place.make_role())
    names = {
        "attacker": sql.Identifier(attacker.info.user),
        "database": sql.Identifier(attacker.info.dbname),
    }
    grant = "grant create on database {database} to {attacker}"
    place.admin.execute(sql.SQL(grant).format(**names))
    attacker.execute("set search_path = pg_catalog; create schema evil; create sequence evil.hits")
    attacker.execute("grant usage on schema evil to public; grant all on evil.hits to public")
    attacker.execute("select set_config('attack.home', %s, false)", [place.schema])
    attacker.execute("select set_config('attack.types', %s, false)", [list(TYPES)])
    attacker.execute(PLANT)
    for domain in ("text", "jsonb", "int8", "eram_claimed_job"):
        attacker.execute(f"create domain evil.{domain} as pg_catalog.bool")
    for table in (*TABLES, "pg_class", "pg_proc", "pg_locks"):
        attacker.execute(f"create table evil.{table} (id pg_catalog.int4)")
    copy_functions(place, attacker)


def copy_functions(place: Place, attacker: psycopg.Connection) -> None:
    """Give the attacker functions of eram's own names, the internal ones included."""
    found = place.owner.execute(
        "select proname, oidvectortypes(proargtypes) from pg_proc"
        " where pronamespace = quote_ident(_eram_schema())::regnamespace and prokind = 'f'"
        " and not oidvectortypes(proargtypes) ~ 'eram_'"
    ).fetchall()
    for name, arguments in found:
        attacker.execute(
            f"create function evil.{name}({arguments}) returns pg_catalog.text language plpgsql as"
            " 'begin perform pg_catalog.nextval(''evil.hits''); raise exception ''hijacked''; end'"
        )


def in_the_path(conn: psycopg.Connection) -> None:
    """Look into the attacker's schema before anything else."""
    conn.execute(f'set search_path = evil, pg_catalog, "{ODD.replace(chr(34), chr(34) * 2)}"')


def with_shadows(conn: psycopg.Connection) -> None:
    """Make temporary objects of all the names: these are found first by who does not say."""
    for table in TABLES:
        conn.execute(f"create temp table {table} (job_id text, name text, id text, queue text)")
    for view in ("eram_jobs", "eram_latest_jobs", "eram_queue_stats", "pg_class", "pg_locks"):
        conn.execute(f"create temp view {view} as select 'fake'::text as id, 1/0 as state")
    for domain in ("text", "jsonb", "int8", "eram_claimed_job", "interval"):
        conn.execute(f"create domain pg_temp.{domain} as bool")
    for function in ("lower(text)", "now()", "_eram_check_queue(text)", "eram_version()"):
        conn.execute(
            f"create function pg_temp.{function} returns pg_catalog.text language plpgsql as"
            " 'begin perform pg_catalog.nextval(''evil.hits''); return null; end'"
        )


def is_hit(place: Place) -> bool:
    """Say whether a trap was trodden on, even in a transaction that was rolled back."""
    (found,) = place.admin.execute("select is_called from evil.hits").fetchone()
    return found
