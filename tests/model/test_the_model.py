"""The judge is judged: a database that is not what it should be does not pass for a right one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import Phase

from sql.helpers import TABLES, value

from .comparison import DifferenceError
from .database import Database
from .machine import Machine
from .test_model import SEED, drive

DOCUMENTS = [
    {"handler": "app:a", "unique": {"period": 3600}},
    {"handler": "app:a", "args": {"n": 1}, "unique": True},
    {"handler": "app:a", "args": {"n": 2}, "delay": 3600},
    {"handler": "app:b", "priority": 3, "queue": "mail"},
    {"handler": "app:b", "max_attempts": 1, "queue": "mail", "priority": 9},
    {"handler": "app:b", "queue": "mail", "tags": ["one"], "meta": {"by": "me"}},
    {"handler": "app:b", "queue": "mail"},
    {"handler": "app:b"},
]

BROKEN_DATA = [
    "delete from eram_queued_jobs where job_id = 3",
    "delete from eram_running_jobs where job_id = 5",
    "delete from eram_finished_jobs where job_id = 4",
    "delete from eram_job_specs where job_id = 3",
    "delete from eram_unique_keys where job_id = 1",
    "delete from eram_unique_keys where job_id = 2",
    "delete from eram_job_errors where job_id = 7",
    "delete from eram_completions",
    "update eram_unique_keys set expires_at = expires_at + interval '1 second'",
    "update eram_unique_keys set expires_at = clock_timestamp() where job_id = 2",
    "update eram_unique_keys set job_id = 3 where job_id = 2",
    "update eram_queued_jobs set scheduled_at = scheduled_at + interval '1 minute'",
    "update eram_queued_jobs set run = run + 1 where job_id = 3",
    "update eram_queued_jobs set lane = 0 where job_id = 3",
    "update eram_running_jobs set run = run + 1 where job_id = 5",
    "update eram_running_jobs set attempt = attempt + 1, run = run + 1 where job_id = 5",
    "update eram_running_jobs set worker = 3 where job_id = 5",
    "update eram_running_jobs set attempted_at = attempted_at - interval '1 second'",
    "update eram_finished_jobs set result = '2' where job_id = 4",
    "update eram_finished_jobs set state = 'discarded' where job_id = 4",
    "update eram_finished_jobs set finalized_at = finalized_at + interval '1 second'",
    "update eram_job_errors set error = 'another' where job_id = 7",
    "update eram_job_specs set max_attempts = 21 where job_id = 3",
    "update eram_job_specs set args = '{}' where job_id = 3",
    "update eram_job_specs set tags = '{}' where job_id = 6",
    "update eram_job_specs set meta = '{}' where job_id = 6",
    "update eram_job_specs set backoff = '\"none\"' where job_id = 3",
    "update eram_job_specs set timeout = '1 second' where job_id = 3",
    "update eram_job_specs set handler = 'app:c' where job_id = 3",
    "update eram_job_specs set unique_until = null where job_id = 1",
    "update eram_handlers set overrides = '{}'",
    "update eram_queues set is_paused = false",
    "update eram_workers set queues = '{mail}' where id = 1",
    "update eram_workers set name = 'somebody' where id = 2",
    "select eram_enqueue_job('app:a')",
]

# A function, what it says, and what it says when it is broken.
BROKEN_FUNCTIONS = [
    ("eram_snooze_job", "v_job.attempt - 1", "v_job.attempt"),
    ("eram_complete_jobs", "when (running.job_id", "when true or (running.job_id"),
    ("eram_retry_job", "v_ticket.attempt + 1", "v_ticket.attempt"),
    ("_eram_normal_lane", "(lane | 1)", "lane"),
    ("_eram_finish_job", "job.unique_key is not null", "false"),
]
MORE_BROKEN_FUNCTIONS = [
    ("eram_cancel_job", "if v_run is null then", "if true then"),
    ("eram_delete_jobs", "perform _eram_release_keys(v_keyed.keys, v_keyed.ids);", ""),
    ("eram_fail_job", "v_job.attempt >= v_spec.max_attempts", "v_job.attempt > 5"),
    ("eram_fetch", "    order by\n        taken.lane,\n", "    order by\n"),
    ("eram_move_jobs", "moved.lane,", "1,"),
    ("eram_update_job", "v_max_attempts <= v_ticket.attempt", "false"),
    ("_eram_meet_duplicates", "priority = v_spec.priority,", ""),
    ("_eram_return_jobs", "- 1 + used_attempts", ""),
    ("_eram_settle_key", "expires_at > v_now", "true"),
    ("eram_fetch", "then queues.global_limit", "then null"),
]


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """A database that need not be healthy when the test ends."""
    with contextlib.closing(Database(dsn)) as database:
        yield database
        database.observer.execute(f"truncate {', '.join(TABLES)}")


@pytest.fixture
def machine(database: Database) -> Machine:
    """A machine that has gone some way: there are jobs in every state."""

    class On(Machine):
        pass

    On.database = database
    machine = On()
    machine.begin(documents=DOCUMENTS)
    machine.fetch(where=0, number=1, queue="mail", demand=99)
    runs = {"ids": [4], "runs": [1]}
    side = machine.outside(1)
    machine.do(side, "eram_complete_jobs", read="sorted", results=[1], **runs)
    machine.do(side, "eram_fail_job", id=7, run=1, error="no", delay="2 hours")
    machine.do(side, "eram_release_jobs", read="sorted", ids=[6], runs=[1])
    machine.do(side, "eram_cancel_job", id=8, reason="by order")
    machine.set("eram_set_handler", handler="app:b", overrides={"priority": 1})
    machine.set("eram_pause_queue", queue="mail")
    machine.agree()
    return machine


def test_every_kind_of_job_is_there_to_be_broken(machine):
    states = {job["state"] for job in machine.database.look()["jobs"].values()}
    assert states == {
        *("available", "scheduled", "retryable", "executing", "completed", "cancelled")
    }
    machine.agree()


def is_noticed(machine: Machine, statement: str) -> bool:
    """Do something behind the machine's back, ask it, and undo it."""
    observer = machine.database.observer
    with observer.transaction(force_rollback=True):
        assert observer.execute(statement).rowcount > 0, f"this changes nothing: {statement}"
        try:
            machine.agree()
        except DifferenceError:
            return True
    return False


