"""What the database refuses, in the words of HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import psycopg

from eram._base.connection import brief
from eram._base.outage import is_outage
from eram._web.http import HttpError

logger = logging.getLogger(__name__)

RETRY_SECONDS = "2"

# By SQLSTATE, or its class: the status and the word.
_STATES: Mapping[str, tuple[int, str]] = {
    "42704": (404, "not_found"),
    "42501": (403, "forbidden"),
    "55000": (409, "conflict"),
    "42710": (409, "conflict"),
    "23": (409, "conflict"),
    "22": (400, "bad_request"),
    "42602": (400, "bad_request"),
    "42622": (400, "bad_request"),
    "54": (400, "bad_request"),
    "25006": (409, "conflict"),
    "57014": (503, "timeout"),
    "55P03": (503, "timeout"),
    "40": (503, "timeout"),
}
_HINTS = {
    "42501": "The owner of eram gives the right by: {grant}",
    "25006": "This server is a standby, or the role may only read: nothing can be changed here.",
    "57014": "Narrow it down, or allow more time with --statement-timeout.",
    "55P03": "Something else has it locked: try again.",
    "40": "Others changed it at the same time: try again.",
}
# Functions, views and columns that an older eram has not, and sequences out of step.
_MISSING = ("42883", "42P01", "42703", "3F000")


def explain(error: psycopg.Error, grant: str = "read") -> HttpError:
    """Say what an error of the database means for whoever asked.

    Args:
        error: what psycopg has raised.
        grant: what the role would have to be granted, if it was that.
    """
    state = error.sqlstate or ""
    if is_outage(error) and state != "25006":
        return HttpError(
            503,
            "outage",
            f"the database does not answer: {brief(error).strip()}",
            hint="This page goes on by itself when the database is back.",
            sqlstate=error.sqlstate,
            headers={"Retry-After": RETRY_SECONDS},
        )
    # What psycopg itself refuses to send.
    if not state and isinstance(error, psycopg.DataError | psycopg.ProgrammingError):
        return HttpError(400, "bad_request", brief(error))
    if state in _MISSING:
        return HttpError(
            503,
            "version",
            f"the eram of this database does not fit: {brief(error)}",
            hint="Bring it up to date: python -m eram upgrade",
            sqlstate=state,
        )
    known = state if state in _STATES else state[:2]
    if known not in _STATES:
        logger.warning("the database has refused: %s", brief(error))
        return HttpError(503, "outage", brief(error), hint=error.diag.message_hint, sqlstate=state)
    status, code = _STATES[known]
    hint = error.diag.message_hint or _HINTS.get(known, "").format(
        grant=f"select eram_grant('ROLE', '{grant}')"
    )
    return HttpError(status, code, brief(error), hint=hint or None, sqlstate=state)


def busy() -> HttpError:
    """Make the answer to one more than can be served."""
    return HttpError(
        503,
        "busy",
        "all connections to the database are in use",
        hint="Try again in a moment.",
        headers={"Retry-After": RETRY_SECONDS},
    )
