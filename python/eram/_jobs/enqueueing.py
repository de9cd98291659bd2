"""Enqueueing: jobs become one JSON document, and one call of the extension stores them.

Defaults, checks and uniqueness are the extension's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, Unpack, cast

from eram._base import json_text, sessions, statements
from eram._jobs.options import JobOptions, add_options, check_options, encode_options


class Enqueued(NamedTuple):
    """The answer to an enqueue: the job's id, and whether it is one that was there before."""

    id: int
    is_duplicate: bool


class Enqueueable(Protocol):
    """A decorated handler, with or without options of its own."""

    @property
    def path(self) -> str:
        """The handler's path, `module:function`."""

    @property
    def declared(self) -> Mapping[str, Any]:
        """What its decorator says of all its jobs, as JSON."""

    @property
    def job_options(self) -> Mapping[str, Any]:
        """What its jobs have unless the caller of `enqueue` says otherwise, as JSON."""

    def check_args(self, args: Mapping[str, Any]) -> None:
        """Raise ArgumentsError unless the handler can be called with these arguments."""


class NewJob(JobOptions, total=False):
    """One of several jobs to be enqueued together; only `handler` is required."""

    handler: str | Enqueueable
    args: Mapping[str, Any] | None


Connection: TypeAlias = sessions.Session
AsyncConnection: TypeAlias = sessions.AsyncSession


def enqueue(
    conn: Connection,
    handler: str | Enqueueable,
    args: Mapping[str, Any] | None = None,
    /,
    **options: Unpack[JobOptions],
) -> Enqueued:
    """Enqueue a job, in the connection's transaction if it has one.

    Args:
        conn: a connection to the database that eram is installed in: of psycopg or another DB-API
            library, a Session or Connection of SQLAlchemy, or Django's connection.
        handler: a decorated handler, or the path `module:function` of one.
        args: the handler's arguments by name.
        options: `queue`, `priority` (0 goes first, 9 last), `max_attempts`, `tags`, `meta`,
            `backoff`, `timeout` (seconds or a timedelta), `unique` (True, False or a mapping), and
            `delay` (seconds or a timedelta) or `scheduled_at` (with a time zone).

    Raises:
        TypeError: the connection, the handler or an option is of a wrong kind.
        ArgumentsError: the args do not fit the handler.
        UnstorableValueError: something cannot be stored as JSON.
        Exception: the server refuses; it is raised as the connection's own library does, and a
            transaction that it has opened cannot go on then, as after any error.
    """
    documents = json_text.encode([_document(handler, args, options)], "the job")
    return send(conn, documents)[0]


async def enqueue_async(
    conn: AsyncConnection,
    handler: str | Enqueueable,
    args: Mapping[str, Any] | None = None,
    /,
    **options: Unpack[JobOptions],
) -> Enqueued:
    """Enqueue a job over an async connection; otherwise like `enqueue`.

    It takes a psycopg.AsyncConnection, an AsyncSession or AsyncConnection of SQLAlchemy, or a
    connection or pool of asyncpg.
    """
    documents = json_text.encode([_document(handler, args, options)], "the job")
    return (await send_async(conn, documents))[0]


def enqueue_many(conn: Connection, jobs: Iterable[NewJob]) -> list[Enqueued]:
    """Enqueue jobs by one call: all of them or none.

    Args:
        conn: what `enqueue` takes.
        jobs: each a mapping with `handler`, `args` and any option of `enqueue`.
    """
    return send(conn, json_text.encode(list(map(_new_document, jobs)), "the jobs"))


async def enqueue_many_async(conn: AsyncConnection, jobs: Iterable[NewJob]) -> list[Enqueued]:
    """Enqueue jobs by one call on an async connection; otherwise like `enqueue_many`."""
    return await send_async(conn, json_text.encode(list(map(_new_document, jobs)), "the jobs"))


def encode_job(
    handler: str | Enqueueable,
    args: Mapping[str, Any] | None,
    options: JobOptions,
) -> str:
    """Make the document of one job, as a driver enqueues it."""
    return json_text.encode(_document(handler, args, options), "the job")


def send(conn: Connection, documents: str) -> list[Enqueued]:
    """Enqueue the job, or the list of jobs, that a document describes."""
    rows = sessions.execute(conn, statements.ENQUEUE_JOBS, (documents,))
    return [Enqueued(*row) for row in rows]


async def send_async(conn: AsyncConnection, documents: str) -> list[Enqueued]:
    """Enqueue what a document describes over an async connection."""
    rows = await sessions.execute_async(conn, statements.ENQUEUE_JOBS, (documents,))
    return [Enqueued(*row) for row in rows]


def _new_document(job: NewJob) -> dict[str, Any]:
    if "handler" not in job:
        raise TypeError(f'a job is a mapping with a "handler", got {job!r}')
    options = {name: value for name, value in job.items() if name not in {"handler", "args"}}
    return _document(job["handler"], job.get("args"), cast("JobOptions", options))


def _document(
    handler: str | Enqueueable,
    args: Mapping[str, Any] | None,
    options: JobOptions,
) -> dict[str, Any]:
    check_options(options, JobOptions.__annotations__)
    args = {} if args is None else args
    if not isinstance(args, Mapping):
        raise TypeError(f"args must be a mapping of names to values, got {args!r}")
    if not all(isinstance(name, str) for name in args):
        raise TypeError(f"the names of args must be strings, got {list(args)!r}")
    if isinstance(handler, str):
        return {"handler": handler, "args": dict(args), **encode_options(options)}
    if not hasattr(handler, "job_options"):
        raise TypeError(f"handler must be a path or a handler made by @eram.job, got {handler!r}")
    path = handler.path
    handler.check_args(args)
    given = add_options(handler.job_options, options)
    document = {"handler": path, "args": dict(args), **given}
    # Apart from what this caller says, because an administrator's override goes between the two.
    if handler.declared:
        document["defaults"] = dict(handler.declared)
    return document
