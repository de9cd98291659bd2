"""Handlers inside the transaction that completes their job: all of it happens, or nothing."""

from __future__ import annotations

import async_transaction_jobs
import pytest
import sample_jobs
from helpers import PATIENCE, assert_completed_by_their_effects, eventually, job_of, wait_for_state


@pytest.fixture(autouse=True)
def _tables(conn):
    conn.execute("create table effects (value bigint)")
    conn.execute("create table checked (value int unique deferrable initially deferred)")


def effects(conn):
    return [value for (value,) in conn.execute("select value from effects order by value")]


def test_effect_and_completion_are_one_transaction(conn, start_worker):
    start_worker()
    answer = sample_jobs.insert.enqueue(conn, value=7)
    job = wait_for_state(conn, answer.id, "completed")
    assert job["result"] == {"value": 7}
    assert_completed_by_their_effects(conn)


def test_many_jobs_have_their_effect_once_each(conn, start_worker):
    start_worker(queues={"default": 8})
    answers = [sample_jobs.insert.enqueue(conn, value=value) for value in range(200)]
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    assert effects(conn) == list(range(200))


@pytest.mark.parametrize(
    ("what", "state", "error"),
    [
        ("raise", "retryable", "ValueError: after the insert"),
        ("snooze", "scheduled", None),
        ("discard", "discarded", "after the insert"),
        ("cancel", "cancelled", None),
        ("return an object", "retryable", "UnstorableValueError: "),
        ("break", "retryable", "HandlerTransactionError: the handler caught a database error"),
        ("rollback", "retryable", "ProgrammingError: Explicit rollback() forbidden"),
        ("rollback in sql", "retryable", "HandlerTransactionError: the handler ended"),
        ("begin anew", "retryable", "HandlerTransactionError: the handler ended"),
        ("end its own job", "retryable", "HandlerTransactionError: there was nothing to complete"),
        ("leave a stream", "retryable", "HandlerTransactionError: the handler left a query"),
        ("leave a stream and raise", "retryable", "ValueError: after the stream"),
        ("leave a copy", "retryable", "HandlerTransactionError: the handler left a query"),
        ("close", "retryable", "HandlerTransactionError: the handler's connection was closed"),
        ("violate at commit", "retryable", "UniqueViolation: "),
    ],
)
def test_work_is_rolled_back(conn, start_worker, what, state, error):
    start_worker(queues={"default": 1})
    answer = sample_jobs.insert_and.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, "retryable", "scheduled", "discarded", "cancelled")
    assert job["state"] == state
    if error is not None:
        assert job["errors"][0]["error"].startswith(error)
    assert effects(conn) == []

    # The thread's connection is as good as new for the next job.
    after = sample_jobs.insert.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


def test_what_a_handler_commits_itself_stays_although_its_job_fails(conn, start_worker):
    start_worker()
    answer = sample_jobs.insert_and.enqueue(conn, what="commit in sql")
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"].startswith("HandlerTransactionError: the handler ended")
    assert effects(conn) == [answer.id]


def test_handler_may_choose_its_isolation_level(conn, start_worker):
    start_worker()
    answer = sample_jobs.insert_and.enqueue(conn, what="change isolation")
    assert wait_for_state(conn, answer.id, "completed")["result"] == "serializable"


def test_run_that_is_over_is_rolled_back(conn, start_worker, caplog):
    """Its job was cancelled while it ran, so its effect must not stay."""
    start_worker()
    answer = sample_jobs.insert_and.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    sample_jobs.gates["a"].set()
    eventually(lambda: f"lost job {answer.id}" in caplog.text)
    assert effects(conn) == []
    assert job_of(conn, answer.id)["state"] == "cancelled"


def test_lost_connection_fails_the_job(conn, start_worker):
    start_worker(queues={"default": 1})
    answer = sample_jobs.insert_and.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    terminate(conn, "eram jobs default")
    sample_jobs.gates["a"].set()
    wait_for_state(conn, answer.id, "retryable")
    assert effects(conn) == []


def test_connection_lost_between_jobs_is_opened_anew(conn, start_worker):
    start_worker(queues={"default": 1})
    first = sample_jobs.insert.enqueue(conn, value=1)
    wait_for_state(conn, first.id, "completed")
    terminate(conn, "eram jobs default")
    second = sample_jobs.insert.enqueue(conn, value=2)
    job = wait_for_state(conn, second.id, "completed")
    assert job["attempt"] == 1
    assert effects(conn) == [1, 2]


