"""The driver for SQLAlchemy: handlers get a Session, `async def` handlers an AsyncSession."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from eram._base.connection import NETWORK_OPTIONS
from eram._base.session_state import SessionState
from eram._jobs import enqueueing
from eram._jobs.enqueueing import Enqueued
from eram.drivers._conninfo import conninfo
from eram.errors import ConfigError, HandlerTransactionError

Result = TypeVar("Result")

NAME = "eram jobs"
_STATE = "eram_state"
# Those whose connections take what libpq knows.
_LIBPQ_DRIVERS = {"psycopg", "psycopg_async", "psycopg2"}


class HandlerSession(Session):
    """A session whose transaction is not its handler's to end."""

    is_held = False

    def commit(self) -> None:
        """Commit, unless a handler asks for it."""
        self._check("commit")
        super().commit()

    def rollback(self) -> None:
        """Roll back, unless a handler asks for it."""
        self._check("rollback")
        super().rollback()

    def close(self) -> None:
        """Close, unless a handler asks for it."""
        self._check("close")
        super().close()

    def reset(self) -> None:
        """Reset, unless a handler asks for it."""
        self._check("reset")
        super().reset()

    def invalidate(self) -> None:
        """Invalidate, unless a handler asks for it."""
        self._check("invalidate")
        super().invalidate()

    def _check(self, what: str) -> None:
        if self.is_held:
            raise HandlerTransactionError(
                f"{what}() is forbidden in a handler: its transaction, which completes the job, is"
                " the worker's to end; for a part of it use begin_nested()"
            )


class _Driver:
    """What all the drivers here have in common."""

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        self._url = url
        arguments = options.get("connect_args", {})
        if url.get_dialect().driver in _LIBPQ_DRIVERS:
            known = {**url.query, **arguments}
            defaults = {"application_name": NAME, **NETWORK_OPTIONS}
            given = {key: each for key, each in defaults.items() if key not in known}
            arguments = {**given, **arguments}
        elif url.get_dialect().driver == "asyncpg" and "server_settings" not in arguments:
            arguments = {**arguments, "server_settings": {"application_name": NAME}}
        # There is one job at a time, which may need a session of its own besides.
        self._options = {"pool_size": 1, **options, "connect_args": arguments}
        self.postgresql_url = conninfo(
            {
                **arguments,
                **url.translate_connect_args(username="user", database="dbname"),
                **url.query,
            }
        )

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue in a session's transaction, or in one of its own."""
        if session is not None:
            return enqueueing.send(session, document)[0]
        with psycopg.connect(self.postgresql_url, autocommit=True) as conn:
            return enqueueing.send(conn, document)[0]


class SyncDriver(_Driver):
    """Runs plain handlers, for a URL whose driver has no async connections."""

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.engine: Engine = create_engine(self._url, **self._options)
        _keep_from_later_jobs(self.engine)

    def run_in_transaction(self, fn: Callable[[Session], Result]) -> Result:
        """Call a function with a session that is in a transaction."""
        with HandlerSession(self.engine) as session, session.begin():
            session.is_held = True
            try:
                return fn(session)
            finally:
                session.is_held = False

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue in a session's transaction, or in one of its own."""
        if session is not None:
            return super().enqueue(session, document)
        with self.engine.begin() as conn:
            return super().enqueue(conn, document)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


class AsyncDriver(_Driver):
    """Runs async handlers, for a URL whose driver has async connections only."""

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.async_engine: AsyncEngine = create_async_engine(self._url, **self._options)
        _keep_from_later_jobs(self.async_engine.sync_engine)

    async def run_in_transaction_async(
        self, fn: Callable[[AsyncSession], Awaitable[Result]]
    ) -> Result:
        """Await a function that is given an async session, which is in a transaction."""
        held = AsyncSession(self.async_engine, sync_session_class=HandlerSession)
        async with held as session, session.begin():
            session.sync_session.is_held = True  # type: ignore[attr-defined]
            try:
                return await fn(session)
            finally:
                session.sync_session.is_held = False  # type: ignore[attr-defined]

    async def close_async(self) -> None:
        """Close the connections."""
        await self.async_engine.dispose()


class BothDriver(SyncDriver, AsyncDriver):
    """Runs handlers of both kinds, for psycopg."""


def create(config: Mapping[str, Any]) -> SyncDriver | AsyncDriver:
    """Build a driver.

    Args:
        config: `url`, and options of SQLAlchemy's create_engine by name.

    Raises:
        ConfigError: there is no URL of a PostgreSQL database in it.
    """
    options = dict(config)
    given = options.pop("url", None)
    if not isinstance(given, str):
        raise ConfigError(
            'config must have a "url", such as "postgresql+psycopg://user:password@host/database",'
            f" got {given!r}"
        )
    try:
        url = make_url(given)
    except ArgumentError as error:
        raise ConfigError(str(error)) from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigError(f'the url must be one of PostgreSQL, got "{url.drivername}"')
    if "+" not in url.drivername:
        # The one that is here anyway, whichever is SQLAlchemy's default.
        url = url.set(drivername="postgresql+psycopg")
    if url.get_driver_name() == "psycopg":
        return BothDriver(url, options)
    return AsyncDriver(url, options) if url.get_dialect().is_async else SyncDriver(url, options)


def _keep_from_later_jobs(engine: Engine) -> None:
    """Give connections up whose settings a job has changed."""

    def note(_: Any, record: Any, __: Any) -> None:
        record.info.setdefault(_STATE, SessionState(record.driver_connection))

    def check(_: Any, record: Any) -> None:
        before, conn = record.info.get(_STATE), record.driver_connection
        # One that was lost is given up already.
        if before is not None and conn is not None and not before.restore(conn):
            record.invalidate()

    event.listen(engine, "checkout", note)
    event.listen(engine, "checkin", check)
