"""`@eram.job`, which makes handlers of functions, and what type checkers are to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from eram._jobs.handlers import Handler
from eram._jobs.job import Job
from eram._jobs.options import HandlerOptions, check_options

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class SessionHandler(Handler[Parameters, Result]):
    """A handler whose function takes a session: told apart by type checkers alone."""

    def __call__(  # type: ignore[override]
        self, job: Job | None, session: Any, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        return super().__call__(job, session, *args, **kwargs)


class SessionFunction(Protocol[Parameters, Result_co]):
    """A function whose second parameter is called `session`, whatever its type is.

    Where `Any` is in that type mypy takes all of the handler for `Any`, because the function could
    be one without a session as well; `transaction=True` leaves it no doubt.
    """

    def __call__(
        self, job: Job, /, session: Any, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result_co: ...


class OpenSessionFunction(Protocol[Parameters, Result_co]):
    """The same with a parameter `**args`, among whose names `job` cannot be, for mypy."""

    def __call__(
        self, job: Job, session: Any, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result_co: ...


class OpenFunction(Protocol[Parameters, Result_co]):
    """A function without a session and with a parameter `**args`, likewise."""

    def __call__(
        self, job: Job, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result_co: ...


class SessionDecorator(Protocol):
    """Makes a handler of a function that takes a session."""

    def __call__(
        self, function: Callable[Concatenate[Job, Any, Parameters], Result], /
    ) -> SessionHandler[Parameters, Result]: ...


class PlainDecorator(Protocol):
    """Makes a handler of a function that takes no session."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Job, Parameters], Result], /
    ) -> Handler[Parameters, Result]: ...

    @overload
    def __call__(
        self, function: OpenFunction[Parameters, Result], /
    ) -> Handler[Parameters, Result]: ...


class Decorator(Protocol):
    """Makes a handler of a function that takes a session if a parameter says so."""

    @overload
    def __call__(
        self, function: SessionFunction[Parameters, Result], /
    ) -> SessionHandler[Parameters, Result]: ...

    @overload
    def __call__(
        self, function: OpenSessionFunction[Parameters, Result], /
    ) -> SessionHandler[Parameters, Result]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Job, Parameters], Result], /
    ) -> Handler[Parameters, Result]: ...

    @overload
    def __call__(
        self, function: OpenFunction[Parameters, Result], /
    ) -> Handler[Parameters, Result]: ...


@overload
def job(function: SessionFunction[Parameters, Result], /) -> SessionHandler[Parameters, Result]: ...


@overload
def job(
    function: OpenSessionFunction[Parameters, Result], /
) -> SessionHandler[Parameters, Result]: ...


@overload
def job(
    function: Callable[Concatenate[Job, Parameters], Result], /
) -> Handler[Parameters, Result]: ...


@overload
def job(function: OpenFunction[Parameters, Result], /) -> Handler[Parameters, Result]: ...


@overload
def job(
    *,
    transaction: Literal[True],
    aliases: Sequence[str] = (),
    **options: Unpack[HandlerOptions],
) -> SessionDecorator: ...


@overload
def job(
    *,
    transaction: Literal[False],
    aliases: Sequence[str] = (),
    **options: Unpack[HandlerOptions],
) -> PlainDecorator: ...


@overload
def job(
    *,
    transaction: None = None,
    aliases: Sequence[str] = (),
    **options: Unpack[HandlerOptions],
) -> Decorator: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    transaction: bool | None = None,
    aliases: Sequence[str] = (),
    **options: Unpack[HandlerOptions],
) -> Any:
    """Make a function a handler of jobs, as `@eram.job` or `@eram.job(queue="mail", ...)`.

    The function, plain or async, takes the job, then the session if it has one, and then the job's
    args by name.

    Args:
        function: the function, when the decorator is used without parentheses.
        transaction: True is to do what the function does in the database and the completion of the
            job in one transaction, so that both happen or neither; its second parameter is the
            session: that of the worker's driver, else a psycopg connection. None is the same where
            the second parameter is called `session`; otherwise the job runs in a transaction if
            the worker has a driver. False is never.
        aliases: the paths that the handler had before; jobs under these names are run by it.
        options: `queue`, `priority`, `max_attempts`, `tags`, `meta`, `backoff`, `timeout` and
            `unique` of its jobs, whoever enqueues them, unless the caller or an administrator says
            otherwise.
    """
    check_options(options, {"transaction", "aliases", *HandlerOptions.__annotations__})

    def decorate(function: Callable[..., Any]) -> Handler[..., Any]:
        return Handler(function, options, transaction=transaction, aliases=aliases)

    return decorate if function is None else decorate(function)
