"""The helpers take what tests have: sessions of SQLAlchemy, Django's connection, async ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
import testing_jobs as jobs
from helpers import value

import eram
from eram import testing
from eram.errors import EramError

CREATE = "create temporary table words (word text unique)"


class Word(sqlalchemy.orm.declarative_base()):
    __tablename__ = "words"
    word = sqlalchemy.Column(sqlalchemy.String, primary_key=True)


def url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(testing_dsn: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(url(testing_dsn))
    yield engine
    engine.dispose()


class Plain:
    """A connection of psycopg behind a class of its own, so that nobody knows what it is."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.cursor = conn.cursor


def words(session: Any) -> list[str]:
    return [row[0] for row in session.execute(sqlalchemy.text("select word from words"))]


def test_a_session_of_sqlalchemy(engine):
    with sqlalchemy.orm.Session(engine) as session:
        session.execute(sqlalchemy.text(CREATE))
        jobs.greet.options(delay=60).enqueue(session, name="Ada")
        jobs.add_word.enqueue(session, word="one")
        testing.assert_enqueued(session, jobs.greet, delay=60)
        testing.advance(session, 60)
        assert testing.tick(session) == 0
        assert testing.drain(session).counts == {"completed": 2}
        assert words(session) == ["one"]
        session.rollback()


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        # Found out when what the handler has added is sent at its end.
        ("twice", "IntegrityError"),
        ("raise", "ValueError"),
        ("break", "HandlerTransactionError"),
    ],
)
def test_what_a_handler_of_sqlalchemy_does_wrong_is_rolled_back(engine, mistake, error):
    with sqlalchemy.orm.Session(engine) as session:
        session.execute(sqlalchemy.text(CREATE))
        session.execute(sqlalchemy.text("insert into words values ('one')"))
        jobs.seen[:] = [Word]
        failing = jobs.add_word.enqueue(session, word="two", mistake=mistake).id
        jobs.add_word.enqueue(session, word="three")
        drained = testing.drain(session, raises=False)
        assert drained.counts == {"failed": 1, "completed": 1}
        assert drained.runs[0].job.id == failing
        assert error in str(drained.runs[0].error)
        assert sorted(words(session)) == ["one", "three"]
        session.rollback()


def test_a_session_that_has_committed_has_no_jobs_of_its_own(dsn):
    engine = sqlalchemy.create_engine(url(dsn))
    with sqlalchemy.orm.Session(engine) as session:
        jobs.greet.enqueue(session, name="Ada")
        session.commit()
        with pytest.raises(EramError, match="there is no transaction"):
            testing.drain(session)
        assert testing.drain(session, committed=True).counts == {"completed": 1}
        session.rollback()
    engine.dispose()


@pytest.fixture(params=["psycopg", "sqlalchemy", "plain"])
def committing(request, dsn) -> Iterator[Any]:
    """A connection that commits each statement, of several libraries."""
    if request.param == "sqlalchemy":
        engine = sqlalchemy.create_engine(url(dsn), isolation_level="AUTOCOMMIT")
        with sqlalchemy.orm.Session(engine) as session:
            yield session
        engine.dispose()
        return
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield Plain(conn) if request.param == "plain" else conn


def test_what_would_stay_is_refused(conn, committing):
    conn.execute("select eram_schedule('hourly', '1 hour', 'testing_jobs:greet')")
    conn.execute("update eram_schedules set next_run_at = now()")
    before = value(conn, "select jsonb_agg(each order by name) from eram_schedules as each")
    jobs.greet.enqueue(committing, name="Ada")
    for act in (
        testing.drain,
        testing.tick,
        lambda conn: testing.advance(conn, 60),
        lambda conn: testing.declare_schedules(conn, eram.Engine(allow=["shop"])),
        testing.refute_enqueued,
    ):
        with pytest.raises(EramError, match="there is no transaction"):
            act(committing)
    after = value(conn, "select jsonb_agg(each order by name) from eram_schedules as each")
    assert (after, value(conn, "select count(*) from eram_workers")) == (before, 0)
    testing.assert_enqueued(committing, jobs.greet, committed=True, count=1)
    if isinstance(committing, psycopg.Connection):
        assert testing.drain(committing, committed=True).counts == {"completed": 1}
    else:
        with pytest.raises(EramError, match="there is no transaction"):
            testing.drain(committing, committed=True)
        assert value(conn, "select attempt from eram_jobs") == 0


