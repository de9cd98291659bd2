"""Errors of other libraries that are the database's: it is out of reach, or refuses."""

from __future__ import annotations

import psycopg

from eram._base.outage import is_outage

# How other libraries call the loss of a connection.
_OUTAGES = {
    "OperationalError",
    "InterfaceError",
    "PostgresConnectionError",
    "CannotConnectNowError",
    "TooManyConnectionsError",
    "AdminShutdownError",
    "CrashShutdownError",
    "TimeoutError",
}


def as_outage(error: BaseException) -> psycopg.Error | None:
    """Say whether an error of any library is the database's, in psycopg's words.

    It is one that came before the handler was called: whatever the server has refused then, or
    not answered, says nothing of the job. Libraries wrap errors in others of their own.
    """
    for each in reversed(_chain(error)):
        if isinstance(each, psycopg.Error):
            if each.sqlstate or is_outage(each):
                return each
        elif (refusal := _refusal(each)) is not None:
            return psycopg.OperationalError(refusal)
        elif isinstance(each, OSError) or _OUTAGES & {base.__name__ for base in type(each).__mro__}:
            return psycopg.OperationalError(str(each).partition("\n")[0] or type(each).__name__)
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """List an error, and those beneath it."""
    found: list[BaseException] = []
    while isinstance(error, BaseException) and error not in found:
        found.append(error)
        context = None if error.__suppress_context__ else error.__context__
        # The first one is SQLAlchemy's.
        error = getattr(error, "orig", None) or error.__cause__ or context
    return found


def _refusal(error: BaseException) -> str | None:
    """Return what the server has said if it is an error of the server's, which has an SQLSTATE."""
    # asyncpg's, and psycopg2's.
    if getattr(error, "sqlstate", None) or getattr(error, "pgcode", None):
        return str(error).partition("\n")[0]
    # pg8000's: the fields of the message.
    fields = error.args[0] if error.args else None
    if isinstance(fields, dict) and "C" in fields:
        return str(fields.get("M") or fields["C"])
    return None
