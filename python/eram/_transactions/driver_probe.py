"""Trying a driver out when a worker starts: a wrong one must not get to any job."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import psycopg

from eram._base import sessions, statements, wording
from eram._base.connection import open_session
from eram._runtime.event_loop import EventLoop
from eram._transactions.driver import RUNS, Drivers
from eram.errors import ConfigError

MARK = "probe"
PROBE_SECONDS = 60.0
# A transaction whose connection is just closed the server ends when it notices that.
END_SECONDS = 3.0

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
        trial = _Trial(drivers, conn)
        # In a thread of its own, as later on: that of the caller may have connections of its own.
        # A daemon: whatever hangs in it must not keep the program from its end.
        thread = threading.Thread(target=trial, name="eram-probe", daemon=True)
        thread.start()
        thread.join(PROBE_SECONDS)
        if thread.is_alive():
            raise ConfigError(
                f'driver "{drivers.name}" cannot run jobs: its trial has not ended within'
                f" {PROBE_SECONDS:g} s"
            )
    if trial.error is not None:
        raise trial.error


class _Trial:
    """What a driver is put through, in a thread.

    Args:
        drivers: what was configured.
        conn: the worker's connection.
    """

    def __init__(self, drivers: Drivers, conn: psycopg.Connection[Any]) -> None:
        self._drivers = drivers
        self._conn = conn
        self.error: Exception | None = None

    def __call__(self) -> None:
        try:
            driver = self._drivers.build()
            try:
                self._try(driver)
            except BaseException:
                with contextlib.suppress(BaseException):
                    _close(driver)
                raise
            with self._said("cannot be closed"):
                _close(driver)
        # What the database says of itself is not the driver's.
        except (ConfigError, psycopg.Error) as error:
            self.error = error

    def _try(self, driver: Any) -> None:
        if callable(getattr(driver, RUNS[0], None)):
            self._check(lambda *, fails: _look(driver, fails=fails))
        if callable(getattr(driver, RUNS[1], None)):
            loop = EventLoop("eram-probe")
            try:
                self._check(
                    lambda *, fails: loop.call(
                        lambda: _look_async(driver, fails=fails), PROBE_SECONDS
                    )
                )
                with self._said("cannot be closed"):
                    if hasattr(driver, "close_async"):
                        loop.call(driver.close_async, PROBE_SECONDS)
            finally:
                loop.close()

    def _check(self, look: Callable[..., _Rows]) -> None:
        """See what comes of a transaction that fails, and of one that does not."""
        ours = sessions.execute(self._conn, statements.TRY_TRANSACTION)[0]
        for fails in (True, False):
            with self._said("cannot run jobs"):
                rows = look(fails=fails)
                mark, number, *theirs = _row(rows, len(ours))
                if mark != MARK:
                    raise ConfigError(
                        "it runs nothing in a transaction: what is set in it with"
                        ' "set local" does not last until its end'
                    )
                if theirs != list(ours[2:]):
                    raise ConfigError(
                        f'it uses the database "{theirs[1]}", but the worker connects to'
                        f' "{ours[3]}"'
                        + ("" if theirs[1] != ours[3] else " of another server")
                        + "; a job and its transaction must be in one database"
                    )
            self._check_end(str(number), fails=fails)

    def _check_end(self, number: str, *, fails: bool) -> None:
        """See that a transaction has ended as it was to, which the server knows."""
        until = time.monotonic() + END_SECONDS
        while (status := self._status(number)) == "in progress" and time.monotonic() < until:
            time.sleep(0.01)
        wrong = {
            "in progress": "it has not ended the transaction that it has run something in",
            "committed": "it commits a transaction although what it has run in it raised an error",
            "aborted": "it does not commit the transaction that it has run something in",
        }
        if status != ("aborted" if fails else "committed"):
            raise ConfigError(
                f'driver "{self._drivers.name}" cannot run jobs: {wrong.get(status, status)}; it'
                " must commit, or roll back and raise the error"
            )

    def _status(self, number: str) -> str:
        return str(sessions.execute(self._conn, statements.TRANSACTION_STATUS, (number,))[0][0])

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Say of whatever is raised that it is the driver's."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f'driver "{self._drivers.name}": {error}') from error
        # Another's code may raise anything, and may even want to end the process.
        except BaseException as error:
            raise ConfigError(
                f'driver "{self._drivers.name}" {what}: {wording.in_words(error)}'
            ) from error


def _close(driver: Any) -> None:
    if hasattr(driver, "close"):
        driver.close()


def _row(rows: Any, width: int) -> tuple[Any, ...]:
    row = rows[0] if isinstance(rows, Sequence) and rows else None
    if isinstance(row, str | Mapping) or not isinstance(row, Sequence) or len(row) != width:
        raise ConfigError(f"execute must return the rows as a list of tuples, got {rows!r}")
    return tuple(row)


def _look(driver: Any, *, fails: bool) -> _Rows:
    execute = getattr(driver, "execute", sessions.execute)
    seen: list[_Rows] = []

    def fn(session: Any) -> None:
        execute(session, statements.MARK_TRANSACTION.format(MARK), ())
        seen.append(execute(session, statements.TRY_TRANSACTION, ()))
        if fails:
            raise _SeenError

    try:
        driver.run_in_transaction(fn)
    except Exception:
        if not fails or not seen:
            raise
        return seen[-1]
    return _seen(seen, fails=fails)


async def _look_async(driver: Any, *, fails: bool) -> _Rows:
    execute = getattr(driver, "execute_async", sessions.execute_async)
    seen: list[_Rows] = []

    async def fn(session: Any) -> None:
        await execute(session, statements.MARK_TRANSACTION.format(MARK), ())
        seen.append(await execute(session, statements.TRY_TRANSACTION, ()))
        if fails:
            raise _SeenError

    try:
        await driver.run_in_transaction_async(fn)
    except Exception:
        if not fails or not seen:
            raise
        return seen[-1]
    return _seen(seen, fails=fails)


def _seen(seen: Sequence[_Rows], *, fails: bool) -> _Rows:
    if not seen:
        raise ConfigError("it has not run what it was given to run in a transaction")
    if fails:
        raise ConfigError(
            "it keeps the error of what it has run in a transaction to itself, and so may have"
            " committed it; it must roll back and raise the error"
        )
    return seen[-1]
