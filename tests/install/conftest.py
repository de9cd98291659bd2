"""Directories for servers of one's own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
