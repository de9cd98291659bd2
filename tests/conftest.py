"""What every test can ask for: a real server, a fresh database with eram in it, connections.

The server is the embedded one, or the one whose programs lie in ERAM_TEST_PG_BIN. It does not
sync its files; a test about crashes takes a server of its own from `crash_server`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pytest_postgresql import factories
from pytest_postgresql.executors import PostgreSQLExecutor

from databases import fresh_database
from eram.embedded import (
    EmbeddedServer,
    as_ordinary_user,
    find_binaries,
    provide_extension,
    server_version,
)

SERVER_SETTINGS = {
    "max_connections": "200",
    "max_prepared_transactions": "20",  # for two-phase commits
}

Connect = Callable[..., psycopg.Connection]


def _odd_settings() -> dict[str, str]:
    """Return settings of the server that a run by hand may ask for, as name=value;name=value."""
    pairs = (each.partition("=") for each in os.environ.get("ERAM_TEST_SETTINGS", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}


@functools.cache
def _server_bin_dir() -> Path:
    chosen = os.environ.get("ERAM_TEST_PG_BIN")
    return Path(chosen) if chosen else find_binaries()


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest-postgresql which server to start, and how."""
    bin_dir = _server_bin_dir()
    # Short, because sockets lie there.
    directory = Path(tempfile.mkdtemp(prefix="eram-test-"))
    config.add_cleanup(functools.partial(shutil.rmtree, directory, ignore_errors=True))

    pg_ctl = directory / "pg_ctl"
    command = shlex.join([*as_ordinary_user(), str(bin_dir / "pg_ctl")])
    pg_ctl.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    pg_ctl.chmod(0o700)

    settings = SERVER_SETTINGS | _odd_settings() | provide_extension(bin_dir, directory / "share")
    config.option.postgresql_exec = str(pg_ctl)
    config.option.postgresql_unixsocketdir = str(directory)
    config.option.postgresql_password = secrets.token_hex(16)
    config.option.postgresql_postgres_options = " ".join(
        f"-c {name}='{value}'" for name, value in settings.items()
    )


def pytest_report_header() -> str:
    return f"PostgreSQL {server_version(_server_bin_dir())} in {_server_bin_dir()}"


def create_extension(**kwargs: Any) -> None:
    with psycopg.connect(**kwargs) as conn:
        conn.execute("create extension eram")


server = factories.postgresql_proc(load=[create_extension], port=None)


@pytest.fixture
def dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """A fresh database with eram in it, which must be healthy when the test ends."""
    with fresh_database(server) as dsn:
        yield dsn
        assert_healthy(dsn)


@pytest.fixture
def create_bare_database(server: PostgreSQLExecutor) -> Iterator[Callable[[], str]]:
    """Make any number of fresh databases without eram; each call returns a DSN."""
    with contextlib.ExitStack() as databases:
        yield lambda: databases.enter_context(fresh_database(server, "template1"))


@pytest.fixture
def bare_dsn(create_bare_database: Callable[[], str]) -> str:
    """A fresh database without eram."""
    return create_bare_database()


def assert_healthy(dsn: str) -> None:
    """Fail if eram_check() finds any violated invariant."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        violations = conn.execute("select * from eram_check()").fetchall()
    assert violations == []


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """Open any number of connections to the test's database, in autocommit unless told."""
    with contextlib.ExitStack() as connections:

        def open_one(**kwargs: Any) -> psycopg.Connection:
            conn = psycopg.connect(dsn, **{"autocommit": True, **kwargs})
            return connections.enter_context(contextlib.closing(conn))

        yield open_one


@pytest.fixture
def conn(connect: Connect) -> psycopg.Connection:
    """A connection to the test's database, in autocommit."""
    return connect()


@pytest.fixture(scope="session")
def server_bin_dir() -> Path:
    """Where the programs of the server under test are."""
    return _server_bin_dir()


@pytest.fixture(scope="session")
def bin_dir(server_bin_dir: Path) -> Path:
    """Where psql and pg_dump are: the server's, or the embedded one's if it brings none."""
    return server_bin_dir if (server_bin_dir / "psql").exists() else find_binaries()


@pytest.fixture
def crash_server(server_bin_dir: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start any number of servers of one's own, which sync their files.

    To crash one: `server.stop("immediate")`, then `server.start()`. Settings of the server can be
    given by name.
    """
    with contextlib.ExitStack() as servers:

        def start(**settings: str) -> EmbeddedServer:
            directory = servers.enter_context(tempfile.TemporaryDirectory(prefix="eram-crash-"))
            server = EmbeddedServer(
                Path(directory), bin_dir=server_bin_dir, settings=SERVER_SETTINGS | settings
            )
            servers.enter_context(server)
            with psycopg.connect(server.dsn) as conn:
                conn.execute("create extension eram")
            return server

        yield start


@pytest.fixture
def plpgsql_check(conn: psycopg.Connection) -> None:
    """Have plpgsql_check in the test's database; ERAM_REQUIRE_PLPGSQL_CHECK=1 forbids to skip."""
    query = "select from pg_available_extensions where name = 'plpgsql_check'"
    if conn.execute(query).fetchone() is None:
        if os.environ.get("ERAM_REQUIRE_PLPGSQL_CHECK"):
            pytest.fail("this server has no plpgsql_check, which this run must have")
        pytest.skip("this server has no plpgsql_check; CI has one that does")
    conn.execute("create extension plpgsql_check")
