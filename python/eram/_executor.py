"""Running one job: it comes in, one immutable outcome comes out. No I/O, no threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

from eram import _json, _wording
from eram._enqueue import Connection
from eram._finding import Handlers
from eram._handlers import Handler
from eram._job import Job
from eram._outcome import (
    Cancel,
    Cancelled,
    Completed,
    Discard,
    Discarded,
    Failed,
    Outcome,
    Retry,
    Snooze,
    Snoozed,
)
from eram.errors import HandlerNotFoundError

MAX_ERROR_CHARACTERS = 2_000
MAX_TRACEBACK_CHARACTERS = 16_000
# Entries of a traceback that are kept, counted from where the error was raised.
MAX_TRACEBACK_ENTRIES = 40

Transact: TypeAlias = Callable[[Job, Handler[..., Any]], Outcome]


def execute(job: Job, handlers: Handlers, transact: Transact) -> Outcome:
    """Find the job's handler and run it; one that wants a transaction is run by `transact`."""
    try:
        handler = handlers.resolve(job.handler)
    except HandlerNotFoundError as error:
        return failed(job, error)
    if job.handler in handler.aliases:
        job.mark_found_as(handler.path)
    return transact(job, handler) if handler.transaction else run(job, handler)


def run(job: Job, handler: Handler[..., Any], *session: Connection) -> Outcome:
    """Run a handler, and make an outcome of what it returns or raises."""
    process = os.getpid()
    try:
        try:
            value = handler.run(job, *session)
        finally:
            # The handler forked, and this is the child: the job is the parent's, and so is all
            # that comes after it. Nothing that the child inherited may be flushed or closed.
            if os.getpid() != process:
                os._exit(1)
        return _outcome(job, value)
    # Whatever a handler raises is its job's failure. Not even SystemExit may end the thread.
    except BaseException as error:
        return failed(job, error)


def _outcome(job: Job, value: object) -> Outcome:
    match value:
        case None:
            return Completed(job, None)
        case Snooze(delay):
            return Snoozed(job, delay)
        case Retry(after, reason):
            text = _bounded(reason) or "retried by its handler"
            return Failed(job, text, {"type": "retry"}, after)
        case Cancel(reason):
            return Cancelled(job, _bounded(reason))
        case Discard(reason):
            return Discarded(job, _bounded(reason) or "discarded by its handler")
        case _:
            return Completed(job, _json.encode(value, "the handler's result"))


def failed(job: Job, error: BaseException) -> Failed:
    """Make an outcome of an error, in text that can always be stored. It never raises."""
    trace = _wording.trace(error, MAX_TRACEBACK_ENTRIES)
    detail = {
        "type": _json.storable_text(_wording.kind(error), MAX_ERROR_CHARACTERS),
        "traceback": _json.storable_text(trace, MAX_TRACEBACK_CHARACTERS),
    }
    text = _json.storable_text(_wording.in_words(error), MAX_ERROR_CHARACTERS)
    return Failed(job, text, detail)


def _bounded(reason: str | None) -> str | None:
    return None if reason is None else _json.storable_text(str(reason), MAX_ERROR_CHARACTERS)
