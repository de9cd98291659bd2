"""The yardstick: what the storage of eram can do at best, moved by the barest worker.

A job goes through four tables like eram's, by single statements and with a fetch cursor. There are
no checks, retries, results, priorities, rescues or anything else: a worker that is cut off loses
its jobs. The rest of eram is what eram costs beyond this.

As a program it is that worker: `python bench/yardstick.py drain DSN`, `... drain-plain DSN` (with
the statement that one would write first) and `... listen DSN`. It says "ready", starts at the first
line of its input, and ends with its input or when nothing is left.
"""

from __future__ import annotations

import json
import queue
import selectors
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

BATCH = 500
BATCHES = 3  # in hand
COMPLETE_BATCH = 1_000
THREADS = 10
CHANNEL = "bare"

TABLES = """
create table bare_specs (
    id           bigint      primary key generated always as identity,
    handler      text        not null,
    args         jsonb       not null,
    meta         jsonb       not null default '{}',
    tags         text[]      not null default '{}',
    queue        text        not null default 'default',
    priority     smallint    not null default 0,
    max_attempts integer     not null default 20,
    inserted_at  timestamptz not null default clock_timestamp(),
    scheduled_at timestamptz not null default clock_timestamp()
);
create index on bare_specs using gin (args jsonb_path_ops);
create index on bare_specs using gin (meta jsonb_path_ops);

create table bare_queued (
    queue        text        not null,
    lane         smallint    not null,
    scheduled_at timestamptz not null,
    id           bigint      not null,
    attempt      integer     not null,
    primary key (queue, lane, scheduled_at, id)
);

create table bare_running (
    id           bigint      primary key,
    attempt      integer     not null,
    worker       bigint      not null,
    attempted_at timestamptz not null
);

create table bare_finished (
    id           bigint      primary key,
    state        text        not null,
    attempt      integer     not null,
    worker       bigint      not null,
    attempted_at timestamptz not null,
    finalized_at timestamptz not null
);
"""

_ENQUEUE = """
with stored as (
    insert into bare_specs (handler, args, meta)
    {source}
    returning id, queue, priority, scheduled_at
)
insert into bare_queued (queue, lane, scheduled_at, id, attempt)
select queue, priority, scheduled_at, id, 0
from stored
"""
ENQUEUE_DOCUMENTS = _ENQUEUE.format(
    source="""select handler, args, coalesce(meta, '{}')
    from jsonb_to_recordset(%s::jsonb) as jobs (handler text, args jsonb, meta jsonb)"""
)
ENQUEUE_SET = _ENQUEUE.format(
    source="""select
        'noop:nothing',
        jsonb_build_object('to', 'user' || n || '@example.com', 'n', n),
        '{}'
    from generate_series(1, %s::integer) as numbers (n)"""
)
ENQUEUE_ONE = _ENQUEUE.format(source="values (%s::text, %s::jsonb, '{}'::jsonb)") + "returning id"
NOTIFY = f"select pg_notify('{CHANNEL}', '')"

FETCH = """
with best as materialized (
    select ctid as place
    from bare_queued
    where
        queue = 'default'
        and lane = 0
        and (scheduled_at, id) > (%s::timestamptz, %s::bigint)
        and scheduled_at <= statement_timestamp()
    order by scheduled_at, id
    limit %s::integer
    for update skip locked
),
taken as (
    delete from bare_queued
    where ctid = any (array(select place from best))
    returning id, attempt, scheduled_at
),
started as (
    insert into bare_running (id, attempt, worker, attempted_at)
    select id, attempt + 1, 1, clock_timestamp()
    from taken
)
select taken.id, specs.handler, specs.args, taken.attempt + 1, taken.scheduled_at
from taken
join bare_specs as specs on specs.id = taken.id
order by taken.scheduled_at, taken.id
"""
# What one would write first: what a handler is given is joined by key, and all of it is fetched.
PLAIN_FETCH = """
with best as materialized (
    select ctid as place
    from bare_queued
    where
        queue = 'default'
        and lane = 0
        and (scheduled_at, id) > (%s::timestamptz, %s::bigint)
        and scheduled_at <= now()
    order by scheduled_at, id
    limit %s::integer
    for update skip locked
),
taken as (
    delete from bare_queued as queued
    using best
    where queued.ctid = best.place
    returning queued.id, queued.attempt, queued.scheduled_at
),
started as (
    insert into bare_running (id, attempt, worker, attempted_at)
    select id, attempt + 1, 1, now()
    from taken
    returning id, attempt
)
select id, handler, args, started.attempt, taken.scheduled_at, meta, max_attempts
from started
join taken using (id)
join bare_specs as specs using (id)
"""
COMPLETE = """
with ended as (
    delete from bare_running
    where id = any (%s::bigint[])
    returning *
)
insert into bare_finished (id, state, attempt, worker, attempted_at, finalized_at)
select id, 'completed', attempt, worker, attempted_at, clock_timestamp()
from ended
"""

