"""Whether a worker can serve a database: it is no standby, and of a version that it knows."""

from __future__ import annotations

from typing import Any

import psycopg

from eram._base import statements
from eram._server import extension
from eram.errors import ConfigError


def check_server(conn: psycopg.Connection[Any]) -> None:
    """Refuse a database where a worker would fail at its first step, or do the wrong thing.

    Within `major.minor` what functions take and return stays as it is.

    Raises:
        ConfigError: its eram is of a version that this package does not know.
        psycopg.errors.ReadOnlySqlTransaction: it is a standby, for now.
    """
    row = conn.execute(statements.SERVER).fetchone()
    found, is_standby = row or ("", False)
    if is_standby:
        raise psycopg.errors.ReadOnlySqlTransaction(
            "the server is a standby, where nothing can be written; connect to the primary,"
            " or name several hosts in the DSN and target_session_attrs=read-write"
        )
    ours = extension.version()
    if _series(found) == _series(ours):
        return
    if _series(found) > _series(ours):
        what_to_do = f"install version {found} of the package"
    else:
        what_to_do = "run python -m eram upgrade, or install that version of the package"
    raise ConfigError(
        f"the database has eram {found}, which this package, {ours}, does not know; {what_to_do}"
    )


def _series(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2]]