def test_what_is_done_behind_its_back_is_noticed(machine):
    assert [statement for statement in BROKEN_DATA if not is_noticed(machine, statement)] == []
    machine.agree()


def test_a_late_answer_is_noticed(machine):
    """A call that returns what was true before is found out by its answer alone."""
    machine.model.jobs[5].run = 2
    with pytest.raises(AssertionError, match="the answer is"):
        machine.do(machine.outside(0), "eram_snooze_job", id=5, run=2, delay=0)


def test_what_should_be_refused_is_noticed(machine):
    machine.model.jobs[3].place = "executing"
    with pytest.raises(AssertionError, match="runs; but the answer is"):
        machine.do(machine.outside(0), "eram_delete_job", id=3)


def test_what_should_not_be_refused_is_noticed(machine):
    machine.model.jobs[5].place = "waiting"
    with pytest.raises(AssertionError, match="refused, but the model answers"):
        machine.do(machine.outside(0), "eram_delete_job", id=5)


def test_a_mistake_without_a_hint_is_noticed(machine):
    conn = machine.database.observer
    conn.execute("create function hapless() returns void language sql as 'select 1 / 0'")
    with pytest.raises(AssertionError, match="no hint"):
        machine.refuse(machine.outside(0), "hapless", {})


def break_function(dsn: str, name: str, right: str, wrong: str) -> None:
    """Replace a function by one that makes a mistake."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        source = value(conn, "select pg_get_functiondef(%s::regproc)", name)
        assert right in source, f"{name} has changed: break it in another way"
        conn.execute(source.replace(right, wrong))


def is_found_out(dsn: str, examples: int) -> bool:
    """Say whether a broken function is noticed, and leave an empty database."""
    try:
        drive(dsn, examples, SEED, [Phase.generate])
    except AssertionError:
        return True
    else:
        return False
    finally:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(f"truncate {', '.join(TABLES)}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "right", "wrong"), BROKEN_FUNCTIONS)
def test_a_function_that_makes_a_mistake_is_found_out(dsn, name, right, wrong):
    break_function(dsn, name, right, wrong)
    assert is_found_out(dsn, 150)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "right", "wrong"), MORE_BROKEN_FUNCTIONS)
def test_rarer_mistakes_are_found_out(dsn, name, right, wrong):
    break_function(dsn, name, right, wrong)
    assert is_found_out(dsn, 400)
