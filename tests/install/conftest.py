"""Directories for servers of one's own, and those of the server under test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eram.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def initialised(server_bin_dir: Path) -> Iterator[Path]:
    """The directory of a server that has run once; making one takes longer than copying it."""
    with tempfile.TemporaryDirectory(prefix="eram-") as name:
        with EmbeddedServer(Path(name), bin_dir=server_bin_dir):
            pass
        yield Path(name)


@pytest.fixture
def empty_directory() -> Iterator[Path]:
    """A place for a server, with a short path, where there is nothing yet."""
    with tempfile.TemporaryDirectory(prefix="eram-") as name:
        yield Path(name) / "server"


@pytest.fixture
def directory(initialised: Path, empty_directory: Path) -> Path:
    """The directory of a server that has run before."""
    subprocess.run(["cp", "-a", initialised, empty_directory], check=True)  # owners included
    return empty_directory


@pytest.fixture
def server_folder(bare_dsn: str) -> Path:
    """Where the server under test looks for scripts."""
    with psycopg.connect(bare_dsn) as conn:
        row = conn.execute(
            "select current_setting('extension_control_path', true),"
            " current_setting('extension_destdir', true),"
            " (select setting from pg_config where name = 'SHAREDIR')"
        ).fetchone()
    control_path, destdir, share = row
    if control_path:
        return Path(control_path.split(":")[0]) / "extension"
    if destdir:
        return Path(destdir) / Path(share).relative_to("/") / "extension"
    return Path(share) / "extension"
