"""`make build` and `make install`, which must do without Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eram._server import extension
from eram.embedded import find_binaries

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = f"eram--{extension.version()}.sql"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make in a copy of what it needs, where no Python can be found."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "extension", tree / "extension")
    for name in ("Makefile", "eram.control"):
        shutil.copy(ROOT / name, tree)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "-C", str(tree), "PYTHON=/nowhere/python3", *arguments],
            check=False,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def pg_config(tmp_path: Path) -> Callable[[Path], str]:
    """Make a pg_config of a server that has this PGXS."""

    def write(pgxs: Path) -> str:
        path = tmp_path / "pg_config"
        path.write_text(
            "#!/bin/sh\n"
            f"case $1 in --pgxs) echo {pgxs} ;; --sharedir) echo /share/postgresql ;; esac\n",
            encoding="utf-8",
        )
        path.chmod(0o755)
        return f"PG_CONFIG={path}"

    return write


def test_build_makes_what_the_package_makes(make: Make, tmp_path: Path):
    done = make("build")
    assert done.returncode == 0, done.stderr
    build = tmp_path / "tree" / "build"
    assert (build / SCRIPT).read_text() == extension.install_script()
    assert (build / "eram.plain.sql").read_text() == extension.plain_script()


def test_help_is_what_make_does_by_itself(make: Make):
    said = make().stdout
    for target in ("demo", "test", "test-matrix", "lint", "build", "install", "bench"):
        assert f"make {target} " in said


def test_install_without_pgxs_copies(make: Make, pg_config, tmp_path: Path):
    server = pg_config(Path("/nowhere/pgxs.mk"))
    destination = tmp_path / "root"
    done = make("install", server, f"DESTDIR={destination}")
    assert done.returncode == 0, done.stderr
    target = destination / "share" / "postgresql" / "extension"
    assert (target / "eram.control").read_text() == extension.control()
    assert (target / SCRIPT).read_text() == extension.install_script()

    assert make("uninstall", server, f"DESTDIR={destination}").returncode == 0
    assert [*target.iterdir()] == []


def test_install_with_pgxs_leaves_it_to_pgxs(make: Make, pg_config, tmp_path: Path):
    pgxs = tmp_path / "pgxs.mk"
    pgxs.write_text(
        "install uninstall:\n\t@echo $@ of $(EXTENSION): $(DATA) into $(DESTDIR)\n",
        encoding="utf-8",
    )
    for target in ("install", "uninstall"):
        done = make(target, pg_config(pgxs), "DESTDIR=/dest")
        assert done.returncode == 0, done.stderr
        files = rf"{re.escape(SCRIPT)}( eram--\S+\.sql)*"
        assert re.search(f"{target} of eram: {files} into /dest", done.stdout)


def test_install_into_a_real_server(make: Make, tmp_path: Path):
    destination = tmp_path / "root"
    pg_config = find_binaries() / "pg_config"
    done = make("install", f"PG_CONFIG={pg_config}", f"DESTDIR={destination}")
    assert done.returncode == 0, done.stderr
    (script,) = destination.rglob(SCRIPT)
    assert script.read_text() == extension.install_script()
    assert script.with_name("eram.control").exists()


def test_install_without_a_server_says_what_is_missing(make: Make):
    done = make("install", "PG_CONFIG=/nowhere/pg_config")
    assert done.returncode != 0
    assert "There is no /nowhere/pg_config here" in done.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_without_python_it_says_so(make: Make, target: str, tmp_path: Path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "tree")
    done = make(target)
    assert done.returncode != 0
    assert "There is no /nowhere/python3 here" in done.stderr


def test_an_old_python_is_refused(make: Make, tmp_path: Path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "tree")
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.1\nexit 1\n')
    old.chmod(0o755)
    done = make("test", f"PYTHON={old}")
    assert done.returncode != 0
    assert "needs Python 3.11 or later" in done.stderr
    assert "Python 3.10.1" in done.stderr
