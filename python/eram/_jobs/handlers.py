"""Handlers: functions made known by `@eram.job`."""

from __future__ import annotations

import functools
import itertools
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from eram._base import json_text
from eram._jobs import enqueueing
from eram._jobs.arguments import Arguments, path_of
from eram._jobs.enqueueing import AsyncConnection, Connection, Enqueued
from eram._jobs.job import Job
from eram._jobs.options import (
    HandlerOptions,
    JobOptions,
    add_options,
    check_options,
    encode_options,
    strings,
)
from eram.errors import HandlerDefinitionError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

PATH = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")


class _Made:
    """Every handler that there is in this process, whoever made it."""

    def __init__(self) -> None:
        self._handlers: weakref.WeakSet[Handler[..., Any]] = weakref.WeakSet()
        self._numbers = itertools.count(1)
        # Another one whenever there is a handler more.
        self.version = 0

    def add(self, handler: Handler[..., Any]) -> None:
        self._handlers.add(handler)
        self.changed()

    def changed(self) -> None:
        """Have whoever knows all of them look again."""
        self.version = next(self._numbers)

    def __iter__(self) -> Iterator[Handler[..., Any]]:
        while True:
            try:
                return iter(list(self._handlers))
            # Another thread imports a module at this moment.
            except RuntimeError:
                continue


made = _Made()


class Handler(Generic[Parameters, Result]):
    """A function that jobs can be enqueued for; calling it calls the function."""

    # Whether it runs on the engine's main thread, and is found by its name there.
    is_local = False

    def __init__(
        self,
        function: Callable[..., Result],
        options: HandlerOptions,
        *,
        transaction: bool | None = None,
        aliases: Sequence[str] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._declared = encode_options(options)
        self._aliases = tuple(strings("aliases", aliases))
        if transaction is not None and not isinstance(transaction, bool):
            raise TypeError(f"transaction must be True, False or None, got {transaction!r}")
        self._transaction = transaction
        self._arguments = Arguments(function, transaction)
        json_text.encode([self._declared, self._aliases], f"what {self!r} declares")
        made.add(self)

    def __call__(
        self, job: Job | None, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        function: Callable[..., Result] = self._function
        return function(job, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<Handler {path_of(self._function)}>"

    @property
    def path(self) -> str:
        """The path by which a worker finds this handler, `module:function`.

        Raises:
            HandlerDefinitionError: no worker could find it.
        """
        path = path_of(self._function)
        module = path.partition(":")[0]
        if module == "__main__":
            raise HandlerDefinitionError(
                f'"{path}" is defined in the program that was started, where no worker can import'
                " it from; move it to a module of its own"
            )
        if not PATH.fullmatch(path):
            raise HandlerDefinitionError(
                f'"{path}" cannot be imported by its name; define it at the top of a module'
            )
        return path

    @property
    def declared(self) -> Mapping[str, Any]:
        """What its decorator says of all its jobs, as JSON."""
        return self._declared

    @property
    def aliases(self) -> tuple[str, ...]:
        """The paths that it had before."""
        return self._aliases

    @property
    def job_options(self) -> Mapping[str, Any]:
        """What its jobs have unless the caller of `enqueue` says otherwise: nothing as yet."""
        return {}

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return self._arguments.is_async

    @property
    def takes_session(self) -> bool:
        """Whether the function is called with the session of its transaction, after the job."""
        return self._arguments.takes_session

    def wants_transaction(self, *, has_driver: bool) -> bool:
        """Whether its jobs run in the transactions that complete them.

        Args:
            has_driver: whether the worker was given a driver, in whose transactions jobs run.
        """
        if self._transaction is not None:
            return self._transaction
        return has_driver or self.takes_session

    def check_args(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the handler can be called with these arguments."""
        self._arguments.check(args)

    def named_args(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Give the arguments of a call their names.

        Raises:
            ArgumentsError: there are too many, or one is given twice.
        """
        return self._arguments.named(args, named) if args else dict(named)

    def run(self, job: Job, *session: object) -> Any:
        """Call the function for a job, its further parameters bound from the args by name.

        A session that the function does not take is left out. Of an async function this makes the
        coroutine.

        Raises:
            ArgumentsError: the args do not fit the parameters.
        """
        if not self._arguments.takes_session:
            session = ()
        # What the parameters are was checked when the function was decorated.
        function: Callable[..., Any] = self._function
        if not self._arguments.has_names:
            return function(job, *session)
        args = job.args_to_give()
        self._arguments.check(args)
        return function(job, *session, **args)

    def options(self, **options: Unpack[JobOptions]) -> ConfiguredHandler[Parameters]:
        """Say how the jobs to be enqueued differ: `mail.options(priority=1).enqueue(conn, ...)`."""
        return ConfiguredHandler(self, {}).options(**options)

    def enqueue(
        self, conn: Connection, /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Enqueued:
        """Enqueue a job of this handler, in the connection's transaction if it has one."""
        return enqueueing.enqueue(conn, self, self.named_args(args, named))

    async def enqueue_async(
        self, conn: AsyncConnection, /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Enqueued:
        """Enqueue a job of this handler on an async connection."""
        return await enqueueing.enqueue_async(conn, self, self.named_args(args, named))


class ConfiguredHandler(Generic[Parameters]):
    """A handler together with options for the jobs to be enqueued."""

    def __init__(self, handler: Handler[Parameters, Any], options: Mapping[str, Any]) -> None:
        self._handler = handler
        self._options = options

    def __repr__(self) -> str:
        return f"<{self._handler!r} with {self._options}>"

    @property
    def handler(self) -> Handler[Parameters, Any]:
        """The handler without options."""
        return self._handler

    @property
    def path(self) -> str:
        """The handler's path, `module:function`."""
        return self._handler.path

    @property
    def declared(self) -> Mapping[str, Any]:
        """What the handler's decorator says of all its jobs, as JSON."""
        return self._handler.declared

    @property
    def job_options(self) -> Mapping[str, Any]:
        """What its jobs have unless the caller of `enqueue` says otherwise, as JSON."""
        return self._options

    def check_args(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the handler can be called with these arguments."""
        self._handler.check_args(args)

    def options(self, **options: Unpack[JobOptions]) -> ConfiguredHandler[Parameters]:
        """Add to the options; what is given again is replaced."""
        check_options(options, JobOptions.__annotations__)
        return ConfiguredHandler(self._handler, add_options(self._options, options))

    def enqueue(
        self, conn: Connection, /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Enqueued:
        """Enqueue a job with these options, in the connection's transaction if it has one."""
        return enqueueing.enqueue(conn, self, self._handler.named_args(args, named))

    async def enqueue_async(
        self, conn: AsyncConnection, /, *args: Parameters.args, **named: Parameters.kwargs
    ) -> Enqueued:
        """Enqueue a job with these options on an async connection."""
        return await enqueueing.enqueue_async(conn, self, self._handler.named_args(args, named))
