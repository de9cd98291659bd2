"""What the tests of declared schedules share."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from .helpers import column, row, rows

MAIL = {"name": "mail", "schedule": "1 hour", "handler": "app:mail"}
REPORT = {"name": "report", "schedule": "@daily", "handler": "app:report", "args": {"a": 1}}
PRUNE = {"maintenance": "prune", "options": {"limit": 5}}
LIFELINE = {"maintenance": "lifeline", "schedule": "5 minutes"}

REGISTER = "select * from eram_register_schedules(%s, %s)"


def register(conn: psycopg.Connection, *schedules: Any, application: str = "app") -> dict[str, Any]:
    """Declare all schedules of an application; return the changes by name.

    A change is its word, or with whom it has to do, a pair.
    """
    found = rows(conn, REGISTER, application, Jsonb(list(schedules)))
    assert [change.name for change in found] == sorted({change.name for change in found})
    return {
        change.name: (change.change, change.declared_by) if change.declared_by else change.change
        for change in found
    }


def entry_or_none(conn: psycopg.Connection, name: str) -> Any:
    """Return the row of an entry, or nothing."""
    found = rows(conn, "select * from eram_schedules where name = %s", name)
    return found[0] if found else None


def names(conn: psycopg.Connection) -> list[str]:
    """Return the names of all entries but those of maintenance."""
    query = "select name from eram_schedules where name !~ '^eram:' order by name"
    return column(conn, query)


def maintenance(conn: psycopg.Connection, task: str) -> tuple[Any, ...]:
    """Return what an entry of maintenance is now."""
    query = """
        select schedule, timezone, options, declared_by
        from eram_schedules
        where name = 'eram:' || %s
    """
    return tuple(row(conn, query, task))
