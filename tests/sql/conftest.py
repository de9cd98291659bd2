"""Fixtures for the tests of the SQL: a worker, a second database, one database for a whole file."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import PostgreSQLExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from .helpers import PERMANENT, TABLES, clear, is_alone, start_worker, wait_until

_numbers = itertools.count(1)


@contextlib.contextmanager
def _database(server: PostgreSQLExecutor) -> Iterator[str]:
    name = f"sql_{next(_numbers)}"
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        password=server.password,
        dbname=name,
        template_dbname=server.template_dbname,
    )
    with janitor:
        yield f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{name}"


@pytest.fixture
def other_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """A second database of the same server, with eram and with the same OIDs."""
    with _database(server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """One database for all tests of a file: for tests that leave nothing behind."""
    with _database(server) as dsn:
        yield dsn


@pytest.fixture
def dsn(module_dsn: str) -> Iterator[str]:
    """The file's own database, emptied, which must be healthy when the test ends.

    A fresh database for each of hundreds of tests would take most of their time.
    """
    with psycopg.connect(module_dsn, autocommit=True, application_name=PERMANENT) as conn:
        wait_until(lambda: is_alone(conn), "the sessions of the last test have ended")
        conn.execute(f"truncate {', '.join(TABLES)} restart identity")
        yield module_dsn
        assert conn.execute("select * from eram_check()").fetchall() == []


@pytest.fixture(scope="module")
def module_conn(module_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to the file's own database."""
    with psycopg.connect(module_dsn, autocommit=True, application_name=PERMANENT) as conn:
        yield conn


@pytest.fixture
def shared(module_conn: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The file's own connection, on an empty database that must be healthy when the test ends."""
    clear(module_conn)
    yield module_conn
    assert module_conn.execute("select * from eram_check()").fetchall() == []


@pytest.fixture
def worker(conn: psycopg.Connection) -> int:
    """A worker of the queue "default", registered on `conn`."""
    return start_worker(conn)
