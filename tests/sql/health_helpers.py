"""What the tests of eram_health() share: a check, its action, and other thresholds for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from .helpers import Threads, row, rows, value, wait_until

CHECKS = {
    *("snapshot", "dead_tuples", "autovacuum", "indexes", "ticker", "workers", "queues"),
    *("backlog", "schedules", "notifications", "sequences", "sizes", "failures", "version"),
}
# Nobody waits for these in vain, and what is waited for comes as the server likes.
PATIENCE = 30.0


def check(conn: psycopg.Connection, name: str) -> Any:
    """Return what one check says."""
    return row(conn, "select * from eram_health() where name = %s", name)


def level(conn: psycopg.Connection, name: str) -> str:
    """Return the level of one check."""
    return value(conn, "select level from eram_health() where name = %s", name)


def wait_for_level(conn: psycopg.Connection, name: str, wanted: str) -> Any:
    """Wait until the check is at this level, and return what it says."""

    def found() -> Any:
        seen = check(conn, name)
        return seen if seen.level == wanted else None

    return wait_until(found, f"{name} is {wanted}", seconds=PATIENCE, pause=0.05)


def act(conn: psycopg.Connection, found: Any) -> None:
    """Do what a check says is to be done, each statement by itself, as psql does."""
    assert found.action.endswith(";"), found.action
    for statement in found.action.removesuffix(";").split("; "):
        conn.execute(statement)


@contextlib.contextmanager
def limits(conn: psycopg.Connection, **changed: tuple[float, float]) -> Iterator[None]:
    """Have other thresholds, so that a real condition need not be as large as a real one."""
    before = value(conn, "select pg_get_functiondef('_eram_health_limits'::regproc)")
    kept = rows(conn, "select * from _eram_health_limits()")
    assert {*changed} <= {limit.measure for limit in kept}
    listed = [
        sql.SQL("({}, {}::double precision, {}::double precision)").format(
            limit.measure, *map(str, changed.get(limit.measure, (limit.warn, limit.critical)))
        )
        for limit in kept
    ]
    body = sql.SQL("values {}").format(sql.SQL(", ").join(listed)).as_string(conn)
    head = before[: before.index("AS $function$")]
    conn.execute(f"{head} AS $function$ {body} $function$")
    try:
        yield
    finally:
        conn.execute(before)


@contextlib.contextmanager
def slow_vacuum(conn: psycopg.Connection, worker: psycopg.Connection, table: str) -> Iterator[int]:
    """Have a vacuum at work, as slow as one of a big table; yield its backend's pid."""
    threads = Threads()

    def vacuum() -> None:
        worker.execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1")
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            worker.execute(f"vacuum {table}")

    threads.start(vacuum)
    pid = worker.info.backend_pid
    is_at_work = "select exists (select from pg_stat_progress_vacuum where pid = %s)"
    wait_until(lambda: value(conn, is_at_work, pid), "the vacuum is at work")
    try:
        yield pid
    finally:
        conn.execute("select pg_cancel_backend(%s)", [pid])
        threads.join()


def burn_transactions(conn: psycopg.Connection, count: int) -> None:
    """Use up transaction ids: each savepoint that writes takes one."""
    conn.execute("create temporary table burnt (number integer)")
    conn.execute(
        f"""
        do $$
        begin
            for n in 1..{count} loop
                begin
                    insert into burnt values (n);
                exception
                    when division_by_zero then null;
                end;
            end loop;
        end
        $$
        """
    )
    conn.execute("drop table burnt")
