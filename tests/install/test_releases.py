"""Everybody with a released version comes to the one at hand, and finds what a fresh install has.

Until there is a release, the changelog says so; then these tests begin to ask for what it takes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from eram._server import extension
from eram.install import install
from install.next_version import NEXT, VERSION, upgrade_script, write_sources
from upgrades import (
    RELEASES,
    described,
    differences,
    install_kept,
    kept_script,
    problems,
    released,
    upgrade_plain,
)


def compare_with_fresh(old: str, new: str, releases: Path, first: str) -> list[str]:
    """Bring the first release to the version at hand in one database; install it in another."""
    with psycopg.connect(old, autocommit=True) as conn, psycopg.connect(new) as fresh:
        install_kept(conn, kept_script(first, releases))
        path = extension.upgrade_path(first, extension.version())
        assert path is not None
        upgrade_plain(conn, extension.plain_upgrade(path))
        install(fresh)
        return differences(described(conn, "public"), described(fresh, "public"))


def test_every_release_comes_to_this_version(create_bare_database):
    assert problems() == []
    for first in released()[:1]:
        dsns = create_bare_database(), create_bare_database()
        assert compare_with_fresh(*dsns, RELEASES, first) == []


def test_every_released_extension_comes_to_this_version(create_bare_database, server_folder):
    for first in released()[:1]:
        shutil.copy(kept_script(first), server_folder)
        with (
            psycopg.connect(create_bare_database(), autocommit=True) as conn,
            psycopg.connect(create_bare_database(), autocommit=True) as fresh,
        ):
            conn.execute(f"create extension eram version '{first}'")
            conn.execute(f"alter extension eram update to '{VERSION}'")
            fresh.execute("create extension eram")
            assert differences(described(conn, "public"), described(fresh, "public")) == []
    # The extension that is installed is the one at hand, whatever was released.
    with psycopg.connect(create_bare_database(), autocommit=True) as conn:
        conn.execute("create extension eram")
        assert f"'version': '{VERSION}'" in str(described(conn, "public")["extension eram"])


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, Path]]:
    """Make a tree where this version was released, and the next one is at hand."""

    def make(changelog: str) -> tuple[Path, Path]:
        releases = tmp_path / "releases"
        releases.mkdir()
        kept = kept_script(VERSION, releases)
        kept.write_text(extension.install_script(), encoding="utf-8")
        sources = write_sources(tmp_path)
        (tmp_path / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
        script = sources / "upgrades" / f"eram--{VERSION}--{NEXT}.sql"
        script.write_text(upgrade_script(sources), encoding="utf-8")
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        return tmp_path, releases

    return make


RELEASED = f"## [Unreleased]\n\n## [{VERSION}] - 2026-12-01\n"


def test_what_is_wanting_after_a_release_is_said(tree, create_bare_database):
    root, releases = tree(RELEASED)
    script = root / "extension" / "upgrades" / f"eram--{VERSION}--{NEXT}.sql"
    assert released(root) == [VERSION]
    assert problems(root, releases) == []
    dsns = create_bare_database(), create_bare_database()
    assert compare_with_fresh(*dsns, releases, VERSION) == []

    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace("drop index eram_handlers_alias_of_idx;", ""))
    dsns = create_bare_database(), create_bare_database()
    found = compare_with_fresh(*dsns, releases, VERSION)
    assert "relation eram_handlers_alias_of_idx: should not be there" in found
    script.unlink()
    assert problems(root, releases) == [
        f"no scripts lead from {VERSION} to {NEXT}: python tests/upgrades.py draft"
    ]
    kept_script(VERSION, releases).unlink()
    assert len(problems(root, releases)) == 2


def test_script_of_no_release_is_noticed(tree):
    root, releases = tree("## [Unreleased]\n")
    assert problems(root, releases) == [
        f"eram--{VERSION}.sql is there, and nothing was released",
        f"eram--{VERSION}--{NEXT}.sql is there, and nothing was released",
    ]
