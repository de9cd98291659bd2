"""The fixtures that pytest has wherever eram is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import psycopg
import pytest

PROJECT = Path(__file__).parents[2]

HANDLERS = """
import eram

@eram.job
def greet(job, name):
    return f"Hello, {name}!"
"""
TEST = """
import pytest
from handlers import greet
from eram import testing

@pytest.mark.parametrize("number", [1, 2])
def test_greeting(eram_conn, number):
    greet.enqueue(eram_conn, name="Ada")
    testing.assert_enqueued(eram_conn, greet, {"name": "Ada"}, count=1, committed=True)
    assert testing.drain(eram_conn).results == ["Hello, Ada!"]
    with pytest.raises(Exception, match="Explicit commit"):
        eram_conn.commit()
"""


class Folder:
    """Somebody's tests, run by a pytest of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.write("handlers.py", HANDLERS)
        self.write("test_it.py", TEST)
        self.write("pytest.ini", "[pytest]\nfilterwarnings = error\n")

    def write(self, name: str, text: str) -> None:
        (self._path / name).write_text(text, encoding="utf-8")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        variables = {
            name: each
            for name, each in os.environ.items()
            if name not in {"DATABASE_URL", "ERAM_TEST_DSN"}
        }
        variables |= {"PYTHONPATH": str(self._path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        options = ["-q", "-p", "pytest_eram", "-p", "no:cacheprovider"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *options, *arguments],
            cwd=self._path,
            env=variables | environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def assert_passed(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_connection_whose_transaction_is_rolled_back(folder, dsn, conn):
    assert_passed(folder.run("--eram-dsn", dsn))
    assert conn.execute("select from eram_jobs").fetchall() == []
    assert conn.execute("select from eram_workers").fetchall() == []


def test_eram_is_installed_where_it_is_missing_and_gone_afterwards(folder, bare_dsn):
    assert_passed(folder.run(ERAM_TEST_DSN=bare_dsn))
    with psycopg.connect(bare_dsn) as conn:
        assert conn.execute("select from pg_proc where proname ~ 'eram_'").fetchall() == []


def test_the_option_goes_before_variables_and_the_setting_between_these(folder, dsn):
    wrong = "postgresql://nobody@127.0.0.1:1/nowhere"
    folder.write("pytest.ini", f"[pytest]\neram_dsn = {wrong}\n")
    variables = {"ERAM_TEST_DSN": wrong, "DATABASE_URL": wrong}
    assert_passed(folder.run("--eram-dsn", dsn, **variables))
    assert_passed(folder.run(ERAM_TEST_DSN=dsn, DATABASE_URL=wrong))
    folder.write("pytest.ini", f"[pytest]\neram_dsn = {dsn}\n")
    assert_passed(folder.run(DATABASE_URL=wrong))
    folder.write("pytest.ini", "[pytest]\n")
    assert_passed(folder.run(DATABASE_URL=dsn))


def test_the_database_can_be_a_fixture(folder, dsn):
    folder.write(
        "conftest.py",
        f"import pytest\n@pytest.fixture(scope='session')\ndef eram_dsn():\n    return {dsn!r}\n",
    )
    assert_passed(folder.run())


def test_without_a_database_the_tests_that_want_one_say_what_to_do(folder):
    folder.write("test_other.py", "def test_nothing():\n    pass\n")
    done = folder.run()
    assert done.returncode == 1
    assert "no database for eram's tests: pass --eram-dsn" in done.stdout
    assert "1 passed, 2 errors" in done.stdout


def test_a_schema_that_is_not_in_the_search_path_is_named(folder, bare_dsn):
    with psycopg.connect(bare_dsn) as conn:
        conn.execute("create schema jobs")
        conn.execute("create extension eram schema jobs")
    done = folder.run("--eram-dsn", bare_dsn)
    assert "eram is in schema jobs, which is not in the search_path" in done.stdout
    assert_passed(folder.run("--eram-dsn", f"{bare_dsn}?options=-csearch_path%3Djobs,public"))


def test_a_run_without_these_fixtures_imports_nothing_of_eram(folder):
    folder.write(
        "test_it.py",
        "import sys\ndef test_it():\n"
        "    assert not {'eram', 'psycopg'} & {each.partition('.')[0] for each in sys.modules}\n",
    )
    assert_passed(folder.run())


def test_pytest_finds_the_plugin():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    entries = project["project"]["entry-points"]["pytest11"]
    assert entries == {"pytest_eram": "pytest_eram"}
