"""SQLAlchemy: enqueueing in its sessions, and jobs in their transactions."""

from __future__ import annotations

import asyncio

import orm_jobs
import pytest
import sample_jobs
import sqlalchemy
from helpers import PATIENCE, assert_completed_by_their_effects, eventually, job_of, wait_for_state
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import eram

DRIVERS = ["psycopg", "asyncpg"]


def url_of(dsn, driver):
    return dsn.replace("postgresql://", f"postgresql+{driver}://")


@pytest.fixture(autouse=True)
def _tables(conn):
    conn.execute("create table effects (value bigint)")
    conn.execute("create table checked (value int unique deferrable initially deferred)")


@pytest.fixture
def engine(dsn):
    engine = create_engine(url_of(dsn, "psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture
def start(dsn, start_worker):
    """Start a worker with a driver of SQLAlchemy."""

    def start(dialect="psycopg", limit=1, **options):
        driver = {"type": "sqlalchemy", "config": {"url": url_of(dsn, dialect), **options}}
        return start_worker(
            allow=["orm_jobs", "sample_jobs"], driver=driver, queues={"default": limit}
        )

    return start


def effects(conn):
    return [value for (value,) in conn.execute("select value from effects order by value")]


def terminate(conn, names=("eram jobs",)):
    conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = any(%s)",
        (list(names),),
    )


# Enqueueing


def sessions(engine):
    yield Session(engine)
    yield engine.connect()
    yield scoped_session(sessionmaker(engine))
    yield sessionmaker(engine, class_=type("OurSession", (Session,), {}))()


@pytest.mark.parametrize("number", range(4))
def test_enqueue_belongs_to_the_transaction(conn, engine, number):
    session = list(sessions(engine))[number]
    for is_kept in (True, False):
        answer = sample_jobs.mail.options(priority=7).enqueue(session, to="x % :y %s")
        many = eram.enqueue_many(session, [{"handler": "a:b"}, {"handler": "a:b"}])
        assert isinstance(answer, eram.Enqueued)
        assert job_of(conn, answer.id) == {}
        (session.commit if is_kept else session.rollback)()
        assert [bool(job_of(conn, each.id)) for each in (answer, *many)] == 3 * [is_kept]
        if is_kept:
            job = job_of(conn, answer.id)
            assert (job["args"], job["priority"]) == ({"to": "x % :y %s"}, 7)
    session.close()


def test_enqueue_at_once(conn, engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        answer = sample_jobs.nothing.enqueue(connection)
        assert job_of(conn, answer.id)["state"] == "available"


def test_error_of_the_server_is_one_of_sqlalchemy(conn, engine):
    with Session(engine) as session:
        session.execute(text("insert into effects values (1)"))
        with (
            pytest.raises(sqlalchemy.exc.DataError, match="priority"),
            session.begin_nested(),
        ):
            eram.enqueue(session, "a:b", priority=99)
        # With a savepoint around it the transaction goes on.
        kept = eram.enqueue(session, "a:b")
        session.commit()
    assert job_of(conn, kept.id)["state"] == "available"
    assert effects(conn) == [1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_enqueue_async(dsn, conn, driver):
    async def main():
        engine = create_async_engine(url_of(dsn, driver))
        ids = []
        async with AsyncSession(engine) as session:
            for end in (session.commit, session.rollback):
                answer = await sample_jobs.mail.enqueue_async(session, to="\u0142 :x")
                assert job_of(conn, answer.id) == {}
                await end()
                ids.append(answer.id)
        async with engine.begin() as connection:
            many = await eram.enqueue_many_async(connection, [{"handler": "a:b"}])
            ids.append(many[0].id)
            with pytest.raises(TypeError, match="for this one call enqueue_async"):
                eram.enqueue(connection, "a:b")
        async with AsyncSession(engine) as session:
            with pytest.raises(sqlalchemy.exc.DBAPIError, match="priority"):
                await eram.enqueue_async(session, "a:b", priority=99)
        await engine.dispose()
        return ids

    kept, dropped, connected = asyncio.run(main())
    assert job_of(conn, kept)["args"] == {"to": "\u0142 :x"}
    assert job_of(conn, dropped) == {}
    assert job_of(conn, connected)["state"] == "available"


def test_wrong_kind_of_session(engine):
    with pytest.raises(TypeError, match=r"Engine; pass what its begin\(\) or connect\(\) gives"):
        eram.enqueue(engine, "a:b")
    with (
        Session(engine) as session,
        pytest.raises(TypeError, match=r"for this one call enqueue$"),
    ):
        asyncio.run(eram.enqueue_async(session, "a:b"))


# Jobs in transactions


def test_effect_and_completion_are_one_transaction(conn, start):
    start()
    answer = orm_jobs.add.enqueue(conn, value=7)
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"value": 7, "session": "Session"}
    assert_completed_by_their_effects(conn)


@pytest.mark.parametrize("driver", DRIVERS)
def test_async_handler_has_an_async_session(conn, start, driver):
    start(driver, limit=3)
    answers = [orm_jobs.add_async.enqueue(conn, value=value) for value in range(20)]
    for answer in answers:
        job = wait_for_state(conn, answer.id, "completed")
        assert job["result"]["session"] == "AsyncSession"
    assert effects(conn) == list(range(20))
    assert_completed_by_their_effects(conn)


@pytest.mark.parametrize(
    ("what", "state", "error"),
    [
        ("raise", "retryable", "ValueError: after the insert"),
        ("snooze", "scheduled", None),
        ("discard", "discarded", "after the insert"),
        ("commit", "retryable", "HandlerTransactionError: commit() is forbidden"),
        ("rollback", "retryable", "HandlerTransactionError: rollback() is forbidden"),
        ("close", "retryable", "HandlerTransactionError: close() is forbidden"),
        ("reset", "retryable", "HandlerTransactionError: reset() is forbidden"),
        ("invalidate", "retryable", "HandlerTransactionError: invalidate() is forbidden"),
        ("rollback in sql", "retryable", "HandlerTransactionError: the handler ended"),
        ("break", "retryable", "HandlerTransactionError: the handler caught a database error"),
        ("break a flush", "retryable", "InvalidRequestError: "),
        ("fail to flush at the end", "retryable", "DataError: "),
        ("violate at commit", "retryable", "IntegrityError: "),
        ("leave a stream", "retryable", "HandlerTransactionError: the handler left a query"),
    ],
)
def test_work_is_rolled_back(conn, start, what, state, error, caplog):
    start()
    answer = orm_jobs.add_and.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, "retryable", "scheduled", "discarded")
    assert job["state"] == state
    if error is not None:
        assert error in job["errors"][0]["error"]
    assert effects(conn) == []
    after = orm_jobs.add.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]
    assert "ERROR" not in caplog.text


