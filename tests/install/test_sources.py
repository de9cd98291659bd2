"""The sources of the extension agree with each other."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import psycopg

from eram._server import extension

ROOT = Path(__file__).resolve().parents[2]

# What is around the body, and what is no part of it.
FRAMES = {"header.sql", "plain-header.sql", "plain-path.sql", "plain-footer.sql"}


def test_load_order_names_every_file_once():
    there = {
        str(path.relative_to(ROOT / "extension"))
        for path in (ROOT / "extension").rglob("*.sql")
        if "upgrades" not in path.parts
    }
    named = extension.load_order()
    assert sorted(named) == sorted(there - FRAMES)


def test_there_is_one_version(conn: psycopg.Connection):
    installed = conn.execute("select eram_version(), extversion from pg_extension").fetchall()
    assert (extension.version(), extension.version()) in installed
    assert importlib.metadata.version("eram") == extension.version()


def test_the_control_file_leaves_the_objects_to_who_creates_them():
    settings = dict(line.split(" = ") for line in extension.control().splitlines())
    assert settings["superuser"] == "false"
    assert settings["relocatable"] == "false"
    assert not {"trusted", "schema"} & settings.keys()


def test_the_install_script_replaces_nothing():
    assert "create or replace" in (ROOT / "extension/functions/version.sql").read_text()
    assert "create or replace" not in extension.install_script()


def test_the_body_is_plain_sql():
    lines = extension.plain_body().splitlines()
    assert [line for line in lines if line.startswith("\\")] == []
    assert "@extschema" not in extension.plain_body()
