"""Writes docs/sql-reference.md out of the comments that the database keeps of eram's objects.

    python docs/sql_reference.py DSN > docs/sql-reference.md

A test compares the page with what this writes, so that it cannot be out of date.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg

GROUPS = {
    "For producers": ["eram_enqueue_job", "eram_enqueue_jobs", "eram_outcome"],
    "For workers, in any language": [
        "eram_register_handler",
        "eram_start_worker",
        "eram_heartbeat",
        "eram_fetch",
        "eram_complete_jobs",
        "eram_fail_job",
        "eram_snooze_job",
        "eram_discard_job",
        "eram_release_jobs",
        "eram_release_other_jobs",
        "eram_start_waiting",
        "eram_stop_waiting",
        "eram_rescue_jobs",
        "eram_stop_worker",
    ],
    "For schedules": [
        "eram_schedule",
        "eram_schedule_sql",
        "eram_schedule_maintenance",
        "eram_unschedule",
        "eram_pause_schedule",
        "eram_resume_schedule",
        "eram_run_schedule",
        "eram_register_schedules",
        "eram_next_run",
    ],
    "For tickers": [
        "eram_tick",
        "eram_run",
        "eram_begin_command",
        "eram_run_command",
        "eram_finish_command",
    ],
    "For administrators": [
        "eram_backoff",
        "eram_cancel_job",
        "eram_cancel_jobs",
        "eram_retry_job",
        "eram_retry_jobs",
        "eram_delete_job",
        "eram_delete_jobs",
        "eram_update_job",
        "eram_move_jobs",
        "eram_set_queue",
        "eram_set_handler",
        "eram_delete_handler",
        "eram_pause_queue",
        "eram_resume_queue",
        "eram_retention",
        "eram_prune_jobs",
        "eram_reindex_plan",
        "eram_count_jobs",
        "eram_count_handlers",
        "eram_count_minutes",
        "eram_measure_latency",
        "eram_why",
        "eram_find_jobs",
        "eram_check",
        "eram_health",
        "eram_metrics",
        "eram_grant",
        "eram_revoke",
        "eram_version",
    ],
}

TABLES = ["eram_schedules", "eram_queues", "eram_workers", "eram_totals"]

INTRODUCTION = """# SQL reference

Every function, view, table and type that is meant to be called or read. `\\df+ eram_*` in psql
shows the same text. A null argument means the default. Internal functions begin with `_eram_`; the
tables that are not listed here are internal too, and described by `\\d+`.

A caller's mistake is an error with an ERRCODE and a HINT, and changes nothing. A lost race (a
worker that was taken for dead reports late) is no error: it returns false, null or no row.
"""


def write(dsn: str) -> str:
    """Return the page for the objects installed in the database."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        return "\n".join([INTRODUCTION, *_functions(conn), *_relations(conn), *_types(conn)])


def _functions(conn: psycopg.Connection[Any]) -> list[str]:
    rows = conn.execute(
        """
        select
            functions.proname,
            pg_get_function_arguments(functions.oid),
            pg_get_function_result(functions.oid),
            obj_description(functions.oid, 'pg_proc')
        from pg_proc as functions
        join pg_class as home on home.oid = 'eram_jobs'::regclass
        where functions.pronamespace = home.relnamespace and functions.proname like 'eram\\_%'
        order by functions.proname, functions.pronargs desc
        """
    ).fetchall()
    grouped = {name for names in GROUPS.values() for name in names}
    if missing := grouped ^ {row[0] for row in rows}:
        raise SystemExit(f"put into a group, or remove from one: {', '.join(sorted(missing))}")
    page = []
    for title, names in GROUPS.items():
        page.append(f"## {title}\n")
        for name in names:
            for _, arguments, result, comment in (row for row in rows if row[0] == name):
                signature = _signature(name, arguments, result)
                page += [f"### {name}\n", f"```sql\n{signature}\n```\n", f"{comment}\n"]
    return page


def _signature(name: str, arguments: str, result: str | None) -> str:
    parts = [_plain(part) for part in arguments.split(", ")] if arguments else []
    if result is None:
        return f"call {name}({', '.join(part.removeprefix('IN ') for part in parts)})"
    if len(parts) > 1:
        listed = ",\n    ".join(parts)
        return f"{name}(\n    {listed}\n) returns {_plain(result)}"
    return f"{name}({''.join(parts)}) returns {_plain(result)}"


def _plain(text: str) -> str:
    for long, short in (
        ("timestamp with time zone", "timestamptz"),
        ("SETOF", "setof"),
        ("TABLE", "table"),
        ("INOUT", "inout"),
        ("OUT", "out"),
    ):
        text = text.replace(long, short)
    head, default, value = text.partition(" DEFAULT ")
    return f"{head} default {value.partition('::')[0].lower()}" if default else head


def _relations(conn: psycopg.Connection[Any]) -> list[str]:
    page = ["## Views\n"]
    for (name,) in conn.execute(
        "select viewname from pg_views where viewname like 'eram\\_%' order by 1"
    ):
        page += _relation(conn, name)
    page.append("## Tables to read\n")
    for name in TABLES:
        page += _relation(conn, name)
    return page


def _relation(conn: psycopg.Connection[Any], name: str) -> list[str]:
    comment = conn.execute("select obj_description(%s::regclass)", (name,)).fetchone()
    return [f"### {name}\n", f"{comment[0] if comment else ''}\n", *_columns(conn, name)]


def _types(conn: psycopg.Connection[Any]) -> list[str]:
    comment = conn.execute("select obj_description('eram_claimed_job'::regtype)").fetchone()
    return [
        "## Types\n",
        "### eram_claimed_job\n",
        f"{comment[0] if comment else ''}\n",
        *_columns(conn, "eram_claimed_job"),
    ]


def _columns(conn: psycopg.Connection[Any], name: str) -> list[str]:
    rows = conn.execute(
        """
        select
            attname,
            format_type(atttypid, atttypmod),
            coalesce(col_description(attrelid, attnum), '')
        from pg_attribute
        where attrelid = %s::regclass and attnum > 0 and not attisdropped
        order by attnum
        """,
        (name,),
    ).fetchall()
    if any(text for _, _, text in rows):
        lines = [f"| `{c}` | {_plain(t)} | {text} |" for c, t, text in rows]
        return ["| column | type | |", "|---|---|---|", *lines, ""]
    return ["| column | type |", "|---|---|", *(f"| `{c}` | {_plain(t)} |" for c, t, _ in rows), ""]


if __name__ == "__main__":
    sys.stdout.write(write(sys.argv[1]))
