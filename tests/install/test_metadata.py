"""META.json is what the PGXN Meta Spec wants; everything that says a version says the same one."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eram._server import extension
from install.pgxn_meta import problems_of
from upgrades import released

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
META: dict[str, Any] = json.loads((ROOT / "META.json").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SCRIPT = f"build/eram--{extension.version()}.sql"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return META.json with another value at a path, or without any if that is None."""
    meta = json.loads(json.dumps(META))
    *parents, last = path.split("/")
    place = meta
    for each in parents:
        place = place[each]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return meta


def test_it_is_what_the_specification_wants():
    assert problems_of(META) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((key, None) for key in ("name", "version", "abstract", "maintainer", "license")),
        *((key, None) for key in ("provides", "meta-spec", "provides/eram/file")),
        ("provides/eram/version", None),
        ("name", "e/r"),
        ("version", "0.1"),
        ("abstract", " "),
        ("maintainer", []),
        ("license", "PostgreSQL"),
        ("provides", {}),
        ("provides/eram/file", "/eram.sql"),
        ("provides/eram/version", 1),
        ("prereqs/runtime/requires/PostgreSQL", "fourteen"),
        ("prereqs/running", {}),
        ("prereqs/runtime/needs", {}),
        ("release_status", "alpha"),
        ("tags", []),
        ("meta-spec", {"version": "2.0.0"}),
        ("licence", "postgresql"),
    ],
)
def test_what_the_specification_does_not_allow_is_noticed(path: str, value: Any):
    assert len(problems_of(changed(path, value))) == 1


def test_what_it_names_is_there():
    (provided,) = META["provides"].values()
    assert provided["file"] == SCRIPT
    assert (ROOT / provided["docfile"]).is_file()
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("PostgreSQL License")
    assert (META["license"], PROJECT["license"]) == ("postgresql", "PostgreSQL")


def test_it_names_no_address_that_nobody_has():
    assert "resources" not in META
    assert "://" not in json.dumps(META)


def test_it_needs_the_oldest_server_that_is_tested():
    matrix = re.search(r"^MATRIX +:= (.*)$", MAKEFILE, re.MULTILINE)
    assert META["prereqs"]["runtime"]["requires"]["PostgreSQL"] == f"{matrix[1].split()[0]}.0.0"


def test_there_is_one_version(conn: psycopg.Connection):
    version = extension.version()
    said = {
        "the database": conn.execute("select eram_version()").fetchone()[0],
        "the package": importlib.metadata.version("eram"),
        "META.json": META["version"],
        "META.json, the extension": META["provides"]["eram"]["version"],
    }
    assert said == dict.fromkeys(said, version)
    assert (ROOT / "extension" / "upgrades" / f"eram--unpackaged--{version}.sql").is_file()


def test_the_change_log_leads_to_this_version():
    """It is the last one released, or a later one, of which there is something to say."""
    numbers = [tuple(map(int, each.split("."))) for each in [*released(), extension.version()]]
    assert numbers == sorted(numbers)
    unreleased = re.search(
        r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", CHANGES, re.MULTILINE | re.DOTALL
    )
    if extension.version() not in released():
        assert unreleased
        assert unreleased[1].strip()


def test_the_pythons_that_are_named_are_those_that_are_tried():
    tried = re.search(r"^PYTHONS +:= (.*)$", MAKEFILE, re.MULTILINE)
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named
    assert set(named) <= set(tried[1].split())
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "docs/releasing.md"])
def test_what_the_pages_of_maintainers_name_is_there(page: str):
    """Targets of make, files, and functions."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", MAKEFILE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True
    ).stdout.splitlines()
    folders = {str(parent) for each in tracked for parent in Path(each).parents}
    for name in re.findall(r"`(?:python )?((?:tests|docs|extension|python|bench)/[\w/.-]+)", text):
        if "--" not in name and tracked:
            assert name.rstrip("/") in {*tracked, *folders}, name
    functions = {path.stem for path in (ROOT / "extension" / "functions").rglob("*.sql")}
    assert functions
    sources = "".join(path.read_text() for path in (ROOT / "extension").rglob("*.sql"))
    for name in re.findall(r"`(eram_\w+)\(", text):
        assert f"function {name}(" in sources, name


def test_contributing_is_one_screen():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 50
