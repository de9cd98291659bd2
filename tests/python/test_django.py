"""Django: enqueueing over its connection, and jobs inside its transactions."""

from __future__ import annotations

import os
from unittest import mock

import django
import pytest
import sample_jobs
from django.db import DataError, connection, connections, transaction
from helpers import PATIENCE, eventually, job_of, wait_for_state
from psycopg.conninfo import conninfo_to_dict

import eram

DRIVER = {"type": "django", "config": {"settings": "django_site.settings"}}


@pytest.fixture(scope="session", autouse=True)
def _set_up():
    with mock.patch.dict(os.environ, {"DJANGO_SETTINGS_MODULE": "django_site.settings"}):
        django.setup()


@pytest.fixture(autouse=True)
def _site(dsn, conn):
    """Have Django use the test's database."""
    conn.execute("create table effects (value bigint)")
    conn.execute("create table checked (value int unique deferrable initially deferred)")
    place = conninfo_to_dict(dsn)
    settings = connections.settings["default"]
    settings.update(
        NAME=place["dbname"],
        USER=place["user"],
        PASSWORD=place["password"],
        HOST=place["host"],
        PORT=place["port"],
    )
    yield
    connection.close()
    del connections["default"]


@pytest.fixture
def jobs():
    # Its models can be imported once Django is set up.
    from django_site import jobs

    return jobs


@pytest.fixture
def start(start_worker):
    def start(limit=1, **options):
        return start_worker(
            allow=["django_site.jobs", "sample_jobs"],
            **{"driver": DRIVER, "queues": {"default": limit}, **options},
        )

    return start


def effects(conn):
    return [value for (value,) in conn.execute("select value from effects order by value")]


def terminate(conn, name="django site"):
    conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = %s",
        (name,),
    )


# Enqueueing


def test_enqueue_inside_atomic_commits_with_it(conn):
    with transaction.atomic():
        kept = sample_jobs.mail.enqueue(connection, to="x %s %")
        assert job_of(conn, kept.id) == {}
    assert job_of(conn, kept.id)["args"] == {"to": "x %s %"}
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dropped = sample_jobs.mail.enqueue(connection, to="x")
        raise ZeroDivisionError
    assert job_of(conn, dropped.id) == {}


def test_enqueue_on_commit(conn):
    answers = []

    def enqueue():
        answers.append(sample_jobs.nothing.enqueue(connection))

    with transaction.atomic():
        transaction.on_commit(enqueue)
        assert answers == []
    assert job_of(conn, answers[0].id)["state"] == "available"
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(enqueue)
        raise ZeroDivisionError
    assert len(answers) == 1


@pytest.mark.parametrize("of", [lambda: connection, lambda: connections["default"]])
def test_enqueue_outside_is_there_at_once(conn, of):
    answer = sample_jobs.nothing.enqueue(of())
    many = eram.enqueue_many(of(), [{"handler": "a:b"}])
    assert [job_of(conn, each.id)["state"] for each in (answer, *many)] == 2 * ["available"]


def test_error_of_the_server_is_one_of_django(conn):
    with transaction.atomic():
        with pytest.raises(DataError, match="priority"), transaction.atomic():
            eram.enqueue(connection, "a:b", priority=99)
        kept = eram.enqueue(connection, "a:b")
    assert job_of(conn, kept.id)["state"] == "available"


def test_database_of_another_kind():
    with pytest.raises(TypeError, match="connection to sqlite, not to PostgreSQL"):
        eram.enqueue(connections["lite"], "a:b")


# Jobs in transactions


def test_effect_and_completion_are_one_transaction(conn, start, jobs):
    start()
    answer = jobs.add.enqueue(conn, value=7)
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"value": 7}
    written_by, completed_by = conn.execute(
        "select (select xmin from effects), (select xmin from eram_finished_jobs)"
    ).fetchone()
    assert written_by == completed_by


def test_session_is_the_connection(conn, start, jobs):
    start()
    answer = jobs.add_by_session.enqueue(conn, value=7)
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"is_same": True}
    assert effects(conn) == [7]


