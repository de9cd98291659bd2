"""What the tests of the SQL share: calls with names, threads that report, waits with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

PERMANENT = "fixture"  # the application_name of sessions that outlive a test
TABLES = (
    "eram_job_specs",
    "eram_queued_jobs",
    "eram_running_jobs",
    "eram_finished_jobs",
    "eram_completions",
    "eram_job_errors",
    "eram_unique_keys",
    "eram_handlers",
    "eram_queues",
    "eram_queue_grants",
    "eram_removals",
    "eram_workers",
    "eram_cancelled_runs",
    "eram_schedules",
    "eram_schedule_runs",
    "eram_unscheduled",
    "eram_declared_schedules",
    "eram_minutes",
    "eram_totals",
    "eram_removal_counts",
    "eram_recordings",
)


def value(conn: psycopg.Connection, query: str, *params: Any) -> Any:
    """Return the first column of the first row."""
    row = conn.execute(query, params).fetchone()
    assert row is not None, f"no row: {query}"
    return row[0]


def column(conn: psycopg.Connection, query: str, *params: Any) -> list[Any]:
    """Return the first column."""
    return [row[0] for row in conn.execute(query, params).fetchall()]


def rows(conn: psycopg.Connection, query: str, *params: Any) -> list[Any]:
    """Return rows whose columns have names."""
    with conn.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query, params).fetchall()


def row(conn: psycopg.Connection, query: str, *params: Any) -> Any:
    """Return the only row."""
    (found,) = rows(conn, query, *params)
    return found


def enqueue(conn: psycopg.Connection, handler: str = "app:run", **options: Any) -> int:
    """Enqueue one job by its JSON document."""
    return value(conn, "select eram_enqueue_job(%s)", Jsonb({"handler": handler, **options}))


def enqueue_many(conn: psycopg.Connection, count: int, **options: Any) -> list[int]:
    """Enqueue equal jobs in one call; the server makes the documents."""
    return column(
        conn,
        """
        select id
        from eram_enqueue_jobs((select jsonb_agg(%s::jsonb) from generate_series(1, %s)))
        """,
        Jsonb({"handler": "app:run", **options}),
        count,
    )


def start_worker(conn: psycopg.Connection, *queues: str, name: str = "tester") -> int:
    """Register a worker that this session proves to live."""
    return value(
        conn,
        "select eram_start_worker(%s, %s, %s)",
        name,
        list(queues or ["default"]),
        conn.info.backend_pid,
    )


def fetch(
    conn: psycopg.Connection, worker: int, demand: int = 100, queue: str = "default"
) -> list[Any]:
    """Claim jobs."""
    return rows(conn, "select * from eram_fetch(%s, %s, %s)", queue, demand, worker)


def fetch_late(
    conn: psycopg.Connection,
    worker: int,
    count: int = 1,
    queue: str = "default",
    seconds: float = 5,
) -> list[Any]:
    """Claim jobs behind the cursor, which a fetch may pass by at first: sweeps are spaced."""
    found: list[Any] = []

    def enough() -> bool:
        found.extend(fetch(conn, worker, 100, queue))
        return len(found) >= count

    wait_until(enough, f"{count} late jobs are claimed", seconds=seconds)
    return found


# Three cursors of one position each.
FRONT = [0] * 8 + [1] * 3 + [0] * 6


def read_cursor(conn: psycopg.Connection, queue: str = "default") -> list[int]:
    """Return the session's fetch cursor as integers; all at the front before the first claim."""
    text = value(conn, "select current_setting(_eram_cursor_setting(%s), true)", queue)
    return [int(number) for number in text.strip("{}").split(",")] if text else FRONT


def write_cursor(conn: psycopg.Connection, text: object, queue: str = "default") -> None:
    """Set the cursor to a list of integers, or to any text."""
    if isinstance(text, list):
        text = "{" + ",".join(map(str, text)) + "}"
    value(conn, "select set_config(_eram_cursor_setting(%s), %s, false)", queue, str(text))


