"""What the tests of commands share: the mark that one leaves, and who runs it."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

Open = Callable[..., psycopg.Connection]

DONE = "select what from done order by at"
MARK = "insert into done values ('{}')"
RUNS = "select count(*) from eram_schedule_runs"


def set_role(conn: psycopg.Connection, role: str, what: str = "role") -> None:
    """Have a session run as another role."""
    conn.execute(sql.SQL("set {} {}").format(sql.SQL(what), sql.Identifier(role)))
