"""Handlers: functions made known by `@eram.job`, and how a worker finds them by path."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from eram import _enqueue, _wording
from eram._arguments import Arguments, path_of
from eram._enqueue import AsyncConnection, Connection, Enqueued, HandlerOptions, JobOptions
from eram._job import Job
from eram.errors import HandlerDefinitionError, HandlerNotFoundError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PATH = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")


class Handler(Generic[Parameters, Result]):
    """A function that jobs can be enqueued for; calling it calls the function."""

    def __init__(
        self,
        function: Callable[Parameters, Result],
        options: HandlerOptions,
        *,
        transaction: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self.transaction = transaction
        self._arguments = Arguments(function, ("job", "conn") if transaction else ("job",))

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._function(*args, **kwargs)

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
        if not _PATH.fullmatch(path):
            raise HandlerDefinitionError(
                f'"{path}" cannot be imported by its name; define it at the top of a module'
            )
        return path

    @property
    def job_options(self) -> JobOptions:
        """What its jobs have unless the caller says otherwise."""
        return cast("JobOptions", self._options.copy())

    def check_args(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the handler can be called with these arguments."""
        self._arguments.check(args)

    def run(self, job: Job, *session: Connection) -> Any:
        """Call the function for a job, its further parameters bound from the args by name.

        Raises:
            ArgumentsError: the args do not fit the parameters.
        """
        # What the parameters are was checked when the function was decorated.
        function: Callable[..., Any] = self._function
        if not self._arguments.has_names:
            return function(job, *session)
        self._arguments.check(job.args)
        return function(job, *session, **job.args)

    def options(self, **options: Unpack[JobOptions]) -> ConfiguredHandler:
        """Say how the jobs to be enqueued differ: `mail.options(priority=1).enqueue(conn, ...)`."""
        return ConfiguredHandler(self, self.job_options).options(**options)

    def enqueue(self, conn: Connection, /, **args: Any) -> Enqueued:
        """Enqueue a job of this handler, in the connection's transaction if it has one."""
        return _enqueue.enqueue(conn, self, args)

    async def enqueue_async(self, conn: AsyncConnection, /, **args: Any) -> Enqueued:
        """Enqueue a job of this handler on an async connection."""
        return await _enqueue.enqueue_async(conn, self, args)


class ConfiguredHandler:
    """A handler together with options for the jobs to be enqueued."""

    def __init__(self, handler: Handler[Any, Any], options: JobOptions) -> None:
        self._handler = handler
        self._options = options

    def __repr__(self) -> str:
        return f"<{self._handler!r} with {self._options}>"

    @property
    def path(self) -> str:
        """The handler's path, `module:function`."""
        return self._handler.path

    @property
    def job_options(self) -> JobOptions:
        """What its jobs have unless the caller says otherwise."""
        return self._options.copy()

    def check_args(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the handler can be called with these arguments."""
        self._handler.check_args(args)

    def options(self, **options: Unpack[JobOptions]) -> ConfiguredHandler:
        """Add to the options; what is given again is replaced."""
        _enqueue.check_options(options, JobOptions.__annotations__)
        return ConfiguredHandler(self._handler, {**self._options, **options})

    def enqueue(self, conn: Connection, /, **args: Any) -> Enqueued:
        """Enqueue a job with these options, in the connection's transaction if it has one."""
        return _enqueue.enqueue(conn, self, args)

    async def enqueue_async(self, conn: AsyncConnection, /, **args: Any) -> Enqueued:
        """Enqueue a job with these options on an async connection."""
        return await _enqueue.enqueue_async(conn, self, args)


@overload
def job(function: Callable[Parameters, Result], /) -> Handler[Parameters, Result]: ...


@overload
def job(
    *,
    transaction: bool = False,
    **options: Unpack[HandlerOptions],
) -> Callable[[Callable[Parameters, Result]], Handler[Parameters, Result]]: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    transaction: bool = False,
    **options: Unpack[HandlerOptions],
) -> Any:
    """Make a function a handler of jobs, as `@eram.job` or `@eram.job(queue="mail", ...)`.

    The function takes the job, with `transaction=True` also the psycopg connection whose
    transaction completes the job, and then the job's args by name.

    Args:
        function: the function, when the decorator is used without parentheses.
        transaction: do what the function does in the database and the completion of the job in
            one transaction: both happen, or neither.
        options: `queue`, `priority`, `max_attempts`, `tags`, `meta` and `backoff` of jobs that are
            enqueued through this handler.
    """
    _enqueue.check_options(options, HandlerOptions.__annotations__)

    def decorate(function: Callable[..., Any]) -> Handler[..., Any]:
        return Handler(function, options, transaction=transaction)

    return decorate if function is None else decorate(function)


class Handlers:
    """Finds handlers by path, in modules that the worker is allowed to run.

    Whoever may insert a row chooses the path: without the prefixes it could name any callable.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self._allow = tuple(allow)
        self._found: dict[str, Handler[..., Any]] = {}

    def resolve(self, path: str) -> Handler[..., Any]:
        """Find a handler, and remember it; a failure is tried again next time.

        Raises:
            HandlerNotFoundError: says why this worker cannot or may not run it.
        """
        handler = self._found.get(path)
        if handler is None:
            try:
                handler = self._found[path] = self._find(path)
            except HandlerNotFoundError:
                raise
            # Names are looked up by code of the module's, which may do anything, even leave.
            except BaseException as error:
                reason = f"cannot be looked up: {_wording.in_words(error)}"
                raise HandlerNotFoundError(path, reason) from error
        return handler

    def _find(self, path: str) -> Handler[..., Any]:
        parts = _PATH.fullmatch(path)
        if parts is None:
            raise HandlerNotFoundError(path, 'is no path of the form "module:function"')
        module = parts["module"]
        if not any(f"{module}.".startswith(f"{prefix}.") for prefix in self._allow):
            allowed = ", ".join(self._allow)
            reason = f"is in no module that this worker may run (allowed: {allowed})"
            raise HandlerNotFoundError(path, reason)
        found = _import(path, module)
        for name in parts["name"].split("."):
            try:
                found = getattr(found, name)
            except AttributeError as error:
                reason = f"does not exist: {_wording.message(error)}"
                raise HandlerNotFoundError(path, reason) from error
        if not isinstance(found, Handler):
            raise HandlerNotFoundError(
                path, f"is not a job: decorate it with @eram.job ({found!r})"
            )
        return found


def _import(path: str, module: str) -> Any:
    # A module written since the last look at its folder would not be seen.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    # A module may do anything while it is imported, even leave: that costs its own jobs only.
    except BaseException as error:
        reason = f"cannot be imported: {_wording.in_words(error)}"
        raise HandlerNotFoundError(path, reason) from error
