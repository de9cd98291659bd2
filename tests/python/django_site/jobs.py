"""Handlers for the tests of Django."""

from __future__ import annotations

import os

import django.db
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from sample_jobs import PATIENCE, gates, seen, started

import eram

from .models import Effect

LATER = {"strategy": "fixed", "base": "1 hour"}


@eram.job
def add(job, value):
    Effect.objects.create(value=value)
    return {"value": value}


@eram.job
def add_by_session(job, session, value):
    with session.cursor() as cursor:
        cursor.execute("insert into effects values (%s)", [value])
    return {"is_same": session is django.db.connections["default"]}


@eram.job
def make_session_read_only(job, session):
    with session.cursor() as cursor:
        cursor.execute("set session characteristics as transaction read only")


@eram.job(transaction=False)
def count(job):
    return Effect.objects.count()


@eram.job
async def add_async(job, value):
    await Effect.objects.acreate(value=value)
    # Those of the threads that Django has for it, where nobody else would.
    await sync_to_async(django.db.connections.close_all)()
    return {"value": value}


@eram.job
async def add_async_by_session(job, session):
    """Cannot be run."""


@eram.job(backoff=LATER)
def add_and(job, what, name=""):
    """Add a row, and then do what must keep it from staying there."""
    Effect.objects.create(value=job.id)
    match what:
        case "raise":
            raise ValueError("after the insert")
        case "snooze":
            return eram.Snooze(3600)
        case "commit" | "rollback":
            getattr(transaction, what)()
        case "close":
            connection.close()
        case "set_rollback":
            transaction.set_rollback(True)
        case "rollback in sql":
            connection.cursor().execute("rollback")
        case "break":
            try:
                connection.cursor().execute("select 1/0")
            except django.db.DataError:
                return None
        case "break an atomic block":
            try:
                with transaction.atomic(savepoint=False):
                    connection.cursor().execute("select 1/0")
            except django.db.DataError:
                return None
        case "break in a savepoint":
            try:
                with transaction.atomic():
                    connection.cursor().execute("select 1/0")
            except django.db.DataError:
                return None
        case "violate at commit":
            connection.cursor().execute("insert into checked values (1), (1)")
        case "wait":
            started[name].set()
            assert gates[name].wait(PATIENCE)
    return None


@eram.job
def enqueue_on_commit(job, value):
    transaction.on_commit(lambda: add.enqueue(connection, value=value))
    add.enqueue(connection, value=value + 1)
    if value < 0:
        raise ValueError("negative")


@eram.job
def fail_on_commit(job, value):
    Effect.objects.create(value=value)
    transaction.on_commit(lambda: 1 / 0)


@eram.job(timeout=0.5, backoff=LATER)
def hang(job):
    Effect.objects.create(value=job.id)
    connection.cursor().execute("select pg_sleep(60)")


@eram.job
def note_connection(job):
    seen.append((os.getpid(), connection.connection.info.backend_pid))
