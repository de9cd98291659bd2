"""What is done around every handler: tracing, logging, reporting of errors."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from eram import _wording
from eram._job import Job
from eram.errors import ConfigError

Middleware: TypeAlias = Callable[[Job], AbstractContextManager[Any]]


def load_middleware(given: Iterable[Middleware | str]) -> tuple[Middleware, ...]:
    """Import what is given by path; the first one is the outermost.

    Raises:
        ConfigError: one cannot be imported, or cannot be called.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"middleware must be a list, got {given!r}")
    return tuple(_load(each) for each in given)


def _load(given: Any) -> Middleware:
    found = given
    if isinstance(given, str):
        try:
            found = pkgutil.resolve_name(given)
        # A module may do anything while it is imported.
        except Exception as error:
            raise ConfigError(
                f'middleware "{given}" cannot be imported: {_wording.in_words(error)}'
            ) from error
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise ConfigError(
            "middleware must be functions of a job that return a context manager,"
            f' or their paths "module:function"; got {given!r}'
        )
    middleware: Middleware = found
    return middleware