def fetch_sweeping(conn: psycopg.Connection, worker: int, queue: str = "default") -> list[Any]:
    """Claim until one claim has looked behind the cursor: everything committed by now is found."""
    swept_at = 2
    before = read_cursor(conn, queue)[swept_at]
    found: list[Any] = []

    def has_swept() -> bool:
        found.extend(fetch(conn, worker, 100, queue))
        return read_cursor(conn, queue)[swept_at] > before

    wait_until(has_swept, "a sweep", pause=0.001)
    return found


def complete(conn: psycopg.Connection, jobs: Sequence[Any]) -> list[int]:
    """Report jobs, as fetched, as done."""
    return column(
        conn,
        "select eram_complete_jobs(%s, %s)",
        [job.id for job in jobs],
        [job.run for job in jobs],
    )


def state_of(conn: psycopg.Connection, job_id: int) -> str:
    """Return the state of a job."""
    return value(conn, "select state from eram_jobs where id = %s", job_id)


def contents(conn: psycopg.Connection) -> dict[str, str]:
    """Return a digest of each table: equal digests mean that nothing was written."""
    digest = "select '{0}', md5(string_agg(t::text, '|' order by t::text)) from {0} as t"
    query = " union all ".join(digest.format(table) for table in TABLES)
    return dict(conn.execute(query).fetchall())


def clear(conn: psycopg.Connection) -> None:
    """Delete every job and worker."""
    conn.execute("; ".join(f"delete from {table}" for table in TABLES))


def empty(conn: psycopg.Connection, *more: str) -> None:
    """Make the database as it was when it was made, and further tables empty.

    To truncate a table that has never been written to would take most of the time of most tests.
    """
    written = column(
        conn,
        "select name from unnest(%s::text[]) as name where pg_relation_size(name::regclass) > 0",
        [*TABLES, *more],
    )
    if written:
        conn.execute(f"truncate {', '.join(written)}")
    conn.execute(
        """
        select setval(relations.oid::regclass, 1, false)
        from pg_class as relations
        where relations.relkind = 'S' and relations.relname ~ '^eram_'
        """
    )


def is_alone(conn: psycopg.Connection) -> bool:
    """Say whether no client is connected to the database but those of the fixtures."""
    return value(
        conn,
        """
        select count(*) = 0
        from pg_stat_activity
        where
            datname = current_database()
            and backend_type = 'client backend'
            and application_name <> %s
        """,
        PERMANENT,
    )


def wait_until(
    condition: Callable[[], Any], what: str, *, seconds: float = 20, pause: float = 0.01
) -> Any:
    """Wait until the condition returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


def wait_for_lock_wait(observer: psycopg.Connection, waiting: psycopg.Connection) -> None:
    """Wait until a statement of another session waits for a lock."""
    pid = waiting.info.backend_pid
    wait_until(
        lambda: value(observer, "select cardinality(pg_blocking_pids(%s)) > 0", pid),
        f"session {pid} waits for a lock",
        pause=0.002,
    )


class Threads:
    """Runs functions at once; `join` waits for all, and raises what one of them raised."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self.stop = threading.Event()

    def start(self, function: Callable[..., object], *args: Any) -> None:
        """Run the function in a thread."""

        def run() -> None:
            try:
                function(*args)
            except BaseException as exc:
                self._errors.append(exc)
                self.stop.set()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds: float = 60) -> None:
        """Wait for every thread."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        self.stop.set()
        if self._errors:
            raise self._errors[0]
        assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"
        self._threads.clear()


def at_once(*functions: Callable[[], object], seconds: float = 60) -> None:
    """Run functions at the same time, and wait for them."""
    barrier = threading.Barrier(len(functions))
    threads = Threads()

    def together(function: Callable[[], object]) -> None:
        barrier.wait(10)
        function()

    for function in functions:
        threads.start(together, function)
    threads.join(seconds)


def shared_buffers(conn: psycopg.Connection, query: str, *params: Any) -> int:
    """Run a query and return how many buffers it touched, those of called functions included."""
    (plan,) = value(conn, f"explain (analyze, buffers, format json) {query}", *params)
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


def plan_of(conn: psycopg.Connection, query: str, *, analyze: bool = False) -> str:
    """Return the plan of a query as text."""
    options = "(analyze, costs off, timing off)" if analyze else "(costs off)"
    return "\n".join(column(conn, f"explain {options} {query}"))
