"""What users write by mistake; type checkers must report the lines that say so, and no other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import sqlalchemy.orm

import eram


@eram.job
def email(job: eram.Job, to: str, subject: str = "hello") -> str:
    return to


@eram.job(queue="mail")
def letter(job: eram.Job, to: str) -> None: ...


@eram.job(transaction=True)
def book(job: eram.Job, conn: psycopg.Connection[Any], amount: int) -> None: ...


@eram.job
def order(job: eram.Job, session: sqlalchemy.orm.Session, number: int) -> int:
    return number


@eram.job
async def crawl(job: eram.Job, url: str) -> list[str]:
    return [url]


def enqueue(conn: psycopg.Connection[Any]) -> None:
    email.enqueue(conn, too="x")  # wrong: there is no such argument, and `to` is missing
    email.enqueue(conn, to=1)  # wrong
    email.enqueue(conn)  # wrong
    email.enqueue(conn, "x", "y", "z")  # wrong
    email.enqueue(to="x")  # wrong: no connection
    email.enqueue(conn, to="x", priority=1)  # wrong: an option is no argument
    letter.enqueue(conn, subject="x")  # wrong
    book.enqueue(conn, amount="1")  # wrong
    book.enqueue(conn, conn, 1)  # wrong: the worker gives the session
    order.enqueue(conn, conn, 1)  # wrong
    order.enqueue(conn, number="1")  # wrong
    crawl.enqueue(conn, url=None)  # wrong
    email.options(prio=1).enqueue(conn, to="x")  # wrong
    email.options(priority="high")  # wrong
    email.options(priority=1).enqueue(conn, to=1)  # wrong
    eram.enqueue(conn, "shop.jobs:email", {"to": "x"}, prio=1)  # wrong
    eram.enqueue(conn, 1, {})  # wrong
    eram.enqueue_many(conn, [{"handler": email, "arg": {}}])  # wrong


async def enqueue_async(conn: psycopg.AsyncConnection[Any]) -> None:
    await email.enqueue_async(conn, to=1)  # wrong
    await email.options(delay=1).enqueue_async(conn)  # wrong


async def call(conn: psycopg.Connection[Any]) -> None:
    email(None)  # wrong
    email(None, to=1)  # wrong
    number: int = email(None, "x")  # wrong
    order(None, number=1)  # wrong: without the session
    words: str = await crawl(None, "x")  # wrong
    print(number, words)


@eram.job  # wrong: without a job
def no_job() -> None: ...


@eram.job(transaction=True)  # wrong: without a session
def no_session(job: eram.Job) -> None: ...


@eram.job(prio=1)  # wrong
def misspelt(job: eram.Job) -> None: ...


@contextlib.asynccontextmanager
async def span(job: eram.Job) -> AsyncGenerator[None, None]:
    yield


def freeze(job: eram.Job) -> None:
    job.id = 1  # wrong
    job.attempt += 1  # wrong
    job.notes = "x"  # wrong


def on_end(job: eram.Job) -> None: ...


eram.on_success(email, on_end)  # wrong
eram.Worker(middleware=[span], allow=["shop"])  # wrong: async
eram.Snooze("1 hour")  # wrong
eram.Retry()  # wrong
