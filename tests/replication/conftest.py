"""Servers of their own: two for logical replication, and a primary with its hot standby."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from eram.embedded import USER, EmbeddedServer, as_ordinary_user

SETTINGS = {
    "fsync": "off",
    "wal_level": "logical",
    "max_connections": "60",
    # The first copy of each table takes a worker, and a second where none is free.
    "max_worker_processes": "40",
    "max_logical_replication_workers": "30",
    "max_sync_workers_per_subscription": "20",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "wal_retrieve_retry_interval": "100ms",
}


class Pair(NamedTuple):
    """The DSNs of a server, and of the one that gets what is written to the first."""

    first: str
    second: str


def socket_of(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["host"])


@pytest.fixture(scope="module")
def two_servers(server_bin_dir: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as ending:
        servers = []
        for _ in range(2):
            folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="eram-pair-"))
            server = EmbeddedServer(Path(folder), bin_dir=server_bin_dir, settings=SETTINGS)
            servers.append(ending.enter_context(server))
        yield Pair(*(server.dsn for server in servers))


@pytest.fixture
def two_databases(two_servers: Pair) -> Iterator[Callable[[str], Pair]]:
    """Make a database of this name on each of two servers, for one test."""
    with contextlib.ExitStack() as ending:

        def make(name: str) -> Pair:
            for dsn in two_servers:
                admin = ending.enter_context(psycopg.connect(dsn, autocommit=True))
                admin.execute(f"create database {name}")
                ending.callback(admin.execute, f"drop database {name} with (force)")
            return Pair(*(psycopg.conninfo.make_conninfo(dsn, dbname=name) for dsn in two_servers))

        yield make


@pytest.fixture(scope="module")
def start_standby(server_bin_dir: Path, bin_dir: Path) -> Iterator[Callable[[str], EmbeddedServer]]:
    """Start a hot standby of a server."""
    with contextlib.ExitStack() as ending:

        def start(primary: str) -> EmbeddedServer:
            folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="eram-standby-"))
            server = EmbeddedServer(Path(folder), bin_dir=server_bin_dir, settings=SETTINGS)
            command = [
                *(*as_ordinary_user(), bin_dir / "pg_basebackup", "-D", server.data, "-R"),
                *("-h", socket_of(primary), "-p", "5432", "-U", USER, "-c", "fast"),
            ]
            subprocess.run(command, check=True, capture_output=True)
            return ending.enter_context(server)

        yield start
