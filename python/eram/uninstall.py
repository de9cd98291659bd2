"""`python -m eram uninstall`: remove eram from a database, and leave nothing behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import extension, installation, objects
from eram._server.installation import Installation
from eram.errors import EramError

_LOCK = "select pg_advisory_xact_lock(7104879, 1)"  # as an upgrade takes it
_UNFINISHED = """
select (select count(*) from eram_queued_jobs) + (select count(*) from eram_running_jobs)
"""
# In the order of their names. What others have put there under such a name is not locked.
_TABLES = """
select pg_catalog.string_agg(pg_catalog.quote_ident(tables.relname), ', ' order by tables.relname)
from pg_class as tables
join pg_class as specs
    on specs.oid = 'eram_job_specs'::regclass
    and specs.relnamespace = tables.relnamespace
    and specs.relowner = tables.relowner
where
    tables.relkind = 'r'
    and tables.relname ~ '^eram_'
"""
# All waits of one attempt together are shorter than deadlock_timeout is by default, so that no
# worker is chosen to fail while it waits for the other way round.
_LOCK_WAIT = "40ms"
_LOCK_PATIENCE = 5.0
_PAUSE = 0.05
# What a plain installation has made, in an order in which each statement can drop its kind as a
# whole: some views call functions, and some functions take rows of the others.
# There is nothing else under such a name.
_OBJECTS = """
with objects as (
    select
        case
            when class.relkind = 'r' then 4
            when class.relkind = 'c' then 5
            when exists (
                select
                from pg_rewrite as rules
                join pg_depend as dependency
                    on dependency.classid = 'pg_rewrite'::regclass
                    and dependency.objid = rules.oid
                    and dependency.refclassid = 'pg_proc'::regclass
                where rules.ev_class = class.oid
            ) then 1
            else 3
        end as place,
        case class.relkind when 'v' then 'view' when 'r' then 'table' else 'type' end as kind,
        class.oid::regclass::text as name
    from pg_class as class
    where
        class.relnamespace = quote_ident(current_schema())::regnamespace
        and class.relname ~ '^eram_'
        and class.relkind in ('v', 'r', 'c')
        and class.relowner = (
            select relowner
            from pg_class
            where oid = 'eram_job_specs'::regclass
        )
    union all
    select
        2,
        'routine',
        functions.oid::regprocedure::text
    from pg_proc as functions
    where
        functions.pronamespace = quote_ident(current_schema())::regnamespace
        and functions.proname ~ '^_?eram_'
        and functions.proowner = (
            select relowner
            from pg_class
            where oid = 'eram_job_specs'::regclass
        )
)
select pg_catalog.format('drop %s %s', kind, string_agg(name, ', '))
from objects
group by place, kind
order by place
"""
# eram_grant() notes by a function whom it has granted the schema.
_GRANTED_USAGE = """
select pg_catalog.format('revoke usage on schema %I from %I', current_schema(), roles.rolname)
from pg_proc as functions
cross join aclexplode(functions.proacl) as rights
join pg_roles as roles
    on roles.oid = rights.grantee
where
    functions.pronamespace = quote_ident(current_schema())::regnamespace
    and functions.proname = '_eram_granted_usage'
    and rights.grantee <> functions.proowner
"""


class UninstallError(EramError):
    """Jobs are unfinished, workers are busy, or something there is not eram's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uninstall:
    """What was removed: from where, by which way it had come there, and with how many jobs."""

    schema: str
    is_extension: bool
    unfinished_count: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "uninstall",
        "Remove eram from a database with all jobs and schedules, in one transaction: by DROP"
        " EXTENSION, or object by object for a plain installation. The schema is left."
        "\n\n"
        "It is refused while jobs wait or run, unless they may go, and while something else depends"
        " on eram, such as a view of yours. Run it as the owner of eram, without workers.",
        examples=("--dsn postgresql:///shop", "--drop-jobs"),
        exit_codes={
            command_line.FINE: "it is removed",
            command_line.FAILED: "it is not, and nothing was changed",
            command_line.MISUSED: "wrong options, or a database without eram",
        },
    )
    parser.add_dsn()
    parser.add_argument("--drop-jobs", action="store_true", help="also while jobs wait or run")
    parser.add_json()
    chosen = parser.parse_args(argv)
    return command_line.run(
        "uninstall",
        lambda: _uninstall(
            command_line.dsn_of(chosen), drop_jobs=chosen.drop_jobs, is_json=chosen.json
        ),
    )


