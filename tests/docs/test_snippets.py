"""Every snippet of README.md and docs/ is executed, in the order of its page."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

PROJECT = Path(__file__).parents[2]
# Needs a database full of jobs: test_administration.py runs it.
ELSEWHERE = {"administration.md"}
PAGES = [
    PROJECT / "README.md",
    *(page for page in sorted((PROJECT / "docs").glob("*.md")) if page.name not in ELSEWHERE),
]
# Signatures, not calls: generated, and compared by test_sql_reference.py.
NOT_CALLS = {"sql-reference.md"}
LONGEST_SECONDS = 30.0
# Those that end by themselves.
COMMANDS = {"check", "enqueue", "upgrade", "version"}

WORKER_IS_THERE = "select count(*) = 1 from eram_workers where ended_at is null"
NOTHING_IS_DUE = "select count(*) = 0 from eram_jobs where state in ('available', 'executing')"
FAILURES = "select * from eram_jobs where errors is not null and state <> 'cancelled'"

# What a page takes for granted that its reader has.
BEFORE = {
    "README.md": "create table words (word text)",
    "python.md": "create table bookings (account text, amount int);"
    "create materialized view totals as select sum(amount) from bookings",
}


class Snippet(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def _snippets(page: Path) -> Iterator[Snippet]:
    lines = page.read_text(encoding="utf-8").splitlines()
    fence, language, start = False, "", 0
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if fence:
                yield Snippet(page.name, start, language, "\n".join(lines[start : number - 1]))
            fence, language, start = not fence, line.removeprefix("```"), number


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, dsn: str, tmp_path: Path, bin_dir: Path) -> None:
    """What a page shows works as shown."""
    reader = Reader(dsn, tmp_path, bin_dir)
    if page.name in BEFORE:
        reader.run_sql(BEFORE[page.name])
    for snippet in _snippets(page):
        where = f"{snippet.page}:{snippet.line}"
        match snippet.language:
            case "sql" if snippet.page not in NOT_CALLS:
                reader.run_sql(snippet.text)
            case "python":
                reader.run_python(snippet.text, where)
            case "sh":
                for line in snippet.text.splitlines():
                    reader.run_shell(line.partition("  #")[0].strip(), where)
            case "toml":
                reader.keep_toml(snippet.text)
            case "ini":
                reader.run_unit(snippet.text, where)
            case "crontab":
                reader.run_crontab(snippet.text, where)
            case "psql":
                reader.run_psql(snippet.text, where)
            case "sql pg_cron":
                # Needs a server of its own: tests/pg_cron runs it.
                pass
            case "sql" | "mermaid" | "text":
                pass
            case other:
                pytest.fail(f"{where}: nobody executes a snippet in {other!r}")
    reader.finish()


class Reader:
    """Someone who types in what a page says."""

    def __init__(self, dsn: str, directory: Path, bin_dir: Path) -> None:
        self._dsn = dsn
        self._directory = directory
        self._env = {
            **os.environ,
            "DATABASE_URL": dsn,
            "PYTHONPATH": str(directory),
            "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        }
        self._workers: list[list[str]] = []

    def run_sql(self, text: str) -> None:
        # A page may say "create extension"; the test's database has it already.
        text = re.sub(r"(?im)^create extension eram;$", "", text)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute(text)

    def run_python(self, text: str, where: str) -> None:
        if name := re.match(r"# (\S+\.py)\n", text):
            path = self._directory / name[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            text = f"import {name[1].removesuffix('.py').replace('/', '.')}"
        script = f"DATABASE_URL = {self._dsn!r}\n{text}"
        done = self._run([sys.executable, "-c", script])
        assert done.returncode == 0, f"{where}: {done.stderr}"

    def run_shell(self, line: str, where: str) -> None:
        command, *arguments = shlex.split(line)
        if command == "make":
            targets = re.findall(r"(?m)^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text())
            assert arguments[0] in targets, f"{where}: no such target"
        elif arguments[:2] == ["-m", "eram.worker"]:
            # Run at the end, when the page has enqueued what there is to run.
            self._workers.append([sys.executable, *arguments])
        elif arguments[:2] == ["-m", "eram.tick"]:
            # It runs until it is interrupted; tests/python interrupts it.
            once = [*arguments, "--once"]
            done = self._run([sys.executable, *once])
            assert done.returncode == 0, f"{where}: {done.stderr}"
        elif arguments[:2] == ["-m", "eram"] and arguments[2] in COMMANDS:
            done = self._run([sys.executable, *arguments])
            # What a page leaves undone for a minute is a problem to `check`.
            assert 0 <= done.returncode <= (arguments[2] == "check"), f"{where}: {done.stderr}"
            assert done.stderr == "", where
        elif arguments[:2] == ["-m", "pytest"]:
            done = self._run([sys.executable, *arguments])
            assert done.returncode == 0, f"{where}: {done.stdout}"
        elif arguments == ["-m", "eram.dev"]:
            # It runs until it is interrupted; tests/install starts it for real.
            assert self._run([sys.executable, *arguments, "--help"]).returncode == 0, where
        else:
            pytest.fail(f"{where}: nobody executes {line!r}")

    def run_unit(self, text: str, where: str) -> None:
        unit = configparser.ConfigParser(interpolation=None)
        unit.read_string(text)
        assert unit["Service"]["Environment"].startswith("DATABASE_URL=postgresql:")
        self.run_shell(unit["Service"]["ExecStart"], where)

    def run_crontab(self, text: str, where: str) -> None:
        """Run each line once, whatever its time."""
        variable, *lines = text.splitlines()
        assert variable.startswith("DATABASE_URL=postgresql:")
        for line in lines:
            *fields, command = line.split(maxsplit=5)
            assert len(fields) == 5, where
            if "psql" in command:
                # For a second is long enough to see that it works.
                command = command.replace("'55 seconds'", "'1 second'")
                done = self._run(["sh", "-c", command])
                assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"
            else:
                self.run_shell(command, where)

    def run_psql(self, text: str, where: str) -> None:
        path = self._directory / "script.sql"
        path.write_text(text, encoding="utf-8")
        done = self._run(["psql", "--no-psqlrc", "--file", str(path), self._dsn])
        assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"

    def keep_toml(self, text: str) -> None:
        settings = tomllib.loads(text)
        place = settings.get("dsn") or settings["driver"]["config"]["url"]
        assert place.startswith("postgresql")
        path = self._directory / "worker.toml"
        text = re.sub(r"(?m)^dsn = .*$", "", text)
        url = self._dsn.removeprefix("postgresql")
        text = re.sub(r'(?m)^url = "(postgresql[+a-z]*).*"$', rf'url = "\1{url}"', text)
        path.write_text(text, encoding="utf-8")
        self._workers.append([sys.executable, "-m", "eram.worker", "--config", str(path)])

    def finish(self) -> None:
        """Let each worker of the page run what is due, and end well."""
        for command in self._workers:
            worker = subprocess.Popen(command, env=self._env, cwd=self._directory)
            try:
                _wait_until(self._dsn, WORKER_IS_THERE)
                _wait_until(self._dsn, NOTHING_IS_DUE)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(LONGEST_SECONDS) == 0
            finally:
                worker.kill()
                worker.wait()
        with psycopg.connect(self._dsn) as conn:
            assert conn.execute(FAILURES).fetchall() == []

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._env,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )


def _wait_until(dsn: str, query: Any) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.monotonic() < deadline:
            row = conn.execute(query).fetchone()
            if row and row[0]:
                return
            threading.Event().wait(0.05)
    pytest.fail(f"not true within {LONGEST_SECONDS} s: {query}")
