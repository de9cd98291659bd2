"""`python -m eram upgrade`: bring the eram of a database to the version of this package.

What CREATE EXTENSION has made is upgraded by ALTER EXTENSION, with the scripts among the server's
files; a plain installation by the same scripts, which this package carries. With `--adopt` a plain
installation becomes an extension, with all that is in it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import adoption, extension, installation
from eram._server.installation import Installation
from eram.errors import EramError

# The path by which the server can upgrade the extension; none, or null, if its files know no way.
_SERVER_PATH = (
    "select path from pg_extension_update_paths('eram') where source = %s and target = %s"
)
# Of two who upgrade at once the second one waits, and finds it done. The key is arbitrary.
_LOCK = "select pg_advisory_xact_lock(7104879, 1)"


class UpgradeError(EramError):
    """There is no way from the version of the database to that of this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What became of an upgrade: from which version, to which, and where."""

    previous_version: str
    version: str
    schema: str
    is_extension: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "upgrade",
        "Bring the eram of a database to the version of this package, in one transaction."
        "\n\n"
        "What CREATE EXTENSION has made is upgraded by ALTER EXTENSION: the server must have the"
        " files of the new version (make install). A plain installation is upgraded by the scripts"
        " in this package. Run it as the owner of eram."
        "\n\n"
        "With --adopt, a plain installation becomes the extension, with all that is in it: for a"
        " server that has the files now.",
        examples=("--dsn postgresql:///shop", "--json", "--adopt"),
        exit_codes={
            command_line.FINE: "the database has the version of this package, now or already",
            command_line.FAILED: "it has not, and nothing was changed",
            command_line.MISUSED: "wrong options, or a database without eram",
        },
    )
    parser.add_dsn()
    parser.add_argument(
        "--adopt", action="store_true", help="make a plain installation the extension afterwards"
    )
    parser.add_json()
    chosen = parser.parse_args(argv)
    return command_line.run(
        "upgrade",
        lambda: _upgrade(command_line.dsn_of(chosen), is_adopted=chosen.adopt, is_json=chosen.json),
    )


def upgrade(conn: psycopg.Connection[Any]) -> Upgrade:
    """Upgrade eram in the connection's transaction.

    Args:
        conn: A connection as the owner of eram. Its search_path is changed for the rest of the
            transaction.

    Raises:
        ConfigError: The database has no eram, or several that are all out of sight.
        UpgradeError: No scripts lead to the version of this package.
        psycopg.errors.InsufficientPrivilege: eram belongs to another role.
    """
    with conn.transaction(), psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(_LOCK)
        found = installation.demand(conn, visible=False)
        is_extension = found.extension_version is not None
        previous = found.extension_version or found.version(conn)
        target = extension.version()
        if previous != target:
            found.demand_ownership("upgrade")
            if is_extension:
                _upgrade_extension(cursor, previous, target)
            else:
                _upgrade_plain(cursor, found, previous, target)
            reached = found.version(conn)
            if reached != target:
                raise UpgradeError(
                    f"the scripts from {previous} to {target} lead to {reached} in fact,"
                    " and nothing was changed"
                )
    return Upgrade(
        previous_version=previous,
        version=target,
        schema=found.schema,
        is_extension=is_extension,
    )


def adopt(conn: psycopg.Connection[Any]) -> Upgrade:
    """Upgrade eram in the connection's transaction, and make an extension of it if it is none.

    Args:
        conn: A connection as the owner of eram. Its search_path is changed for the rest of the
            transaction.

    Raises:
        ConfigError: The database has no eram.
        UpgradeError: No scripts lead to the version of this package, or something is in the way:
            rights to columns or types, or objects that eram has not made, but are named like its.
        psycopg.errors.InsufficientPrivilege: eram belongs to another role.
        psycopg.Error: The server lacks the extension's files, say.
    """
    with conn.transaction(), psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        done = upgrade(conn)
        if done.is_extension:
            return done
        installation.demand(conn, visible=False).demand_ownership("make an extension of")
        name = sql.Identifier(done.schema)
        cursor.execute(sql.SQL("set local search_path to {}, pg_temp").format(name))
        if obstacle := adoption.obstacle(conn, done.schema):
            raise UpgradeError(obstacle)
        # What others may do when an object becomes a member, pg_dump takes for what the extension
        # gives by itself, and leaves out: so they may nothing at that moment.
        rights = cursor.execute(adoption.FOREIGN_RIGHTS).fetchall()
        for right, _, role in rights:
            cursor.execute(f"revoke {right} from {role} cascade".encode())
        create = "create extension eram schema {} version 'unpackaged'"
        cursor.execute(sql.SQL(create).format(name))
        target = sql.Literal(done.version)
        cursor.execute(sql.SQL("alter extension eram update to {}").format(target))
        for right, role, _ in rights:
            cursor.execute(f"grant {right} to {role}".encode())
    return replace(done, is_extension=True)


def _upgrade(dsn: str, *, is_adopted: bool, is_json: bool) -> int:
    check_dsn(dsn)
    try:
        with psycopg.connect(dsn) as conn:
            done = adopt(conn) if is_adopted else upgrade(conn)
    except UpgradeError as error:
        print(f"eram was not upgraded: {error}", file=sys.stderr)
        return command_line.FAILED
    is_news = done.version != done.previous_version
    if is_json:
        command_line.answer(
            version=done.version,
            previous_version=done.previous_version,
            is_upgraded=is_news,
            schema=done.schema,
            is_extension=done.is_extension,
        )
    elif is_news:
        print(
            f'eram in schema "{done.schema}" is upgraded from {done.previous_version}'
            f" to {done.version}"
        )
    else:
        print(f'eram in schema "{done.schema}" is already at {done.version}')
    if is_adopted and not is_json:
        print("it is an extension")
    return command_line.FINE


def _upgrade_extension(cursor: psycopg.Cursor[tuple[Any, ...]], previous: str, target: str) -> None:
    row = cursor.execute(_SERVER_PATH, (previous, target)).fetchone()
    if row is None or row[0] is None:
        raise _no_way(
            previous,
            target,
            "among the server's files",
            "put those of this package there with make install",
        )
    cursor.execute(sql.SQL("alter extension eram update to {}").format(sql.Literal(target)))


def _upgrade_plain(
    cursor: psycopg.Cursor[tuple[Any, ...]], found: Installation, previous: str, target: str
) -> None:
    path = extension.upgrade_path(previous, target)
    if path is None:
        raise _no_way(
            previous,
            target,
            "in this package",
            "upgrade by way of a version that has one, or stay with the package of that version",
        )
    # As the plain script sets it, so that what is made is pinned to the same path.
    cursor.execute(
        sql.SQL("set local search_path to {}, pg_temp").format(sql.Identifier(found.schema))
    )
    cursor.execute(extension.plain_upgrade(path).encode())


def _no_way(previous: str, target: str, where: str, otherwise: str) -> UpgradeError:
    is_newer = _number(previous) > _number(target)
    hint = "the database is newer: install that version of the package" if is_newer else otherwise
    return UpgradeError(
        f"there is no upgrade path from {previous}, which the database has, to {target}, which"
        f" this package is, {where}; {hint}"
    )


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


if __name__ == "__main__":
    sys.exit(main())
