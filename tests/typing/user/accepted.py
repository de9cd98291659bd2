"""What users write, and type checkers must accept at their strictest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import psycopg
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

import eram


@eram.job
def email(job: eram.Job, to: str, subject: str = "hello", *, copies: int = 1) -> dict[str, str]:
    return {"to": to, "subject": subject * copies}


@eram.job(queue="reports", priority=3, tags=["monthly"], backoff=[10, 60], timeout=600)
def report(job: eram.Job, month: str) -> eram.Snooze | eram.Cancel | eram.Discard | int | None:
    if month == "1999-12":
        return eram.Cancel("too late")
    if month == "2999-12":
        return eram.Snooze(timedelta(days=1))
    if not month:
        return eram.Discard("no month")
    return None if job.cancelled else len(month)


@eram.job(unique={"period": 30, "keys": ["to"]}, aliases=["old.jobs:again"])
def again(job: eram.Job, **args: Any) -> eram.Retry:
    return eram.Retry(after=5, reason=f"{args} once more")


@eram.job
async def any_args(job: eram.Job, **args: Any) -> None: ...


@eram.job
def some_args(job: eram.Job, to: str, **args: Any) -> None: ...


@eram.job
def all_args(job: eram.Job, session: psycopg.Connection[Any], **args: int) -> None: ...


@eram.job
def bare(job: eram.Job) -> None:
    raw: dict[str, Any] = job.args
    print(job.id, job.run, job.meta, raw, job.tags, job.attempt, job.max_attempts, job.queue)
    due: datetime = job.scheduled_at
    deadline: datetime | None = job.deadline
    print(job.priority, job.inserted_at, due, job.attempted_at, deadline, job.timeout)


@eram.job(transaction=True)
def book(job: eram.Job, conn: psycopg.Connection[Any], account: str, amount: int) -> None:
    conn.execute("insert into bookings values (%s, %s)", (account, amount))


@eram.job
def order(job: eram.Job, session: sqlalchemy.orm.Session, number: int) -> int:
    session.execute(sqlalchemy.text("select 1"))
    return number


@eram.job(queue="orders")
async def ship(
    job: eram.Job, session: psycopg.AsyncConnection[tuple[Any, ...]], number: int
) -> None:
    await session.execute("select 1")


@eram.job(transaction=False)
def log_in(job: eram.Job, session: str) -> str:
    return session


@eram.job
async def crawl(job: eram.Job, url: str, depth: int = 1) -> list[str] | eram.Snooze:
    await asyncio.sleep(0)
    here = eram.current_job()
    return [url] * depth if here is not None and here.id == job.id else eram.Snooze(1)


@eram.job(transaction=True)
async def crawl_and_book(job: eram.Job, conn: psycopg.AsyncConnection[Any], url: str) -> None:
    await conn.execute("insert into pages values (%s)", (url,))


def enqueue(conn: psycopg.Connection[Any], session: sqlalchemy.orm.Session) -> None:
    assert_type(email.enqueue(conn, to="x"), eram.Enqueued)
    email.enqueue(conn, "x", "subject", copies=2)
    email.enqueue(session, to="x")
    email.options(priority=1, delay=timedelta(hours=1), unique=True).enqueue(conn, to="x")
    email.options(scheduled_at=datetime.now(UTC)).options(tags=["a"]).enqueue(conn, "x")
    report.enqueue(conn, month="2026-11")
    again.enqueue(conn, anything=1)
    any_args.enqueue(conn, anything=1)
    some_args.enqueue(conn, "x", anything=1)
    all_args.enqueue(conn, anything=1)
    bare.enqueue(conn)
    book.enqueue(conn, account="a", amount=1)
    order.enqueue(session, number=1)
    ship.options(max_attempts=1).enqueue(conn, number=1)
    log_in.enqueue(conn, session="s")
    crawl.enqueue(conn, url="https://example.com", depth=2)
    crawl_and_book.enqueue(conn, "https://example.com")
    answer = eram.enqueue(conn, "shop.jobs:email", {"to": "x"}, priority=1, delay=60)
    assert_type(answer.id, int)
    assert_type(answer.is_duplicate, bool)
    eram.enqueue(conn, email, {"to": "x"})
    eram.enqueue(conn, email.options(priority=1), {"to": "x"}, meta={"by": "me"})
    eram.enqueue_many(conn, [{"handler": email, "args": {"to": "x"}, "priority": 2}])
    outcome = eram.wait(conn, answer.id, timeout=timedelta(seconds=1))
    assert_type(outcome, eram.Outcome)


async def enqueue_async(
    conn: psycopg.AsyncConnection[Any], session: sqlalchemy.ext.asyncio.AsyncSession
) -> None:
    assert_type(await email.enqueue_async(conn, to="x"), eram.Enqueued)
    await order.options(queue="fast").enqueue_async(session, number=1)
    await eram.enqueue_async(session, "shop.jobs:email", {"to": "x"}, max_attempts=1)
    await eram.enqueue_many_async(conn, [{"handler": "shop.jobs:email"}])
    await eram.wait_async(conn, 1)


async def call(conn: psycopg.Connection[Any], session: sqlalchemy.orm.Session) -> None:
    """A decorated handler is still a function."""
    assert_type(email(None, to="x"), dict[str, str])
    email(None, "x", copies=2)
    report(None, "2026-11")
    book(None, conn, account="a", amount=1)
    assert_type(order(None, session, number=1), int)
    log_in(None, session="s")
    assert_type(await crawl(None, "https://example.com"), list[str] | eram.Snooze)


def on_end(job: eram.Job, outcome: eram.Outcome) -> None:
    print(job.id, outcome.state, outcome.result, outcome.error)


unsubscribe = eram.on_success(email, on_end)
eram.on_failure("shop.jobs:email", on_end)
eram.on_failure(None, lambda job, outcome: print(job.id, outcome.error))
unsubscribe()


@contextlib.contextmanager
def span(job: eram.Job) -> Generator[None, None, None]:
    print("begin", job.id)
    yield
    print("end", job.id)


class Timer:
    def __init__(self, job: eram.Job) -> None:
        self._job = job

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def work() -> None:
    with eram.Worker(
        "postgresql:///shop",
        queues={"default": 10},
        allow=["shop.jobs"],
        middleware=[span, Timer, "shop.tracing:span"],
    ) as worker:
        print(worker.id, worker.unfinished)


def run_engine() -> None:
    config = {"dsn": "postgresql:///shop", "queues": {"default": {"limit": 10}}}
    with eram.Engine(config, allow=["shop.jobs"], middleware=[span]) as engine:
        engine.run()


def name_it(handler: eram.Handler[..., Any], options: eram.JobOptions) -> eram.NewJob:
    print(handler.path, options)
    return {"handler": handler, "args": {}}


name_it(email, {"priority": 1})
name_it(order, {})
