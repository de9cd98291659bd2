"""Trying a driver out when a worker starts: a wrong one must not get to any job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from eram._base import sessions, statements, wording
from eram._base.connection import open_session
from eram._runtime.event_loop import EventLoop
from eram._transactions.driver import RUNS, Drivers
from eram.errors import ConfigError

MARK = "probe"
PROBE_SECONDS = 60.0

_Rows: TypeAlias = Sequence[tuple[Any, ...]]


class _SeenError(Exception):
    """Raised inside the driver's transaction, to see it come out."""

    def __str__(self) -> str:
        return "the worker tries out whether errors come out of run_in_transaction"


def probe(drivers: Drivers, dsn: str) -> None:
    """Build a driver, and see that it has transactions of the worker's database.

    Args:
        drivers: what was configured.
        dsn: where the worker connects.

    Raises:
        ConfigError: jobs could not be run in its transactions; the message says why.
        psycopg.Error: the worker's own database cannot be reached.
    """
    with open_session(dsn, "eram probe").conn as conn:
        ours = sessions.execute(conn, statements.TRY_TRANSACTION)
    # In a thread of its own, as later on: that of the caller may have connections of its own.
    with ThreadPoolExecutor(1, "eram-probe") as thread:
        thread.submit(_probe, drivers, ours).result()


def _probe(drivers: Drivers, ours: _Rows) -> None:
    driver = drivers.build()
    try:
        if callable(getattr(driver, RUNS[0], None)):
            _check(drivers, ours, lambda: _look(driver))
        if callable(getattr(driver, RUNS[1], None)):
            loop = EventLoop("eram-probe")
            try:
                _check(drivers, ours, lambda: loop.call(lambda: _look_async(driver), PROBE_SECONDS))
                if hasattr(driver, "close_async"):
                    loop.call(driver.close_async, PROBE_SECONDS)
            finally:
                loop.close()
    finally:
        if hasattr(driver, "close"):
            driver.close()


def _check(drivers: Drivers, ours: _Rows, look: Callable[[], _Rows]) -> None:
    try:
        rows = look()
    except ConfigError as error:
        raise ConfigError(f'driver "{drivers.name}": {error}') from error
    # Another's code may raise anything.
    except Exception as error:
        raise ConfigError(
            f'driver "{drivers.name}" cannot run jobs: {wording.in_words(error)}'
        ) from error
    mark, *theirs = rows[0]
    if mark != MARK:
        raise ConfigError(
            f'driver "{drivers.name}" runs nothing in a transaction: what is set in it with'
            ' "set local" does not last until its end'
        )
    if theirs != list(ours[0][1:]):
        raise ConfigError(
            f'driver "{drivers.name}" uses the database "{theirs[1]}", but the worker connects to'
            f' "{ours[0][2]}"'
            + ("" if theirs[1] != ours[0][2] else " of another server")
            + "; a job and its transaction must be in one database"
        )


def _look(driver: Any) -> _Rows:
    execute = getattr(driver, "execute", sessions.execute)
    seen: list[_Rows] = []

    def fn(session: Any) -> None:
        execute(session, statements.MARK_TRANSACTION.format(MARK), ())
        seen.append(execute(session, statements.TRY_TRANSACTION, ()))
        raise _SeenError

    try:
        driver.run_in_transaction(fn)
    except Exception:
        if not seen:
            raise
        return seen[-1]
    raise _swallowed(seen)


async def _look_async(driver: Any) -> _Rows:
    execute = getattr(driver, "execute_async", sessions.execute_async)
    seen: list[_Rows] = []

    async def fn(session: Any) -> None:
        await execute(session, statements.MARK_TRANSACTION.format(MARK), ())
        seen.append(await execute(session, statements.TRY_TRANSACTION, ()))
        raise _SeenError

    try:
        await driver.run_in_transaction_async(fn)
    except Exception:
        if not seen:
            raise
        return seen[-1]
    raise _swallowed(seen)


def _swallowed(seen: Sequence[object]) -> ConfigError:
    if seen:
        return ConfigError(
            "it keeps the error of what it has run in a transaction to itself, and so may have"
            " committed it; it must roll back and raise the error"
        )
    return ConfigError("it has not run what it was given to run in a transaction")
