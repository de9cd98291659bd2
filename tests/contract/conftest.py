"""One database with eram in it for all of these tests: they only look."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import PostgreSQLExecutor

from databases import fresh_database


@pytest.fixture(scope="session")
def catalog(server: PostgreSQLExecutor) -> Iterator[psycopg.Connection]:
    """A connection to a database in which eram is an extension."""
    with fresh_database(server) as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        yield conn
