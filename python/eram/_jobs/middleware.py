"""What is done around every handler: tracing, logging, reporting of errors."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from eram._base import wording
from eram._base.suggest import nearest
from eram._jobs.handlers import PATH
from eram._jobs.job import Job
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


def check_is_middleware(given: Any) -> None:
    """Refuse what can be none, importing nothing.

    Raises:
        ConfigError: it is neither such a function nor a path.
    """
    if isinstance(given, str):
        _check_path(given)
    else:
        _check_function(given)


def _check_function(given: Any) -> None:
    # What a decorator has made of it is no generator any more; an async context manager is of no
    # use whoever makes it.
    is_wrong = (
        not callable(given)
        or inspect.iscoroutinefunction(given)
        or inspect.isgeneratorfunction(given)
        or inspect.isasyncgenfunction(inspect.unwrap(given))
    )
    if is_wrong:
        hint = ""
        if inspect.isgeneratorfunction(given):
            hint = "; put @contextlib.contextmanager on it"
        elif callable(given) and inspect.isasyncgenfunction(inspect.unwrap(given)):
            hint = "; it cannot be async, also for async handlers"
        raise ConfigError(
            "middleware must be functions of a job that return a context manager,"
            f' or their paths "module:function"; got {given!r}{hint}'
        )


def _load(given: Any) -> Middleware:
    found: Any = _import(given) if isinstance(given, str) else given
    _check_function(found)
    middleware: Middleware = found
    return middleware


def _check_path(path: str) -> None:
    if not PATH.fullmatch(path):
        raise ConfigError(f'middleware "{path}" is no path of the form "module:function"')


def _import(path: str) -> object:
    _check_path(path)
    module, _, names = path.partition(":")
    try:
        found: object = importlib.import_module(module)
        for name in names.split("."):
            if not hasattr(found, name):
                known = sorted(each for each in dir(found) if not each.startswith("_"))
                break
            found = getattr(found, name)
        else:
            return found
    except KeyboardInterrupt:
        raise
    # A module may do anything while it is imported, even leave.
    except BaseException as error:
        raise ConfigError(
            f'middleware "{path}" cannot be imported: {wording.in_words(error)}'
        ) from error
    raise ConfigError(f'middleware "{path}": there is no "{name}"; {nearest(name, known)}')
