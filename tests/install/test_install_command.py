"""`python -m eram install`, and the plain file it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from eram._server import extension
from eram.install import main


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("DATABASE_URL", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)


def version_in(dsn: str, schema: str) -> str:
    with psycopg.connect(dsn) as conn:
        return conn.execute(f"select {schema}.eram_version()").fetchone()[0]


def test_it_installs_into_the_current_schema(bare_dsn, capsys):
    assert main(["--dsn", bare_dsn]) == 0
    assert capsys.readouterr().out == (
        f'eram {extension.version()} is installed in schema "public"\n'
    )
    assert version_in(bare_dsn, "public") == extension.version()


def test_it_makes_the_schema_that_is_named(bare_dsn):
    assert main(["--dsn", bare_dsn, "--schema", "jobs"]) == 0
    assert version_in(bare_dsn, "jobs") == extension.version()


def test_it_uses_the_schema_that_is_there(bare_dsn):
    with psycopg.connect(bare_dsn) as conn:
        conn.execute("create schema jobs")
    assert main(["--dsn", bare_dsn, "--schema", "jobs"]) == 0


def test_the_database_can_come_from_database_url(bare_dsn, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", bare_dsn)
    assert main([]) == 0
    assert version_in(bare_dsn, "public") == extension.version()


def test_the_database_can_come_from_the_pg_variables(bare_dsn, monkeypatch):
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    for name, value in conninfo_to_dict(bare_dsn).items():
        monkeypatch.setenv(names.get(name, "PGPASSWORD"), str(value))
    assert main([]) == 0
    assert version_in(bare_dsn, "public") == extension.version()


def test_the_answer_for_a_program(bare_dsn, capsys):
    assert main(["--dsn", bare_dsn, "--schema", "jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": extension.version(),
        "schema": "jobs",
        "is_extension": False,
    }


def test_a_dsn_that_cannot_be_read_is_wrong_usage(capsys):
    assert main(["--dsn", "nonsense"]) == 2
    assert "dsn cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("schema", ["public", "jobs"])
def test_a_second_install_is_refused(bare_dsn, capsys, schema):
    assert main(["--dsn", bare_dsn]) == 0
    assert main(["--dsn", bare_dsn, "--schema", schema]) == 1
    error = capsys.readouterr().err
    assert "eram is already in this database: in schema public, by its plain script" in error


def test_it_is_refused_where_the_extension_is(dsn, capsys):
    assert main(["--dsn", dsn, "--schema", "jobs"]) == 1
    error = capsys.readouterr().err
    assert "eram is already in this database: in schema public, by CREATE EXTENSION" in error
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select to_regnamespace('jobs')").fetchone() == (None,)


def test_it_is_refused_without_a_schema(bare_dsn, capsys):
    with psycopg.connect(bare_dsn) as conn:
        conn.execute("drop schema public")
    assert main(["--dsn", bare_dsn]) == 1
    error = capsys.readouterr().err
    assert "no schema has been selected" in error
    assert "hint: " in error


def test_a_database_that_cannot_be_reached_is_an_error_not_a_traceback(tmp_path, capsys):
    assert main(["--dsn", f"host={tmp_path} dbname=nowhere"]) == 1
    assert "eram was not installed: " in capsys.readouterr().err


def test_the_plain_file_is_refused_twice(bare_dsn, bin_dir: Path, tmp_path: Path):
    script = tmp_path / "eram.plain.sql"
    script.write_text(extension.plain_script(), encoding="utf-8")
    command = [bin_dir / "psql", "-X", "-q", "-f", script, bare_dsn]
    subprocess.run(command, check=True)
    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert second.returncode != 0
    assert 'eram is already installed in schema "public"' in second.stderr


def test_it_prints_the_plain_file():
    printed = subprocess.run(
        [sys.executable, "-m", "eram", "install", "--print"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert printed.stdout == extension.plain_script()
