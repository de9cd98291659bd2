"""What stands in the way of making an extension of a plain installation."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eram._server import objects

# Of what belongs to eram, the rights of others than its owner, as (begin and end of a statement).
FOREIGN_RIGHTS = """
with objects as (
    select
        case class.relkind when 'S' then 'sequence' else 'table' end as kind,
        class.oid::regclass::text as name,
        class.relowner as owner,
        class.relacl as acl
    from pg_class as class
    where
        class.relnamespace = quote_ident(current_schema())::regnamespace
        and class.relname ~ '^eram_'
        and class.relkind in ('r', 'v', 'S')
    union all
    select
        'routine',
        functions.oid::regprocedure::text,
        functions.proowner,
        functions.proacl
    from pg_proc as functions
    where
        functions.pronamespace = quote_ident(current_schema())::regnamespace
        and functions.proname ~ '^_?eram_'
)
select
    pg_catalog.format('%s on %s %s', rights.privilege_type, objects.kind, objects.name),
    coalesce(quote_ident(roles.rolname), 'public')
        || case when rights.is_grantable then ' with grant option' else '' end,
    coalesce(quote_ident(roles.rolname), 'public')
from objects
cross join aclexplode(objects.acl) as rights
left join pg_roles as roles
    on roles.oid = rights.grantee
where rights.grantee <> objects.owner
"""
# Rights to a column or a type, which would be lost in the same way.
_FINE_RIGHTS = """
select
    coalesce(quote_ident(roles.rolname), 'public'),
    rights.name
from (
    select
        acl.grantee,
        class.relowner as owner,
        concat('column ', class.relname, '.', columns.attname) as name
    from pg_class as class
    join pg_attribute as columns
        on columns.attrelid = class.oid
    cross join aclexplode(columns.attacl) as acl
    where
        class.relnamespace = quote_ident(current_schema())::regnamespace
        and class.relname ~ '^eram_'
    union all
    select
        acl.grantee,
        types.typowner,
        concat('type ', types.typname)
    from pg_type as types
    cross join aclexplode(types.typacl) as acl
    where
        types.typnamespace = quote_ident(current_schema())::regnamespace
        and types.typname ~ '^eram_'
        and acl.grantee <> 0
) as rights
left join pg_roles as roles
    on roles.oid = rights.grantee
where rights.grantee <> rights.owner
order by 1, 2
limit 1
"""
_EXTENSION_SCHEMA = """
select schemas.nspname
from pg_extension as extension
join pg_namespace as schemas
    on schemas.oid = extension.extnamespace
where extension.extname = 'eram'
"""


def obstacle(conn: psycopg.Connection[Any], schema: str) -> str | None:
    """Say why the install in the current schema cannot be adopted; None if it can."""
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        if other := cursor.execute(_EXTENSION_SCHEMA).fetchone():
            return f'the extension is in schema "{other[0]}" already, and a database has one'
        if foreign := objects.foreign(conn, schema):
            return (
                f'in schema "{schema}" this is not eram\'s: {foreign};'
                " move it to another schema first"
            )
        if right := cursor.execute(_FINE_RIGHTS).fetchone():
            role, name = right
            return (
                f"role {role} has rights to {name}; take them away first, and grant them again"
                " afterwards"
            )
    return None
