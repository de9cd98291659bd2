"""`drain` runs the jobs of a transaction inside it."""

from __future__ import annotations

import psycopg
import pytest
import testing_jobs as jobs
from helpers import job_of, value

import eram
from eram import testing
from eram.errors import EramError, HandlerTransactionError


def words(conn: psycopg.Connection) -> list[str]:
    return [row[0] for row in conn.execute("select word from words order by word")]


def test_drain_runs_what_the_transaction_enqueued(test_conn):
    job_id = jobs.greet.enqueue(test_conn, name="Ada").id
    drained = testing.drain(test_conn)
    assert drained.counts == {"completed": 1}
    assert drained.results == ["Hello, Ada!"]
    assert [each.job.id for each in drained] == [job_id]
    job = job_of(test_conn, job_id)
    assert (job["state"], job["attempt"], job["result"]) == ("completed", 1, "Hello, Ada!")
    assert job["attempted_by"] == "eram.testing"
    assert len(testing.drain(test_conn)) == 0


def test_nothing_of_a_drain_outlives_the_transaction(connect, conn):
    other = connect()
    with other.transaction(force_rollback=True):
        jobs.greet.enqueue(other, name="Ada")
        testing.drain(other)
    for table in ("jobs", "workers", "completions"):
        assert value(conn, f"select count(*) from eram_{table}") == 0
    assert value(other, "select count(*) from pg_locks where locktype = 'advisory'") == 0


def test_jobs_run_in_the_order_of_priority_time_and_id(test_conn):
    for priority, delay in ((1, 0), (0, 0.5), (0, 0), (1, 0)):
        jobs.greet.options(priority=priority, delay=delay).enqueue(test_conn, name=f"{priority}")
    testing.advance(test_conn, 1)
    drained = testing.drain(test_conn)
    ids = [each.job.id for each in drained]
    first = min(ids)
    assert [each - first for each in ids] == [2, 1, 0, 3]


def test_a_failure_is_raised_and_noted(test_conn):
    job_id = jobs.fail.enqueue(test_conn, message="oh no").id
    with pytest.raises(ValueError, match="oh no"):
        testing.drain(test_conn)
    job = job_of(test_conn, job_id)
    assert (job["state"], job["attempt"]) == ("retryable", 1)
    assert job["errors"][0]["error"] == "ValueError: oh no"
    assert "testing_jobs.py" in job["errors"][0]["traceback"]


def test_failures_can_be_looked_at_instead(test_conn):
    jobs.fail.enqueue(test_conn)
    jobs.greet.enqueue(test_conn, name="Ada")
    drained = testing.drain(test_conn, raises=False)
    assert drained.counts == {"failed": 1, "completed": 1}
    failed = drained.runs[0]
    assert isinstance(failed.exception, ValueError)
    assert failed.error == "ValueError: it failed"


def test_a_retry_runs_when_its_backoff_has_passed_until_attempts_are_used_up(test_conn):
    job_id = jobs.fail.enqueue(test_conn).id
    assert testing.drain(test_conn, raises=False).counts == {"failed": 1}
    assert testing.drain(test_conn, raises=False).counts == {}
    testing.advance(test_conn, 60)
    assert job_of(test_conn, job_id)["state"] == "available"
    assert testing.drain(test_conn, raises=False).counts == {"discarded": 1}
    assert job_of(test_conn, job_id)["state"] == "discarded"


def test_retries_without_a_backoff_run_in_the_same_drain(test_conn):
    jobs.fail_at_once.enqueue(test_conn)
    drained = testing.drain(test_conn, raises=False)
    assert drained.counts == {"failed": 2, "discarded": 1}
    assert jobs.seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("outcome", "ending", "state", "attempt"),
    [
        ("snooze", "snoozed", "scheduled", 0),
        ("retry", "failed", "retryable", 1),
        ("cancel", "cancelled", "cancelled", 1),
        ("discard", "discarded", "discarded", 1),
    ],
)
def test_outcomes_that_a_handler_returns_are_no_errors(test_conn, outcome, ending, state, attempt):
    job_id = jobs.end.enqueue(test_conn, outcome=outcome).id
    drained = testing.drain(test_conn)
    assert drained.counts == {ending: 1}
    job = job_of(test_conn, job_id)
    assert (job["state"], job["attempt"]) == (state, attempt)


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ("unstorable", eram.HandlerError, "the handler's result cannot be stored"),
        ("leave", SystemExit, "leave"),
    ],
)
def test_whatever_fails_a_job_is_raised(test_conn, outcome, error, message):
    jobs.end.enqueue(test_conn, outcome=outcome)
    with pytest.raises(error, match=message):
        testing.drain(test_conn)
    assert len(testing.enqueued(test_conn, state="retryable")) == 1


