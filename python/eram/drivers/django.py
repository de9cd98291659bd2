"""The driver for Django: handlers use the ORM, inside `transaction.atomic`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import django
from django.conf import settings
from django.db import connections, reset_queries, transaction

from eram._base.session_state import SessionState
from eram._base.suggest import nearest
from eram._jobs import enqueueing
from eram._jobs.enqueueing import Enqueued
from eram._jobs.job import Job
from eram.drivers._conninfo import conninfo
from eram.errors import ConfigError

Result = TypeVar("Result")

_KEYS = ("settings", "using")
_VARIABLE = "DJANGO_SETTINGS_MODULE"


class DjangoDriver:
    """Runs jobs in transactions of Django's connections, of which each thread has its own.

    Args:
        config: `settings`, the module of the settings, unless `DJANGO_SETTINGS_MODULE` or the
            program has said it; and `using`, the alias of the database, "default" by default.

    Raises:
        ConfigError: there are no such settings, or no such database of PostgreSQL in them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        for key in config:
            if key not in _KEYS:
                raise ConfigError(f'config has no "{key}"; {nearest(key, _KEYS)}')
        _set_up(config.get("settings"))
        self._alias = config.get("using", "default")
        aliases = list(connections)
        if self._alias not in aliases:
            raise ConfigError(
                f'DATABASES has no "{self._alias}"; {nearest(str(self._alias), aliases)}'
            )
        connection = connections[self._alias]
        if connection.vendor != "postgresql":
            raise ConfigError(
                f'the database "{self._alias}" must be one of PostgreSQL, got {connection.vendor}'
            )
        self.postgresql_url = conninfo(connection.get_connection_params())

    def run_in_transaction(self, fn: Callable[[Any], Result]) -> Result:
        """Call a function with the connection of this thread, inside `atomic`."""
        reset_queries()
        _close_old()
        connection = connections[self._alias]
        used = before = None
        try:
            with transaction.atomic(using=self._alias, durable=True):
                used = connection.connection
                before = SessionState(used)
                return fn(connection)
        finally:
            # What a job has set for the session is not for later ones.
            if before is not None and not before.restore(used) and used is connection.connection:
                connection.close()
            _close_old()

    def enqueue(self, session: Any | None, document: str) -> Enqueued:
        """Enqueue over a connection, or over this thread's: in its `atomic` block if it has one."""
        conn = connections[self._alias] if session is None else session
        return enqueueing.send(conn, document)[0]

    def close(self) -> None:
        """Close the connections of this thread, if nobody uses them."""
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()


@contextlib.contextmanager
def tidy(job: Job) -> Iterator[None]:  # noqa: ARG001 - as middleware has it
    """Do around a handler what Django does around a request: drop connections that are no good.

    Without it a connection that was lost once would stay so for all further jobs of its thread.
    Those that are in a transaction are left alone.
    """
    _close_old()
    try:
        yield
    finally:
        _close_old()


def _close_old() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _set_up(module: str | None) -> None:
    if module is not None and settings.configured:
        configured = getattr(settings, "SETTINGS_MODULE", None)
        if configured not in {None, module}:
            raise ConfigError(f'Django runs with "{configured}" already, not with "{module}"')
    elif module is not None:
        os.environ[_VARIABLE] = module
    elif not settings.configured and not os.environ.get(_VARIABLE):
        raise ConfigError(
            'config must name the settings, such as {settings = "mysite.settings"}, or the variable'
            f" {_VARIABLE} must"
        )
    django.setup()
