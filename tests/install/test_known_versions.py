"""A worker serves a database of a version that it knows, and says of others what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

from eram._server import extension

VERSION = extension.version()
MAJOR, MINOR, PATCH = (int(part) for part in VERSION.split("."))
PATIENCE = 60


def pretend(dsn: str, version: str | None) -> None:
    said = "null" if version is None else f"'{version}'"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "create or replace function eram_version() returns text language sql immutable"
            f" set search_path from current as $$ select {said} $$"
        )


def run_worker(dsn: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eram", "worker", "--allow", "json", "--dsn", dsn]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("version", "what_to_do"),
    [
        (f"{MAJOR}.{MINOR + 1}.0", f"install version {MAJOR}.{MINOR + 1}.0 of the package"),
        (f"{MAJOR + 1}.0.0", f"install version {MAJOR + 1}.0.0 of the package"),
        (f"{MAJOR}.{MINOR}0.0", f"install version {MAJOR}.{MINOR}0.0 of the package"),
        (f"{MAJOR}.{MINOR - 1}.9", "run python -m eram upgrade, or install that version"),
    ],
)
def test_unknown_version_is_refused(dsn, version, what_to_do):
    pretend(dsn, version)
    done = run_worker(dsn)
    assert done.returncode == 2
    said = f"the database has eram {version}, which this package, {VERSION}, does not know; "
    assert said + what_to_do in done.stderr
    assert "Traceback" not in done.stderr
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from eram_workers").fetchone() == (0,)
    pretend(dsn, VERSION)


@pytest.mark.parametrize("version", ["unpackaged", "0.2rc1", "", "1", "0.².0", None])
def test_what_is_no_series_of_numbers_is_unknown(dsn, version):
    pretend(dsn, version)
    done = run_worker(dsn)
    assert done.returncode == 2
    has = f'eram "{version}"' if version else "eram of an unknown version"
    assert done.stderr.endswith(
        f"the database has {has}, which this package, {VERSION}, does not know; install the"
        " package that it is of\n"
    )
    assert "Traceback" not in done.stderr
    pretend(dsn, VERSION)


def test_another_patch_is_served(dsn, tmp_path):
    """So that workers may restart between the upgrade of a database and their own."""
    pretend(dsn, f"{MAJOR}.{MINOR}.{PATCH + 1}")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "eram", "worker", "--allow", "json", "--dsn", dsn]
    with log.open("w") as stream:
        worker = subprocess.Popen(command, stderr=stream, env={**os.environ})
        try:
            for _ in range(PATIENCE * 10):
                if "registered as" in log.read_text() or worker.poll() is not None:
                    break
                with psycopg.connect(dsn) as conn:
                    conn.execute("select pg_sleep(0.1)")
            assert "registered as" in log.read_text()
        finally:
            worker.terminate()
            assert worker.wait(PATIENCE) == 0
    pretend(dsn, VERSION)