@pytest.mark.parametrize(
    ("what", "state", "error"),
    [
        ("raise", "retryable", "ValueError: after the insert"),
        ("snooze", "scheduled", None),
        ("commit", "retryable", "TransactionManagementError: This is forbidden"),
        ("rollback", "retryable", "TransactionManagementError: This is forbidden"),
        ("close", "retryable", "OperationalError: the connection is closed"),
        ("set_rollback", "retryable", "TransactionManagementError: An error occurred"),
        ("rollback in sql", "retryable", "HandlerTransactionError: the handler ended"),
        ("break", "retryable", "HandlerTransactionError: the handler caught a database error"),
        ("break an atomic block", "retryable", "HandlerTransactionError: the handler caught"),
        ("violate at commit", "retryable", "IntegrityError: "),
    ],
)
def test_work_is_rolled_back(conn, start, jobs, what, state, error):
    start()
    answer = jobs.add_and.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, "retryable", "scheduled")
    assert job["state"] == state
    if error is not None:
        assert job["errors"][0]["error"].startswith(error)
    assert effects(conn) == []
    after = jobs.add.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


def test_savepoint_in_a_handler(conn, start, jobs):
    start()
    answer = jobs.add_and.enqueue(conn, what="break in a savepoint")
    wait_for_state(conn, answer.id, "completed")
    assert effects(conn) == [answer.id]


def test_handler_enqueues_inside_and_on_commit(conn, start, jobs):
    start(limit=2)
    jobs.enqueue_on_commit.enqueue(conn, value=1)
    eventually(lambda: effects(conn) == [1, 2])
    failing = jobs.enqueue_on_commit.enqueue(conn, value=-1)
    wait_for_state(conn, failing.id, "retryable")
    assert conn.execute("select count(*) from eram_jobs").fetchone() == (4,)


def test_error_on_commit_does_not_undo_a_completion(conn, start, jobs, caplog):
    """It comes after the commit; the report of a failure is refused, and says what it was."""
    start()
    answer = jobs.fail_on_commit.enqueue(conn, value=7)
    wait_for_state(conn, answer.id, "completed")
    eventually(lambda: "so its transaction was committed" in caplog.text)
    assert "ZeroDivisionError" in caplog.text
    assert job_of(conn, answer.id)["state"] == "completed"
    assert effects(conn) == [7]


def test_async_handler_has_no_transaction(conn, start, jobs):
    start()
    run = jobs.add_async.enqueue(conn, value=7)
    wait_for_state(conn, run.id, "completed")
    assert effects(conn) == [7]
    refused = jobs.add_async_by_session.enqueue(conn)
    job = wait_for_state(conn, refused.id, "retryable")
    assert "has no transactions for async handlers" in job["errors"][0]["error"]


def test_timed_out_handler_is_cut_off(conn, start, jobs):
    start()
    answer = jobs.hang.enqueue(conn)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"] == "timed out after 0.5 s"
    after = jobs.add.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


def test_lost_connection_fails_the_job(conn, start, jobs):
    start()
    answer = jobs.add_and.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    terminate(conn)
    sample_jobs.gates["a"].set()
    wait_for_state(conn, answer.id, "retryable")
    after = jobs.add.enqueue(conn, value=1)
    assert wait_for_state(conn, after.id, "completed")["attempt"] == 1
    assert effects(conn) == [1]


@pytest.mark.parametrize("name", ["add", "count"])
def test_connection_lost_between_jobs_is_opened_anew(conn, start, jobs, name):
    """Also where a handler uses the ORM outside of a transaction: at the latest the next one."""
    start()
    handler = getattr(jobs, name).options(backoff=[0.01])
    args = {"value": 1} if name == "add" else {}
    for _ in range(3):
        answer = handler.enqueue(conn, **args)
        assert wait_for_state(conn, answer.id, "completed")["attempt"] <= 2
        terminate(conn)


def test_connection_is_kept_for_as_long_as_the_settings_say(conn, start, jobs):
    start()
    for _ in range(3):
        wait_for_state(conn, jobs.note_connection.enqueue(conn).id, "completed")
    assert len(set(sample_jobs.seen)) == 1


def test_what_a_handler_sets_is_not_there_later(conn, start, jobs):
    start()
    for value in (1, 2):
        wait_for_state(conn, jobs.make_session_read_only.enqueue(conn).id, "completed")
        answer = jobs.add.enqueue(conn, value=value)
        assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None


def test_worker_connects_where_the_settings_say(conn, start, jobs):
    start(dsn="")
    wait_for_state(conn, jobs.add.enqueue(conn, value=7).id, "completed")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"using": "main"}, 'DATABASES has no "main"'),
        ({"using": "lite"}, 'the database "lite" must be one of PostgreSQL, got sqlite'),
        ({"setings": "x"}, 'config has no "setings"; did you mean "settings"?'),
        ({"settings": "other.settings"}, 'Django runs with "django_site.settings" already'),
    ],
)
def test_wrong_configuration(start, config, error):
    with pytest.raises(eram.ConfigError, match=f'driver "django": {error}'):
        start(driver={"type": "django", "config": config})
