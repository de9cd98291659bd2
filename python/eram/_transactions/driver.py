"""Drivers: in whose transactions jobs run, and how a worker is told which."""

from __future__ import annotations

import json
import pkgutil
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from eram._base import wording
from eram._base.suggest import nearest
from eram._jobs.enqueueing import Enqueued
from eram.errors import ConfigError

Result = TypeVar("Result")

CUSTOM = "custom"
PSYCOPG = "psycopg"
_FACTORIES = {
    PSYCOPG: "eram.drivers.psycopg:PsycopgDriver",
    "sqlalchemy": "eram.drivers.sqlalchemy:create",
    "django": "eram.drivers.django:DjangoDriver",
}
_KEYS = ("type", "path", "config")


class Driver(Protocol):
    """What runs jobs in transactions of a library of yours, and enqueues jobs in them.

    The worker builds one in each of its threads that run jobs, by `factory(config)`, so it need not
    be safe for several threads. It may also have

    - `execute(session, query, parameters)`, which runs one statement in the session's transaction
      and returns its rows as tuples: needed where a session is not one that `eram.enqueue` takes.
      The query has `%s` for each parameter, as in DB-API; parameters are strings, whole numbers and
      None.
    - `run_in_transaction_async(fn)` for `async def` handlers, where `fn` is a coroutine function;
      it is called in the event loop of the queue, which all threads of the queue share. With it
      goes an async `execute_async(session, query, parameters)`, if that is needed.
    - `close()` and `close_async()`, which are called when the thread ends; the second one in the
      event loop.
    """

    @property
    def postgresql_url(self) -> str:
        """Where the database is, as a URL or in another form that libpq reads.

        The worker connects there to fetch jobs and to report them, unless it has a `dsn`.
        """

    def run_in_transaction(self, fn: Callable[[Any], Result]) -> Result:
        """Begin a transaction, call `fn(session)`, commit, and return what it has returned.

        When `fn` raises, the transaction is rolled back, and the error raised further. It may be
        called again, in a new transaction.
        """

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue the job that a document describes.

        Args:
            session: enqueue in its transaction; None is in one of its own, committed at once.
            document: the argument of `eram_enqueue_jobs(jsonb)`, as JSON text.
        """


class Drivers:
    """The driver that was configured, built anew for each thread that asks for it.

    Args:
        given: `type`, `path` (of a custom one) and `config`.
        dsn: where the worker connects, if that is said apart from the driver.

    Raises:
        ConfigError: that names no driver; the message says what is wrong.
    """

    def __init__(self, given: Any, dsn: str = "") -> None:
        if not isinstance(given, Mapping):
            raise ConfigError(
                'driver must be a table, such as {type = "sqlalchemy", config = {url = "..."}},'
                f" got {given!r}"
            )
        for key in given:
            if key == "filename":
                raise ConfigError(
                    'driver has no "filename" here: name a custom driver by its "path", such as'
                    ' "myapp.db:create_driver"'
                )
            if key not in _KEYS:
                raise ConfigError(f'driver has no "{key}"; {nearest(str(key), _KEYS)}')
        self.type = given.get("type")
        kinds = (*_FACTORIES, CUSTOM)
        if self.type not in kinds:
            wrong = nearest(str(self.type), kinds) if self.type else f"it is one of {kinds}"
            raise ConfigError(f"driver.type must name a kind of driver, got {self.type!r}; {wrong}")
        self._path = self._path_in(given)
        self._config = _encode(given.get("config", {}))
        if self.type == PSYCOPG:
            self._config = _encode({"dsn": dsn, **given.get("config", {})})
        self._dsn = dsn
        self._built = threading.local()

    def __repr__(self) -> str:
        return f"<Drivers {self.name}>"

    @property
    def name(self) -> str:
        """What messages call the driver."""
        return self._path if self.type == CUSTOM else str(self.type)

    @property
    def is_psycopg(self) -> bool:
        """Whether it is the driver that comes with the worker itself."""
        return bool(self.type == PSYCOPG)

    @property
    def postgresql_url(self) -> str:
        """Where the driver says that the database is.

        Raises:
            ConfigError: it cannot be built, or does not say.
        """
        url: str = self.here().postgresql_url
        return url

    @property
    def middleware(self) -> tuple[str, ...]:
        """What the driver wants around every handler, also where it has no transaction."""
        if self.type != "django":
            return ()
        self._load()
        return ("eram.drivers.django:tidy",)

    def here(self) -> Any:
        """Return the calling thread's driver.

        Raises:
            ConfigError: it cannot be built.
        """
        if not hasattr(self._built, "driver"):
            self._built.driver = self.build()
        return self._built.driver

    def close_here(self) -> None:
        """Close the calling thread's driver, if there is one, as far as no event loop is needed."""
        # Django's connections are there for handlers without a transaction as well.
        if self.type == "django":
            self.here()
        driver = self._built.__dict__.pop("driver", None)
        if hasattr(driver, "close"):
            driver.close()

    def build(self) -> Any:
        """Build a driver, which is the caller's alone.

        Raises:
            ConfigError: it cannot be imported or built, or it is no driver.
        """
        factory = self._load()
        try:
            driver = factory(json.loads(self._config))
            _check(driver)
        except ConfigError as error:
            raise ConfigError(f'driver "{self.name}": {error}') from error
        # Another's code may do anything, even leave.
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f'driver "{self.name}" cannot be built: {wording.in_words(error)}'
            ) from error
        return driver

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue by the calling thread's driver."""
        enqueued: Enqueued = self.here().enqueue(session, document)
        return enqueued

    def _path_in(self, given: Mapping[str, Any]) -> str:
        path = given.get("path")
        if self.type != CUSTOM:
            if path is not None:
                raise ConfigError(f'only a driver of type "custom" has a path, got {path!r}')
            return _FACTORIES[str(self.type)]
        if not isinstance(path, str) or not all(path.partition(":")):
            raise ConfigError(
                "driver.path must say where the factory of the driver is, such as"
                f' "myapp.db:create_driver", got {path!r}'
            )
        return path

    def _load(self) -> Callable[[Any], Any]:
        try:
            factory = pkgutil.resolve_name(self._path)
        except Exception as error:
            hint = "" if self.type == CUSTOM else f'; install it by "pip install eram[{self.type}]"'
            raise ConfigError(
                f'driver "{self.name}" cannot be imported: {wording.in_words(error)}{hint}'
            ) from error
        if not callable(factory):
            raise ConfigError(f'driver "{self.name}" must be a factory, got {factory!r}')
        made: Callable[[Any], Any] = factory
        return made


# For handlers that are not async, and for those that are.
RUNS = ("run_in_transaction", "run_in_transaction_async")


def _encode(config: Any) -> str:
    if not isinstance(config, Mapping):
        raise ConfigError(f"driver.config must be a table, got {config!r}")
    try:
        return json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"driver.config must be plain data, because each thread builds its own driver: {error}"
        ) from error


def _check(driver: object) -> None:
    found = {
        "postgresql_url": isinstance(getattr(driver, "postgresql_url", None), str),
        RUNS[0]: any(callable(getattr(driver, name, None)) for name in RUNS),
        "enqueue": callable(getattr(driver, "enqueue", None)),
    }
    if lacking := [name for name, is_there in found.items() if not is_there]:
        raise ConfigError(
            f"it has made {driver!r}, which is no driver: it lacks {' and '.join(lacking)}; see"
            " eram.Driver"
        )
