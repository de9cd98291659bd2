"""The workers of examples/workers/ as programs: how each is made, started and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parents[2]
WORKERS = PROJECT / "examples" / "workers"
LANGUAGES = ("bash", "go", "node")
PATIENCE = 60
# Debian's packages of Go's libraries are sources in this folder.
GO_ENVIRONMENT = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
GO_LIBRARY = Path(GO_ENVIRONMENT["GOPATH"]) / "src/github.com/jackc/pgx/v4"


class Language(NamedTuple):
    """How the worker of a language is started, and where."""

    name: str
    command: list[str]
    folder: Path
    environment: Mapping[str, str] = {}

    def __str__(self) -> str:
        return self.name


def _refuse(name: str, reason: str) -> None:
    variable = f"ERAM_REQUIRE_{name.upper()}"
    if os.environ.get(variable):
        pytest.fail(f"this run must have {name}: {reason}")
    pytest.skip(f"{reason}; CI has it, and {variable}=1 forbids to skip")


def _is_wanted(name: str) -> bool:
    """Say whether this run is to try a language: ERAM_TEST_LANGUAGES names them, else all are."""
    return name in os.environ.get("ERAM_TEST_LANGUAGES", " ".join(LANGUAGES)).split()


def _run(command: list[str], folder: Path, environment: Mapping[str, str], seconds: float) -> str:
    """Run a command; return what it says if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    return done.stdout + done.stderr if done.returncode else ""


def copy_of(name: str, folder: Path) -> Path:
    """Copy a worker's files as a reader would."""
    return Path(shutil.copytree(WORKERS / name, folder / name))


def make_bash(folder: Path) -> Language:
    copy = copy_of("bash", folder)
    return Language("bash", [str(copy / "worker.sh")], copy)


def make_node(folder: Path) -> Language:
    if shutil.which("npm") is None or shutil.which("node") is None:
        _refuse("node", "there is no node or npm on the PATH")
    copy = copy_of("node", folder)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent")
    if problem := _run(["npm", "install", *options], copy, {}, 100):
        _refuse("node", f"npm could not install pg: {problem}")
    return Language("node", ["node", str(copy / "worker.mjs")], copy)


def make_go(folder: Path) -> Language:
    if shutil.which("go") is None:
        _refuse("go", "there is no go on the PATH")
    if not GO_LIBRARY.is_dir():
        _refuse("go", "there is no golang-github-jackc-pgx-v4-dev")
    copy = copy_of("go", folder)
    problem = _run(["go", "build", "-o", "worker", "."], copy, GO_ENVIRONMENT, 100)
    assert not problem, problem
    return Language("go", [str(copy / "worker")], copy, GO_ENVIRONMENT)


MAKERS: dict[str, Callable[[Path], Language]] = {
    "bash": make_bash,
    "go": make_go,
    "node": make_node,
}


class Languages:
    """Makes each language's worker once in a run of the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Language] = {}

    def get(self, name: str) -> Language:
        if not _is_wanted(name):
            pytest.skip(f"ERAM_TEST_LANGUAGES does not name {name}")
        if name not in self._made:
            self._made[name] = MAKERS[name](self._folder)
        return self._made[name]

    def another(self, name: str) -> Path:
        """Return a copy of a language's folder, with all that is installed in it."""
        source = self.get(name).folder
        return Path(shutil.copytree(source, self._folder / f"{name} of a page", symlinks=True))


class Worker:
    """A process of a worker; what it says lies in a file."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / f"worker-{len(list(folder.glob('worker-*.log')))}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # What it starts goes with it when the test has failed.
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"{self._process.args!r}: {self.log}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        """Have it end as it should."""
        self.send(signal.SIGTERM)
        assert self.wait() == 0, self.log

    def clean_up(self) -> None:
        if self.is_running:
            self._process.kill()
            self._process.wait()


def environment_of(dsn: str, bin_dir: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": dsn,
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent),
        "ERAM_GRACE_SECONDS": str(PATIENCE),
        **more,
    }


PYTHON = Language(
    "python",
    [sys.executable, "-m", "eram.worker", "--allow", "demo", "--queue"],
    Path(__file__).parent,
)
