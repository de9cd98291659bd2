"""A bare INSERT as a side: what it costs to write down a job at all, with one index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, LiteralString, NoReturn

import psycopg
from by_sql import SqlProducer
from sides import Producer

if TYPE_CHECKING:
    from lab import Bench

TABLE = """
create table bare_jobs (
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
)
"""
INSERT: LiteralString = "insert into bare_jobs (handler, args) {source}"


class BareInsert:
    """A table of jobs that nobody runs."""

    name = "bare_insert"
    label = "bare insert"
    share = 1.0
    without: Mapping[str, str] = {}
    enqueue_documents: LiteralString = INSERT.format(
        source="select handler, args"
        " from jsonb_to_recordset(%s::jsonb) as jobs (handler text, args jsonb)"
    )
    enqueue_set: LiteralString = INSERT.format(
        source="select 'noop:nothing', jsonb_build_object('n', n)"
        " from generate_series(1, %s::integer) as numbers (n)"
    )
    enqueue_one: LiteralString = INSERT.format(source="values (%s::text, %s::jsonb) returning id")

    def install(self, dsn: str) -> None:
        """Create the table."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(TABLE)

    def describe(self) -> dict[str, str]:
        """Say how it is measured."""
        return {"settings": "one table, one index", "history": "nothing is run"}

    @contextlib.contextmanager
    def producer(self, bench: Bench) -> Iterator[Producer]:
        """Insert rows."""
        yield SqlProducer(bench, self)

    def enqueue_and_wake(self, conn: psycopg.Connection) -> NoReturn:
        """Wake nobody."""
        raise NotImplementedError("nobody runs the jobs of a bare insert")

    def start_worker(self, bench: Bench, *, is_listening: bool = False) -> NoReturn:
        """Start nobody."""
        raise NotImplementedError("nobody runs the jobs of a bare insert")

    def finished(self, bench: Bench) -> int:
        """Count nothing."""
        del bench
        return 0

    def span(self, bench: Bench, since: datetime) -> float | None:
        """Know nothing."""
        del bench, since
        return None
