"""Handlers for the tests of SQLAlchemy. Their tables are made by the tests."""

from __future__ import annotations

import asyncio
import os

import psycopg
import sqlalchemy
from sample_jobs import PATIENCE, gates, seen, started
from sqlalchemy import BigInteger, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import eram

LATER = {"strategy": "fixed", "base": "1 hour"}


class Base(DeclarativeBase):
    pass


class Effect(Base):
    __tablename__ = "effects"
    # To SQLAlchemy, not to the database.
    value: Mapped[int] = mapped_column(BigInteger, primary_key=True)


@eram.job
def add(job, session, value):
    session.add(Effect(value=value))
    return {"value": value, "session": type(session).__mro__[1].__name__}


@eram.job
async def add_async(job, session, value):
    session.add(Effect(value=value))
    await session.flush()
    return {"value": value, "session": type(session).__name__}


@eram.job
def without_session(job):
    return {"id": job.id}


@eram.job
async def async_without_session(job):
    await asyncio.sleep(0)
    return {"id": job.id}


@eram.job(transaction=False)
def outside(job):
    return {"id": job.id}


@eram.job(backoff=LATER)
def add_and(job, session: Session, what, name=""):
    """Add a row, and then do what must keep it from staying there."""
    if what == "choose isolation":
        session.execute(text("set transaction isolation level serializable"))
    session.add(Effect(value=job.id))
    session.flush()
    match what:
        case "raise":
            raise ValueError("after the insert")
        case "snooze":
            return eram.Snooze(3600)
        case "discard":
            return eram.Discard("after the insert")
        case "commit" | "rollback" | "close" | "reset" | "invalidate":
            getattr(session, what)()
        case "commit in sql" | "rollback in sql":
            session.execute(text(what.split()[0]))
        case "break":
            try:
                session.execute(text("select 1/0"))
            except sqlalchemy.exc.DataError:
                return None
        case "break a flush":
            session.execute(text("alter table effects add unique (value)"))
            session.expunge_all()
            session.add(Effect(value=job.id))
            try:
                session.flush()
            except sqlalchemy.exc.IntegrityError:
                return None
        case "break in a savepoint":
            try:
                with session.begin_nested():
                    session.execute(text("select 1/0"))
            except sqlalchemy.exc.DataError:
                return None
        case "fail to flush at the end":
            session.add(Effect(value="no number"))
        case "violate at commit":
            session.execute(text("insert into checked values (1), (1)"))
        case "leave a stream":
            conn = session.connection().connection.driver_connection
            stream = conn.cursor().stream("select generate_series(1, 1000000)")
            seen.append((stream, next(stream)))
        case "wait":
            started[name].set()
            assert gates[name].wait(PATIENCE)
        case "choose isolation":
            return session.execute(text("show transaction_isolation")).scalar_one()
    return None


@eram.job(backoff=LATER)
async def add_async_and(job, session, what, name=""):
    session.add(Effect(value=job.id))
    await session.flush()
    match what:
        case "raise":
            raise ValueError("after the insert")
        case "commit" | "rollback" | "close":
            await getattr(session, what)()
        case "commit in sql":
            await session.execute(text("commit"))
        case "wait":
            started[name].set()
            await asyncio.to_thread(gates[name].wait, PATIENCE)
        case "sleep in the server":
            started[name].set()
            await session.execute(text("select pg_sleep(60)"))


READ_ONLY = "set session characteristics as transaction read only"


@eram.job
def change_session(job, session, what):
    """Leave something behind that a session keeps."""
    conn = session.connection().connection.driver_connection
    match what:
        case "row_factory":
            conn.row_factory = psycopg.rows.dict_row
        case "cursor_factory":
            conn.cursor_factory = psycopg.RawCursor
        case _:
            session.execute(text(READ_ONLY))


@eram.job
async def change_async_session(job, session):
    await session.execute(text(READ_ONLY))


@eram.job(timeout=0.5, backoff=LATER)
def hang(job, session):
    session.add(Effect(value=job.id))
    session.execute(text("select pg_sleep(60)"))


@eram.job(timeout=0.5, backoff=LATER)
async def hang_async(job, session):
    session.add(Effect(value=job.id))
    await session.execute(text("select pg_sleep(60)"))


@eram.job
def fork(job, session):
    """Let a child use the transaction that it has inherited."""
    session.execute(text("insert into effects values (1)"))
    child = os.fork()
    if not child:
        session.execute(text("insert into effects values (2)"))
        session.connection().connection.driver_connection.commit()
        return
    os.waitpid(child, 0)
    session.execute(text("insert into effects values (3)"))


@eram.job
def enqueue_next(job, session, value):
    """Enqueue in the transaction, which is rolled back when the value is not positive."""
    answer = add.enqueue(session, value=value)
    if value <= 0:
        raise ValueError("not positive")
    return {"next": answer.id}
