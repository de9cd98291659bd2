"""Someone who types in what a page of the documentation says."""

from __future__ import annotations

import configparser
import json
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
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

PROJECT = Path(__file__).parents[2]
LONGEST_SECONDS = 30.0
POSTGRES_EXPORTER = [
    *("--extend.query-path", "docs/monitoring/postgres_exporter.yml"),
    *("--disable-default-metrics", "--disable-settings-metrics"),
]
# Those that end by themselves.
COMMANDS = {"check", "enqueue", "metrics", "upgrade", "version"}
# Those of the server's; with variables, so a shell reads them.
PROGRAMS = {"psql", "pg_dump", "pg_restore"}

WORKER_IS_THERE = "select count(*) = 1 from eram_workers where ended_at is null"
NOTHING_IS_DUE = "select count(*) = 0 from eram_jobs where state in ('available', 'executing')"
FAILURES = "select * from eram_jobs where errors is not null and state <> 'cancelled'"
RUN_COMMANDS = "select eram_run_schedule(name) from eram_schedules where action = 'sql'"
FAILED_COMMANDS = (
    "select name, last_error from eram_schedules"
    " where action = 'sql' and (last_error is not null or last_run_at is null)"
)
COPY = "shop_copy"


class Reader:
    """Someone who types in what a page says."""

    def __init__(
        self, dsn: str, directory: Path, bin_dir: Path, *, is_literal: bool = False
    ) -> None:
        self._dsn = dsn
        # What pages for those who know eram already take for granted.
        self._before_python = "" if is_literal else f"DATABASE_URL = {dsn!r}\n"
        self._directory = directory
        self._env = {
            **os.environ,
            "DATABASE_URL": dsn,
            # Another database on the same server, for pages about copies.
            "COPY_URL": make_conninfo(dsn, dbname=COPY),
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
            module = name[1].removesuffix(".py").replace("/", ".")
            text = f"import {module}"
            if module.endswith(".settings"):
                # As the manage.py of a project of Django says it.
                self._env["DJANGO_SETTINGS_MODULE"] = module
        done = self._run([sys.executable, "-c", self._before_python + text])
        assert done.returncode == 0, f"{where}: {done.stderr}"

    def run_shell(self, line: str, where: str) -> None:
        command, *arguments = shlex.split(line)
        if command in PROGRAMS:
            done = self._run(["sh", "-c", line])
            assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"
        elif command == "prometheus-postgres-exporter":
            # tests/docs/test_exporters.py runs it, with these options.
            assert arguments == POSTGRES_EXPORTER, where
        elif command == "make":
            targets = re.findall(r"(?m)^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text())
            assert arguments[0] in targets, f"{where}: no such target"
        elif arguments[:2] == ["-m", "eram.worker"]:
            # Run at the end, when the page has enqueued what there is to run.
            worker = [sys.executable, *arguments]
            if worker not in self._workers:
                self._workers.append(worker)
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
        elif arguments[:2] == ["-m", "eram.top"]:
            # In a terminal it runs until a key is pressed; tests/top presses it.
            done = self._run([sys.executable, *arguments])
            assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"
        elif arguments[:2] in (["-m", "eram.dev"], ["-m", "eram.web"]):
            # They run until they are interrupted; tests of their own start them for real.
            helped = self._run([sys.executable, *arguments[:2], "--help"])
            assert helped.returncode == 0, where
            options = {each for each in arguments[2:] if each.startswith("--")}
            assert options <= {*re.findall(r"--[a-z-]+", helped.stdout)}, where
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

    def run_dockerfile(self, text: str, where: str) -> None:
        """Run what the container would."""
        command = re.search(r"(?m)^CMD (\[.*\])$", text)
        assert command, where
        self.run_shell(shlex.join(json.loads(command[1])), where)

    def run_yaml(self, text: str, where: str) -> None:
        """Run whatever is a command in it."""
        for command in _commands(yaml.safe_load(text)):
            line = command if isinstance(command, str) else shlex.join(command)
            self.run_shell(line, where)

    def run_psql(self, text: str, where: str) -> None:
        path = self._directory / "script.sql"
        path.write_text(text, encoding="utf-8")
        done = self._run(["psql", "--no-psqlrc", "--file", str(path), self._dsn])
        assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"

    def keep_toml(self, text: str) -> None:
        settings = tomllib.loads(text)
        place = settings.get("dsn") or settings["driver"]["config"]["url"]
        assert place.startswith("postgresql")
        path = self._directory / f"worker-{len(self._workers)}.toml"
        text = re.sub(r"(?m)^dsn = .*$", "", text)
        text = re.sub(r"(?m)^listen_dsn = .*$", f'listen_dsn = "{self._dsn}"', text)
        url = self._dsn.removeprefix("postgresql")
        text = re.sub(r'(?m)^url = "(postgresql[+a-z]*).*"$', rf'url = "\1{url}"', text)
        path.write_text(text, encoding="utf-8")
        self._workers.append([sys.executable, "-m", "eram.worker", "--config", str(path)])

    def demand(self, text: str, where: str) -> None:
        """Fail unless each query says that something is true."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            for query in filter(None, map(str.strip, text.split(";\n"))):
                assert conn.execute(query).fetchall() == [(True,)], f"{where}: {query}"

    def finish(self) -> None:
        """Let commands of schedules run once, and each worker what is due, and end well."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            for _ in conn.execute(RUN_COMMANDS).fetchall():
                # A tick takes one, and the next one runs it.
                conn.execute("select eram_tick()")
                conn.execute("select eram_tick()")
            assert conn.execute(FAILED_COMMANDS).fetchall() == []
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


def _commands(document: Any) -> Iterator[Any]:
    match document:
        case {"command": command, **rest}:
            yield command
            yield from _commands(rest)
        case dict():
            for each in document.values():
                yield from _commands(each)
        case list():
            for each in document:
                yield from _commands(each)


def _wait_until(dsn: str, query: Any) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.monotonic() < deadline:
            row = conn.execute(query).fetchone()
            if row and row[0]:
                return
            threading.Event().wait(0.05)
    pytest.fail(f"not true within {LONGEST_SECONDS} s: {query}")
