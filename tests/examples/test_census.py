"""The census on a small input: what it stores, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

WAIT_SECONDS = 20

# What someone's shell may say of a server that is not the census's own.
OTHER_SERVER = {
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "99999",
    "PGSERVICE": "elsewhere",
    "PGOPTIONS": "-c nonsense=1",
    "PGCLIENTENCODING": "nonsense",
}

CENSUS = Path(__file__).parents[2] / "examples" / "census"

# What each file in broken/ is there for, as Python 3.11 and later put it.
REASONS = {
    "bad_indentation": "IndentationError: expected an indented block",
    "invalid_syntax": "SyntaxError: invalid syntax",
    "not_utf8": "SyntaxError: (unicode error) 'utf-8' codec can't decode byte",
    "tabs_and_spaces": "TabError: inconsistent use of tabs and spaces",
    "unclosed_bracket": "SyntaxError: '[' was never closed",
}

SOURCES = {
    "alone.py": "import os\nimport sys\n\nprint(os, sys)\n",
    "package/__init__.py": "",
    "package/module.py": (
        "from os import path\n\n\nclass Thing:\n    def method(self):\n        import re\n\n"
        "        async def inner():\n            return lambda: re\n\n        return path, inner\n"
    ),
    "package/notes.txt": "no Python\n",
}

MODULES = [
    ("alone", 4, 0, 0, 2),
    ("package", 0, 0, 0, 0),
    ("package.module", 11, 2, 1, 2),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "source"


@pytest.fixture
def census_dsn(bare_dsn: str) -> Iterator[str]:
    """How to connect to the census's own database, which is dropped in the end."""
    yield make_conninfo(bare_dsn, dbname="eram_census")
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("drop database if exists eram_census with (force)")


def start(*options: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, CENSUS, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def run(*options: str | Path) -> tuple[int, str, str]:
    process = start(*options)
    output, errors = process.communicate(timeout=90)
    assert_nothing_left(process)
    return process.returncode, output, errors


def assert_nothing_left(process: subprocess.Popen[str], name: str | None = None) -> None:
    """Fail if a process of this one's session runs, or one that is about something of this name."""
    assert left_of(process, name) == []


def left_of(process: subprocess.Popen[str], name: str | None = None) -> list[bytes]:
    left = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = (directory / "cmdline").read_bytes()
            fields = (directory / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            is_named = name is not None and name.encode() in command
            if fields[0] != "Z" and (int(fields[3]) == process.pid or is_named):
                left.append(command)
    return left


def test_files_are_counted_and_summed_up_once(bare_dsn, census_dsn, source):
    code, output, errors = run("--dsn", bare_dsn, "--source", source, "--workers", "2")

    assert (code, errors) == (0, "")
    with psycopg.connect(census_dsn) as conn:
        columns = "lines, functions, classes, imports"
        modules = conn.execute(f"select module, {columns} from census_modules order by module")
        assert modules.fetchall() == MODULES
        totals = tuple(sum(column) for column in list(zip(*MODULES, strict=True))[1:])
        summary = conn.execute(f"select modules, {columns} from census_summary").fetchall()
        assert summary == [(len(MODULES), *totals)]
        result = conn.execute("select result from eram_jobs where queue = 'summary'").fetchone()
        assert result == (dict(zip(["modules", *columns.split(", ")], summary[0], strict=True)),)
        assert conn.execute("select * from eram_check()").fetchall() == []
    for module in MODULES:
        assert f"  {module[0]} " in output
    assert "nothing is left running" in output


def test_files_that_do_not_parse_are_discarded_with_the_reason(bare_dsn, census_dsn, source):
    code, output, _ = run("--dsn", bare_dsn, "--source", source, "--workers", "1")

    assert code == 0
    with psycopg.connect(census_dsn) as conn:
        discarded = conn.execute(
            "select args ->> 'module', attempt, errors from eram_jobs where state = 'discarded'"
        ).fetchall()
    assert sorted(module for module, _, _ in discarded) == sorted(REASONS)
    for module, attempt, failures in discarded:
        assert attempt == len(failures) == 3
        for failure in failures:
            assert failure["error"].startswith(REASONS[module])
            assert "ast.py" in failure["traceback"]
        assert REASONS[module] in output


def test_a_second_run_starts_clean(bare_dsn, census_dsn, source):
    for _ in range(2):
        assert run("--dsn", bare_dsn, "--source", source, "--workers", "1")[0] == 0
    with psycopg.connect(census_dsn) as conn:
        counts = conn.execute("select count(*) from eram_jobs").fetchall()
    assert counts == [(len(MODULES) + len(REASONS) + 1,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("census_dsn")
def test_a_signal_ends_it_and_its_workers(bare_dsn, number):
    process = start("--dsn", bare_dsn, "--source", Path(os.__file__).parent)
    assert process.stdout
    while "completed" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert_nothing_left(process)


@pytest.mark.parametrize("has_own_server", [False, True])
@pytest.mark.usefixtures("census_dsn")
def test_nothing_outlives_it_when_it_is_killed(bare_dsn, tmp_path, has_own_server):
    where = ("--directory", tmp_path / "server") if has_own_server else ("--dsn", bare_dsn)
    process = start(*where, "--source", Path(os.__file__).parent)
    assert process.stdout
    while "completed" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=30)

    deadline = time.monotonic() + WAIT_SECONDS
    while left := left_of(process, str(tmp_path / "server")):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.usefixtures("census_dsn")
def test_it_gives_up_at_its_deadline(bare_dsn, source):
    code, _, errors = run("--dsn", bare_dsn, "--source", source, "--deadline", "0")

    assert code == 1
    assert "not finished after 0 s" in errors


@pytest.mark.usefixtures("census_dsn")
def test_it_does_not_drop_what_it_has_not_made(bare_dsn, source):
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("create database eram_census")
    code, _, errors = run("--dsn", bare_dsn, "--source", source)

    assert code == 1
    assert "the census did not make" in errors


def test_it_does_not_heed_what_is_said_of_other_servers(monkeypatch, tmp_path, source):
    for name, text in OTHER_SERVER.items():
        monkeypatch.setenv(name, text)
    code, _, errors = run("--directory", tmp_path / "server", "--source", source, "--workers", "1")

    assert (code, errors) == (0, "")


def test_it_brings_its_own_server(tmp_path, source):
    directory = tmp_path / "server"
    for _ in range(2):
        process = start("--directory", directory, "--source", source, "--workers", "1")
        output, errors = process.communicate(timeout=90)

        assert (process.returncode, errors) == (0, "")
        assert f"-m eram dev --directory {directory}" in output
        assert_nothing_left(process, str(directory))