# Async handlers have the same guarantees, on a connection of their own.


@pytest.fixture
def start_async(start_worker):
    def start(limit=1):
        return start_worker(
            allow=["async_transaction_jobs", "sample_jobs"], queues={"default": limit}
        )

    return start


def test_effect_of_an_async_handler_and_completion_are_one_transaction(conn, start_async):
    start_async(limit=4)
    answers = [async_transaction_jobs.insert.enqueue(conn, value=value) for value in range(50)]
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    assert effects(conn) == list(range(50))
    assert_completed_by_their_effects(conn)


@pytest.mark.parametrize(
    ("what", "state", "error"),
    [
        ("raise", "retryable", "ValueError: after the insert"),
        ("snooze", "scheduled", None),
        ("discard", "discarded", "after the insert"),
        ("break", "retryable", "HandlerTransactionError: the handler caught a database error"),
        ("rollback", "retryable", "ProgrammingError: Explicit rollback() forbidden"),
        ("rollback in sql", "retryable", "HandlerTransactionError: the handler ended"),
        ("begin anew", "retryable", "HandlerTransactionError: the handler ended"),
        ("leave a stream", "retryable", "HandlerTransactionError: the handler left a query"),
        ("leave a task", "retryable", "HandlerTransactionError: the handler left a query"),
        ("close", "retryable", "HandlerTransactionError: the handler's connection was closed"),
        ("violate at commit", "retryable", "UniqueViolation: "),
    ],
)
def test_work_of_an_async_handler_is_rolled_back(conn, start_async, what, state, error):
    start_async()
    answer = async_transaction_jobs.insert_and.enqueue(conn, what=what)
    job = wait_for_state(conn, answer.id, "retryable", "scheduled", "discarded")
    assert job["state"] == state
    if error is not None:
        assert job["errors"][0]["error"].startswith(error)
    assert effects(conn) == []
    after = async_transaction_jobs.insert.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


def test_async_handler_may_choose_its_isolation_level(conn, start_async):
    start_async()
    answer = async_transaction_jobs.insert_and.enqueue(conn, what="change isolation")
    assert wait_for_state(conn, answer.id, "completed")["result"] == "serializable"


@pytest.mark.parametrize("how", ["in the server", "in the loop", "stubbornly"])
def test_async_handler_that_times_out_is_cut_off(conn, start_async, how):
    start_async()
    answer = async_transaction_jobs.hang.enqueue(conn, how=how)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"] == "timed out after 0.5 s"
    after = async_transaction_jobs.insert.enqueue(conn, value=1)
    wait_for_state(conn, after.id, "completed")
    assert effects(conn) == [1]


def test_run_of_an_async_handler_that_is_over_is_rolled_back(conn, start_async, caplog):
    start_async()
    answer = async_transaction_jobs.insert_and.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    # Its task is cancelled, wherever it waits.
    eventually(lambda: f"lost job {answer.id}" in caplog.text)
    assert effects(conn) == []
    assert job_of(conn, answer.id)["state"] == "cancelled"


def test_lost_connection_fails_the_job_of_an_async_handler(conn, start_async):
    start_async()
    answer = async_transaction_jobs.insert_and.enqueue(conn, what="wait", name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    terminate(conn, "eram jobs default")
    sample_jobs.gates["a"].set()
    wait_for_state(conn, answer.id, "retryable")
    after = async_transaction_jobs.insert.enqueue(conn, value=1)
    assert wait_for_state(conn, after.id, "completed")["attempt"] == 1
    assert effects(conn) == [1]


def test_child_of_an_async_handler_holds_no_connection(conn, start_async):
    start_async()
    answer = async_transaction_jobs.fork.enqueue(conn)
    assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None
    assert effects(conn) == [1, 2]


def terminate(conn, application_name):
    conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and application_name = %s",
        (application_name,),
    )


@pytest.mark.parametrize("what", ["factories", "setting"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_a_handler_changes_of_its_session_is_not_there_later(conn, start_async, kind, what):
    start_async()
    jobs = async_transaction_jobs
    change = jobs.change_session if kind == "plain" else jobs.change_async_session
    insert = sample_jobs.insert if kind == "plain" else jobs.insert
    for value in (1, 2):
        for answer in (change.enqueue(conn, what=what), insert.enqueue(conn, value=value)):
            assert wait_for_state(conn, answer.id, "completed", "retryable")["errors"] is None
    assert effects(conn) == [1, 2]
