"""Running one handler, without storing a job."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Unpack

from eram._base import json_text
from eram._jobs.finding import Handlers
from eram._jobs.handlers import ConfiguredHandler, Handler
from eram._jobs.job import Job
from eram._jobs.options import HandlerOptions, add_options, check_options
from eram._jobs.outcome import Failed, Outcome
from eram.engine import Engine
from eram.testing._run import (
    InlineRunner,
    KnownHandler,
    Performed,
    as_fetched,
    performed,
    raise_if_unexpected,
    setting_of,
)
from eram.testing._session import session_of

# What a job has of which nothing was said.
DEFAULT_MAX_ATTEMPTS = 20

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ids = itertools.count(1)


def perform(
    handler: str | Handler[..., Any] | ConfiguredHandler[Any],
    args: Mapping[str, Any] | None = None,
    /,
    *,
    conn: Any = None,
    attempt: int = 1,
    raises: bool = True,
    engine: Engine | None = None,
    **options: Unpack[HandlerOptions],
) -> Performed:
    """Run a handler once, as a worker would, without a job in the database.

    The args go through JSON and are bound to the handler's parameters by name, and what it returns
    goes through JSON. Timeouts are not enforced.

    Args:
        handler: a decorated handler, or the path `module:function` of one.
        args: its arguments by name.
        conn: for handlers that take a session: the test's connection, in whose transaction the
            handler runs. What it did is rolled back unless it completes.
        attempt: which attempt the handler thinks this is, from 1.
        raises: whether an exception of the handler is raised, instead of being the outcome.
        engine: whose middleware is entered around the handler, and by whose names it is found.
        options: `queue`, `priority`, `max_attempts`, `tags`, `meta` and `timeout` of the job, where
            they are not what the handler's decorator says.

    Raises:
        ArgumentsError: the args do not fit the handler's parameters.
        UnstorableValueError: the args cannot be stored as JSON.
        HandlerNotFoundError: there is no handler of that path.
    """
    check_options(options, {"conn", "attempt", "raises", "engine", *HandlerOptions.__annotations__})
    setting = setting_of(engine)
    found, path, declared = _look_at(handler, setting.handlers)
    given = add_options(declared, options)
    if type(attempt) is not int or attempt < 1:
        raise ValueError(f"attempt must be a number from 1, got {attempt!r}")
    now = int((datetime.now(UTC) - _EPOCH).total_seconds() * 1_000_000)
    job = Job(
        (
            next(_ids),
            attempt,
            path,
            as_fetched(json_text.encode(dict(args or {}), "the job's args")),
            as_fetched(json_text.encode(given.get("meta", {}), "the job's meta")),
            given.get("tags", []),
            given.get("queue", "default"),
            given.get("priority", 0),
            attempt,
            given.get("max_attempts", DEFAULT_MAX_ATTEMPTS),
            now,
            now,
            now,
            given.get("timeout"),
        )
    )
    session = None if conn is None else session_of(conn)

    def state_of(outcome: Outcome) -> str:
        is_last = isinstance(outcome, Failed) and attempt >= job.max_attempts
        return "discarded" if is_last else "ended"

    with InlineRunner(setting._replace(handlers=found), session, state_of) as runner:
        outcome, state, raised = runner.run(job)
    if raises:
        raise_if_unexpected(outcome, raised)
    return performed(outcome, state, raised)


def _look_at(handler: Any, handlers: Handlers) -> tuple[Handlers, str, dict[str, Any]]:
    if isinstance(handler, str):
        return handlers, handler, dict(handlers.resolve(handler).declared)
    if isinstance(handler, ConfiguredHandler):
        return handlers, handler.path, {**handler.declared, **handler.job_options}
    if isinstance(handler, Handler):
        # Also one that no worker could find, such as one that is made in the test.
        path = f"{handler.__module__}:{getattr(handler, '__qualname__', '')}"
        path = handler.path if handler.is_local else path
        return KnownHandler(handler), path, dict(handler.declared)
    raise TypeError(f"handler must be a path or a handler made by @eram.job, got {handler!r}")
