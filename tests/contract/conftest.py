"""One database with eram in it for all of these tests: they only look."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import PostgreSQLExecutor
from pytest_postgresql.janitor import DatabaseJanitor


@pytest.fixture(scope="session")
def catalog(server: PostgreSQLExecutor) -> Iterator[psycopg.Connection]:
    """A connection to a database in which eram is an extension."""
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        password=server.password,
        dbname="contract",
        template_dbname=server.template_dbname,
    )
    options = {"user": server.user, "host": server.host, "port": server.port}
    with (
        janitor,
        psycopg.connect(
            **options, password=server.password, dbname="contract", autocommit=True
        ) as conn,
    ):
        yield conn
