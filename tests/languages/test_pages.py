"""Every snippet of docs/languages/ is executed, in the order of its page."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from .conftest import StartWorker
from .helpers import eventually, value, wait_for_workers
from .programs import LANGUAGES, PATIENCE, PROJECT, Languages, environment_of

PAGES = PROJECT / "docs" / "languages"
NOTHING_IS_DUE = (
    "select count(*) = 0 from eram_jobs where state in ('available', 'executing')"
    " and handler like 'shop:%'"
)


class Snippet(NamedTuple):
    language: str
    text: str


def _snippets(page: str) -> Iterator[Snippet]:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    for language, snippet in re.findall(r"(?ms)^```(\S*)\n(.*?)^```$", text):
        yield Snippet(language, snippet)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_all_pages_are_read() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"index", *LANGUAGES}


def test_the_overview(dsn: str, conn: psycopg.Connection, bin_dir: Path, tmp_path: Path) -> None:
    """The protocol is spoken by psql, as the page has it."""
    environment = environment_of(dsn, bin_dir)
    script = ""
    for language, text in _snippets("index"):
        assert language in {"sql", "psql"}
        script += text
    path = tmp_path / "page.sql"
    path.write_text(script, encoding="utf-8")
    options = ["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file", str(path)]
    assert _run(["psql", *options, dsn], tmp_path, environment) == ""

    # Each kind of report was accepted, in the order in which the page has them.
    states = conn.execute(
        "select state, attempt from eram_jobs where handler in ('demo:a', 'demo:b', 'demo:c',"
        " 'demo:d', 'demo:e', 'demo:f') order by handler"
    ).fetchall()
    assert states == [
        ("completed", 1),
        ("retryable", 1),
        ("scheduled", 0),
        ("discarded", 1),
        ("cancelled", 1),
        ("available", 0),
    ]
    assert value(conn, "select array_agg(word) from words") == ["ada"]
    assert value(conn, "select array_agg(end_reason) from eram_workers") == ["stopped", "stopped"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_page_of_a_language(
    dsn: str,
    conn: psycopg.Connection,
    bin_dir: Path,
    languages: Languages,
    start_program: StartWorker,
    name: str,
) -> None:
    """A reader enqueues, writes the handlers, and runs the worker as the page says."""
    language = languages.get(name)
    folder = languages.another(name)
    environment = environment_of(dsn, bin_dir, **language.environment)
    workers = 0
    for kind, text in _snippets(name):
        handlers = re.match(r"(?://|#) (handlers\.\w+)\n", text)
        if handlers:
            (folder / handlers[1]).write_text(text, encoding="utf-8")
        elif kind == "js":
            (folder / "page.mjs").write_text(text, encoding="utf-8")
            _run(["node", "page.mjs"], folder, environment)
        elif kind == "go":
            (folder / "page").mkdir()
            (folder / "page" / "page.go").write_text(text, encoding="utf-8")
            _run(["go", "run", "page.go"], folder / "page", environment)
        elif kind == "bash":
            _run(["bash", "-euc", text], folder, environment)
        elif kind == "sh":
            for line in text.splitlines():
                command, *arguments = line.split()
                if "worker" in command or "worker.mjs" in arguments:
                    program = language._replace(command=[command, *arguments])
                    worker = start_program(program, folder=folder)
                    wait_for_workers(conn, 1, worker)
                    eventually(lambda: value(conn, NOTHING_IS_DUE), worker)
                    worker.stop()
                    workers += 1
                elif command == "npm":
                    # Installed already, by the same name.
                    assert arguments[0] == "install"
                    assert (folder / "node_modules" / arguments[1]).is_dir()
                else:
                    _run([command, *arguments], folder, environment)
        else:
            pytest.fail(f"nobody executes a snippet in {kind!r}")

    assert workers == 1
    ends = conn.execute(
        "select handler, state, errors from eram_jobs where handler like 'shop:%' order by handler"
    ).fetchall()
    assert ends == [
        ("shop:book", "completed", None),
        ("shop:confirm", "completed", None),
        ("shop:ship", "scheduled", None),
    ]
    assert value(conn, "select count(*) from bookings") == 1
