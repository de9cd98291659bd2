"""Running a handler for a test: the one place that knows how workers run theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from eram._jobs.finding import Handlers
from eram._jobs.handlers import Handler
from eram._jobs.job import Job
from eram._jobs.middleware import Middleware, load_middleware
from eram._jobs.outcome import (
    Cancelled,
    Completed,
    Discarded,
    Failed,
    Outcome,
    Snoozed,
)
from eram._runtime import execution
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor
from eram.engine import Engine
from eram.errors import HandlerError, HandlerTransactionError
from eram.testing import _sql
from eram.testing._session import Session

Ending: TypeAlias = Literal["completed", "failed", "snoozed", "cancelled", "discarded", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What became of one run of a handler.

    Attributes:
        job: the job as the handler saw it.
        outcome: `completed`, `failed` (it will be retried), `snoozed`, `cancelled`, `discarded`
            (by the handler, or because the last attempt failed), or `lost`: the handler ended or
            deleted its own job by SQL, and what it returned counts for nothing.
        result: what the handler returned, as it comes back from JSON.
        error: why it failed, was cancelled or discarded, if that is known.
        delay: how long the handler wants the job to wait, by Snooze or Retry.
        exception: what the handler raised.
    """

    job: Job
    outcome: Ending
    result: Any = None
    error: str | None = None
    delay: timedelta | None = None
    exception: BaseException | None = None


class AnyHandlers(Handlers):
    """Finds handlers in every module: what a test runs is its own."""

    def __init__(self) -> None:
        super().__init__(())

    def _is_allowed(self, module: str) -> bool:  # noqa: ARG002 - as the class above has it
        return True


class Setting(NamedTuple):
    """What handlers are found and run with.

    Attributes:
        handlers: finds them.
        middleware: what is entered around them.
        has_driver: whether handlers that say nothing about it run in transactions.
    """

    handlers: Handlers
    middleware: tuple[Middleware, ...] = ()
    has_driver: bool = False


def setting_of(engine: Engine | None) -> Setting:
    """Find out what an engine runs its jobs with; without one it is any handler there is."""
    if engine is None:
        return Setting(AnyHandlers())
    config = engine.config
    handlers = Handlers(config.allow, engine._local)  # noqa: SLF001 - part of what it is made of
    handlers.load()
    return Setting(handlers, load_middleware(config.middleware), config.driver is not None)


class KnownHandler(Handlers):
    """Finds the handler that it was given, under any name."""

    def __init__(self, handler: Handler[..., Any]) -> None:
        super().__init__(())
        self._handler = handler

    def resolve(self, path: str) -> Handler[..., Any]:  # noqa: ARG002 - as the class above has it
        """Return the handler."""
        return self._handler


