"""A server that nothing else happens on, and the table at the end of the tests."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eram.embedded import EmbeddedServer

from .judging import Afresh
from .limits import STATEMENTS
from .moves import Costs

# What a server does on its own would be counted as well: vacuum, and after each checkpoint an
# image of every page that is changed.
SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "fsync": "off",
    "full_page_writes": "off",
    "log_line_prefix": "%d|%a|",
    "max_prepared_transactions": "5",
    "max_wal_size": "8GB",
}
TEMPLATE = "eram_template"

Figures = Mapping[str, float]
Record = Callable[[str, Figures, Figures], None]
_figures = pytest.StashKey[dict[str, tuple[Figures, Figures]]]()
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def quiet_server(server_bin_dir: Path) -> Iterator[EmbeddedServer]:
    """A server with a template that has eram in it."""
    with (
        tempfile.TemporaryDirectory(prefix="eram-guard-") as directory,
        EmbeddedServer(Path(directory), bin_dir=server_bin_dir, settings=SETTINGS) as server,
    ):
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute(f"create database {TEMPLATE}")
        with psycopg.connect(make_conninfo(server.dsn, dbname=TEMPLATE)) as conn:
            conn.execute("create extension eram")
        yield server


@contextmanager
def _fresh_database(server: EmbeddedServer) -> Iterator[str]:
    name = f"scratch_{next(_numbers)}"
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute(f"create database {name} template {TEMPLATE}")
        dsn = make_conninfo(server.dsn, dbname=name)
        yield dsn
        with psycopg.connect(dsn) as scratch:
            assert scratch.execute("select * from eram_check()").fetchall() == []
        conn.execute(f"drop database {name} with (force)")


@pytest.fixture
def scratch_dsn(quiet_server: EmbeddedServer) -> Iterator[str]:
    """A fresh database with eram in it, which must be healthy when the test ends."""
    with _fresh_database(quiet_server) as dsn:
        yield dsn


@pytest.fixture
def afresh(quiet_server: EmbeddedServer) -> Afresh:
    """Measure by a session of its own, in a fresh database."""

    def measure(group: Callable[[psycopg.Connection], Costs]) -> Costs:
        with _fresh_database(quiet_server) as dsn, psycopg.connect(dsn, autocommit=True) as conn:
            return group(conn)

    return measure


@pytest.fixture
def scratch(scratch_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh database, in autocommit."""
    with psycopg.connect(scratch_dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def record(pytestconfig: pytest.Config) -> Record:
    """Note what was measured, and the limits of it, for the table at the end."""
    table = pytestconfig.stash.setdefault(_figures, {})

    def note(name: str, measured: Figures, allowed: Figures) -> None:
        table[name] = (measured, allowed)

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show with -v what was measured, and below it the limits."""
    table = config.stash.get(_figures, {})
    if not table or config.get_verbosity() < 1:
        return
    terminalreporter.section("what was measured, and its limits")
    kinds = None
    for name, (measured, allowed) in sorted(table.items(), key=lambda row: list(row[1][0])):
        if list(measured) != kinds:
            kinds = list(measured)
            terminalreporter.write_line(_line("", [kind.replace("_", " ") for kind in kinds]))
        terminalreporter.write_line(_line(name, [f"{measured[kind]:g}" for kind in kinds]))
        terminalreporter.write_line(_line("", [f"{allowed[kind]:g}" for kind in kinds]))
    terminalreporter.section("the statements as limits.py would have them")
    for name in STATEMENTS:
        if name in table:
            costs = ", ".join(f"{cost:g}" for cost in table[name][0].values())
            terminalreporter.write_line(f'    "{name}": Cost({costs}),')


def _line(name: str, cells: list[str]) -> str:
    return f"{name:28}" + "".join(f" {cell:>15}" for cell in cells)
