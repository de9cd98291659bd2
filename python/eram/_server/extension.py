"""The extension's own files: where they are, and what they are built into.

The SQL lies in `extension/` of a checkout, and in `eram/_extension/` of an installed wheel. Two
scripts are built from it, here and by the Makefile alike: one for `CREATE EXTENSION`, and a plain
one that installs the same objects without access to the server's files.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

CONTROL = "eram.control"

# The script of an extension must not replace what someone else has put in its way.
_REPLACE = re.compile(r"^create or replace (function|view|procedure)", re.MULTILINE)
_PSQL_COMMAND = re.compile(r"^\\.*\n?", re.MULTILINE)


def version() -> str:
    """Say which version of the extension this package carries."""
    found = re.search(r"^default_version = '([^']+)'", control(), re.MULTILINE)
    if found is None:
        raise ValueError(f"no default_version in {CONTROL}")
    return found[1]


def control() -> str:
    """Return the text of the control file."""
    return _control_path().read_text(encoding="utf-8")


def install_script() -> str:
    """Return the script that `CREATE EXTENSION` runs."""
    return _read("header.sql") + _body()


def plain_body() -> str:
    """Return the statements that install eram into the current schema of an open transaction."""
    return _read("plain-path.sql") + _body()


def plain_script() -> str:
    """Return the whole plain script, for `psql -f`."""
    return _read("plain-header.sql") + plain_body() + _read("plain-footer.sql")


def write_to(directory: Path) -> None:
    """Write the files that a server looks for in its `extension` directory."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {CONTROL: control(), f"eram--{version()}.sql": install_script()}
    # What a plain installation is adopted with begins by a script from no version.
    for upgrade in (_sql_directory() / "upgrades").glob("eram--*.sql"):
        files[upgrade.name] = upgrade.read_text(encoding="utf-8")
    for name, text in files.items():
        # Moved into place, because a server may be reading the file that is there.
        unfinished = directory / f".{name}.{os.getpid()}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(directory / name)


def upgrade_path(source: str, target: str) -> list[str] | None:
    """Find the versions by which the fewest upgrade scripts lead from one to another.

    Returns:
        The versions, both ends included; None if no scripts lead there.
    """
    paths, seen = [[source]], {source}
    for path in paths:
        if path[-1] == target:
            return path
        for upgrade in _upgrades():
            start, end = upgrade.stem.split("--")[1:]
            if start == path[-1] and end not in seen:
                seen.add(end)
                paths.append([*path, end])
    return None


def plain_upgrade(path: Sequence[str]) -> str:
    """Return the statements that take a plain installation along a path of versions.

    They run in its schema, within an open transaction. What only psql understands, such as the
    guard that a script of an extension begins with, is left out.
    """
    steps = itertools.pairwise(path)
    texts = [_read(f"upgrades/eram--{start}--{end}.sql") for start, end in steps]
    return _PSQL_COMMAND.sub("", "\n".join(texts))


def load_order() -> list[str]:
    """List the files of the body, in the order in which they load."""
    lines = (line.partition("#")[0].strip() for line in _read("load-order").splitlines())
    return [line for line in lines if line]


def _upgrades() -> list[Path]:
    """List the upgrade scripts, `eram--A--B.sql` each."""
    return sorted((_sql_directory() / "upgrades").glob("eram--*--*.sql"))


def _body() -> str:
    return _REPLACE.sub(r"create \1", "".join(map(_read, load_order())))


def _read(name: str) -> str:
    return (_sql_directory() / name).read_text(encoding="utf-8")


def _control_path() -> Path:
    inside = _sql_directory() / CONTROL
    return inside if inside.exists() else _sql_directory().parent / CONTROL


@functools.cache
def _sql_directory() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "_extension", package.parents[1] / "extension"
    return installed if installed.is_dir() else checkout