def test_a_session_inside_an_outer_transaction(engine):
    """As SQLAlchemy recommends for test suites: the application may commit as it likes."""
    with engine.connect() as connection:
        outer = connection.begin()
        connection.execute(sqlalchemy.text(CREATE))
        with sqlalchemy.orm.Session(
            connection, join_transaction_mode="create_savepoint"
        ) as session:
            jobs.add_word.enqueue(session, word="one")
            session.commit()
            assert testing.drain(session).counts == {"completed": 1}
            session.commit()
            jobs.add_word.enqueue(session, word="two")
            assert testing.drain(connection).counts == {"completed": 1}
            assert words(session) == ["one", "two"]
        outer.rollback()


def test_a_connection_of_another_library(testing_dsn):
    """Anything with a DB-API cursor."""
    with psycopg.connect(testing_dsn) as conn:
        conn.execute(CREATE)
        plain = Plain(conn)
        jobs.greet.enqueue(plain, name="Ada")
        jobs.fail.enqueue(plain)
        jobs.seen[:] = [conn]
        jobs.break_outside.enqueue(plain)
        drained = testing.drain(plain, raises=False)
        assert drained.counts == {"completed": 1, "failed": 2}
        assert value(conn, "select count(*) from words") == 0
        conn.rollback()


async def in_psycopg(dsn: str, test: Callable[[Any], Awaitable[None]]) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await test(conn)
        await conn.rollback()


async def in_asyncpg(dsn: str, test: Callable[[Any], Awaitable[None]]) -> None:
    conn = await asyncpg.connect(dsn)
    transaction = conn.transaction()
    await transaction.start()
    await test(conn)
    await transaction.rollback()
    await conn.close()


async def in_sqlalchemy(dsn: str, test: Callable[[Any], Awaitable[None]]) -> None:
    engine = sqlalchemy.ext.asyncio.create_async_engine(url(dsn))
    async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session:
        await test(session)
        await session.rollback()
    await engine.dispose()


@pytest.mark.parametrize("in_library", [in_psycopg, in_asyncpg, in_sqlalchemy])
def test_async_connections_are_drained_by_drain_async(testing_dsn, in_library):
    async def test(conn: Any) -> None:
        sent = sqlalchemy.text if in_library is in_sqlalchemy else str
        await conn.execute(sent(CREATE))
        thought = await jobs.think.enqueue_async(conn)
        await jobs.greet.enqueue_async(conn, name="Ada")
        await jobs.think_in_transaction.enqueue_async(conn, word="one")
        await jobs.think_in_transaction.enqueue_async(conn, word="two", fails=True)
        drained = await testing.drain_async(conn, raises=False)
        assert drained.counts == {"completed": 3, "failed": 1}, drained.runs
        assert drained.results == [thought.id, "Hello, Ada!", "one"]
        assert drained.runs[-1].error == "ValueError: two"

    asyncio.run(in_library(testing_dsn, test))


def test_a_session_of_the_other_kind_is_refused(test_conn, testing_dsn):
    jobs.think_in_transaction.enqueue(test_conn, word="x")
    with pytest.raises(eram.HandlerError, match="drain_async has those"):
        testing.drain(test_conn)

    async def test(conn: Any) -> None:
        with pytest.raises(TypeError, match=r"conn must be a psycopg\.Connection"):
            testing.drain(conn)
        with pytest.raises(TypeError, match=r"conn must be a psycopg\.AsyncConnection"):
            await testing.drain_async(test_conn)
        await jobs.count_word.enqueue_async(conn, word="x")
        with pytest.raises(eram.HandlerError, match="drain has those"):
            await testing.drain_async(conn)

    asyncio.run(in_psycopg(testing_dsn, test))


def test_the_tests_of_django(testing_dsn):
    """In a process of its own, because Django is configured once for each."""
    import subprocess
    import sys
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("django_drain.py"), testing_dsn],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
