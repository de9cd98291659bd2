"""Fixtures for the tests of the SQL: a worker, a second database, one database for a whole file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_postgresql.executors import PostgreSQLExecutor

from databases import fresh_database

from .command_helpers import Open
from .helpers import PERMANENT, clear, empty, is_alone, start_worker, wait_until
from .schedule_helpers import WORKER_FUNCTIONS, Home, without_maintenance


@pytest.fixture
def other_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """A second database of the same server, with eram and with the same OIDs."""
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """One database for all tests of a file: for tests that leave nothing behind."""
    with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture
def dsn(module_dsn: str) -> Iterator[str]:
    """The file's own database, emptied, which must be healthy when the test ends.

    A fresh database for each of hundreds of tests would take most of their time.
    """
    with psycopg.connect(module_dsn, autocommit=True, application_name=PERMANENT) as conn:
        wait_until(lambda: is_alone(conn), "the sessions of the last test have ended")
        empty(conn)
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


@pytest.fixture
def ticker(conn: psycopg.Connection) -> psycopg.Connection:
    """A session that ticks, where nothing is due but what the test makes."""
    without_maintenance(conn)
    return conn


@pytest.fixture
def done(ticker: psycopg.Connection) -> Iterator[str]:
    """A table where commands leave their mark."""
    ticker.execute("create table done (what text, at timestamptz default clock_timestamp())")
    yield "select what from done order by at"
    ticker.execute("drop table done")


@pytest.fixture(scope="module")
def module_home(server: PostgreSQLExecutor) -> Iterator[Home]:
    """A database whose owner, no superuser, has made the extension; and roles of all kinds."""
    with (
        fresh_database(server, "template1") as dsn,
        psycopg.connect(dsn, autocommit=True, application_name=PERMANENT) as admin,
    ):
        name = admin.info.dbname
        kinds = ("owner", "worker", "member")
        roles = {kind: f"{kind} of {name}" for kind in kinds}
        quoted = {kind: sql.Identifier(role) for kind, role in roles.items()}
        for role in quoted.values():
            admin.execute(sql.SQL("create role {} login password 'secret'").format(role))
        admin.execute(sql.SQL("grant {owner}, {worker} to {member}").format(**quoted))
        admin.execute(
            sql.SQL("alter database {} owner to {owner}").format(sql.Identifier(name), **quoted)
        )
        dsns = {
            kind: make_conninfo(dsn, user=role, password="secret") for kind, role in roles.items()
        }
        with psycopg.connect(dsns["owner"], autocommit=True) as owner:
            owner.execute("create extension eram")
            owner.execute(
                "create table done (what text, who name default current_user,"
                " at timestamptz default clock_timestamp())"
            )
            for function in WORKER_FUNCTIONS:
                owner.execute(
                    sql.SQL("grant execute on routine {} to {worker}").format(
                        sql.SQL(function), **quoted
                    )
                )
        yield Home(admin=dsn, **{f"{kind}_role": role for kind, role in roles.items()}, **dsns)
        for role in quoted.values():
            admin.execute(sql.SQL("reassign owned by {} to current_user").format(role))
            admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))


@pytest.fixture
def home(module_home: Home) -> Iterator[Home]:
    """The same, emptied, which must be healthy when the test ends."""
    with psycopg.connect(module_home.admin, autocommit=True, application_name=PERMANENT) as conn:
        wait_until(lambda: is_alone(conn), "the sessions of the last test have ended")
        empty(conn, "done")
        yield module_home
        assert conn.execute("select * from eram_check()").fetchall() == []


@pytest.fixture
def open_as(home: Home) -> Iterator[Open]:
    """Open any number of connections to the home, by the DSN of a role."""
    with contextlib.ExitStack() as connections:

        def open_one(dsn: str = home.owner, **options: object) -> psycopg.Connection:
            conn = psycopg.connect(dsn, **{"autocommit": True, **options})
            return connections.enter_context(contextlib.closing(conn))

        yield open_one


@pytest.fixture
def owner(open_as: Open) -> psycopg.Connection:
    """The owner of eram, where nothing is due but what the test makes."""
    conn = open_as()
    without_maintenance(conn)
    return conn
