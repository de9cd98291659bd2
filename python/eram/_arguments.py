"""What a handler's function can be called with, and whether a job's args fit that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any

from eram.errors import ArgumentsError, HandlerDefinitionError


class Arguments:
    """What a handler's function can be called with, after the job and the connection."""

    def __init__(self, function: Callable[..., Any], leading: Sequence[str]) -> None:
        if not inspect.isfunction(function):
            raise HandlerDefinitionError(f"only a function can be a handler, got {function!r}")
        self._path = path_of(function)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise HandlerDefinitionError(f'handler "{self._path}" is async, which is not supported')
        if inspect.isgeneratorfunction(function):
            raise HandlerDefinitionError(
                f'handler "{self._path}" is a generator: it would never run'
            )
        parameters = list(inspect.signature(function).parameters.values())
        first, rest = parameters[: len(leading)], parameters[len(leading) :]
        by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        if len(first) < len(leading) or any(each.kind not in by_position for each in first):
            raise HandlerDefinitionError(
                f'handler "{self._path}" must take ({", ".join(leading)}) before its arguments'
            )
        by_name = {
            each.name: each
            for each in rest
            if each.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        }
        self._takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in rest)
        for each in rest:
            if each.name not in by_name and each.kind is not Parameter.VAR_KEYWORD:
                raise HandlerDefinitionError(
                    f'handler "{self._path}" cannot have "{each}": arguments are bound by name'
                )
        self._taken = {each.name for each in first if each.kind is not by_position[0]}
        self._names = frozenset(by_name)
        self._required = frozenset(
            name for name, each in by_name.items() if each.default is Parameter.empty
        )
        self.has_names = bool(by_name) or self._takes_any

    def check(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the function can be called with these arguments."""
        # A handler without further parameters reads job.args, which may hold anything.
        if not self.has_names:
            return
        given = args.keys()
        if missing := self._required - given:
            raise ArgumentsError(f'handler "{self._path}" lacks {_list(missing)}')
        excess = given & self._taken if self._takes_any else given - self._names
        if excess:
            raise ArgumentsError(f'handler "{self._path}" does not take {_list(excess)}')


def path_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _list(names: frozenset[str] | set[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in sorted(names))
    return f"the argument {quoted}" if len(names) == 1 else f"the arguments {quoted}"
