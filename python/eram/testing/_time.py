"""Time that passes because the test says so, and what recurs with it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from eram._base.statements import REGISTER_SCHEDULES
from eram._jobs.outcome import as_delay
from eram.engine import Engine
from eram.testing import _sql
from eram.testing._session import Session, session_of


def advance(conn: Any, by: float | timedelta) -> None:
    """Let time pass for the jobs of the transaction, as if they had been enqueued so much earlier.

    Delays and backoffs run out, windows of unique jobs end, and schedules become due for `tick`.
    The clocks stay: what asks them sees the real time.

    Args:
        conn: the test's connection.
        by: how much time passes, as a timedelta or in seconds.

    Raises:
        EramError: there is no transaction; so it is with all of these.
    """
    seconds = as_delay(by, "the time that passes").total_seconds()
    _in_transaction(conn).execute(_sql.ADVANCE_TIME, seconds)


def tick(conn: Any) -> int:
    """Enqueue the jobs of schedules that are due, with the time that has passed by `advance`.

    Commands of schedules and eram's own maintenance are left alone. An entry that is due stays
    locked until the transaction ends.

    Args:
        conn: the test's connection.

    Returns:
        How many entries were due.
    """
    count: int = _in_transaction(conn).execute(_sql.TICK)[0][0]
    return count


def declare_schedules(conn: Any, engine: Engine) -> dict[str, str]:
    """Make the schedules of an engine, as its start does, but in the transaction of the test.

    Args:
        conn: the test's connection.
        engine: whose configuration has them.

    Returns:
        What was `added`, `changed`, `removed`, `restored` or `refused`, by name; an entry that
        is as it was declared before is not in it.
    """
    config = engine.config
    rows = _in_transaction(conn).execute(
        REGISTER_SCHEDULES, config.declared_by, json.dumps(config.schedules)
    )
    return {name: change for name, change, _ in rows}


def _in_transaction(conn: Any) -> Session:
    session = session_of(conn)
    session.demand_transaction()
    return session
