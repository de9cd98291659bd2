"""The files of a release: each is made, installed without its sources, and used for a job."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql

from eram._server import extension
from eram.embedded import find_binaries
from install.packages import ROOT, CleanPython, clean_environ, make_checkout, make_dist, run

VERSION = extension.version()
SCRIPT = f"eram--{VERSION}.sql"
WAIT_SECONDS = 60

pytestmark = [
    pytest.mark.skipif(
        "ERAM_TEST_PG_BIN" in os.environ, reason="packages are tried on the embedded server alone"
    ),
    pytest.mark.skipif(
        not (ROOT / ".git").exists() or None in map(shutil.which, ("git", "make")),
        reason="packages are made by make and git, of a checkout",
    ),
]

HANDLER = """
import eram

@eram.job
def greet(job, name):
    return {"hello": name, "from": eram.__file__}
"""


class Dist(NamedTuple):
    checkout: Path
    zip: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Dist:
    """The files of a release, of what the working tree has."""
    folder = tmp_path_factory.mktemp("release")
    checkout = folder / "checkout"
    make_checkout(checkout)
    make_dist(checkout, folder / "dist")
    names = {path.name: path for path in (folder / "dist").iterdir()}
    assert sorted(names) == [
        f"eram-{VERSION}-py3-none-any.whl",
        f"eram-{VERSION}.tar.gz",
        f"eram-{VERSION}.zip",
    ]
    wheel, sdist, archive = (names[name] for name in sorted(names))
    return Dist(checkout, archive, wheel, sdist)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder of an application."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "shop.py").write_text(HANDLER, encoding="utf-8")
    return folder


def test_the_same_commit_makes_the_same_files(dist: Dist, tmp_path: Path):
    later = {path.name: path for path in (dist.zip, dist.wheel, dist.sdist)}
    shutil.rmtree(dist.checkout / "build")
    make_dist(dist.checkout, tmp_path)
    for name, path in later.items():
        assert (tmp_path / name).read_bytes() == path.read_bytes(), name


def test_what_is_not_committed_is_not_passed_over(dist: Dist, tmp_path: Path):
    stray = dist.checkout / "extension" / "stray.sql"
    stray.touch()
    try:
        said = make_dist(dist.checkout, tmp_path, is_expected=False)
    finally:
        stray.unlink()
    assert "extension/stray.sql" in said
    assert "commit them first" in said
    assert [*tmp_path.iterdir()] == []


def test_the_wheel_holds_all_that_is_used(dist: Dist):
    there = set(zipfile.ZipFile(dist.wheel).namelist())
    wanted = {"pytest_eram/__init__.py", "eram/_extension/eram.control", "eram/py.typed"}
    for folder, place in (("python/eram", "eram"), ("extension", "eram/_extension")):
        names = run(["git", "ls-files", folder], dist.checkout).stdout.splitlines()
        wanted |= {name.replace(folder, place, 1) for name in names}
    assert len(wanted) > 100
    assert wanted - there == set()
    # And nothing beside it: no tests, no pages.
    tops = {name.split("/")[0] for name in there}
    assert tops == {"eram", "pytest_eram", f"eram-{VERSION}.dist-info"}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_package_runs_a_job_on_a_clean_machine(
    dist: Dist, kind: str, tmp_path: Path, app: Path, bare_dsn: str
):
    """By pip, with psycopg there and nothing else: the sources of the tree are out of reach."""
    extra = ("hatchling",) if kind == "sdist" else ()
    python = CleanPython(tmp_path / "clean", extra=extra)
    python.install(getattr(dist, kind))

    assert "\ncommands:\n" in python("-m", "eram", "--help", folder=app)
    (place,) = python("-c", "import eram; print(eram.__file__)", folder=app).split()
    assert Path(place).is_relative_to(python.site)
    script = "from eram._server import extension as e; print(e.install_script(), end='')"
    assert python("-c", script, folder=app) == extension.install_script()
    script = "from eram._server import extension as e; print(*(p.name for p in e._upgrades()))"
    upgrades = sorted(
        path.name for path in (ROOT / "extension" / "upgrades").glob("eram--*--*.sql")
    )
    assert python("-c", script, folder=app).split() == upgrades

    python("-m", "eram", "install", "--dsn", bare_dsn, folder=app)
    arguments = ["--dsn", bare_dsn, "shop:greet", "name=Ada"]
    python("-m", "eram", "enqueue", *arguments, folder=app)
    with (
        working(python, app, bare_dsn) as worker,
        psycopg.connect(bare_dsn, autocommit=True) as conn,
    ):
        result = wait_for_result(conn, worker)
    assert result == {"hello": "Ada", "from": place}
    assert worker.returncode == 0


class working:  # noqa: N801 - reads as a statement
    """A worker of a clean Python, told to end with the block."""

    def __init__(self, python: CleanPython, folder: Path, dsn: str) -> None:
        command = [python.program, "-m", "eram.worker", "--dsn", dsn, "--allow", "shop"]
        self._process = subprocess.Popen(
            command, cwd=folder, env=clean_environ(), stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=WAIT_SECONDS)
        finally:
            self._process.kill()


def wait_for_result(conn: psycopg.Connection, worker: subprocess.Popen[str]) -> object:
    deadline = time.monotonic() + WAIT_SECONDS
    query = "select state, result, errors from eram_jobs"
    while True:
        state, result, errors = conn.execute(query).fetchone()
        assert errors is None
        if state == "completed":
            return result
        assert worker.poll() is None, worker.communicate()[1]
        assert time.monotonic() < deadline, f"still {state}"
        time.sleep(0.05)


@pytest.fixture(params=["zip", "sdist"])
def unpacked(request: pytest.FixtureRequest, dist: Dist, tmp_path: Path) -> Path:
    """A release's sources, elsewhere, where no Python can be found."""
    if request.param == "zip":
        zipfile.ZipFile(dist.zip).extractall(tmp_path)  # noqa: S202 - made here
    else:
        with tarfile.open(dist.sdist) as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path / f"eram-{VERSION}"


