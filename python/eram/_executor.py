"""Running one job: it comes in, one immutable outcome comes out. No I/O, no threads."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from eram import _json
from eram._enqueue import Connection
from eram._handlers import Handler, Handlers
from eram._job import Job
from eram._outcome import (
    Cancel,
    Cancelled,
    Completed,
    Discard,
    Discarded,
    Failed,
    Outcome,
    Snooze,
    Snoozed,
)
from eram.errors import HandlerNotFoundError

MAX_ERROR_CHARACTERS = 2_000
MAX_TRACEBACK_CHARACTERS = 16_000
# Entries of a traceback that are kept, counted from where the error was raised.
MAX_TRACEBACK_ENTRIES = 40

_PACKAGE = str(Path(__file__).parent)

Transact: TypeAlias = Callable[[Job, Handler[..., Any]], Outcome]


def execute(job: Job, handlers: Handlers, transact: Transact) -> Outcome:
    """Find the job's handler and run it; one that wants a transaction is run by `transact`."""
    try:
        handler = handlers.resolve(job.handler)
    except HandlerNotFoundError as error:
        return failed(job, error)
    return transact(job, handler) if handler.transaction else run(job, handler)


def run(job: Job, handler: Handler[..., Any], *session: Connection) -> Outcome:
    """Run a handler, and make an outcome of what it returns or raises."""
    try:
        value = handler.run(job, *session)
        if value is None:
            return Completed(job, None)
        match value:
            case Snooze(delay):
                return Snoozed(job, delay)
            case Cancel(reason):
                return Cancelled(job, _bounded(reason))
            case Discard(reason):
                return Discarded(job, _bounded(reason) or "discarded by its handler")
            case _:
                return Completed(job, _json.encode(value, "the handler's result"))
    # Whatever a handler raises is its job's failure. Not even SystemExit may end the thread.
    except BaseException as error:
        return failed(job, error)


def failed(job: Job, error: BaseException) -> Failed:
    """Make an outcome of an error, in text that can always be stored."""
    kind = type(error).__name__
    try:
        message = str(error)
    # The message is made by code of the handler's, which may be as broken as what it reports.
    except Exception:
        message = "(its message cannot be shown)"
    text = f"{kind}: {message}" if message else kind
    lines = traceback.format_exception(
        type(error), error, _outside(error.__traceback__), limit=-MAX_TRACEBACK_ENTRIES
    )
    detail = {
        "type": _json.storable_text(kind, MAX_ERROR_CHARACTERS),
        "traceback": _json.storable_text("".join(lines), MAX_TRACEBACK_CHARACTERS),
    }
    return Failed(job, _json.storable_text(text, MAX_ERROR_CHARACTERS), detail)


def _bounded(reason: str | None) -> str | None:
    return None if reason is None else _json.storable_text(str(reason), MAX_ERROR_CHARACTERS)


def _outside(place: TracebackType | None) -> TracebackType | None:
    """Skip the entries of eram itself, which lie above the handler's in every traceback."""
    inside = place
    while inside is not None and inside.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inside = inside.tb_next
    return inside
