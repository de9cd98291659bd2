"""How a worker finds handlers by path, and which there are."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from eram._base import wording
from eram._engine.local_handlers import LocalHandlers
from eram._jobs.handlers import PATH, Handler, made
from eram.errors import HandlerDefinitionError, HandlerNotFoundError

logger = logging.getLogger(__name__)

# So many names of jobs that are left to the fallback are remembered: they may be made up.
MAX_OTHERS = 10_000


class Handlers:
    """Finds handlers by path, in modules that the worker is allowed to run.

    Whoever may insert a row chooses the path: without the prefixes it could name any callable.

    Args:
        allow: the modules, with all modules below them.
        local: what the worker's engine knows besides; these go before what is found by path.
    """

    def __init__(self, allow: Sequence[str], local: LocalHandlers | None = None) -> None:
        self._allow = tuple(allow)
        self._local = LocalHandlers() if local is None else local
        self._found: dict[str, Handler[..., Any]] = {}
        # What the fallback runs, as long as no more handlers are made.
        self._others: set[str] = set()
        self._version: int | None = None

    def resolve(self, path: str) -> Handler[..., Any]:
        """Find a handler, and remember it; a failure is tried again next time.

        Raises:
            HandlerNotFoundError: says why this worker cannot or may not run it.
        """
        handler = self._local.find(path) or self._found.get(path) or self._find_other(path)
        if handler is None:
            try:
                handler = self._found[path] = self._find(path)
            except HandlerNotFoundError:
                # The server says so as well, unless a worker with older code has told it otherwise.
                handler = self._find_by_alias(path)
                if handler is not None:
                    self._found[path] = handler
                else:
                    handler = self._fall_back(path)
                    if handler is None:
                        raise
            # Names are looked up by code of the module's, which may do anything, even leave.
            except BaseException as error:
                reason = f"cannot be looked up: {wording.in_words(error)}"
                raise HandlerNotFoundError(path, reason) from error
        return handler

    def load(self) -> None:
        """Import the modules that are allowed; what cannot be imported is logged, no more.

        Modules below them are imported when a job asks for them.

        Raises:
            ConfigError: the engine's fallback cannot be imported.
        """
        self._local.load()
        for module in self._allow:
            try:
                importlib.import_module(module)
            except KeyboardInterrupt:
                raise
            # As when a job asks for it, a module may do anything.
            except BaseException as error:
                logger.warning("module %s cannot be imported: %s", module, wording.in_words(error))

    def loaded(self) -> tuple[dict[str, Handler[..., Any]], bool]:
        """Return the handlers by path that were imported and may be run.

        Also whether there are no others, which is not so while a module is being imported.
        """
        found: dict[str, Handler[..., Any]] = dict(self._local.known())
        are_all = True
        for handler in made:
            # Of those of other engines nothing is known here.
            if handler.is_local:
                continue
            try:
                path = handler.path
            except HandlerDefinitionError:
                continue
            module, _, name = path.partition(":")
            if self._is_allowed(module):
                # What is not found there was decorated further, or defined anew since; or it will
                # be found in a moment.
                if _look_up(module, name) is handler:
                    found[path] = handler
                else:
                    are_all = False
        return found, are_all

    def _find(self, path: str) -> Handler[..., Any]:
        parts = PATH.fullmatch(path)
        if parts is None:
            raise HandlerNotFoundError(path, 'is no path of the form "module:function"')
        module = parts["module"]
        if not self._is_allowed(module):
            allowed = ", ".join(self._allow)
            reason = f"is in no module that this worker may run (allowed: {allowed})"
            raise HandlerNotFoundError(path, reason)
        found = _import(path, module)
        for name in parts["name"].split("."):
            try:
                found = getattr(found, name)
            except AttributeError as error:
                reason = f"does not exist: {wording.message(error)}"
                raise HandlerNotFoundError(path, reason) from error
        if not isinstance(found, Handler):
            raise HandlerNotFoundError(
                path, f"is not a job: decorate it with @eram.job ({found!r})"
            )
        return found

    def _find_by_alias(self, path: str) -> Handler[..., Any] | None:
        found, _ = self.loaded()
        owners = [owner for owner in sorted(found) if path in found[owner].aliases]
        # Where two have it, it is the one that is declared last.
        return found[owners[-1]] if owners else None

    def _find_other(self, path: str) -> Handler[..., Any] | None:
        if self._version != made.version:
            self._version = made.version
            self._others.clear()
        return self._local.fallback if path in self._others else None

    def _fall_back(self, path: str) -> Handler[..., Any] | None:
        """Leave to the fallback what is no path, or none that this worker may follow."""
        parts = PATH.fullmatch(path)
        if self._local.fallback is None or (parts and self._is_allowed(parts["module"])):
            return None
        if len(self._others) >= MAX_OTHERS:
            self._others.clear()
        self._others.add(path)
        return self._local.fallback

    def _is_allowed(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{prefix}.") for prefix in self._allow)


def _look_up(module: str, name: str) -> object:
    """Find what a module that was imported has under a name."""
    found: object = sys.modules.get(module)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    # Code of the module's, as in resolve().
    except BaseException:
        return None
    return found


def _import(path: str, module: str) -> Any:
    # A module written since the last look at its folder would not be seen.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    # A module may do anything while it is imported, even leave: that costs its own jobs only.
    except BaseException as error:
        reason = f"cannot be imported: {wording.in_words(error)}"
        raise HandlerNotFoundError(path, reason) from error
