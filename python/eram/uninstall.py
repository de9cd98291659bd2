"""`python -m eram uninstall`: remove eram from a database, and leave nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import installation
from eram.errors import EramError

_LOCK = "select pg_advisory_xact_lock(7104879, 1)"  # as an upgrade takes it
_UNFINISHED = """
select (select count(*) from eram_queued_jobs) + (select count(*) from eram_running_jobs)
"""
# What a plain install has made, in an order in which each statement can drop its kind as a whole.
# What others have put there under such a name is theirs.
_OBJECTS = """
with objects as (
    select
        case class.relkind when 'v' then 2 when 'r' then 3 else 4 end as place,
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
        1,
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
select format('drop %s %s', kind, string_agg(name, ', '))
from objects
group by place, kind
order by place
"""
# eram_grant() notes by a function whom it has granted the schema.
_GRANTED_USAGE = """
select format('revoke usage on schema %I from %I', current_schema(), roles.rolname)
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
    """Jobs are unfinished, and nobody has said that they may go."""


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
        " EXTENSION, or object by object after a plain install. The schema is left."
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
        UninstallError: Jobs wait or run, and they may not go.
        psycopg.errors.DependentObjectsStillExist: Something else depends on eram.
    """
    with conn.transaction(), psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(_LOCK)
        found = installation.demand(conn, visible=False)
        name = sql.Identifier(found.schema)
        cursor.execute(sql.SQL("set local search_path to {}, pg_temp").format(name))
        # Nothing is enqueued between the count and the end.
        cursor.execute("lock table eram_queued_jobs, eram_running_jobs in access exclusive mode")
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
