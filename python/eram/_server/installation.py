"""What of eram a database has: where, by which way it came there, and which version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram.errors import ConfigError

# The extension, of which there is one, and plain installs: a table and a function of one owner.
# Anybody who can create a schema can plant such a pair. It counts if its owner may do anyway what
# the caller may: a superuser, or a role that the caller acts for. A superuser is a member of all,
# and is asked for real memberships. Others reach by their search_path what that leads to in any
# case. Nothing here calls what it finds.
_FIND = """
with recursive own_roles as (
    select oid
    from pg_roles
    where rolname = current_user
    union
    select members.roleid
    from pg_auth_members as members
    join own_roles
        on own_roles.oid = members.member
), found as (
    select
        extension.extnamespace as schema,
        extension.extowner as owner,
        extension.extversion as version
    from pg_extension as extension
    where extension.extname = 'eram'
    union all
    select
        specs.relnamespace,
        specs.relowner,
        null
    from pg_class as specs
    join pg_proc as versions
        on versions.pronamespace = specs.relnamespace
        and versions.proowner = specs.relowner
    where
        specs.relname = 'eram_job_specs'
        and specs.relkind = 'r'
        and versions.proname = 'eram_version'
        and versions.pronargs = 0
        and not exists (
            select
            from pg_extension as extension
            where
                extension.extname = 'eram'
                and extension.extnamespace = specs.relnamespace
        )
), seen as (
    select
        found.*,
        exists (
            select
            from pg_proc as versions
            where
                versions.pronamespace = found.schema
                and versions.proname = 'eram_version'
                and versions.pronargs = 0
                and pg_function_is_visible(versions.oid)
        ) as is_visible
    from found
)
select
    schemas.nspname,
    seen.version,
    seen.is_visible,
    owners.rolname,
    pg_has_role(current_user, seen.owner, 'usage'),
    seen.version is not null
        or owners.rolsuper
        or seen.owner in (select oid from own_roles)
        or (
            seen.is_visible
            and not exists (
                select
                from pg_roles as roles
                where
                    roles.rolname in (current_user, session_user)
                    and roles.rolsuper
            )
        )
from seen
join pg_namespace as schemas
    on schemas.oid = seen.schema
join pg_roles as owners
    on owners.oid = seen.owner
order by seen.is_visible desc, seen.version is null, schemas.nspname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where eram is in a database.

    Args:
        schema: where its objects are.
        extension_version: which version `CREATE EXTENSION` notes; None after a plain installation.
        is_visible: whether the search_path leads there.
        owner: to which role it belongs.
        is_ones_own: whether the caller has the rights of that role.
    """

    schema: str
    extension_version: str | None
    is_visible: bool
    owner: str
    is_ones_own: bool

    @property
    def way(self) -> str:
        """By which way it was installed, in words."""
        return "by its plain script" if self.extension_version is None else "by CREATE EXTENSION"

    def demand_ownership(self, to_do: str) -> None:
        """Refuse what only the owner of eram can do.

        Args:
            to_do: what that is, in words.

        Raises:
            psycopg.errors.InsufficientPrivilege: it belongs to another role.
        """
        if not self.is_ones_own:
            raise psycopg.errors.InsufficientPrivilege(
                f'eram belongs to role "{self.owner}", who alone can {to_do} it'
            )

    def version(self, conn: psycopg.Connection[Any]) -> str:
        """Ask which version the objects are of."""
        query = sql.SQL("select {}.eram_version()").format(sql.Identifier(self.schema))
        with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
            row = cursor.execute(query).fetchone()
        return str(row[0]) if row else ""


def find(conn: psycopg.Connection[Any]) -> list[Installation]:
    """Look for eram in all schemas of the connection's database.

    Returns:
        Where it is: that which an unqualified call reaches, or the extension, comes first. What
        others may have planted is not seen.
    """
    return _find(conn)[0]


def demand(conn: psycopg.Connection[Any], *, visible: bool = True) -> Installation:
    """Look for eram where it must be.

    Args:
        conn: a connection to the database.
        visible: whether the search_path must lead there.

    Raises:
        ConfigError: it is not there, or in several places; the message says what to do.
    """
    everywhere, distrusted = _find(conn)
    if not everywhere and distrusted:
        other = distrusted[0]
        raise ConfigError(
            f'what is in schema "{other.schema}" belongs to role "{other.owner}", and is not'
            f" trusted to be eram; if it is, act as that role, in the DSN: options=-crole="
            f"{other.owner}"
        )
    if not everywhere:
        raise ConfigError(
            f'eram is not installed in the database "{conn.info.dbname}";'
            " CREATE EXTENSION eram or python -m eram install does that"
        )
    found = everywhere[0]
    if len(everywhere) > 1 and not found.is_visible:
        names = ", ".join(f'"{each.schema}"' for each in everywhere)
        raise ConfigError(
            f"eram is in several schemas, {names}, and none of them is in the search_path; choose"
            f" one in the DSN: options=-csearch_path={found.schema}"
        )
    if visible and not found.is_visible:
        raise ConfigError(
            f'eram is in schema "{found.schema}", which is not in the search_path;'
            f" add it for the role, or in the DSN: options=-csearch_path={found.schema}"
        )
    return found


def _find(conn: psycopg.Connection[Any]) -> tuple[list[Installation], list[Installation]]:
    """Look for what can be eram: what the caller can trust, and what he cannot."""
    trusted: list[Installation] = []
    distrusted: list[Installation] = []
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        for row in cursor.execute(_FIND):
            schema, extension_version, is_visible, owner, is_ones_own, is_trusted = row
            found = Installation(
                schema=schema,
                extension_version=extension_version,
                is_visible=is_visible,
                owner=owner,
                is_ones_own=is_ones_own,
            )
            (trusted if is_trusted else distrusted).append(found)
    return trusted, distrusted
