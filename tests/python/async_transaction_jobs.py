"""Async handlers with a transaction of psycopg, for the tests."""

from __future__ import annotations

import asyncio
import os

import psycopg
from sample_jobs import PATIENCE, gates, seen, started

import eram

LATER = {"strategy": "fixed", "base": "1 hour"}


async def gate(name):
    started[name].set()
    await asyncio.to_thread(gates[name].wait, PATIENCE)


@eram.job
async def insert(job, session, value):
    await session.execute("insert into effects values (%s)", (value,))
    return {"value": value}


@eram.job(transaction=True, backoff=LATER)
async def insert_and(job, conn, what, name=""):
    """Insert a row, and then do what must keep it from staying there."""
    if what == "change isolation":
        await conn.execute("set transaction isolation level serializable")
    await conn.execute("insert into effects values (%s)", (job.id,))
    match what:
        case "raise":
            raise ValueError("after the insert")
        case "snooze":
            return eram.Snooze(3600)
        case "discard":
            return eram.Discard("after the insert")
        case "break":
            try:
                await conn.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                return None
        case "rollback":
            await conn.rollback()
        case "rollback in sql" | "commit in sql":
            await conn.execute(what.split()[0])
        case "begin anew":
            await conn.execute("rollback")
            await conn.execute("begin")
        case "leave a stream":
            stream = conn.cursor().stream("select generate_series(1, 1000000)")
            seen.append((stream, await anext(stream)))
        case "leave a task":
            seen.append(asyncio.create_task(conn.execute("select pg_sleep(60)")))
            await asyncio.sleep(0.1)
        case "close":
            await conn.close()
        case "violate at commit":
            await conn.execute("insert into checked values (1), (1)")
        case "wait":
            await gate(name)
        case "change isolation":
            row = await (await conn.execute("show transaction_isolation")).fetchone()
            return row[0]
    return None


@eram.job(timeout=0.5, backoff=LATER)
async def hang(job, session, how):
    await session.execute("insert into effects values (%s)", (job.id,))
    match how:
        case "in the server":
            await session.execute("select pg_sleep(60)")
        case "in the loop":
            await asyncio.sleep(60)
        case "stubbornly":
            while True:
                try:
                    await session.execute("select pg_sleep(60)")
                except asyncio.CancelledError:
                    continue


@eram.job
async def fork(job, session):
    """Leave a child that holds what it has inherited, for as long as the test says."""
    await session.execute("insert into effects values (1)")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    await session.execute("insert into effects values (2)")
    os.close(writer)
    await asyncio.to_thread(os.waitpid, child, 0)


READ_ONLY = "set session characteristics as transaction read only"


@eram.job
def change_session(job, session, what):
    """Leave something behind that a session keeps."""
    if what == "factories":
        session.cursor_factory = psycopg.RawCursor
        session.row_factory = psycopg.rows.dict_row
    else:
        session.execute(READ_ONLY)


@eram.job
async def change_async_session(job, session, what):
    if what == "factories":
        session.cursor_factory = psycopg.AsyncRawCursor
        session.row_factory = psycopg.rows.dict_row
    else:
        await session.execute(READ_ONLY)
