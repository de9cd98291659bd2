"""Handlers that the tests of the testing helpers run."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import text

import eram

# What handlers have seen, for tests to look at.
seen: list[Any] = []


@eram.job
def greet(job: eram.Job, name: str, greeting: str = "Hello") -> str:
    return f"{greeting}, {name}!"


@eram.job(queue="mail", priority=2, max_attempts=3, tags=["mail"], meta={"by": "tests"}, timeout=9)
def email(job: eram.Job, to: str) -> dict[str, Any]:
    return {"to": to, "attempt": job.attempt, "current": eram.current_job() is job}


@eram.job(max_attempts=2)
def fail(job: eram.Job, message: str = "it failed") -> None:
    raise ValueError(message)


@eram.job(max_attempts=3, backoff="none")
def fail_at_once(job: eram.Job) -> None:
    seen.append(job.attempt)
    raise ValueError(f"attempt {job.attempt}")


@eram.job
def end(job: eram.Job, outcome: str) -> Any:
    match outcome:
        case "snooze":
            return eram.Snooze(60)
        case "retry":
            return eram.Retry(60, "not yet")
        case "cancel":
            return eram.Cancel("not wanted")
        case "discard":
            return eram.Discard("no good")
        case "unstorable":
            return object()
        case _:
            raise SystemExit(outcome)


@eram.job(transaction=True)
def send(job: eram.Job, conn: Any, query: str) -> None:
    conn.execute(query)


@eram.job(transaction=True)
def count_word(job: eram.Job, conn: Any, word: str, mistake: str | None = None) -> None:
    conn.execute("insert into words values (%s)", (word,))
    match mistake:
        case "raise":
            raise ValueError(word)
        case "commit":
            conn.commit()
        case "break":
            try:
                conn.execute("select 1 / 0")
            except Exception:
                return
        case "begin":
            conn.execute("commit")


@eram.job
def add_word(job: eram.Job, session: Any, word: str, mistake: str | None = None) -> None:
    """Add a word by the ORM of SQLAlchemy, or over a connection of it."""
    add = text("insert into words values (:word)")
    match mistake:
        case None:
            session.execute(add, {"word": word})
        case "twice":
            session.add(seen[0](word="one"))
        case "raise":
            session.execute(add, {"word": word})
            raise ValueError(word)
        case "break":
            with contextlib.suppress(Exception):
                session.execute(text("select 1 / 0"))


@eram.job
def double(job: eram.Job, count: int = 2) -> None:
    """Enqueue itself, by the connection that the test left here."""
    if count > 0:
        double.options(delay=0).enqueue(seen[0], count=count - 1)


@eram.job
def skip_the_test(job: eram.Job) -> None:
    pytest.skip("not here")


@eram.job
def snooze_for_ever(job: eram.Job) -> Any:
    return eram.Snooze(0)


@eram.job
async def think(job: eram.Job, seconds: float = 0) -> int:
    await asyncio.sleep(seconds)
    current = eram.current_job()
    return -1 if current is None else current.id


@eram.job
async def think_in_transaction(job: eram.Job, session: Any, word: str, fails: bool = False) -> str:
    query: Any = f"insert into words values ('{word}')"
    await session.execute(text(query) if hasattr(session, "begin_nested") else query)
    if fails:
        raise ValueError(word)
    return word


@eram.job(unique={"period": 3600})
def hourly(job: eram.Job, number: int) -> int:
    return number


@eram.job(unique=True)
def once(job: eram.Job, number: int) -> int:
    return number


@eram.job
def end_itself(job: eram.Job) -> None:
    seen[0].execute("select eram_cancel_job(%s)", (job.id,))


@eram.job
def break_outside(job: eram.Job) -> None:
    """Break the transaction of the test's connection, which it was not given."""
    seen[0].execute("insert into words values ('broken')")
    seen[0].execute("select 1 / 0")
