"""What the tests of roles share: an eram that an ordinary role owns, and what to try there."""

from __future__ import annotations

import contextlib
import secrets

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

# All that is public, with a call of it that passes nulls.
FUNCTIONS = """
    select
        functions.proname as name,
        format(
            case functions.prokind when 'p' then 'call %%s(%%s)' else 'select * from %%s(%%s)' end,
            format('%%I.%%I', _eram_schema(), functions.proname),
            (
                select string_agg(
                    case functions.prokind when 'p' then '''0''' else 'null' end
                        || '::' || arguments.type::regtype, ', ' order by arguments.number)
                from unnest(functions.proargtypes::oid[]) with ordinality
                    as arguments (type, number)
            )) as call,
        functions.oid::bigint as id
    from pg_proc as functions
    where
        functions.pronamespace = quote_ident(_eram_schema())::regnamespace
        and functions.proname ~ '^eram_'
"""
RELATIONS = """
    select relations.relname as name, format('%%I.%%I', _eram_schema(), relations.relname) as call
    from pg_class as relations
    where
        relations.relnamespace = quote_ident(_eram_schema())::regnamespace
        and relations.relkind in ('r', 'v', 'S')
"""
# Everything of eram's that a role has a right to, other than as PUBLIC.
RIGHTS = """
    select functions.oid::regprocedure || ' ' || items.privilege_type
    from pg_proc as functions
    cross join lateral aclexplode(functions.proacl) as items
    where items.grantee = to_regrole(%(role)s)
    union all
    select relations.oid::regclass || ' ' || items.privilege_type
    from pg_class as relations
    cross join lateral aclexplode(relations.relacl) as items
    where items.grantee = to_regrole(%(role)s)
    union all
    select schemas.nspname || ' ' || items.privilege_type
    from pg_namespace as schemas
    cross join lateral aclexplode(schemas.nspacl) as items
    where items.grantee = to_regrole(%(role)s)
"""


class Place:
    """An eram that belongs to an ordinary role, and the means to make further roles."""

    def __init__(self, admin_dsn: str, schema: str) -> None:
        self.schema = schema
        self._open = contextlib.ExitStack()
        self._roles: list[sql.Identifier] = []
        self._dsn = admin_dsn
        self.admin = self._connect(admin_dsn)
        self.owner_role = self._make_role("owner")
        self.member_role = self._make_role("member")
        names = {
            "owner": sql.Identifier(self.owner_role),
            "member": sql.Identifier(self.member_role),
            "database": sql.Identifier(self.admin.info.dbname),
            "schema": sql.Identifier(schema),
        }
        self.admin.execute(sql.SQL("grant {owner} to {member}").format(**names))
        self.admin.execute(sql.SQL("alter database {database} owner to {owner}").format(**names))
        if schema != "public":
            make = "create schema {schema} authorization {owner}"
            self.admin.execute(sql.SQL(make).format(**names))
            path = "alter database {database} set search_path to {schema}"
            self.admin.execute(sql.SQL(path).format(**names))
        self.owner = self.connect(self.owner_role)

    def _connect(self, dsn: str) -> psycopg.Connection:
        return self._open.enter_context(contextlib.closing(psycopg.connect(dsn, autocommit=True)))

    def connect(self, role: str | None = None) -> psycopg.Connection:
        """Connect as a role, or as a superuser."""
        return self._connect(self.dsn(role) if role else self._dsn)

    def dsn(self, role: str) -> str:
        return make_conninfo(self._dsn, user=role, password="secret")

    def _make_role(self, kind: str) -> str:
        name = f'{kind} "{secrets.token_hex(4)}"'
        self._roles.append(sql.Identifier(name))
        make = sql.SQL("create role {} login password 'secret'")
        self.admin.execute(make.format(self._roles[-1]))
        return name

    def make_role(self, *whats: str) -> str:
        """Make a role, with a name that needs quotes, and grant it something."""
        name = self._make_role("role")
        for what in whats:
            self.grant(name, what)
        return name

    def grant(self, role: str, what: str) -> None:
        self.owner.execute("select eram_grant(%s, %s)", [role, what])

    def revoke(self, role: str, what: str) -> None:
        self.owner.execute("select eram_revoke(%s, %s)", [role, what])

    def rights(self, role: str) -> set[str]:
        """Return what a role was granted in the whole database, eram's or not."""
        quoted = sql.Identifier(role).as_string(self.owner)
        return {row[0] for row in self.owner.execute(RIGHTS, {"role": quoted})}

    def close(self) -> None:
        for role in self._roles:
            self.admin.execute(sql.SQL("reassign owned by {} to current_user").format(role))
            self.admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))
        self._open.close()