FRONT = (datetime(2000, 1, 1, tzinfo=UTC), 0)


@dataclass(slots=True)
class Cursor:
    """Where the next fetch begins; one that stays at the front shows what it is good for."""

    is_moving: bool = True
    is_plain: bool = False
    at: tuple[datetime, int] = field(default=FRONT)


def fetch(conn: psycopg.Connection, demand: int, cursor: Cursor) -> list[Any]:
    """Claim jobs, from where the last claim ended."""
    statement = PLAIN_FETCH if cursor.is_plain else FETCH
    rows = conn.execute(statement, (*cursor.at, demand), binary=True).fetchall()
    if rows and cursor.is_moving:
        last = max(rows, key=lambda row: (row[4], row[0])) if cursor.is_plain else rows[-1]
        cursor.at = (last[4], last[0])
    return rows


def complete(conn: psycopg.Connection, ids: list[int]) -> None:
    """Report jobs as done."""
    conn.execute(COMPLETE, (ids,))


def drain(dsn: str, *, is_plain: bool = False) -> None:
    """Run all jobs there are: one thread fetches, ten run, one completes."""
    todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(BATCHES)
    runners = [threading.Thread(target=_run, args=(todo, done)) for _ in range(THREADS)]
    reporter = threading.Thread(target=_report, args=(dsn, done, room))
    with _connect(dsn) as conn:
        _wait_for_start()
        for thread in (*runners, reporter):
            thread.start()
        cursor = Cursor(is_plain=is_plain)
        while room.acquire() and (rows := fetch(conn, BATCH, cursor)):
            for row in rows:
                todo.put(row)
    for _ in runners:
        todo.put(None)
    for thread in runners:
        thread.join()
    done.put(None)
    reporter.join()


def _run(todo: queue.SimpleQueue[Any], done: queue.SimpleQueue[Any]) -> None:
    while (row := todo.get()) is not None:
        done.put(row[0])


def _report(dsn: str, done: queue.SimpleQueue[Any], room: threading.Semaphore) -> None:
    """Complete what is done, and make room for as many batches."""
    reported = 0
    with _connect(dsn) as conn:
        for ids in _batches(done):
            complete(conn, ids)
            for _ in range(reported // BATCH, (reported + len(ids)) // BATCH):
                room.release()
            reported += len(ids)


def listen(dsn: str) -> None:
    """Run jobs as they come in, and print at the end of the input when each was started."""
    started: dict[int, int] = {}
    with _connect(dsn) as conn, selectors.DefaultSelector() as ready:
        conn.execute(f"listen {CHANNEL}")
        _wait_for_start()
        ready.register(conn.fileno(), selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        cursor = Cursor(is_moving=False)
        while sys.stdin not in {key.fileobj for key, _ in ready.select()}:
            conn.pgconn.consume_input()
            while conn.pgconn.notifies():
                pass
            while rows := fetch(conn, BATCH, cursor):
                for row in rows:
                    started[row[0]] = time.monotonic_ns()
                complete(conn, [row[0] for row in rows])
    json.dump(started, sys.stdout)


def _batches(done: queue.SimpleQueue[Any]) -> Iterator[list[int]]:
    """Take whatever there is at a time, until a None."""
    is_over = False
    while not is_over:
        ids = [done.get()]
        while ids[-1] is not None and len(ids) < COMPLETE_BATCH and not done.empty():
            ids.append(done.get())
        is_over = ids[-1] is None
        if is_over:
            ids.pop()
        if ids:
            yield ids


def documents(first: int, count: int) -> list[dict[str, Any]]:
    """Make jobs as documents."""
    return [
        {"handler": "noop:nothing", "args": {"to": f"user{n}@example.com", "n": n}}
        for n in range(first, first + count)
    ]


def _connect(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=0)


def _wait_for_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    what, address = sys.argv[1:]
    if what == "listen":
        listen(address)
    else:
        drain(address, is_plain=what == "drain-plain")
