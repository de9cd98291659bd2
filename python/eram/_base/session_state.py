"""What a handler may have changed of a connection that later jobs use, as far as it is known here.

The server tells its client of some settings whenever they change, so to look costs nothing. Of the
others nobody hears without asking.
"""

from __future__ import annotations

import contextlib
from typing import Any

_REPORTED = (
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "client_encoding",
    "default_transaction_read_only",
    "is_superuser",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
)
_FACTORIES = ("cursor_factory", "row_factory")


class SessionState:
    """What is known of a session before a handler has it.

    Args:
        conn: a connection of psycopg, psycopg2 or asyncpg; of others little is known.
    """

    def __init__(self, conn: Any) -> None:
        self._settings = _settings_of(conn)
        self._factories = {name: getattr(conn, name) for name in _FACTORIES if hasattr(conn, name)}

    def restore(self, conn: Any) -> bool:
        """Have it make its cursors and rows as before; say whether its settings are as before."""
        for name, factory in self._factories.items():
            setattr(conn, name, factory)
        return _settings_of(conn) == self._settings


def _settings_of(conn: Any) -> tuple[Any, ...]:
    # A connection that is closed has none.
    with contextlib.suppress(Exception):
        if hasattr(conn, "get_settings"):
            found = conn.get_settings()
            return tuple(getattr(found, name, None) for name in _REPORTED)
        if hasattr(conn, "info"):
            look = conn.info.parameter_status
            return tuple(look(name) for name in _REPORTED)
    return ()
