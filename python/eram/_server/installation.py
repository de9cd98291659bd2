"""What of eram a database has: where, by which way it came there, and which version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram.errors import ConfigError

# Wherever it is, that which an unqualified call reaches first.
_FIND = """
select
    namespaces.nspname,
    extension.extversion,
    pg_function_is_visible(procedure.oid)
from pg_proc as procedure
join pg_namespace as namespaces
    on namespaces.oid = procedure.pronamespace
left join pg_depend as member
    on member.classid = 'pg_proc'::regclass
    and member.objid = procedure.oid
    and member.deptype = 'e'
left join pg_extension as extension
    on extension.oid = member.refobjid
where
    procedure.proname = 'eram_version'
    and procedure.pronargs = 0
order by 3 desc, 1
limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where eram is in a database.

    Args:
        schema: where its objects are.
        extension_version: which version `CREATE EXTENSION` notes; None after a plain install.
        is_visible: whether the search_path leads there.
    """

    schema: str
    extension_version: str | None
    is_visible: bool

    @property
    def way(self) -> str:
        """By which way it was installed, in words."""
        return "by its plain script" if self.extension_version is None else "by CREATE EXTENSION"

    def version(self, conn: psycopg.Connection[Any]) -> str:
        """Ask which version the objects are of."""
        query = sql.SQL("select {}.eram_version()").format(sql.Identifier(self.schema))
        with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
            row = cursor.execute(query).fetchone()
        return str(row[0]) if row else ""


def find(conn: psycopg.Connection[Any]) -> Installation | None:
    """Look for eram in all schemas of the connection's database."""
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        row = cursor.execute(_FIND).fetchone()
    if row is None:
        return None
    schema, extension_version, is_visible = row
    return Installation(schema=schema, extension_version=extension_version, is_visible=is_visible)


def demand(conn: psycopg.Connection[Any], *, visible: bool = True) -> Installation:
    """Look for eram where it must be.

    Args:
        conn: a connection to the database.
        visible: whether the search_path must lead there.

    Raises:
        ConfigError: it is not there; the message says what to do.
    """
    found = find(conn)
    if found is None:
        raise ConfigError(
            f'eram is not installed in the database "{conn.info.dbname}";'
            " CREATE EXTENSION eram or python -m eram install does that"
        )
    if visible and not found.is_visible:
        raise ConfigError(
            f'eram is in schema "{found.schema}", which is not in the search_path;'
            f" add it for the role, or in the DSN: options=-csearch_path={found.schema}"
        )
    return found