def test_a_handler_that_does_not_exist_fails_its_job(test_conn):
    eram.enqueue(test_conn, "testing_jobs:nothing")
    with pytest.raises(eram.HandlerError, match='"testing_jobs:nothing" does not exist'):
        testing.drain(test_conn)


def test_a_skip_in_a_handler_skips_the_test(test_conn):
    jobs.skip_the_test.enqueue(test_conn)
    with pytest.raises(pytest.skip.Exception):
        testing.drain(test_conn, raises=False)


def test_a_transactional_handler_gets_the_tests_connection(test_conn):
    jobs.count_word.enqueue(test_conn, word="one")
    jobs.count_word.enqueue(test_conn, word="two", mistake="raise")
    jobs.count_word.enqueue(test_conn, word="three")
    assert testing.drain(test_conn, raises=False).counts == {"completed": 2, "failed": 1}
    assert words(test_conn) == ["one", "three"]


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ("commit", "Explicit commit"),
        ("break", "caught a database error"),
    ],
)
def test_a_handler_that_breaks_its_transaction_fails(test_conn, mistake, error):
    jobs.count_word.enqueue(test_conn, word="x", mistake=mistake)
    drained = testing.drain(test_conn, raises=False)
    assert drained.counts == {"failed": 1}
    assert error in str(drained.runs[0].error)
    assert words(test_conn) == []


def test_constraints_are_checked_at_the_end_of_a_job_and_as_deferred_as_before(test_conn):
    test_conn.execute("create table counts (count int unique deferrable initially deferred)")
    test_conn.execute("insert into counts values (1)")
    for count in (1, 2):
        jobs.send.enqueue(test_conn, query=f"insert into counts values ({count})")
    drained = testing.drain(test_conn, raises=False)
    assert drained.counts == {"failed": 1, "completed": 1}
    assert str(drained.runs[0].error).startswith("UniqueViolation: duplicate key")
    assert test_conn.execute("select count from counts order by 1").fetchall() == [(1,), (2,)]
    test_conn.execute("insert into counts values (1)")
    test_conn.execute("delete from counts")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("set local lock_timeout = '1234ms'", "lock_timeout"),
        ("set work_mem = '5MB'; set datestyle = 'german'", "work_mem"),
        ("set local role pg_database_owner", "role"),
        ("set local search_path = pg_catalog", "search_path"),
        ("set local statement_timeout = '1ms'", "statement_timeout"),
    ],
)
def test_what_a_handler_sets_ends_with_it(test_conn, query, name):
    ask = f"select current_setting('{name}'), current_setting('datestyle')"
    test_conn.execute("set local lock_timeout = '7s'")
    before = test_conn.execute(ask).fetchall()
    jobs.send.enqueue(test_conn, query=query)
    jobs.send.enqueue(test_conn, query="insert into words values ('x')")
    # With some of them the job cannot be completed, by a worker neither.
    ended = [each.outcome for each in testing.drain(test_conn, raises=False)]
    assert ended[1] == "completed"
    assert test_conn.execute(ask).fetchall() == before
    if name == "search_path":
        assert ended[0] == "failed"
    if name in {"lock_timeout", "work_mem"}:
        assert ended[0] == "completed"


@pytest.mark.parametrize("max_jobs", [0, None, "10"])
def test_the_most_jobs_are_a_number(test_conn, max_jobs):
    with pytest.raises(ValueError, match="max_jobs must be a number from 1"):
        testing.drain(test_conn, max_jobs=max_jobs)


def test_a_handler_that_ends_the_transaction_of_the_test_ends_the_test(connect):
    conn = connect()
    conn.execute("create table words (word text)")
    with (
        pytest.raises(HandlerTransactionError, match="ended the transaction of the test"),
        conn.transaction(force_rollback=True),
    ):
        jobs.count_word.enqueue(conn, word="x", mistake="begin")
        testing.drain(conn)


def test_a_handler_that_breaks_a_transaction_it_was_not_given_is_rolled_back(test_conn):
    jobs.seen.append(test_conn)
    jobs.break_outside.enqueue(test_conn)
    assert testing.drain(test_conn, raises=False).counts == {"failed": 1}
    assert words(test_conn) == []


def test_jobs_that_jobs_enqueue_run_too(test_conn):
    jobs.seen.append(test_conn)
    jobs.double.enqueue(test_conn, count=3)
    assert testing.drain(test_conn, with_recursion=False).counts == {"completed": 1}
    assert testing.drain(test_conn).counts == {"completed": 3}


def test_without_recursion_a_job_runs_once(test_conn):
    jobs.fail_at_once.enqueue(test_conn)
    assert testing.drain(test_conn, with_recursion=False, raises=False).counts == {"failed": 1}


def test_what_never_ends_is_an_error(test_conn):
    job_id = jobs.snooze_for_ever.enqueue(test_conn).id
    with pytest.raises(EramError, match=r"3 runs, and there is still a job .*snooze_for_ever"):
        testing.drain(test_conn, max_jobs=3)
    # The job that was one too many was not begun.
    assert job_of(test_conn, job_id)["state"] == "available"


