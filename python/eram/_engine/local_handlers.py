"""Handlers that one engine alone knows: by their own names, as given, or for all others."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eram._base import wording
from eram._base.checks import check_name
from eram._jobs.handlers import Handler, Parameters, Result, made
from eram._jobs.options import HandlerOptions
from eram.errors import ConfigError, HandlerDefinitionError

# As the server has it.
MAX_NAME_CHARACTERS = 512


class LocalHandler(Handler[Parameters, Result]):
    """A function that runs in the thread that is in `Engine.run()`, found by its name."""

    is_local = True

    def __init__(
        self,
        function: Callable[..., Result],
        options: HandlerOptions,
        *,
        name: str | None = None,
        transaction: bool | None = None,
        aliases: Sequence[str] = (),
    ) -> None:
        self._name = getattr(function, "__name__", "") if name is None else name
        try:
            check_name("a handler", self._name, MAX_NAME_CHARACTERS)
        except ConfigError as error:
            raise HandlerDefinitionError(str(error)) from error
        super().__init__(_as_function(function), options, transaction=transaction, aliases=aliases)
        if self.is_async and self.takes_session:
            raise HandlerDefinitionError(
                f'handler "{self._name}" is async and runs on the main thread, where it can have no'
                " session; make it a plain function, or put it into a module under @eram.job"
            )

    def __repr__(self) -> str:
        return f"<LocalHandler {self._name}>"

    @property
    def path(self) -> str:
        """The name by which its engine finds it."""
        return self._name

    def wants_transaction(self, *, has_driver: bool) -> bool:
        """Whether its jobs run in the transactions that complete them; async ones never do."""
        return not self.is_async and super().wants_transaction(has_driver=has_driver)


class FallbackHandler(Handler[..., Any]):
    """A function for all jobs whose handler is no path, or none that the worker may follow."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # Of a handler the function alone counts: the jobs are not its own.
        function = getattr(function, "__wrapped__", function)
        super().__init__(_as_function(function), {})

    @property
    def path(self) -> str:
        """There is none.

        Raises:
            HandlerDefinitionError: always.
        """
        raise HandlerDefinitionError("a fallback has no path: it runs the jobs of many handlers")


class LocalHandlers:
    """What one engine has of such handlers. Any thread may add to it, also while workers run."""

    def __init__(self, fallback: Callable[..., Any] | str | None = None) -> None:
        """Raise ConfigError if the fallback cannot run jobs."""
        self.fallback: FallbackHandler | None = None
        self._fallback_path = fallback if isinstance(fallback, str) else None
        if fallback is not None and not isinstance(fallback, str):
            self.fallback = _as_fallback("handler", fallback)
        self._named: dict[str, LocalHandler[..., Any]] = {}
        self._given: dict[str, Handler[..., Any]] = {}
        # All of them, with their aliases.
        self._by_name: dict[str, Handler[..., Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name or self.fallback or self._fallback_path)

    def load(self) -> None:
        """Import the fallback, if it is given by its path.

        Raises:
            ConfigError: it cannot be imported, or it cannot run jobs.
        """
        path = self._fallback_path
        if path is None or self.fallback is not None:
            return
        try:
            found = pkgutil.resolve_name(path)
        # A module may do anything while it is imported.
        except Exception as error:
            raise ConfigError(
                f'handler "{path}" cannot be imported: {wording.in_words(error)}'
            ) from error
        if not callable(found):
            raise ConfigError(f'handler "{path}" must be a function of the job, got {found!r}')
        self.fallback = _as_fallback(f'handler "{path}"', found)

    @property
    def names(self) -> list[str]:
        """The names of those that run on the main thread."""
        return sorted(self._named)

    def add(self, handler: LocalHandler[..., Any]) -> None:
        """Add one that runs on the main thread.

        Raises:
            HandlerDefinitionError: there is one of this name, and not because its code ran again.
        """
        present = self._named.get(handler.path)
        if present is not None and _code_of(present) != _code_of(handler):
            raise HandlerDefinitionError(
                f'there is a handler "{handler.path}" already ({_code_of(present)});'
                " give this one another name"
            )
        self._named[handler.path] = handler
        self._index()

    def give(self, handler: Handler[..., Any]) -> None:
        """Let the engine run a handler wherever its module lies."""
        if not handler.is_local:
            self._given[handler.path] = handler
            self._index()

    def find(self, name: str) -> Handler[..., Any] | None:
        """Find one by its name, its path or an alias."""
        return self._by_name.get(name)

    def known(self) -> Mapping[str, Handler[..., Any]]:
        """Return all that there are by name."""
        return {**self._given, **self._named}

    def _index(self) -> None:
        known = self.known()
        by_alias = {alias: each for each in known.values() for alias in each.aliases}
        self._by_name = {**by_alias, **known}
        # Whoever has looked since the handler was made has not found it here.
        made.changed()


def _as_fallback(what: str, function: Callable[..., Any]) -> FallbackHandler:
    try:
        return FallbackHandler(function)
    except HandlerDefinitionError as error:
        raise ConfigError(f"{what} cannot run jobs: {error}") from error


def _code_of(handler: Handler[..., Any]) -> str:
    return f"{handler.__module__}:{getattr(handler, '__qualname__', '')}"


def _as_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a bound method, or of another object that can be called."""
    if inspect.isfunction(function) or isinstance(function, Handler) or not callable(function):
        return function
    call = getattr(function, "__call__", None)  # noqa: B004 - whether it is async is asked
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return run_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return run
