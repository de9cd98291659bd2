"""What a handler's function can be called with, and whether a job's args fit that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any

from eram._base.suggest import nearest
from eram.errors import ArgumentsError, HandlerDefinitionError

# What the session is called where the decorator does not say that there is one.
SESSION = "session"


class Arguments:
    """What a handler's function can be called with, after the job and the session.

    Args:
        function: the handler's function.
        takes_session: whether its second parameter is the session; None is if it is called so.
    """

    def __init__(self, function: Callable[..., Any], takes_session: bool | None) -> None:
        if not inspect.isfunction(function):
            raise HandlerDefinitionError(f"only a function can be a handler, got {function!r}")
        self._path = path_of(function)
        self.is_async = inspect.iscoroutinefunction(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise HandlerDefinitionError(
                f'handler "{self._path}" is a generator: it would never run'
            )
        try:
            parameters = list(inspect.signature(function).parameters.values())
        # It stands for one that is not Python's.
        except ValueError as error:
            raise HandlerDefinitionError(
                f'handler "{self._path}" has parameters that cannot be seen: {error}'
            ) from error
        by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        if takes_session is None:
            second = parameters[1] if len(parameters) > 1 else None
            takes_session = (
                second is not None and second.name == SESSION and second.kind in by_position
            )
        self.takes_session = takes_session
        leading = ("job", SESSION) if takes_session else ("job",)
        first, rest = parameters[: len(leading)], parameters[len(leading) :]
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
        self._in_order = [
            each.name for each in rest if each.kind is Parameter.POSITIONAL_OR_KEYWORD
        ]
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
        excess = given & self._taken if self._takes_any else given - self._names
        if excess:
            hint = ""
            if len(excess) == 1 and (free := sorted(self._names - given)):
                hint = f"; {nearest(next(iter(excess)), free)}"
            raise ArgumentsError(f'handler "{self._path}" does not take {_list(excess)}{hint}')

        if missing := self._required - given:
            raise ArgumentsError(f'handler "{self._path}" lacks {_list(missing)}')

    def named(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Give arguments that stand by position their names.

        Raises:
            ArgumentsError: there are too many, or one is given twice.
        """
        if len(args) > len(self._in_order):
            count = len(self._in_order)
            raise ArgumentsError(
                f'handler "{self._path}" takes {count or "no"} argument{"s" if count != 1 else ""}'
                f" by position, got {len(args)}"
            )
        by_position = dict(zip(self._in_order, args, strict=False))
        if twice := by_position.keys() & named.keys():
            raise ArgumentsError(f'handler "{self._path}" is given {_list(twice)} twice')
        return {**by_position, **named}


def path_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _list(names: frozenset[str] | set[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in sorted(names))
    return f"the argument {quoted}" if len(names) == 1 else f"the arguments {quoted}"
