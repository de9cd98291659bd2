"""Running one job: it comes in, one immutable outcome comes out. No I/O, no threads of its own."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Protocol

from eram._base import json_text, wording
from eram._engine.main_loop import MainLoop
from eram._jobs import current
from eram._jobs.finding import Handlers
from eram._jobs.handlers import Handler
from eram._jobs.job import Job
from eram._jobs.middleware import Middleware
from eram._jobs.outcome import (
    Cancel,
    Cancelled,
    Completed,
    Discard,
    Discarded,
    Failed,
    Outcome,
    Released,
    Retry,
    Snooze,
    Snoozed,
)
from eram._runtime.event_loop import EventLoop
from eram.errors import HandlerNotFoundError

MAX_ERROR_CHARACTERS = 2_000
MAX_TRACEBACK_CHARACTERS = 16_000
# Entries of a traceback that are kept, counted from where the error was raised.
MAX_TRACEBACK_ENTRIES = 40


class Runner(Protocol):
    """Runs handlers inside the transactions that complete their jobs, for one thread."""

    def __call__(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run the job's handler by `executor.run` or `run_async`, with a session."""

    def cut(self, job: Job) -> None:
        """Cut a job that has timed out off from its transaction; any thread may ask."""

    def close(self) -> None:
        """Give up what it has opened."""


class Executor:
    """Runs jobs, one in each thread that calls it.

    Args:
        handlers: finds a job's handler.
        middleware: what is entered around it.
        loop: where async handlers run.
        has_driver: whether handlers that say nothing about it run in transactions.
        main_loop: where handlers without a path run.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        middleware: Sequence[Middleware] = (),
        loop: EventLoop,
        has_driver: bool = False,
        main_loop: MainLoop | None = None,
    ) -> None:
        self._handlers = handlers
        self._middleware = tuple(middleware)
        self.loop = loop
        self._has_driver = has_driver
        self._main_loop = main_loop

    def execute(self, job: Job, transact: Runner) -> Outcome:
        """Find the job's handler and run it; one that wants a transaction is run by `transact`."""
        try:
            handler = self._handlers.resolve(job.handler)
        except HandlerNotFoundError as error:
            return failed(job, error)
        if job.handler in handler.aliases:
            job.mark_found_as(handler.path)
        if handler.is_local and self._main_loop is not None:
            return self._hand_over(job, handler, transact, self._main_loop)
        if handler.wants_transaction(has_driver=self._has_driver):
            return transact(job, handler, self)
        if handler.is_async:
            return self.loop.run(job, lambda: self.run_async(job, handler))
        return self.run(job, handler)

    def _hand_over(
        self, job: Job, handler: Handler[..., Any], transact: Runner, main_loop: MainLoop
    ) -> Outcome:
        if handler.is_async:
            return main_loop.call_async(job, lambda: self.run_async(job, handler))
        # With its transaction: what belongs to a thread, such as the connections of some libraries,
        # is that of the handler's thread.
        if handler.wants_transaction(has_driver=self._has_driver):
            return main_loop.call(job, lambda: transact(job, handler, self))
        return main_loop.call(job, lambda: self.run(job, handler))

    def run(self, job: Job, handler: Handler[..., Any], *session: object) -> Outcome:
        """Run a handler that is not async, and make an outcome of what it returns or raises."""
        process = os.getpid()
        try:
            try:
                # What it does to context variables, the next one is not to see.
                value = Context().run(self._call, job, handler, session)
            finally:
                _end_child_of(process)
            return _outcome(job, value)
        # Whatever a handler raises is its job's failure. Not even SystemExit may end the thread.
        except BaseException as error:
            return failed(job, error)

    async def run_async(self, job: Job, handler: Handler[..., Any], *session: object) -> Outcome:
        """Run an async handler, in the context of the task that calls this."""
        process = os.getpid()
        try:
            try:
                # Before it has begun; whoever marks it cancels the task afterwards.
                if job.cancelled:
                    return Released(job)
                current.running.set(job)
                # It stays so when a middleware suppresses an error.
                value = None
                with contextlib.ExitStack() as entered:
                    self._enter(entered, job)
                    value = await handler.run(job, *session)
            finally:
                _end_child_of(process)
            return _outcome(job, value)
        # Nor may it end the loop, also not by being cancelled.
        except BaseException as error:
            return failed(job, error)

    def _call(self, job: Job, handler: Handler[..., Any], session: tuple[object, ...]) -> Any:
        current.running.set(job)
        if not self._middleware:
            return handler.run(job, *session)
        with contextlib.ExitStack() as entered:
            self._enter(entered, job)
            return handler.run(job, *session)
        # Reached when a middleware has suppressed an error.
        return None

    def _enter(self, entered: contextlib.ExitStack, job: Job) -> None:
        for middleware in self._middleware:
            entered.enter_context(middleware(job))


def _end_child_of(process: int) -> None:
    """End a process that the handler forked.

    The job is the parent's, and so is all that comes after it. Nothing that the child inherited
    may be flushed or closed.
    """
    if os.getpid() != process:
        os._exit(1)


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
            # What looks like a plain function can be a wrapper of an async one.
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError("the handler returned a coroutine, which nobody awaits")
            return Completed(job, json_text.encode(value, "the handler's result"))


def failed(job: Job, error: BaseException) -> Failed:
    """Make an outcome of an error, in text that can always be stored. It never raises."""
    trace = wording.trace(error, MAX_TRACEBACK_ENTRIES)
    detail = {
        "type": json_text.storable_text(wording.kind(error), MAX_ERROR_CHARACTERS),
        "traceback": json_text.storable_text(trace, MAX_TRACEBACK_CHARACTERS),
    }
    text = json_text.storable_text(wording.in_words(error), MAX_ERROR_CHARACTERS)
    return Failed(job, text, detail)


def _bounded(reason: str | None) -> str | None:
    return None if reason is None else json_text.storable_text(str(reason), MAX_ERROR_CHARACTERS)
