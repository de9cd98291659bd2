"""What one statement costs, as its own backend counts it: no clock, nothing of other sessions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import psycopg

EXPLAIN = "explain (analyze, buffers, wal, timing off, format json) "
# Of this transaction, and of earlier ones that are not passed on yet: only differences count.
WRITTEN = "select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_xact_user_tables"
LOCKS = "select count(*) from pg_locks where pid = pg_backend_pid()"
IDS = "select count(pg_current_xact_id_if_assigned())"
WARM_UP = 6  # calls of a statement, until the plans inside are those that a session keeps

Calls = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a statement costs: the first four for one job, where it is for many."""

    wal_bytes: float
    wal_records: float
    buffers: float
    rows_written: float  # inserted, updated and deleted
    locks: int  # held in the end, that of the transaction's id included
    transaction_ids: int
    notifications: int

    def by_kind(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)

    def least(self, other: Cost) -> Cost:
        """Return the lesser one of each figure."""
        figures = other.by_kind()
        return Cost(**{kind: min(cost, figures[kind]) for kind, cost in self.by_kind().items()})


def measure(
    conn: psycopg.Connection,
    query: str,
    calls: Calls,
    *,
    jobs: int = 1,
    is_idle: bool = False,
    rest_seconds: float = 0.0,
) -> Cost:
    """Run a statement once with each of these parameters; the first calls are not counted.

    WAL is what the others wrote on an average, for the splits of pages to be in it. Everything else
    is the least: now and then a call does what is not due at each, such as a sweep. Of an idle
    statement WAL is the least, too: when a minute is over, something may be due. What is done only
    after a while is due in the first call after a rest.
    """
    notifications = _notifications(conn, query, calls[0])
    for params in calls[1:WARM_UP]:
        conn.execute(query, params)
    time.sleep(rest_seconds)
    costs = [_measure_once(conn, query, params) for params in calls[WARM_UP:]]
    typical = min if is_idle else fmean
    return Cost(
        wal_bytes=round(typical([cost.wal_bytes for cost in costs]) / jobs, 1),
        wal_records=round(typical([cost.wal_records for cost in costs]) / jobs, 2),
        buffers=round(min(cost.buffers for cost in costs) / jobs, 1),
        rows_written=round(min(cost.rows_written for cost in costs) / jobs, 2),
        locks=min(cost.locks for cost in costs),
        transaction_ids=min(cost.transaction_ids for cost in costs),
        notifications=notifications,
    )


def _measure_once(conn: psycopg.Connection, query: str, params: tuple[Any, ...]) -> Cost:
    with conn.transaction():
        # Once for the locks that these two take themselves.
        for own in (WRITTEN, IDS):
            conn.execute(own)
        written, locks = number(conn, WRITTEN), number(conn, LOCKS)
        plan = conn.execute(EXPLAIN + query, params).fetchall()[0][0][0]["Plan"]
        return Cost(
            wal_bytes=plan["WAL Bytes"],
            wal_records=plan["WAL Records"],
            buffers=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
            rows_written=number(conn, WRITTEN) - written,
            locks=number(conn, LOCKS) - locks,
            transaction_ids=number(conn, IDS),
            notifications=0,
        )


def _notifications(conn: psycopg.Connection, query: str, params: tuple[Any, ...]) -> int:
    """Say whether a statement notifies, on whatever channel: then it cannot be prepared."""
    conn.execute("begin")
    try:
        conn.execute(query, params)
        conn.execute("prepare transaction 'guard'")
    except psycopg.errors.FeatureNotSupported as error:
        if "NOTIFY" not in str(error):
            raise
        conn.execute(query, params)
        return 1
    else:
        conn.execute("commit prepared 'guard'")
        return 0


def number(conn: psycopg.Connection, query: str, *params: Any) -> int:
    """Return the only value, which is an integer."""
    return int(conn.execute(query, params).fetchall()[0][0])
