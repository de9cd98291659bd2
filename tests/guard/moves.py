"""The hot statements in their places: each group brings the jobs that it needs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from .meter import WARM_UP, Calls, Cost, measure, number

ENQUEUE = "select eram_enqueue_job(%s::text, %s::jsonb)"
ENQUEUE_UNIQUE = "select eram_enqueue_job(%s::text, %s::jsonb, unique_by => '{}')"
ENQUEUE_MANY = "select * from eram_enqueue_jobs(%s::jsonb)"
FETCH = "select * from eram_fetch('default', %s, %s)"
COMPLETE = "select eram_complete_jobs(%s, %s)"
FAIL = "select eram_fail_job(%s, %s, 'ValueError: no')"
TEN = 10
HUNDRED = 100
SINGLES = WARM_UP + 40
HUNDREDS = WARM_UP + 10
# After so long a claim of one moves the cursor, and the next ones do not.
CURSOR_SECONDS = 0.11
START_WAITING = "select * from eram_start_waiting('default', %s::xid8)"
FILL_CALL = 10_000
# How a function says that it locks something, or gives it back.
LOCKS = re.compile(r"pg_\w*advisory\w*\(|\block table\b|\bfor (?:no key )?(?:update|share)\b")

Costs = dict[str, Cost]


def enqueueing(conn: psycopg.Connection) -> Costs:
    """Enqueue, one by one and by the hundred, while nobody waits."""
    singles = [("noop:nothing", arguments(n)) for n in range(SINGLES)]
    return {
        "enqueue one": measure(conn, ENQUEUE, singles),
        "enqueue one, unique": measure(conn, ENQUEUE_UNIQUE, singles),
        # As Python does. What a call costs that has few jobs is not to be seen in one of many.
        "enqueue one by a document": measure(conn, ENQUEUE_MANY, [(documents(1),)] * SINGLES),
        "enqueue ten, all of them": measure(conn, ENQUEUE_MANY, [(documents(TEN),)] * SINGLES),
        "enqueue a hundred": measure(
            conn, ENQUEUE_MANY, [(documents(HUNDRED),)] * HUNDREDS, jobs=HUNDRED
        ),
    }


def claiming(conn: psycopg.Connection) -> Costs:
    """Fetch, where not much more is waiting than that."""
    fill(conn, 1_000 + HUNDRED * HUNDREDS + SINGLES)
    return _claiming(conn, "1,000")


def claiming_from_many(conn: psycopg.Connection) -> Costs:
    """Fetch from a full queue, by a session whose plans were made when it was empty."""
    fill(conn, 50_000)
    return _claiming(conn, "50,000")


def finishing(conn: psycopg.Connection) -> Costs:
    """Complete and fail."""
    worker = start_worker(conn)
    jobs = HUNDRED * HUNDREDS + 2 * SINGLES
    fill(conn, jobs)
    held = conn.execute(FETCH, (jobs, worker)).fetchall()
    runs = [(row[0], row[1]) for row in held]

    def take(size: int, count: int) -> Calls:
        taken = [[runs.pop() for _ in range(size)] for _ in range(count)]
        return [([each[0] for each in call], [each[1] for each in call]) for call in taken]

    return {
        "complete one": measure(conn, COMPLETE, take(1, SINGLES)),
        "complete a hundred": measure(conn, COMPLETE, take(HUNDRED, HUNDREDS), jobs=HUNDRED),
        "fail one": measure(conn, FAIL, [runs.pop() for _ in range(SINGLES)]),
    }


def idling(conn: psycopg.Connection) -> Costs:
    """Everything that a worker says again and again when there is nothing to do."""
    worker = start_worker(conn)
    mark = conn.execute("select mark::text from eram_start_waiting('default')").fetchall()[0][0]
    statements: Mapping[str, tuple[str, tuple[Any, ...]]] = {
        "fetch, nothing waits": (FETCH, (HUNDRED, worker)),
        "ask again while waiting": (START_WAITING, (mark,)),
        "heartbeat": ("select * from eram_heartbeat(%s)", (worker,)),
        "tick, nothing due": ("select * from eram_tick()", ()),
        "rescue, nobody dead": ("select eram_rescue_jobs()", ()),
    }
    return {
        name: measure(conn, query, [params] * HUNDREDS, is_idle=True)
        for name, (query, params) in statements.items()
    }


def life(conn: psycopg.Connection) -> float:
    """Return what WAL a job makes from its enqueue to its completion, in bytes."""
    worker = start_worker(conn)
    jobs = HUNDRED * HUNDREDS
    before = _written(conn)
    for _ in range(HUNDREDS):
        conn.execute(ENQUEUE_MANY, (documents(HUNDRED),))
    while held := conn.execute(FETCH, (HUNDRED, worker)).fetchall():
        conn.execute(COMPLETE, ([row[0] for row in held], [row[1] for row in held]))
    conn.execute(
        """
        select gin_clean_pending_list(indexes.oid)
        from pg_class as indexes
        join pg_am as kinds on kinds.oid = indexes.relam
        where kinds.amname = 'gin' and indexes.relname ~ '^eram_'
        """
    )
    return round((_written(conn) - before) / jobs, 1)


def hanging_on(conn: psycopg.Connection, table: str) -> dict[str, float]:
    """Count what hangs on a table; that a column is not null is none of it."""
    kinds = {
        "indexes": "pg_index where indrelid = %s::regclass",
        "constraints": "pg_constraint where conrelid = %s::regclass and contype <> 'n'",
        "triggers": "pg_trigger where tgrelid = %s::regclass",
    }
    return {
        kind: number(conn, f"select count(*) from {where}", table) for kind, where in kinds.items()
    }


def locking(conn: psycopg.Connection) -> dict[str, int]:
    """Count the places where functions say that they lock, of those that the hot statements call.

    What is given back before the call is over cannot be seen in any other way.
    """
    with conn.transaction():
        conn.execute("set local track_functions = 'all'")
        worker = start_worker(conn)
        for query, params in (
            (ENQUEUE, ("noop:nothing", arguments(0))),
            (ENQUEUE_UNIQUE, ("noop:nothing", arguments(1))),
            (ENQUEUE_MANY, (documents(1),)),
            (ENQUEUE_MANY, (documents(TEN),)),
            ("select * from eram_heartbeat(%s)", (worker,)),
            ("select * from eram_start_waiting('default')", ()),
        ):
            conn.execute(query, params)
        held = conn.execute(FETCH, (TEN, worker)).fetchall()
        failed, *completed = [(row[0], row[1]) for row in held]
        conn.execute(FAIL, failed)
        conn.execute(COMPLETE, ([row[0] for row in completed], [row[1] for row in completed]))
        called = conn.execute(
            """
            select functions.proname, functions.prosrc
            from pg_stat_xact_user_functions as calls
            join pg_proc as functions on functions.oid = calls.funcid
            """
        ).fetchall()
    found: Counter[str] = Counter()
    for name, body in called:
        found[name] += len(LOCKS.findall(body))
    return dict(+found)


GROUPS: Mapping[str, Callable[[psycopg.Connection], Costs]] = {
    group.__name__: group for group in (enqueueing, claiming, claiming_from_many, finishing, idling)
}


def arguments(n: int) -> str:
    """Make arguments that are all of one length."""
    return json.dumps({"to": f"user{n:05}@example.com", "n": 10_000 + n})


def documents(count: int) -> str:
    """Make as many jobs, as a JSON array."""
    jobs = (f'{{"handler": "noop:nothing", "args": {arguments(n)}}}' for n in range(count))
    return f"[{', '.join(jobs)}]"


def fill(conn: psycopg.Connection, count: int, handler: str = "noop:nothing") -> None:
    """Let as many jobs wait."""
    for at in range(0, count, FILL_CALL):
        conn.execute(
            "select count(*) from eram_enqueue_jobs((select jsonb_agg(%s::jsonb)"
            " from generate_series(1, %s)))",
            (json.dumps({"handler": handler}), min(FILL_CALL, count - at)),
        )


def start_worker(conn: psycopg.Connection) -> int:
    """Register this session as a worker."""
    return number(conn, "select eram_start_worker('guard', '{default}', pg_backend_pid())")


def _claiming(conn: psycopg.Connection, waiting: str) -> Costs:
    worker = start_worker(conn)
    return {
        f"fetch a hundred of {waiting}": measure(
            conn, FETCH, [(HUNDRED, worker)] * HUNDREDS, jobs=HUNDRED
        ),
        f"fetch one of {waiting}": measure(
            conn, FETCH, [(1, worker)] * SINGLES, rest_seconds=CURSOR_SECONDS
        ),
    }


def _written(conn: psycopg.Connection) -> int:
    return number(conn, "select pg_current_wal_insert_lsn() - '0/0'")
