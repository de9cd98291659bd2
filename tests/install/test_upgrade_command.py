"""`python -m eram upgrade`, with made-up versions, because there is one real one so far."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eram._server import extension
from eram.install import main as install
from eram.upgrade import main

VERSION = extension.version()
# Servers share their folders with those of other runs of the tests.
OUR_VERSION = f"99.0.{os.getpid()}"
ROOT = Path(__file__).resolve().parents[2]

# What a script of a release could do: the version, and something that others would miss.
UPGRADE = r"""\echo Use "ALTER EXTENSION eram UPDATE" to load this file. \quit
create or replace function eram_version()
    returns text
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select '{version}';
$$;
create table eram_novelties (version text);
insert into eram_novelties values ('{version}');
"""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Pretend that this package is another version of eram; returns its folder of scripts."""

    def pretend(version: str) -> Path:
        sources = tmp_path / "extension"
        shutil.copytree(ROOT / "extension", sources, dirs_exist_ok=True)
        control = (ROOT / "eram.control").read_text().replace(f"'{VERSION}'", f"'{version}'")
        (sources / "eram.control").write_text(control)
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        (sources / "upgrades").mkdir(exist_ok=True)
        return sources / "upgrades"

    return pretend


@pytest.fixture
def upgraded_server(server_folder: Path) -> Iterator[None]:
    """Have a script for the server under test, for as long as the test."""
    path = write(server_folder, VERSION, OUR_VERSION)
    yield
    path.unlink()


def write(folder: Path, source: str, target: str, text: str = UPGRADE) -> Path:
    path = folder / f"eram--{source}--{target}.sql"
    path.write_text(text.replace("{version}", target), encoding="utf-8")
    path.chmod(0o644)
    return path


def versions(dsn: str, schema: str = "public") -> Any:
    with psycopg.connect(dsn) as conn:
        return conn.execute(
            f"select {schema}.eram_version(),"
            " (select extversion from pg_extension where extname = 'eram')"
        ).fetchone()


def test_what_has_this_version_already_is_left_alone(dsn, bare_dsn, capsys):
    assert main(["--dsn", dsn]) == 0
    assert capsys.readouterr().out == f'eram in schema "public" is already at {VERSION}\n'
    assert install(["--dsn", bare_dsn, "--schema", "jobs"]) == 0
    capsys.readouterr()
    assert main(["--dsn", bare_dsn, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": VERSION,
        "previous_version": VERSION,
        "is_upgraded": False,
        "schema": "jobs",
        "is_extension": False,
    }


@pytest.mark.parametrize("schema", ["public", "jobs"])
def test_a_plain_install_is_upgraded_over_several_versions(bare_dsn, release, capsys, schema):
    assert install(["--dsn", bare_dsn, "--schema", schema]) == 0
    scripts = release("99.1.0")
    write(scripts, VERSION, "99.0.0")
    write(scripts, "99.0.0", "99.1.0", UPGRADE.replace("create table", "-- create table"))
    capsys.readouterr()
    assert main(["--dsn", bare_dsn]) == 0
    assert capsys.readouterr().out == (
        f'eram in schema "{schema}" is upgraded from {VERSION} to 99.1.0\n'
    )
    assert versions(bare_dsn, schema) == ("99.1.0", None)
    with psycopg.connect(bare_dsn) as conn:
        assert conn.execute(f"select version from {schema}.eram_novelties").fetchall() == [
            ("99.0.0",),
            ("99.1.0",),
        ]
        (settings,) = conn.execute(
            "select proconfig from pg_proc where proname = 'eram_version'"
        ).fetchone()
    assert settings == [f"search_path={schema}, pg_temp"]


@pytest.mark.parametrize("way", ["extension", "plain"])
def test_without_a_path_nothing_is_changed(dsn, bare_dsn, release, capsys, way):
    where = dsn
    if way == "plain":
        where = bare_dsn
        assert install(["--dsn", where]) == 0
    release("99.0.0")
    assert main(["--dsn", where]) == 1
    error = capsys.readouterr().err
    assert f"there is no upgrade path from {VERSION}, which the database has, to 99.0.0" in error
    assert "make install" in error or way == "plain"
    assert versions(where) == (VERSION, VERSION if way == "extension" else None)


def test_a_database_that_is_newer_is_left_alone(dsn, release, capsys):
    release("0.0.1")
    assert main(["--dsn", dsn]) == 1
    assert "the database is newer: install that version of the package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{UPGRADE}select 1/0;", "division by zero"),
        ("create table eram_novelties ()", "lead to 0.1.0 in fact, and nothing was changed"),
    ],
)
def test_a_script_that_fails_leaves_nothing(bare_dsn, release, capsys, text, message):
    assert install(["--dsn", bare_dsn]) == 0
    write(release("99.0.0"), VERSION, "99.0.0", text)
    assert main(["--dsn", bare_dsn]) != 0
    assert message.replace("0.1.0", VERSION) in capsys.readouterr().err
    assert versions(bare_dsn) == (VERSION, None)
    with psycopg.connect(bare_dsn) as conn:
        assert conn.execute("select to_regclass('eram_novelties')").fetchone() == (None,)


@pytest.mark.usefixtures("upgraded_server")
def test_an_extension_is_upgraded_by_the_servers_files(dsn, release, capsys):
    release(OUR_VERSION)
    assert main(["--dsn", dsn, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": OUR_VERSION,
        "previous_version": VERSION,
        "is_upgraded": True,
        "schema": "public",
        "is_extension": True,
    }
    assert versions(dsn) == (OUR_VERSION, OUR_VERSION)


@pytest.mark.usefixtures("upgraded_server")
def test_who_does_not_own_eram_cannot_upgrade_it(conn, dsn, release, capsys):
    release(OUR_VERSION)
    role = f"{conn.info.dbname}_nobody"
    conn.execute(f"create role {role} login password 'secret'")
    try:
        through = psycopg.conninfo.make_conninfo(dsn, user=role, password="secret")
        assert main(["--dsn", through]) == 1
        owner = conn.info.user
        assert capsys.readouterr().err == (
            f'eram upgrade: eram belongs to role "{owner}", who alone can upgrade it\n'
        )
    finally:
        conn.execute(f"drop role {role}")


def test_a_database_without_eram(bare_dsn, capsys):
    assert main(["--dsn", bare_dsn]) == 2
    assert "eram is not installed in the database" in capsys.readouterr().err
