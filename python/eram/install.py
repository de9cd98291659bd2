"""`python -m eram install`: install eram where the server's files are out of reach.

The objects are those of `CREATE EXTENSION eram`, made by plain SQL in one transaction.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import psycopg
from psycopg import sql

from eram import _extension

# Wherever it is: two sets of functions in one search_path would be a riddle.
_FIND = """
select
    extension.oid is not null,
    procedure.pronamespace::regnamespace::text
from pg_proc as procedure
left join pg_depend as member
    on member.classid = 'pg_proc'::regclass
    and member.objid = procedure.oid
    and member.deptype = 'e'
left join pg_extension as extension
    on extension.oid = member.refobjid
where
    procedure.proname = 'eram_version'
    and procedure.pronargs = 0
"""

_SCHEMA_EXISTS = "select from pg_namespace where nspname = %s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m eram.install", description=__doc__)
    parser.add_argument("--dsn", help="the database; else DATABASE_URL, else the PG* variables")
    parser.add_argument("--schema", help="where to; made if it is missing (default: the current)")
    parser.add_argument("--print", action="store_true", help="print the script, for psql -f")
    chosen = parser.parse_args(argv)

    if chosen.print:
        sys.stdout.write(_extension.plain_script())
        return 0
    dsn = chosen.dsn or os.environ.get("DATABASE_URL", "")
    try:
        with psycopg.connect(dsn) as conn:
            conn.add_notice_handler(_show_notice)
            schema = install(conn, schema=chosen.schema)
    except psycopg.Error as exc:
        print(f"eram was not installed: {_describe(exc)}", file=sys.stderr)
        return 1
    print(f'eram {_extension.version()} is installed in schema "{schema}"')
    return 0


def install(conn: psycopg.Connection, *, schema: str | None = None) -> str:
    """Install eram in the connection's transaction, and return the schema where it is.

    Args:
        conn: A connection as the user that shall own eram. Its search_path is changed for the
            rest of the transaction.
        schema: Where to; it is made if it is missing. The current schema if not given.

    Raises:
        psycopg.errors.DuplicateObject: eram is there already, by whichever way.
        psycopg.errors.InvalidSchemaName: No schema was given, and none is current.
    """
    with conn.transaction():
        found = conn.execute(_FIND).fetchone()
        if found is not None:
            is_extension, where = found
            way = "by CREATE EXTENSION" if is_extension else "by its plain script"
            raise psycopg.errors.DuplicateObject(
                f"eram is already in this database: in schema {where}, {way}"
            )
        if schema is not None:
            name = sql.Identifier(schema)
            # Asked first, because "if not exists" wants the right to create one in any case.
            if conn.execute(_SCHEMA_EXISTS, [schema]).fetchone() is None:
                conn.execute(sql.SQL("create schema {}").format(name))
            conn.execute(sql.SQL("set local search_path to {}").format(name))
        conn.execute(_extension.plain_body().encode())
        row = conn.execute("select current_schema()").fetchone()
    return str(row[0]) if row else ""


def _describe(exc: psycopg.Error) -> str:
    lines = [exc.diag.message_primary or str(exc).strip()]
    if exc.diag.message_detail:
        lines.append(f"detail: {exc.diag.message_detail}")
    if exc.diag.message_hint:
        lines.append(f"hint: {exc.diag.message_hint}")
    return "\n".join(lines)


def _show_notice(notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized not in {"NOTICE", "INFO", "LOG", "DEBUG"}:
        print(f"warning: {notice.message_primary}", file=sys.stderr)
        if notice.message_hint:
            print(f"hint: {notice.message_hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
