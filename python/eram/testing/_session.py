"""The test's connection, as the helpers see it: statements, savepoints, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from eram._base import sessions
from eram._jobs.job import Job
from eram._runtime.event_loop import EventLoop
from eram.errors import EramError, HandlerTransactionError

Result = TypeVar("Result")

_ENDED = "a handler has ended the transaction of the test"
_BROKEN = (
    "the handler caught a database error, but its transaction cannot go on after it; put what may"
    " fail into a savepoint"
)
_NO_TRANSACTION = (
    "there is no transaction, so what is done would stay, and no job is its own: be inside one,"
    " such as that of the fixture eram_conn"
)
_ABORTED = "25P02"
_NOT_IN_ONE = "25P01"

_BEGIN: LiteralString = "savepoint eram_testing"
_KEEP: LiteralString = "release savepoint eram_testing"
_UNDO: LiteralString = "rollback to savepoint eram_testing; release savepoint eram_testing"
_LOOK: LiteralString = "select 1"
_CHECK_CONSTRAINTS: LiteralString = "set constraints all immediate"


class Savepoint(NamedTuple):
    """Where a part of the transaction began: one of the two is called once."""

    keep: Callable[[], object]
    undo: Callable[[], object]


class CallersLoop(EventLoop):
    """The event loop of an async test, seen from a thread that runs jobs for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__("eram-testing")
        self._callers = loop

    def run(self, job: Job, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:  # noqa: ARG002 - as the class above has it
        """Run a coroutine in a context of its own, and wait until it has ended."""
        return self.wait_for(_in_task_of_its_own(make))

    def wait_for(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine, and wait until it has ended."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._callers).result()


async def _in_task_of_its_own(make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    return await asyncio.get_running_loop().create_task(make(), context=Context())


def _sqlstate(error: BaseException) -> str | None:
    """Find the server's code in an error that a library may have wrapped into one of its own."""
    inner = getattr(error, "orig", None) or error.__cause__ or error
    state: str | None = getattr(inner, "sqlstate", None) or getattr(inner, "pgcode", None)
    return state


class Session:
    """A connection or session of any library that eram knows.

    Args:
        raw: what the test has, and its handlers get.
    """

    # That of an async test, which its connection is bound to.
    loop: CallersLoop | None = None

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def execute(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """Send a statement; parameters are strings, numbers, booleans and None."""
        return sessions.execute(self.raw, query, parameters)

    @property
    def has_transaction(self) -> bool:
        """Whether a transaction is open, as far as can be told."""
        return True

    def demand_transaction(self, *, or_begin: bool = False) -> None:
        """Refuse a connection that commits each statement.

        Args:
            or_begin: whether it will do that handlers have transactions of their own.

        Raises:
            EramError: nothing would be rolled back.
        """
        try:
            # The server knows, whatever the library does.
            if or_begin:
                part = self.begin()
                self.execute(_LOOK)
                part.keep()
            else:
                self.execute(_BEGIN)
                self.execute(_KEEP)
        except Exception as error:
            if _sqlstate(error) == _NOT_IN_ONE:
                raise EramError(_NO_TRANSACTION) from error
            raise

    def look(self) -> None:
        """Raise unless the transaction can go on; each library raises errors of its own."""
        try:
            self.execute(_LOOK)
        except Exception as error:
            if _sqlstate(error) == _ABORTED:
                raise HandlerTransactionError(_BROKEN) from error
            raise

    def check_constraints(self) -> None:
        """Raise if a constraint is violated that would be checked at the end of the transaction."""
        part = self.begin()
        try:
            self.execute(_CHECK_CONSTRAINTS)
        finally:
            # They are as deferred then as before.
            part.undo()

    def begin(self) -> Savepoint:
        """Begin a part of the transaction that can be undone."""
        self.execute(_BEGIN)
        return Savepoint(lambda: self.execute(_KEEP), self._undo)

    def _undo(self) -> None:
        # One by one, for not every library sends two.
        for each in _UNDO.split("; "):
            self.execute(each)


class _Psycopg(Session):
    @property
    def has_transaction(self) -> bool:
        status: TransactionStatus = self.raw.info.transaction_status
        return status != TransactionStatus.IDLE

    def look(self) -> None:
        match self.raw.info.transaction_status:
            case TransactionStatus.INTRANS:
                return
            case TransactionStatus.INERROR:
                raise HandlerTransactionError(_BROKEN)
            case _:
                raise HandlerTransactionError(_ENDED)

    def begin(self) -> Savepoint:
        # Its own kind, because it refuses commit() as long as it is open.
        manager = self.raw.transaction()
        transaction = self._enter(manager)

        def end(*, undo: bool) -> None:
            if not self.has_transaction:
                error = HandlerTransactionError(_ENDED)
                with contextlib.suppress(psycopg.Error, HandlerTransactionError):
                    self._exit(manager, error)
                raise error
            transaction.force_rollback = undo
            self._exit(manager, None)

        return Savepoint(lambda: end(undo=False), lambda: end(undo=True))

    def _enter(self, manager: Any) -> Any:
        return manager.__enter__()

    def _exit(self, manager: Any, error: Exception | None) -> None:
        manager.__exit__(error and type(error), error, None)


def _is_begun(session: Any) -> bool:
    """Say whether a session of SQLAlchemy, or the connection that it was given, has begun."""
    outer = getattr(session, "bind", None)
    return bool(session.in_transaction() or (hasattr(outer, "in_transaction") and _is_begun(outer)))


class _SqlAlchemy(Session):
    @property
    def has_transaction(self) -> bool:
        return _is_begun(self.raw)

    def begin(self) -> Savepoint:
        nested = self.raw.begin_nested()
        return Savepoint(nested.commit, nested.rollback)


class _Django(Session):
    @property
    def has_transaction(self) -> bool:
        return bool(self.raw.in_atomic_block)

    def begin(self) -> Savepoint:
        # Only where it is in use.
        transaction: Any = importlib.import_module("django.db.transaction")
        atomic = transaction.atomic(using=self.raw.alias)
        atomic.__enter__()

        def undo() -> None:
            transaction.set_rollback(True, using=self.raw.alias)
            atomic.__exit__(None, None, None)

        return Savepoint(lambda: atomic.__exit__(None, None, None), undo)


class _Async(Session):
    loop: CallersLoop

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self.loop = CallersLoop(asyncio.get_running_loop())

    def execute(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        return self.loop.wait_for(sessions.execute_async(self.raw, query, parameters))


class _AsyncPsycopg(_Async, _Psycopg):
    def _enter(self, manager: Any) -> Any:
        return self.loop.wait_for(manager.__aenter__())

    def _exit(self, manager: Any, error: Exception | None) -> None:
        self.loop.wait_for(manager.__aexit__(error and type(error), error, None))


class _AsyncSqlAlchemy(_Async):
    @property
    def has_transaction(self) -> bool:
        return _is_begun(self.raw)

    def begin(self) -> Savepoint:
        async def enter() -> Any:
            return await self.raw.begin_nested()

        nested = self.loop.wait_for(enter())
        return Savepoint(
            lambda: self.loop.wait_for(nested.commit()),
            lambda: self.loop.wait_for(nested.rollback()),
        )


def session_of(conn: Any) -> Session:
    """Make a session of what a test has: anything that `eram.enqueue` takes.

    Raises:
        TypeError: it is nothing that can be used.
    """
    if not sessions.is_sync(conn):
        raise sessions.wrong(conn, "the one that ends in _async")
    if isinstance(conn, psycopg.Connection):
        return _Psycopg(conn)
    if hasattr(conn, "begin_nested"):
        return _SqlAlchemy(conn)
    return _Django(conn) if hasattr(conn, "in_atomic_block") else Session(conn)


def async_session_of(conn: Any) -> Session:
    """Make a session of what an async test has, to be used in another thread than the test's.

    Raises:
        TypeError: it is nothing that can be used.
    """
    if not sessions.is_async(conn):
        raise sessions.wrong_async(conn, "the one that does not end in _async")
    if isinstance(conn, psycopg.AsyncConnection):
        return _AsyncPsycopg(conn)
    return _AsyncSqlAlchemy(conn) if hasattr(conn, "begin_nested") else _Async(conn)
