"""The page as a program: its options, its start, its end."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eram import web

from .helpers import PATIENCE

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of a test


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eram.web", *arguments],
        env=clean(environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def clean(environ: dict[str, str]) -> dict[str, str]:
    kept = {
        name: each for name, each in os.environ.items() if not name.startswith(("ERAM_WEB", "PG"))
    }
    return {**kept, **environ}


class Program:
    """The program while it runs."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        self._clients = contextlib.ExitStack()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eram", "web", "--port", "0", *arguments],
                stderr=file,
                stdout=file,
                env=clean({}),
            )
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)(/.*?)[, \n]", self.said)):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        self.port, self.path = int(found[1]), found[2]

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8")

    def connect(self, path: str) -> http.client.HTTPResponse:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self._clients.callback(client.close)
        client.request("GET", f"{self.path}{path}")
        return self._clients.enter_context(client.getresponse())

    def close(self) -> None:
        self._clients.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start the program, which ends with the test."""
    with contextlib.ExitStack() as programs:

        def start_one(*arguments: str) -> Program:
            program = Program(tmp_path / "log", "--dsn", dsn, *arguments)
            programs.callback(program.close)
            return program

        yield start_one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_also_with_open_pages(start, number):
    program = start("--base-path", "/eram")
    assert program.path == "/eram/"
    stream = program.connect("api/events")
    assert stream.readline() == b"event: ping\n"
    idle = program.connect("api/session")
    assert idle.status == 200
    program.process.send_signal(number)
    assert program.process.wait(PATIENCE) == 0
    assert program.said.rstrip().endswith("stopped")
    assert "Traceback" not in program.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "a token is needed there"),  # noqa: S104
        (["--host", "not a host"], "host must be"),
        (["--port", "65536"], "port must be"),
        (["--base-path", "eram"], "base_path must be"),
        (["--base-path", "/../x"], "base_path must be"),
        (["--token", "/nowhere/token"], "the token cannot be read"),
        (["--refresh", "0"], "refresh must be"),
        (["--statement-timeout", "nan"], "statement_timeout must be"),
        (["--allow-host", "a:80"], "allow_host must be"),
        (["--alow-actions"], "--allow-actions"),
        (["--dsn", "postgresql://x y"], "dsn cannot be read"),
    ],
)
def test_wrong_options_are_refused(arguments, said, capsys, monkeypatch):
    monkeypatch.delenv("ERAM_WEB_TOKEN", raising=False)
    code: object = None
    try:
        code = web.main(arguments)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_token_is_not_an_argument(capsys, monkeypatch):
    """Everyone on the machine can read these."""
    assert web.main(["--host", "0.0.0.0", "--token", TOKEN]) == 2  # noqa: S104
    assert "cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("ERAM_WEB_TOKEN", "short")
    assert web.main(["--dsn", "host=/nowhere"]) == 2
    assert "16 characters" in capsys.readouterr().err


def test_what_would_be_wrong_with_every_answer_is_told_at_once(bare_dsn):
    ended = run("--dsn", bare_dsn, "--port", "0")
    assert ended.returncode == 2
    assert "eram is not installed" in ended.stderr
    ended = run("--dsn", "host=/nowhere", "--port", "0")
    assert ended.returncode == 1
    assert "cannot start" in ended.stderr


def test_a_port_that_is_taken_is_told(start, dsn):
    program = start()
    ended = run("--dsn", dsn, "--port", str(program.port))
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr


def test_it_is_one_of_the_commands_and_costs_the_others_nothing():
    shown = subprocess.run(
        [sys.executable, "-m", "eram", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"^  web +\w", shown, re.MULTILINE)
    code = "import sys, eram, eram.worker; print([m for m in sys.modules if 'eram._web' in m])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
