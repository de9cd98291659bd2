"""Telling libpq what another library's configuration says of a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import pq
from psycopg.conninfo import make_conninfo


def conninfo(options: Mapping[str, Any]) -> str:
    """Write what libpq knows of some options as a connection string; the others are left out."""
    known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
    given = {key: _text(value) for key, value in options.items() if value is not None}
    # asyncpg's word for it, in URLs.
    if isinstance(options.get("ssl"), str):
        given.setdefault("sslmode", options["ssl"])
    return make_conninfo("", **{key: each for key, each in given.items() if key in known})


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
