"""Whether a worker can serve a database: it is of a version that it knows."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from eram._base import statements
from eram._server import extension
from eram.errors import ConfigError

_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.[0-9]{1,9})*(?:-[0-9A-Za-z.-]+)?")


def check_server(conn: psycopg.Connection[Any]) -> None:
    """Refuse a database where a worker would fail at its first step, or do the wrong thing.

    Within `major.minor` what functions take and return stays as it is.

    Raises:
        ConfigError: its eram is of a version that this package does not know.
    """
    row = conn.execute(statements.VERSION).fetchone()
    found = row[0] if row else ""
    ours = extension.version()
    theirs, known = _series(found), _series(ours)
    if theirs is not None and theirs == known:
        return
    if theirs is None or known is None:
        found = f'"{found}"' if found else "of an unknown version"
        what_to_do = "install the package that it is of"
    elif theirs > known:
        what_to_do = f"install version {found} of the package"
    else:
        what_to_do = "run python -m eram upgrade, or install that version of the package"
    raise ConfigError(
        f"the database has eram {found}, which this package, {ours}, does not know; {what_to_do}"
    )


def _series(version: str | None) -> tuple[int, int] | None:
    """Return major and minor of a version; None if it is no series of numbers."""
    numbers = _VERSION.fullmatch(version or "")
    return (int(numbers[1]), int(numbers[2])) if numbers else None