def test_scheduled_jobs_run_early_on_demand_each_once(test_conn):
    jobs.greet.options(delay=3600).enqueue(test_conn, name="Ada")
    jobs.fail.options(delay=7200).enqueue(test_conn)
    assert testing.drain(test_conn).counts == {}
    drained = testing.drain(test_conn, with_scheduled=True, raises=False)
    assert drained.counts == {"completed": 1, "failed": 1}


def test_a_queue_can_be_drained_alone(test_conn):
    jobs.greet.enqueue(test_conn, name="Ada")
    jobs.email.enqueue(test_conn, to="ada")
    drained = testing.drain(test_conn, "mail")
    assert [each.job.queue for each in drained] == ["mail"]
    assert drained.results == [{"to": "ada", "attempt": 1, "current": True}]


def test_a_paused_queue_is_passed_over(test_conn):
    test_conn.execute("select eram_pause_queue('mail')")
    jobs.email.enqueue(test_conn, to="ada")
    assert testing.drain(test_conn).counts == {}


def test_what_others_have_committed_is_left_alone(connect, conn):
    theirs = jobs.greet.enqueue(conn, name="Ada").id
    other = connect()
    with other.transaction(force_rollback=True):
        ours = jobs.greet.enqueue(other, name="Grace").id
        assert [each.job.id for each in testing.drain(other)] == [ours]
        worker = value(conn, "select eram_start_worker('other', '{default}')")
        assert value(conn, "select id from eram_fetch('default', 9, %s)", worker) == theirs
        conn.execute("select eram_stop_worker(%s)", (worker,))


def test_what_others_have_committed_can_be_run_as_well(connect, conn):
    job_id = jobs.greet.enqueue(conn, name="Ada").id
    other = connect()
    with other.transaction(force_rollback=True):
        assert [each.job.id for each in testing.drain(other, committed=True)] == [job_id]
    assert job_of(conn, job_id)["state"] == "available"


def test_without_a_transaction_a_drain_is_refused_or_commits(conn):
    jobs.greet.enqueue(conn, name="Ada")
    with pytest.raises(EramError, match="there is no transaction"):
        testing.drain(conn)
    assert testing.drain(conn, committed=True).counts == {"completed": 1}
    assert value(conn, "select state from eram_jobs") == "completed"


def test_jobs_of_savepoints_are_the_transactions_own(test_conn):
    with test_conn.transaction():
        kept = jobs.greet.enqueue(test_conn, name="Ada").id
    with pytest.raises(psycopg.errors.DivisionByZero), test_conn.transaction():
        jobs.greet.enqueue(test_conn, name="Grace")
        test_conn.execute("select 1 / 0")
    with test_conn.transaction():
        drained = testing.drain(test_conn)
    assert [each.job.id for each in drained] == [kept]


def test_a_job_that_ends_itself_is_lost(test_conn):
    jobs.seen.append(test_conn)
    job_id = jobs.end_itself.enqueue(test_conn).id
    assert testing.drain(test_conn).counts == {"lost": 1}
    assert job_of(test_conn, job_id)["state"] == "cancelled"


def test_async_handlers_run_too(test_conn):
    ids = [jobs.think.enqueue(test_conn).id for _ in range(2)]
    assert testing.drain(test_conn).results == ids


def test_unique_keys_are_given_up_as_by_a_worker(test_conn):
    first = jobs.once.enqueue(test_conn, number=1)
    assert jobs.once.enqueue(test_conn, number=1) == (first.id, True)
    testing.drain(test_conn)
    assert not jobs.once.enqueue(test_conn, number=1).is_duplicate
    assert testing.drain(test_conn).results == [1]


def test_a_limited_queue_is_drained_one_by_one(test_conn):
    test_conn.execute("select eram_set_queue('default', global_limit => 1)")
    for name in "ab":
        jobs.greet.enqueue(test_conn, name=name)
    assert testing.drain(test_conn).counts == {"completed": 2}


def test_tests_in_parallel_do_not_meet(connect, conn):
    conn.execute("select eram_schedule('hourly', '1 hour', 'testing_jobs:greet')")
    jobs.greet.enqueue(conn, name="Ada")
    first, second = connect(), connect()
    with first.transaction(force_rollback=True), second.transaction(force_rollback=True):
        for each in (first, second):
            # Who waits for the other one waits in vain.
            each.execute("set local lock_timeout = '1ms'")
        for each in (first, second, first):
            jobs.greet.enqueue(each, name="Grace")
            jobs.fail.enqueue(each)
            assert testing.drain(each, raises=False).counts == {"completed": 1, "failed": 1}
            testing.advance(each, 10)
            assert testing.tick(each) == 0
