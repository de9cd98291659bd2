"""Drivers for the tests, whose sessions are of a kind that eram does not know."""

from __future__ import annotations

import threading

import psycopg

import eram

PATIENCE = 30
LATER = {"strategy": "fixed", "base": "1 hour"}

# Which threads have built a driver, and with what.
built: list[tuple[str, dict]] = []


class Session:
    """Somebody's own session."""

    def __init__(self, conn):
        self._conn = conn

    def run(self, query, *values):
        cursor = self._conn.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


class AsyncSession:
    def __init__(self, conn):
        self._conn = conn

    async def run(self, query, *values):
        cursor = await self._conn.execute(query, values or None)
        return await cursor.fetchall() if cursor.description else []


class Driver:
    def __init__(self, config):
        self.postgresql_url = config["url"]
        self._conn = None

    def run_in_transaction(self, fn):
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(
                self.postgresql_url, autocommit=True, application_name="custom driver"
            )
        with self._conn.transaction():
            return fn(Session(self._conn))

    def execute(self, session, query, parameters):
        return session.run(query, *parameters)

    def enqueue(self, session, document):
        query = "select id, is_duplicate from eram_enqueue_jobs(%s::jsonb)"
        if session is not None:
            return eram.Enqueued(*session.run(query, document)[0])
        with psycopg.connect(self.postgresql_url, autocommit=True) as conn:
            return eram.Enqueued(*Session(conn).run(query, document)[0])

    def close(self):
        if self._conn is not None:
            self._conn.close()


class BothDriver(Driver):
    """Has async transactions, too."""

    async def run_in_transaction_async(self, fn):
        async with (
            await psycopg.AsyncConnection.connect(self.postgresql_url, autocommit=True) as conn,
            conn.transaction(),
        ):
            return await fn(AsyncSession(conn))

    async def execute_async(self, session, query, parameters):
        return await session.run(query, *parameters)


class RetryingDriver(Driver):
    """Tries again by itself when the server says that it may."""

    def run_in_transaction(self, fn):
        for _ in range(3):
            try:
                return super().run_in_transaction(fn)
            except psycopg.errors.SerializationFailure:
                continue
        raise RuntimeError("too many tries")


class SwallowingDriver(Driver):
    def run_in_transaction(self, fn):
        try:
            return super().run_in_transaction(fn)
        except Exception:
            return None


class AutocommitDriver(Driver):
    def run_in_transaction(self, fn):
        with psycopg.connect(self.postgresql_url, autocommit=True) as conn:
            return fn(Session(conn))


class IdleDriver(Driver):
    def run_in_transaction(self, fn):
        return None


class UnknownDriver(Driver):
    """Has sessions that nobody can execute anything in."""

    execute = property()

    def run_in_transaction(self, fn):
        return fn(object())


class _Raw(Driver):
    """Begins and ends transactions by itself."""

    def begin(self):
        if self._conn is None:
            self._conn = psycopg.connect(self.postgresql_url, autocommit=True)
        self._conn.execute("begin")
        return Session(self._conn)


class UncommittedDriver(_Raw):
    def run_in_transaction(self, fn):
        try:
            return fn(self.begin())
        finally:
            self._conn.execute("rollback")


class CommitOnErrorDriver(_Raw):
    def run_in_transaction(self, fn):
        try:
            return fn(self.begin())
        finally:
            self._conn.execute("commit")


class UnendedDriver(_Raw):
    def run_in_transaction(self, fn):
        return fn(self.begin())


class AsyncUncommittedDriver(BothDriver):
    async def run_in_transaction_async(self, fn):
        async with (
            await psycopg.AsyncConnection.connect(self.postgresql_url, autocommit=True) as conn,
            conn.transaction(force_rollback=True),
        ):
            return await fn(AsyncSession(conn))


class HangingDriver(Driver):
    # A test opens it when it has seen enough.
    gate = threading.Event()

    def run_in_transaction(self, fn):
        self.gate.wait(PATIENCE)


class LeavingDriver(Driver):
    def run_in_transaction(self, fn):
        raise SystemExit(4)


class RowlessDriver(Driver):
    def execute(self, session, query, parameters):
        super().execute(session, query, parameters)


class NoUrlDriver(Driver):
    postgresql_url = property(lambda self: 1 / 0, lambda self, url: None)


class UnclosableDriver(Driver):
    def close(self):
        super().close()
        raise SystemExit("cannot close")


class ForeignSession(Session):
    """Has what connections of psycopg2 have, whose cancel() stops all threads of the process."""

    def fileno(self):
        return self._conn.fileno()

    def get_backend_pid(self):
        return self._conn.info.backend_pid

    def cancel(self):
        built.append(("cancel", {}))


class ForeignDriver(Driver):
    def run_in_transaction(self, fn):
        with psycopg.connect(self.postgresql_url) as conn:
            return fn(ForeignSession(conn))


class NoEnqueueDriver(Driver):
    enqueue = property()


def create(config):
    built.append((threading.current_thread().name, config))
    return globals()[config.get("class", "Driver")](config)


def create_nothing(config):
    return None


def break_down(config):
    raise LookupError("no such thing")


@eram.job
def add(job, session, value):
    session.run("insert into effects values (%s)", value)
    return {"value": value}


@eram.job
def add_and_raise(job, session):
    session.run("insert into effects values (%s)", job.id)
    raise eram.ArgumentsError("wrong")


@eram.job
async def add_async(job, session, value):
    await session.run("insert into effects values (%s)", value)
    return {"value": value}


@eram.job(backoff=LATER)
def end_transaction(job, session, how):
    session.run("insert into effects values (%s)", job.id)
    session.run(how)


@eram.job(timeout=0.5, backoff=LATER)
def hang(job, session):
    session.run("insert into effects values (%s)", job.id)
    session.run("select pg_sleep(60)")
