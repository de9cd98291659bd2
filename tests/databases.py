"""Databases of the tests' own on the server of a run."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import psycopg
from pytest_postgresql.executors import PostgreSQLExecutor

_numbers = itertools.count(1)


@contextlib.contextmanager
def fresh_database(server: PostgreSQLExecutor, template: str | None = None) -> Iterator[str]:
    """Make a database and drop it afterwards; yield its DSN."""
    address = f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}"
    name = f"test_{next(_numbers)}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as conn:
        # Copied as files, which 14 always does, it is made and dropped for half of the work.
        strategy = "strategy file_copy" if conn.info.server_version >= 150000 else ""
        source = template or server.template_dbname
        conn.execute(f"create database {name} template {source} {strategy}")
    try:
        yield f"{address}/{name}"
    finally:
        with psycopg.connect(f"{address}/postgres", autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)")
