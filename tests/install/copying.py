"""Ways to copy a database by PostgreSQL's own programs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

# What a pg_dump of 17 or later sets, and an older server does not know.
NEWER_SETTING = re.compile(r"^SET transaction_timeout = 0;\n", re.MULTILINE)
IGNORED = re.compile(
    r"pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter"
    r' "transaction_timeout"\nCommand was: SET transaction_timeout = 0;\n+'
    r"|pg_restore: warning: errors ignored on restore: \d+\n"
)

Copy = Callable[[Path, Path, str, str], None]


def run(program: Path, *arguments: object) -> str:
    """Run a program and return what it said; it must not fail."""
    done = subprocess.run(
        [program, *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_text(programs: Path, folder: Path, source: str, target: str, *options: str) -> None:
    """Dump into a script, and have psql run it."""
    script = folder / "dump.sql"
    run(programs / "pg_dump", "-f", script, *options, source)
    text = NEWER_SETTING.sub("", script.read_text(encoding="utf-8"))
    script.write_text(text, encoding="utf-8")
    run(programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, target)


def by_text_without_owner(programs: Path, folder: Path, source: str, target: str) -> None:
    by_text(programs, folder, source, target, "--no-owner")


def by_archive(programs: Path, folder: Path, source: str, target: str) -> None:
    """Dump into an archive, and restore it over two connections, to whoever connects."""
    archive = folder / "dump.archive"
    run(programs / "pg_dump", "-Fc", "-f", archive, source)
    restore(programs, archive, target, "-j", "2", "--no-owner")


def by_folder(programs: Path, folder: Path, source: str, target: str) -> None:
    """Dump over two connections, and restore the same way."""
    archive = folder / "dump.folder"
    run(programs / "pg_dump", "-Fd", "-j", "2", "-f", archive, source)
    restore(programs, archive, target, "-j", "2", "--no-owner")


def by_halves(programs: Path, folder: Path, source: str, target: str) -> None:
    """Copy what there is first, and the rows in it afterwards."""
    by_text(programs, folder, source, target, "--schema-only")
    by_text(programs, folder, source, target, "--data-only")


def restore(programs: Path, archive: Path, target: str, *options: str) -> None:
    command = [programs / "pg_restore", *options, "-d", target, archive]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert IGNORED.sub("", done.stderr) == ""