def test_sources_install_into_a_server(unpacked: Path, tmp_path: Path, bare_dsn: str):
    make = ["make", "PYTHON=/nowhere/python3", f"PG_CONFIG={find_binaries() / 'pg_config'}"]
    shutil.rmtree(unpacked / "build", ignore_errors=True)
    run([*make, "build"], unpacked)
    assert (unpacked / "build" / SCRIPT).read_text() == extension.install_script()
    run([*make, "install", f"DESTDIR={tmp_path / 'root'}"], unpacked)
    (control,) = (tmp_path / "root").rglob("eram.control")

    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        # There and nowhere else.
        path = str(control.parents[1])
        conn.execute(sql.SQL("set extension_control_path = {}").format(path))
        conn.execute("create extension eram")
        assert conn.execute("select eram_version()").fetchone() == (VERSION,)
        conn.execute("select eram_enqueue_job('shop:greet')")
        assert conn.execute("select count(*) from eram_jobs").fetchone() == (1,)
        assert conn.execute("select * from eram_check()").fetchall() == []


def test_the_archive_has_what_its_metadata_names(dist: Dist):
    there = zipfile.ZipFile(dist.zip)
    prefix = f"eram-{VERSION}/"
    assert {name.startswith(prefix) for name in there.namelist()} == {True}
    for name in ("META.json", "LICENSE", "README.md", "Makefile", "docs/sql-reference.md"):
        assert prefix + name in there.namelist()
    script = there.read(f"{prefix}build/{SCRIPT}").decode()
    assert script == extension.install_script()
    # What only those need who work on eram.
    assert not [name for name in there.namelist() if re.match(rf"{prefix}\.(ci|git)", name)]


@pytest.mark.nightly
def test_pip_finds_by_itself_what_a_package_needs(dist: Dist, tmp_path: Path):
    """As the first user does it, with an index to ask."""
    clean = tmp_path / "clean"
    run(["python3", "-m", "venv", clean], tmp_path)
    run(
        [clean / "bin" / "pip", "install", "--quiet", f"eram[binary] @ file://{dist.sdist}"],
        tmp_path,
    )
    said = run([clean / "bin" / "eram", "version"], tmp_path).stdout
    assert said == f"eram {VERSION}\n"
