"""`python -m eram COMMAND`, and `python -m eram.COMMAND`, which is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import eram
from eram.__main__ import COMMANDS, main
from eram._server import extension
from eram.embedded import EmbeddedServer

WAIT_SECONDS = 30

Start = Callable[..., subprocess.Popen[str]]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "enqueue"])
def test_both_spellings_are_one_command(name: str):
    said = [
        subprocess.run(command(*way, "--help"), check=True, capture_output=True).stdout
        for way in ((f"eram.{name}",), ("eram", name))
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m eram {name} ")
    assert f"\nexamples:\n  python -m eram {name}" in said
    assert re.search(r"\nexit codes:\n  0  \w.*\n  2  wrong options", said, re.DOTALL)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_answered_with_the_nearest(name: str, capsys: pytest.CaptureFixture[str]):
    wanted = "--directory" if name == "dev" else "--json" if name == "version" else "--dsn"
    arguments = ["app:job"] if name == "enqueue" else []
    with pytest.raises(SystemExit) as end:
        main([name, *arguments, wanted[:-1]])
    assert end.value.code == 2
    assert f'unrecognized arguments: {wanted[:-1]}; did you mean "{wanted}"?' in (
        capsys.readouterr().err
    )


def test_a_wrong_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["wroker"])
    assert end.value.code == 2
    assert 'there is no command "wroker"; did you mean "worker"?' in capsys.readouterr().err


def test_without_a_command_it_lists_them():
    done = subprocess.run(command("eram"), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    said = subprocess.run(command("eram", "--help"), check=True, capture_output=True, text=True)
    for name in COMMANDS:
        assert f"\n  {name} " in said.stdout
    assert "\nexit codes of all commands:\n  0  " in said.stdout


def test_no_command_hides_what_the_package_exports():
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
    assert callable(eram.enqueue)
    assert not {name for name in COMMANDS if name in eram.__all__} - {"enqueue"}


def test_the_version_for_a_program(capsys: pytest.CaptureFixture[str]):
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == extension.version()


def test_the_script_is_the_same():
    said = subprocess.check_output([Path(sys.executable).with_name("eram"), "version"], text=True)
    assert said == f"eram {extension.version()}\n"


@pytest.fixture
def dev(directory: Path, server_bin_dir: Path) -> Iterator[Start]:
    """Run `dev` on a server of its own, which is stopped afterwards."""
    options = ("--directory", str(directory), "--bin-dir", str(server_bin_dir))

    def start(*arguments: str, spelling: tuple[str, ...] = ("eram", "dev")) -> subprocess.Popen:
        return subprocess.Popen(
            command(*spelling, *options, *arguments), stdout=subprocess.PIPE, text=True
        )

    yield start
    EmbeddedServer(directory, bin_dir=server_bin_dir).stop()


def read_introduction(process: subprocess.Popen[str]) -> str:
    lines = []
    while not lines or "its data stays" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended too early"
    return "".join(lines)


@pytest.mark.parametrize("spelling", [("eram", "dev"), ("eram.dev",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_runs_until_it_is_interrupted(dev: Start, directory: Path, spelling, number):
    with dev(spelling=spelling) as process:
        said = read_introduction(process)
        dsn = re.search(r"DSN +(\S+)", said)[1]
        with psycopg.connect(dsn) as conn:
            assert conn.execute("select eram_version()").fetchone() == (extension.version(),)
        process.send_signal(number)
        assert process.wait(WAIT_SECONDS) == 0
    assert not (directory / "data" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "99999"),
        ("PGSERVICE", "elsewhere"),
        ("PGOPTIONS", "-c nonsense=1"),
        ("PGCLIENTENCODING", "nonsense"),
    ],
)
def test_dev_does_not_heed_what_is_said_of_other_servers(monkeypatch, dev: Start, name, text):
    monkeypatch.setenv(name, text)
    with dev("--background") as process:
        said = process.communicate(timeout=WAIT_SECONDS)[0]
    assert process.returncode == 0
    assert f"with eram {extension.version()}" in said


def test_what_dev_tells_one_to_try_works(dev: Start, bin_dir: Path):
    with dev("--background") as process:
        said = process.communicate(timeout=WAIT_SECONDS)[0]
    assert process.returncode == 0
    (connect,) = re.findall(r"^  (\S*psql '?postgres\S+)$", said, re.MULTILINE)
    for statement in re.findall(r"^  (select .*;)$", said, re.MULTILINE):
        done = subprocess.run(
            ["sh", "-c", connect],
            input=f"\\set ON_ERROR_STOP on\n{statement}\n",
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "PAGER": "cat"},
        )
        assert "(1 row)" in done.stdout


def test_dev_reuses_what_runs_and_stops_it(dev: Start, directory: Path):
    with dev("--background") as process:
        first = process.communicate(timeout=WAIT_SECONDS)[0]
    pid = (directory / "data" / "postmaster.pid").read_text().splitlines()[0]
    with dev() as process:
        assert process.communicate(timeout=WAIT_SECONDS)[0] == first
    assert (directory / "data" / "postmaster.pid").read_text().splitlines()[0] == pid
    for answer in ("stopped\n", "no server was running\n"):
        with dev("--stop") as process:
            assert process.communicate(timeout=WAIT_SECONDS)[0] == answer
        assert process.returncode == 0


def test_dev_says_so_when_eram_is_older(dev: Start, directory: Path):
    with dev("--background") as process:
        said = process.communicate(timeout=WAIT_SECONDS)[0]
    dsn = re.search(r"DSN +(\S+)", said)[1]
    with psycopg.connect(dsn) as conn:
        conn.execute("update pg_extension set extversion = '0.0.1' where extname = 'eram'")
    with dev() as process:
        said = process.communicate(timeout=WAIT_SECONDS)[0]
    assert f"eram 0.0.1 (this is {extension.version()}: python -m eram upgrade)" in said


def test_dev_notices_that_its_server_has_gone(dev: Start, directory: Path, server_bin_dir: Path):
    with dev() as process:
        read_introduction(process)
        EmbeddedServer(directory, bin_dir=server_bin_dir).stop()
        assert process.wait(WAIT_SECONDS) == 1