@pytest.mark.parametrize("what", ["raise", "commit", "rollback", "close"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_work_of_an_async_handler_is_rolled_back(conn, start, driver, what):
    start(driver)
    answer = orm_jobs.add_async_and.enqueue(conn, what=what)
    wait_for_state(conn, answer.id, "retryable")
    after = orm_jobs.add_async.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


@pytest.mark.parametrize("handler", [orm_jobs.add_and, orm_jobs.add_async_and])
def test_what_a_handler_commits_itself_does_not_complete_its_job(conn, start, handler):
    start()
    answer = handler.enqueue(conn, what="commit in sql")
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"].startswith("HandlerTransactionError: the handler ended")
    assert effects(conn) == [answer.id]


@pytest.mark.parametrize("what", ["break in a savepoint", "choose isolation"])
def test_what_a_handler_may_do(conn, start, what):
    start()
    answer = orm_jobs.add_and.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == ("serializable" if what == "choose isolation" else None)
    assert effects(conn) == [answer.id]


def test_handlers_without_a_session_run_as_well(conn, start):
    start()
    for handler in (orm_jobs.without_session, orm_jobs.async_without_session, orm_jobs.outside):
        answer = handler.enqueue(conn)
        assert wait_for_state(conn, answer.id, "completed")["result"] == {"id": answer.id}


def test_plain_handler_cannot_have_an_async_session(conn, start):
    start("asyncpg")
    refused = orm_jobs.add_and.enqueue(conn, what="raise")
    run = orm_jobs.without_session.enqueue(conn)
    wait_for_state(conn, run.id, "completed")
    job = wait_for_state(conn, refused.id, "retryable")
    assert "has no transactions for plain handlers" in job["errors"][0]["error"]


def test_job_enqueued_in_the_transaction(conn, start):
    start(limit=2)
    answer = orm_jobs.enqueue_next.enqueue(conn, value=5)
    following = wait_for_state(conn, answer.id, "completed")["result"]["next"]
    wait_for_state(conn, following, "completed")
    failing = orm_jobs.enqueue_next.enqueue(conn, value=0)
    wait_for_state(conn, failing.id, "retryable")
    assert effects(conn) == [5]


@pytest.mark.parametrize(
    ("driver", "handler"),
    # With asyncpg there are async sessions only.
    [
        ("psycopg", orm_jobs.hang),
        ("psycopg", orm_jobs.hang_async),
        ("asyncpg", orm_jobs.hang_async),
    ],
)
def test_timed_out_handler_is_cut_off(conn, start, driver, handler):
    start(driver)
    answer = handler.enqueue(conn)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"] == "timed out after 0.5 s"
    # Its thread is free long before the server has slept.
    after = orm_jobs.add_async.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


@pytest.mark.parametrize("handler", [orm_jobs.add_and, orm_jobs.add_async_and])
def test_run_that_is_over_is_rolled_back(conn, start, caplog, handler):
    start()
    answer = handler.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    sample_jobs.gates["a"].set()
    eventually(lambda: f"lost job {answer.id}" in caplog.text)
    assert effects(conn) == []
    assert job_of(conn, answer.id)["state"] == "cancelled"


@pytest.mark.parametrize("handler", [orm_jobs.add_and, orm_jobs.add_async_and])
def test_lost_connection_fails_the_job(conn, start, handler):
    start()
    answer = handler.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    terminate(conn)
    sample_jobs.gates["a"].set()
    wait_for_state(conn, answer.id, "retryable")
    # The next one has another connection, and loses no attempt.
    after = orm_jobs.add.enqueue(conn, value=1)
    assert wait_for_state(conn, after.id, "completed")["attempt"] == 1
    assert effects(conn) == [1]


@pytest.mark.parametrize("what", ["row_factory", "cursor_factory", "setting"])
def test_what_a_handler_changes_of_its_session_is_not_there_later(conn, start, what):
    start()
    for value in (1, 2):
        answer = orm_jobs.change_session.enqueue(conn, what=what)
        assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None
        answer = orm_jobs.add.enqueue(conn, value=value)
        assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_an_async_handler_sets_is_not_there_later(conn, start, driver):
    start(driver)
    for value in (1, 2):
        wait_for_state(conn, orm_jobs.change_async_session.enqueue(conn).id, "completed")
        answer = orm_jobs.add_async.enqueue(conn, value=value)
        assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None


def test_connection_lost_between_jobs_is_opened_anew(conn, start):
    start()
    for value in (1, 2):
        answer = orm_jobs.add.enqueue(conn, value=value)
        assert wait_for_state(conn, answer.id, "completed")["attempt"] == 1
        terminate(conn)
    assert effects(conn) == [1, 2]


def test_forked_child_leaves_the_transaction_alone(conn, dsn, run_program, tmp_path):
    config = tmp_path / "eram.toml"
    config.write_text(
        f'dsn = "{dsn}"\nallow = ["orm_jobs"]\n[driver]\ntype = "sqlalchemy"\n'
        f'config = {{url = "{url_of(dsn, "psycopg")}"}}\n'
    )
    run_program("--config", str(config)).wait_for_log("registered")
    answer = orm_jobs.fork.enqueue(conn)
    assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None
    assert effects(conn) == [1, 3]


@pytest.fixture
def limited(conn):
    """A role that a driver connects as, which can be shut out."""
    role = f"limited_{conn.info.backend_pid}"
    conn.execute(f"create role {role} login password 'limited'")
    conn.execute(f"grant all on effects to {role}; select eram_grant('{role}', 'work')")
    yield role
    conn.execute(f"drop owned by {role} cascade; drop role {role}")


@pytest.mark.parametrize(
    ("out", "back"), [("connection limit 0", "connection limit -1"), ("nologin", "login")]
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_job_waits_while_the_driver_is_refused(
    conn, dsn, limited, start_worker, caplog, driver, out, back
):
    """Each library wraps what the server says in its own way."""
    url = sqlalchemy.make_url(url_of(dsn, driver)).set(username=limited, password="limited")
    config = {"url": url.render_as_string(hide_password=False)}
    start_worker(
        allow=["orm_jobs"],
        driver={"type": "sqlalchemy", "config": config},
        queues={"default": 1},
    )
    eventually(
        lambda: conn.execute(
            "select count(*) = 0 from pg_stat_activity where usename = %s", (limited,)
        ).fetchone()[0]
    )
    conn.execute(f"alter role {limited} {out}")
    answer = orm_jobs.add_async.options(max_attempts=1).enqueue(conn, value=1)
    eventually(lambda: "waits for its database: " in caplog.text)
    conn.execute(f"alter role {limited} {back}")
    assert wait_for_state(conn, answer.id, "completed", "discarded")["errors"] is None
    assert effects(conn) == [1]
