"""Fixtures for tests of jobs, loaded by pytest wherever eram is installed.

A module of its own, outside of eram, which imports nothing of it until a test asks for a fixture:
a test run that has nothing to do with eram pays nothing, and works without libpq.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import psycopg

# The test's own database goes before that of the application.
VARIABLES = ("ERAM_TEST_DSN", "DATABASE_URL")

_FIND = """
select
    functions.pronamespace::regnamespace::text,
    pg_function_is_visible(functions.oid)
from pg_proc as functions
where functions.proname = 'eram_version' and functions.pronargs = 0
order by 2 desc
limit 1
"""
_IS_AVAILABLE = "select from pg_available_extensions where name = 'eram'"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the ini setting that say where the database is."""
    help_text = "the database of eram's fixtures, such as postgresql://localhost/test"
    group = parser.getgroup("eram")
    group.addoption("--eram-dsn", metavar="DSN", default=None, help=help_text)
    parser.addini("eram_dsn", f"{help_text} (--eram-dsn and ERAM_TEST_DSN go before it)")


@pytest.fixture(scope="session")
def eram_dsn(pytestconfig: pytest.Config) -> str:
    """Say which database tests use; override it where that is not known before the tests run.

    That is the option `--eram-dsn`, else the variable `ERAM_TEST_DSN`, else the ini setting
    `eram_dsn`, else the variable `DATABASE_URL`.
    """
    found = (
        pytestconfig.getoption("--eram-dsn")
        or os.environ.get(VARIABLES[0])
        or pytestconfig.getini("eram_dsn")
        or os.environ.get(VARIABLES[1])
    )
    if not found:
        raise pytest.UsageError(
            "no database for eram's tests: pass --eram-dsn, set ERAM_TEST_DSN or DATABASE_URL, put"
            " eram_dsn into pytest's settings, or define a fixture eram_dsn"
        )
    return str(found)


@pytest.fixture
def eram_conn(eram_dsn: str) -> Iterator[psycopg.Connection]:
    """Open a connection in a transaction that is rolled back at the end of the test.

    eram is installed in it if the database has none. Application code can use it like any other
    connection; what it does in `with conn.transaction()` is a savepoint, and `commit()` is refused.
    """
    import psycopg  # noqa: PLC0415 - nothing heavy before a test asks for it

    with (
        psycopg.connect(eram_dsn, autocommit=True) as conn,
        conn.transaction(force_rollback=True),
    ):
        _install(conn)
        yield conn


def _install(conn: psycopg.Connection) -> None:
    from eram.install import install  # noqa: PLC0415 - likewise

    found = conn.execute(_FIND).fetchone()
    if found is None:
        if conn.execute(_IS_AVAILABLE).fetchone() is not None:
            conn.execute("create extension eram")
        else:
            install(conn)
    elif not found[1]:
        raise pytest.UsageError(
            f"eram is in schema {found[0]}, which is not in the search_path of the tests: add"
            f" options=-csearch_path={found[0]},public to the DSN"
        )
