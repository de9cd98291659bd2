"""`python -m eram install`: install eram where the server's files are out of reach.

The objects are those of `CREATE EXTENSION eram`, made by plain SQL in one transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import psycopg
from psycopg import sql

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import extension, installation

_SCHEMA_EXISTS = "select from pg_namespace where nspname = %s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "install",
        "Install eram where the server's files are out of reach, such as on a managed server:"
        " the objects of CREATE EXTENSION eram, made by plain SQL in one transaction."
        "\n\n"
        "Whoever runs it owns eram. It is refused where eram is already.",
        examples=(
            "--dsn postgresql:///shop",
            "--dsn postgresql:///shop --schema jobs",
            "--print > eram.plain.sql",
        ),
        exit_codes={
            command_line.FINE: "it is installed",
            command_line.FAILED: "it is not, and nothing was changed",
            command_line.MISUSED: "wrong options",
        },
    )
    parser.add_dsn()
    parser.add_argument("--schema", help="where to; made if it is missing (default: the current)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--print", action="store_true", help="print the script, for psql -f")
    how.add_argument("--json", action="store_true", help="answer with one JSON object")
    chosen = parser.parse_args(argv)

    if chosen.print:
        sys.stdout.write(extension.plain_script())
        return command_line.FINE
    return command_line.run(
        "install",
        lambda: _install(command_line.dsn_of(chosen), chosen.schema, is_json=chosen.json),
    )


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
        # Wherever it is: two sets of functions in one search_path would be a riddle.
        for found in installation.find(conn):
            raise psycopg.errors.DuplicateObject(
                f"eram is already in this database: in schema {found.schema}, {found.way}"
            )
        if schema is not None:
            name = sql.Identifier(schema)
            # Asked first, because "if not exists" wants the right to create one in any case.
            if conn.execute(_SCHEMA_EXISTS, [schema]).fetchone() is None:
                conn.execute(sql.SQL("create schema {}").format(name))
            conn.execute(sql.SQL("set local search_path to {}").format(name))
        conn.execute(extension.plain_body().encode())
        row = conn.execute("select current_schema()").fetchone()
    return str(row[0]) if row else ""


def _install(dsn: str, schema: str | None, *, is_json: bool) -> int:
    check_dsn(dsn)
    try:
        with psycopg.connect(dsn) as conn:
            conn.add_notice_handler(_show_notice)
            where = install(conn, schema=schema)
    except psycopg.Error as error:
        print(f"eram was not installed: {command_line.describe(error)}", file=sys.stderr)
        return command_line.FAILED
    version = extension.version()
    if is_json:
        command_line.answer(version=version, schema=where, is_extension=False)
    else:
        print(f'eram {version} is installed in schema "{where}"')
    return command_line.FINE


def _show_notice(notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized not in {"NOTICE", "INFO", "LOG", "DEBUG"}:
        print(f"warning: {notice.message_primary}", file=sys.stderr)
        if notice.message_hint:
            print(f"hint: {notice.message_hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
