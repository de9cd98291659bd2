"""Enqueueing from Python, by sync and async connections, in and outside transactions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
import sample_jobs
from helpers import job_of
from psycopg.rows import dict_row

import eram


def run_async(dsn, action, **options):
    """Run `action(aconn)` on an async connection."""

    async def main():
        async with await psycopg.AsyncConnection.connect(dsn, **options) as aconn:
            return await action(aconn)

    return asyncio.run(main())


def test_handler_enqueues_itself_with_its_options(conn):
    answer = sample_jobs.mail.enqueue(conn, to="x@example.com")
    assert answer == eram.Enqueued(answer.id, is_duplicate=False)
    job = job_of(conn, answer.id)
    assert job["handler"] == "sample_jobs:mail"
    assert job["args"] == {"to": "x@example.com"}
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("mail", 3, 5)
    assert (job["tags"], job["meta"]) == (["outgoing"], {"by": "decorator"})


def test_options_apart_from_arguments(conn):
    urgent = sample_jobs.mail.options(priority=0, tags=["a", "b"]).options(queue="fast")
    job = job_of(conn, urgent.enqueue(conn, to="x").id)
    assert (job["priority"], job["tags"], job["queue"]) == (0, ["a", "b"], "fast")
    assert job["max_attempts"] == 5
    assert job_of(conn, sample_jobs.mail.enqueue(conn, to="x").id)["priority"] == 3


def test_enqueue_by_path(conn):
    answer = eram.enqueue(conn, "app.jobs:email", {"to": "x"}, priority=1)
    job = job_of(conn, answer.id)
    assert (job["handler"], job["args"], job["priority"]) == ("app.jobs:email", {"to": "x"}, 1)
    assert (job["queue"], job["max_attempts"]) == ("default", 20)


def test_enqueue_by_handler(conn):
    answer = eram.enqueue(conn, sample_jobs.mail, {"to": "x"}, priority=1)
    job = job_of(conn, answer.id)
    assert (job["handler"], job["queue"], job["priority"]) == ("sample_jobs:mail", "mail", 1)


def test_enqueue_async(dsn, conn):
    async def action(aconn):
        return [
            await sample_jobs.mail.enqueue_async(aconn, to="a"),
            await sample_jobs.mail.options(priority=1).enqueue_async(aconn, to="b"),
            await eram.enqueue_async(aconn, "sample_jobs:mail", {"to": "c"}),
            *await eram.enqueue_many_async(aconn, [{"handler": sample_jobs.nothing}]),
        ]

    answers = run_async(dsn, action, autocommit=True)
    jobs = [job_of(conn, answer.id) for answer in answers]
    assert [job["args"] for job in jobs] == [{"to": "a"}, {"to": "b"}, {"to": "c"}, {}]
    assert [job["priority"] for job in jobs] == [3, 1, 0, 0]


def test_enqueue_many_is_one_call(conn):
    answers = eram.enqueue_many(
        conn,
        [
            {"handler": sample_jobs.mail, "args": {"to": "x"}, "delay": 60},
            {"handler": "app.jobs:email", "args": None, "queue": "q"},
        ],
    )
    jobs = [job_of(conn, answer.id) for answer in answers]
    assert [job["state"] for job in jobs] == ["scheduled", "available"]
    assert [job["queue"] for job in jobs] == ["mail", "q"]


def test_enqueue_many_is_all_or_nothing(conn):
    with pytest.raises(psycopg.DataError):
        eram.enqueue_many(conn, [{"handler": "a:b"}, {"handler": "a:b", "priority": 99}])
    assert conn.execute("select count(*) from eram_jobs").fetchone() == (0,)


def test_enqueue_many_of_nothing(conn):
    assert eram.enqueue_many(conn, []) == []


def test_enqueue_belongs_to_the_transaction(conn, connect):
    producer = connect(autocommit=False)
    kept = sample_jobs.nothing.enqueue(producer)
    assert job_of(conn, kept.id) == {}
    producer.commit()
    assert job_of(conn, kept.id)["state"] == "available"

    dropped = sample_jobs.nothing.enqueue(producer)
    producer.rollback()
    assert job_of(conn, dropped.id) == {}


def test_enqueue_async_belongs_to_the_transaction(dsn, conn):
    async def action(aconn):
        kept = await sample_jobs.nothing.enqueue_async(aconn)
        await aconn.commit()
        dropped = await sample_jobs.nothing.enqueue_async(aconn)
        await aconn.rollback()
        return kept.id, dropped.id

    kept, dropped = run_async(dsn, action)
    assert job_of(conn, kept)["state"] == "available"
    assert job_of(conn, dropped) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"row_factory": dict_row},
        {"cursor_factory": psycopg.RawCursor},
        {"cursor_factory": psycopg.ClientCursor},
        {"client_encoding": "latin1"},
        {"prepare_threshold": None},
        {"options": "-c default_transaction_isolation=serializable", "autocommit": False},
    ],
    ids=str,
)
def test_any_connection_will_do(connect, options):
    producer = connect(**options)
    for _ in range(7):  # also once the statement is prepared
        answer = sample_jobs.echo.enqueue(producer, word="żółć \U0001f600 % %s \\u0041")
    producer.commit()
    assert isinstance(answer, eram.Enqueued)
    assert job_of(connect(), answer.id)["args"] == {"word": "żółć \U0001f600 % %s \\u0041"}


def test_async_connection_with_rows_of_its_own(dsn, conn):
    async def action(aconn):
        return await sample_jobs.nothing.enqueue_async(aconn)

    answer = run_async(dsn, action, row_factory=dict_row, cursor_factory=psycopg.AsyncRawCursor)
    assert job_of(conn, answer.id)["state"] == "available"


def test_delay_and_scheduled_at(conn):
    def wait(**options):
        job = job_of(conn, sample_jobs.nothing.options(**options).enqueue(conn).id)
        assert job["state"] == "scheduled"
        return (job["scheduled_at"] - job["inserted_at"]).total_seconds()

    assert wait(delay=90.5) == pytest.approx(90.5, abs=0.1)
    assert wait(delay=timedelta(hours=1)) == pytest.approx(3600, abs=0.1)
    later = datetime.now(timezone(timedelta(hours=5, minutes=45, seconds=30))) + timedelta(days=1)
    assert wait(scheduled_at=later) == pytest.approx(86_400, abs=5)


def test_the_callers_time_replaces_the_options(conn):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    later = sample_jobs.nothing.options(scheduled_at=tomorrow)
    job = job_of(conn, eram.enqueue(conn, later, delay=5).id)
    assert job["scheduled_at"] < tomorrow


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scheduled_at": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001
        ({"scheduled_at": "2030-01-01"}, TypeError, "datetime"),
        ({"delay": float("nan")}, ValueError, "finite"),
        ({"delay": "1 hour"}, TypeError, "number of seconds"),
        ({"tags": "one"}, TypeError, "list of strings"),
        ({"piority": 1}, TypeError, 'no option "piority"; did you mean "priority"'),
        ({"timeout": -1}, ValueError, "a timeout must be finite"),
        ({"timeout": "1 minute"}, TypeError, "a timeout is a timedelta"),
        ({"unique": "yes"}, TypeError, "unique must be True, False or a mapping"),
        ({"unique": {"keys": "to"}}, TypeError, "keys must be a list of strings"),
        ({"backoff": 5}, TypeError, "backoff must be the name"),
        ({"aliases": ["a:c"]}, TypeError, 'no option "aliases"'),
        ({"meta": {"x": float("inf")}}, eram.UnstorableValueError, "not JSON compliant"),
    ],
)
def test_options_that_make_no_sense_are_refused(connect, options, error, message):
    producer = connect(autocommit=False)
    with pytest.raises(error, match=message):
        eram.enqueue(producer, "a:b", **options)
    assert producer.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "not JSON compliant"),
        (datetime.now(UTC), "datetime is not JSON serializable"),
        ("a\0b", "NUL"),
        ("\udfff", "surrogate"),
    ],
)
def test_args_that_cannot_be_stored_are_refused_before_anything_is_sent(connect, value, message):
    producer = connect(autocommit=False)
    with pytest.raises(eram.UnstorableValueError, match=message):
        sample_jobs.echo.enqueue(producer, value=[value])
    assert producer.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_args_must_fit_the_handler(connect):
    producer = connect(autocommit=False)
    with pytest.raises(eram.ArgumentsError, match="subjekt"):
        sample_jobs.mail.enqueue(producer, to="x", subjekt="y")
    with pytest.raises(eram.ArgumentsError, match='lacks the argument "to"'):
        eram.enqueue_many(producer, [{"handler": sample_jobs.mail}])
    assert producer.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize("args", [["to"], "to", {1: "x"}])
def test_args_must_be_named(conn, args):
    with pytest.raises(TypeError, match="args"):
        eram.enqueue(conn, "a:b", args)


def test_plain_function_cannot_be_enqueued(conn):
    with pytest.raises(TypeError, match=r"made by @eram\.job"):
        eram.enqueue(conn, sample_jobs.plain)


def test_sync_call_refuses_an_async_connection(dsn):
    async def action(aconn):
        with pytest.raises(TypeError, match="enqueue_async, and await it"):
            sample_jobs.nothing.enqueue(aconn)

    run_async(dsn, action)


def test_async_call_refuses_a_sync_connection(conn):
    with pytest.raises(TypeError, match="for this one call enqueue"):
        asyncio.run(sample_jobs.nothing.enqueue_async(conn))


def test_what_is_no_connection_is_refused(dsn):
    with pytest.raises(TypeError, match=r"psycopg.Connection or .*, got builtins.str"):
        eram.enqueue(dsn, "a:b")
