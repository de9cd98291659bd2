"""One statement over whatever a caller has: a connection or a session of a library of theirs.

Nothing is imported to find out what it is: whoever has such an object has imported its library.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, LiteralString, TypeAlias, cast

import psycopg
from psycopg.rows import tuple_row

# What libraries call a connection or a session has no type in common, and most are not installed.
Session: TypeAlias = Any
AsyncSession: TypeAlias = Any

# By the name of the package, and those of the classes that its own derive from.
_SYNC = {
    "sqlalchemy": {"Session", "Connection", "scoped_session"},
}
_ASYNC = {
    "sqlalchemy": {"AsyncSession", "AsyncConnection", "async_scoped_session"},
    "asyncpg": {"Connection", "PoolConnectionProxy", "Pool"},
}
_ACCEPTED = (
    "a psycopg.Connection or another DB-API connection, a Session or Connection of SQLAlchemy, or"
    " Django's connection"
)
_ACCEPTED_ASYNC = (
    "a psycopg.AsyncConnection, an AsyncSession or AsyncConnection of SQLAlchemy, or a connection"
    " or pool of asyncpg"
)

_PARAMETER = re.compile(r"%s::(\w+(?:\[\])?)")


def execute(
    session: Session, query: LiteralString, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement in the session's transaction, if it has one, and return its rows.

    Args:
        session: whatever `eram.enqueue` takes.
        query: a statement with `%s` for each parameter, and a cast behind it.
        parameters: strings, whole numbers and None.

    Raises:
        TypeError: the session is of no known kind, or an async one.
        Exception: what the session's own library raises of it.
    """
    if isinstance(session, psycopg.Connection):
        # A cursor of our own making: what the connection's cursors and rows look like is its own.
        with psycopg.Cursor(session, row_factory=tuple_row) as cursor:
            cursor.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []
    if _package(type(session), _SYNC):
        result = session.execute(*_for_sqlalchemy(query, parameters))
        return [tuple(row) for row in result] if result.returns_rows else []
    if is_async(session) or not hasattr(session, "cursor"):
        raise wrong(session)
    if getattr(session, "vendor", "postgresql") != "postgresql":
        raise TypeError(f"this is a connection to {session.vendor}, not to PostgreSQL")
    with closing(session.cursor()) as cursor:
        cursor.execute(query, _texts(parameters) or None)
        return [_plain(row) for row in cursor.fetchall()] if cursor.description else []


async def execute_async(
    session: AsyncSession, query: LiteralString, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement over an async connection or session; otherwise like `execute`."""
    if isinstance(session, psycopg.AsyncConnection):
        async with psycopg.AsyncCursor(session, row_factory=tuple_row) as cursor:
            await cursor.execute(query, parameters or None)
            return await cursor.fetchall() if cursor.description else []
    match _package(type(session), _ASYNC):
        case "sqlalchemy":
            result = await session.execute(*_for_sqlalchemy(query, parameters))
            return [tuple(row) for row in result] if result.returns_rows else []
        # Not prepared: it has no rows, and is likely to be another one every time.
        case "asyncpg" if query.startswith("set "):
            await session.execute(query)
            return []
        case "asyncpg":
            rows = await session.fetch(_numbered(query), *_texts(parameters))
            return [tuple(row) for row in rows]
    raise wrong_async(session)


def is_async(session: object) -> bool:
    """Say whether it is an async connection or session of a known kind."""
    return isinstance(session, psycopg.AsyncConnection) or bool(_package(type(session), _ASYNC))


def is_sync(session: object) -> bool:
    """Say whether it is a connection or session of a known kind that is not async."""
    if isinstance(session, psycopg.Connection) or _package(type(session), _SYNC):
        return True
    return not is_async(session) and hasattr(session, "cursor")


def wrong(session: object, other: str = "enqueue_async") -> TypeError:
    """Make the error for what is no connection; `other` is the call that takes async ones."""
    hint = f"; for this one call {other}, and await it" if is_async(session) else _hint(session)
    return TypeError(f"conn must be {_ACCEPTED}, got {_name(session)}{hint}")


def wrong_async(session: object, other: str = "enqueue") -> TypeError:
    """Make the error for what is no async connection; `other` is the call that takes others."""
    hint = f"; for this one call {other}" if is_sync(session) else _hint(session)
    return TypeError(f"conn must be {_ACCEPTED_ASYNC}, got {_name(session)}{hint}")


def _hint(session: object) -> str:
    if _package(type(session), {"sqlalchemy": {"Engine", "AsyncEngine"}}):
        return "; pass what its begin() or connect() gives"
    return ""


def _name(session: object) -> str:
    kind = type(session)
    return f"{kind.__module__}.{kind.__qualname__}"


def _package(kind: type, known: Mapping[str, set[str]]) -> str | None:
    """Say which package's classes, out of the known ones, a class derives from."""
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        if base.__name__ in known.get(package, ()):
            return package
    return None


def _for_sqlalchemy(query: str, parameters: Sequence[object]) -> tuple[Any, dict[str, str | None]]:
    from sqlalchemy import text  # noqa: PLC0415 - where it is not used it need not be installed

    if not parameters:
        # Likely to be another one every time, so not worth to be remembered.
        return text(query), {}
    texts = _texts(parameters)
    named = {f"p{number}": each for number, each in enumerate(texts, 1)}
    return _as_text(query), named


@functools.lru_cache(maxsize=32)
def _as_text(query: str) -> Any:
    from sqlalchemy import text  # noqa: PLC0415 - likewise

    count = iter(range(1, 1_000))
    # Dialects that say the type of a parameter say text.
    return text(
        _PARAMETER.sub(lambda found: f"cast(cast(:p{next(count)} as text) as {found[1]})", query)
    )


@functools.lru_cache(maxsize=32)
def _numbered(query: str) -> str:
    count = iter(range(1, 1_000))
    # Of type text, whatever codecs the caller has set for the others.
    return _PARAMETER.sub(lambda found: f"cast(${next(count)}::text as {found[1]})", query)


def _texts(parameters: Sequence[object]) -> list[str | None]:
    return [None if each is None else str(each) for each in parameters]


def _plain(row: Any) -> tuple[Any, ...]:
    values = row.values() if isinstance(row, Mapping) else row
    return tuple(cast("Sequence[Any]", values))