class InlineRunner:
    """Runs jobs in the calling thread, and remembers what handlers raise.

    Args:
        setting: what they run with.
        session: whose transaction handlers run in that want one; None is that there is none.
        report: notes how a job has ended, where it is stored, and returns its state then.
    """

    def __init__(
        self, setting: Setting, session: Session | None, report: Callable[[Outcome], str | None]
    ) -> None:
        self._session = session
        self._report = report
        self._raised: BaseException | None = None
        # Those that held when a handler began that has the transaction.
        self._settings: str | None = None
        own = None if session is None else session.loop
        # On the loop of an async test, because its connection can be used nowhere else.
        self._loop = EventLoop("eram-testing") if own is None else own
        self._executor = Executor(
            setting.handlers,
            # The innermost: whatever the others make of it, what the handler raised is known.
            middleware=[*setting.middleware, self._watching],
            loop=self._loop,
            has_driver=setting.has_driver,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.close()

    def run(self, job: Job) -> tuple[Outcome, str | None, BaseException | None]:
        """Run a job's handler; return its outcome, the job's state then, and what it raised.

        Raises:
            BaseException: the handler was interrupted, or ended the test.
        """
        self._raised = None
        self._settings = None
        job.mark_begun()
        outcome, state = self._run(job)
        raised = self._raised if isinstance(outcome, Failed) else None
        # Ctrl-C, and what pytest.fail() and pytest.skip() raise. The others are failures of the job
        # in a worker as well.
        ordinary = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
        if self._raised is not None and not isinstance(self._raised, ordinary):
            raise self._raised
        return outcome, state, raised

    def _run(self, job: Job) -> tuple[Outcome, str | None]:
        if self._session is None:
            outcome = self._executor.execute(job, self)
            return outcome, self._report(outcome)
        savepoint = self._session.begin()
        try:
            outcome = self._executor.execute(job, self)
        except BaseException:
            savepoint.undo()
            raise
        state: str | None = None
        try:
            self._session.look()
            if isinstance(outcome, Completed):
                # As with a worker, what the handler did and this are one.
                state = self._complete(self._session, outcome)
        except Exception as error:
            savepoint.undo()
            if isinstance(outcome, Completed):
                outcome = self._failed(job, error)
            return outcome, self._report(outcome)
        if self._settings is not None and not isinstance(outcome, Completed):
            savepoint.undo()
            return outcome, self._report(outcome)
        try:
            savepoint.keep()
        except HandlerTransactionError:
            raise
        # What the session had not sent yet is refused by the server.
        except Exception as error:
            savepoint.undo()
            outcome = self._failed(job, error)
        if isinstance(outcome, Completed):
            return outcome, state
        return outcome, self._report(outcome)

    def _complete(self, session: Session, outcome: Completed) -> str | None:
        if self._settings is None:
            return self._report(outcome)
        session.check_constraints()
        state = self._report(outcome)
        # What it has set for its transaction ends with it.
        session.execute(_sql.RESTORE_SETTINGS, self._settings, self._settings)
        return state

    def __call__(self, job: Job, handler: Handler[..., Any], executor: Executor) -> Outcome:
        """Run a handler that wants a transaction: it is the test's."""
        if self._session is None:
            if handler.takes_session:
                error = HandlerError(f"{handler!r} takes a session: pass conn=...")
                return self._failed(job, error)
            session: tuple[Any, ...] = ()
        else:
            is_async = self._session.loop is not None
            if handler.takes_session and handler.is_async != is_async:
                other = "drain" if is_async else "drain_async"
                error = HandlerError(
                    f"{handler!r} takes a session of the other kind: {other} has those"
                )
                return self._failed(job, error)
            session = (self._session.raw,)
            self._settings = str(self._session.execute(_sql.SAVE_SETTINGS)[0][0])
        if handler.is_async:
            return self._loop.run(job, lambda: executor.run_async(job, handler, *session))
        return executor.run(job, handler, *session)

    def cut(self, job: Job) -> None:
        """Do nothing: timeouts are not enforced."""

    def close(self) -> None:
        """Do nothing: the session is the test's."""

    def _failed(self, job: Job, error: Exception) -> Failed:
        self._raised = error
        return execution.failed(job, error)

    @contextlib.contextmanager
    def _watching(self, _: Job) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._raised = error
            raise


def as_fetched(document: str) -> bytes:
    """Make of JSON what a worker fetches: it is in binary form, behind a version."""
    return b"\x01" + document.encode()


def performed(outcome: Outcome, state: str | None, raised: BaseException | None) -> Performed:
    """Put an outcome into words; `state` is the job's then, None if the outcome came too late."""
    job = outcome.job
    if state is None:
        return Performed(job=job, outcome="lost", exception=raised)
    match outcome:
        case Completed(_, result):
            value = None if result is None else json.loads(result)
            return Performed(job=job, outcome="completed", result=value)
        case Snoozed(_, delay):
            return Performed(job=job, outcome="snoozed", delay=delay)
        case Cancelled(_, reason):
            return Performed(job=job, outcome="cancelled", error=reason)
        case Discarded(_, reason):
            return Performed(job=job, outcome="discarded", error=reason)
        case Failed(_, error, _, delay):
            ending: Ending = "discarded" if state == "discarded" else "failed"
            return Performed(job=job, outcome=ending, error=error, delay=delay, exception=raised)
        case _:
            raise TypeError(f"no handler ends with {outcome!r}")


def raise_if_unexpected(outcome: Outcome, raised: BaseException | None) -> None:
    """Raise what went wrong with a job; a retry that the handler asked for is nothing wrong."""
    if raised is not None:
        raise raised
    if isinstance(outcome, Failed) and outcome.detail.get("type") != "retry":
        raise HandlerError(outcome.error)