def uninstall(conn: psycopg.Connection[Any], *, drop_jobs: bool = False) -> Uninstall:
    """Remove eram in the connection's transaction.

    Args:
        conn: A connection as the owner of eram. Its search_path is changed for the rest of the
            transaction.
        drop_jobs: Whether jobs that wait or run may go too.

    Raises:
        ConfigError: The database has no eram.
        UninstallError: Jobs wait or run, and they may not go; or others use eram; or something
            that eram has not made is named like its objects.
        psycopg.errors.InsufficientPrivilege: eram belongs to another role.
        psycopg.errors.DependentObjectsStillExist: Something else depends on eram.
    """
    with conn.transaction(), psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(_LOCK)
        found = installation.demand(conn, visible=False)
        found.demand_ownership("remove")
        name = sql.Identifier(found.schema)
        cursor.execute(sql.SQL("set local search_path to {}, pg_temp").format(name))
        if found.extension_version is None:
            _refuse_foreign(conn, found)
        # Nothing is enqueued between the count and the end, and nobody waits for what goes first
        # while he holds what goes last.
        _lock_tables(conn, cursor)
        row = cursor.execute(_UNFINISHED).fetchone()
        unfinished = int(row[0]) if row else 0
        if unfinished and not drop_jobs:
            raise UninstallError(
                f'{unfinished} jobs wait or run in schema "{found.schema}", and would be lost;'
                " let workers finish them, or say --drop-jobs"
            )
        for (statement,) in cursor.execute(_GRANTED_USAGE).fetchall():
            cursor.execute(statement.encode())
        if found.extension_version is not None:
            cursor.execute("drop extension eram")
        else:
            for (statement,) in cursor.execute(_OBJECTS).fetchall():
                cursor.execute(statement.encode())
    return Uninstall(
        schema=found.schema,
        is_extension=found.extension_version is not None,
        unfinished_count=unfinished,
    )


def _refuse_foreign(conn: psycopg.Connection[Any], found: Installation) -> None:
    foreign = objects.foreign(conn, found.schema)
    if foreign is None:
        return
    version = found.version(conn)
    if version != extension.version():
        raise UninstallError(
            f"eram is at version {version} here, of which this package, {extension.version()},"
            f" does not know what is eram's: {foreign}; use the package of that version"
        )
    raise UninstallError(
        f'in schema "{found.schema}" this is not eram\'s: {foreign};'
        " move it to another schema first"
    )


def _lock_tables(conn: psycopg.Connection[Any], cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
    """Lock all tables; between the attempts none is held, so that workers go on."""
    tables = (cursor.execute(_TABLES).fetchone() or ("",))[0]
    former = (cursor.execute("select current_setting('lock_timeout')").fetchone() or ("0",))[0]
    change = "select set_config('lock_timeout', %s, true)"
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            with conn.transaction():
                cursor.execute(change, [_LOCK_WAIT])
                cursor.execute(f"lock table {tables} in access exclusive mode".encode())
                cursor.execute(change, [former])
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise UninstallError(
                    "its tables are in use; stop workers, and whatever else uses eram, and try"
                    " again"
                ) from error
            time.sleep(_PAUSE)
        else:
            return


def _uninstall(dsn: str, *, drop_jobs: bool, is_json: bool) -> int:
    check_dsn(dsn)
    try:
        with psycopg.connect(dsn) as conn:
            done = uninstall(conn, drop_jobs=drop_jobs)
    except UninstallError as error:
        sys.stderr.write(f"eram was not removed: {error}\n")
        return command_line.FAILED
    if is_json:
        command_line.answer(
            schema=done.schema,
            is_extension=done.is_extension,
            unfinished_count=done.unfinished_count,
        )
    else:
        sys.stdout.write(
            f'eram is removed from schema "{done.schema}",'
            f" with {done.unfinished_count} unfinished jobs\n"
        )
    return command_line.FINE


if __name__ == "__main__":
    sys.exit(main())
