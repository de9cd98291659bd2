"""Drivers: custom ones, and what a worker says of a wrong one."""

from __future__ import annotations

import re
import threading

import custom_driver
import psycopg
import pytest
import sample_jobs
from helpers import eventually, job_of, wait_for_state

import eram
from eram._base.outage import Outage
from eram._jobs.finding import Handlers
from eram._jobs.outcome import Released
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor
from eram._transactions import driver_probe
from eram._transactions.driver import Drivers
from eram._transactions.driver_runner import DriverRunner
from eram._transactions.losses import as_outage


@pytest.fixture(autouse=True)
def _fresh(conn):
    conn.execute("create table effects (value bigint)")
    yield
    custom_driver.built.clear()


@pytest.fixture
def driver_of(dsn):
    def driver_of(name="Driver", **config):
        return {
            "type": "custom",
            "path": "custom_driver:create",
            "config": {"url": dsn, "class": name, **config},
        }

    return driver_of


@pytest.fixture
def start(start_worker, driver_of):
    def start(name="Driver", limit=1, **options):
        return start_worker(
            allow=["custom_driver", "sample_jobs"],
            driver=driver_of(name),
            queues={"default": limit},
            **options,
        )

    return start


def effects(conn):
    return [value for (value,) in conn.execute("select value from effects order by value")]


def test_effect_and_completion_are_one_transaction(conn, start):
    start()
    answer = custom_driver.add.enqueue(conn, value=7)
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"value": 7}
    written_by, completed_by = conn.execute(
        "select (select xmin from effects), (select xmin from eram_finished_jobs)"
    ).fetchone()
    assert written_by == completed_by


def test_each_thread_builds_its_own_from_plain_data(conn, start, dsn):
    start(limit=3)
    answers = [sample_jobs.wait.enqueue(conn, name="a") for _ in range(3)]
    eventually(lambda: sum(name.startswith("eram-exec") for name, _ in custom_driver.built) == 3)
    sample_jobs.gates["a"].set()
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    for _ in range(5):
        wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    threads = [name for name, _ in custom_driver.built if name.startswith("eram-exec")]
    assert sorted(threads) == [f"eram-exec-default-{number}" for number in (1, 2, 3)]
    configs = [config for _, config in custom_driver.built]
    assert all(config == {"url": dsn, "class": "Driver"} for config in configs)
    assert len({id(config) for config in configs}) == len(configs)


def test_work_is_rolled_back(conn, start):
    start()
    answer = custom_driver.add_and_raise.options(max_attempts=1).enqueue(conn)
    wait_for_state(conn, answer.id, "discarded")
    assert effects(conn) == []


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_handler_that_ends_the_transaction_does_not_complete_its_job(conn, start, how):
    start()
    answer = custom_driver.end_transaction.enqueue(conn, how=how)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"].startswith("HandlerTransactionError: the handler ended")
    assert effects(conn) == ([answer.id] if how == "commit" else [])


def test_async_handler_without_async_transactions(conn, start):
    start()
    answer = custom_driver.add_async.enqueue(conn, value=1)
    job = wait_for_state(conn, answer.id, "retryable")
    assert "has no transactions for async handlers" in job["errors"][0]["error"]


def test_async_handler(conn, start):
    start("BothDriver", limit=3)
    answers = [custom_driver.add_async.enqueue(conn, value=value) for value in range(10)]
    answers += [custom_driver.add.enqueue(conn, value=value) for value in range(10, 20)]
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    assert effects(conn) == list(range(20))


def test_driver_may_try_again_by_itself(conn, start):
    """The first commit fails; the driver begins another transaction, in which all is done again."""
    conn.execute(
        """
        create sequence tries;
        create function fail_once() returns trigger language plpgsql as $$
        begin
            if nextval('tries') = 1 then
                raise exception 'once' using errcode = 'serialization_failure';
            end if;
            return new;
        end $$;
        create constraint trigger once after insert on effects deferrable initially deferred
            for each row execute function fail_once();
        """
    )
    start("RetryingDriver")
    answer = custom_driver.add.enqueue(conn, value=7)
    assert wait_for_state(conn, answer.id, "completed")["attempt"] == 1
    assert effects(conn) == [7]
    assert conn.execute("select last_value from tries").fetchone() == (2,)


def test_commit_that_fails_fails_the_job(conn, start):
    conn.execute("alter table effects add unique (value) deferrable initially deferred")
    start()
    for state in ("completed", "retryable"):
        answer = custom_driver.add.enqueue(conn, value=7)
        job = wait_for_state(conn, answer.id, "completed", "retryable")
        assert job["state"] == state
    assert job["errors"][0]["error"].startswith("UniqueViolation: ")
    assert effects(conn) == [7]


def test_lost_connection_is_opened_anew(conn, start):
    start()
    for value in (1, 2, 3):
        answer = custom_driver.add.enqueue(conn, value=value)
        assert wait_for_state(conn, answer.id, "completed")["attempt"] == 1
        conn.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'custom driver'"
        )
    assert effects(conn) == [1, 2, 3]


def test_timed_out_handler_is_cut_off_without_a_cancel_of_its_library(conn, start):
    start("ForeignDriver")
    answer = custom_driver.hang.enqueue(conn)
    job = wait_for_state(conn, answer.id, "retryable")
    assert job["errors"][0]["error"] == "timed out after 0.5 s"
    wait_for_state(conn, custom_driver.add.enqueue(conn, value=-1).id, "completed")
    asleep = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and query = 'select pg_sleep(60)' and state = 'active'"
    )
    eventually(lambda: conn.execute(asleep).fetchone() == (0,))
    assert effects(conn) == [-1]
    assert ("cancel", {}) not in custom_driver.built


def test_job_that_timed_out_while_the_driver_connected_is_not_run(conn, driver_of):
    job = eram.Job((1, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, 1.0))
    job.mark_timed_out()
    outage = Outage()
    part = outage.part("test")
    part.lost(psycopg.OperationalError("gone"))
    runner = DriverRunner(Drivers(driver_of()), stopping=threading.Event(), part=part)
    executor = Executor(Handlers([]), loop=EventLoop("test"))
    assert runner(job, custom_driver.add, executor) == Released(job)
    assert not outage
    runner.close()


def test_driver_says_where_the_worker_connects(conn, start):
    start(dsn="")
    wait_for_state(conn, custom_driver.add.enqueue(conn, value=1).id, "completed")


@pytest.mark.parametrize("has_session", [True, False])
def test_enqueue_by_the_driver(conn, driver_of, has_session):
    drivers = Drivers(driver_of())
    document = '{"handler": "a:b", "args": {"x": 1}}'
    if has_session:
        session = custom_driver.Session(conn)
        with conn.transaction(force_rollback=True):
            answer = drivers.enqueue(session, document)
            assert job_of(conn, answer.id)["args"] == {"x": 1}
        assert job_of(conn, answer.id) == {}
    else:
        answer = drivers.enqueue(None, document)
        assert job_of(conn, answer.id)["args"] == {"x": 1}


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_enqueue_by_a_driver_of_ours(conn, dsn, kind):
    config = {"dsn": dsn} if kind == "psycopg" else {"url": dsn}
    drivers = Drivers({"type": kind, "config": config})
    answer = drivers.enqueue(None, '{"handler": "a:b"}')
    assert job_of(conn, answer.id)["state"] == "available"
    drivers.close_here()


def test_driver_of_psycopg_runs_all_handlers_in_transactions(conn, start_worker, dsn):
    start_worker(driver={"type": "psycopg"}, queues={"default": 1})
    answer = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, answer.id, "completed")
    names = [
        name
        for (name,) in conn.execute(
            "select application_name from pg_stat_activity where datname = current_database()"
        )
    ]
    assert "eram jobs default" in names


class OtherError(Exception):
    """What a library makes of another one's error."""


def wrapped(inner, **attributes):
    error = OtherError("it did not work")
    error.__cause__ = OtherError("nor did this")
    error.__cause__.__context__ = inner
    for name, value in attributes.items():
        setattr(inner, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (wrapped(OtherError("too many\nclients"), sqlstate="53300"), "too many"),
        (wrapped(OtherError("starting up"), pgcode="57P03"), "starting up"),
        (wrapped(OtherError({"S": "FATAL", "C": "53300", "M": "too many"})), "too many"),
        (wrapped(ConnectionRefusedError("refused")), "refused"),
        (wrapped(psycopg.errors.TooManyConnections("too many")), "too many"),
        (wrapped(psycopg.ProgrammingError("wrong")), None),
        (wrapped(LookupError("wrong")), None),
        (wrapped(OtherError({"x": 1})), None),
    ],
)
def test_error_of_the_database_beneath_others(error, reason):
    found = as_outage(error)
    assert (found and str(found)) == reason


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("SwallowingDriver", "keeps the error of what it has run in a transaction to itself"),
        ("AutocommitDriver", "runs nothing in a transaction"),
        ("IdleDriver", "it has not run what it was given"),
        ("UnknownDriver", "cannot run jobs: "),
        ("NoEnqueueDriver", "it lacks enqueue; see eram.Driver"),
        ("UncommittedDriver", "it does not commit the transaction"),
        ("AsyncUncommittedDriver", "it does not commit the transaction"),
        ("CommitOnErrorDriver", "commits a transaction although what it has run in it raised"),
        ("UnendedDriver", "it has not ended the transaction"),
        ("HangingDriver", "cannot run jobs: its trial has not ended within 2 s"),
        ("LeavingDriver", "cannot run jobs: SystemExit: 4"),
        ("RowlessDriver", "execute must return the rows as a list of tuples, got None"),
        ("NoUrlDriver", "cannot be built: ZeroDivisionError"),
        ("UnclosableDriver", "cannot be closed: SystemExit: cannot close"),
    ],
)
def test_wrong_driver_is_found_out_at_the_start(start, conn, monkeypatch, name, error):
    if name == "HangingDriver":
        monkeypatch.setattr(driver_probe, "PROBE_SECONDS", 2.0)
        custom_driver.HangingDriver.gate.clear()
    elif name == "UnendedDriver":
        monkeypatch.setattr(driver_probe, "END_SECONDS", 0.1)
    with pytest.raises(eram.ConfigError, match=error):
        start(name)
    assert conn.execute("select count(*) from eram_workers").fetchone() == (0,)
    custom_driver.HangingDriver.gate.set()
    eventually(lambda: "eram-probe" not in {each.name for each in threading.enumerate()})


def test_driver_of_another_database(start_worker, driver_of, create_bare_database):
    other = create_bare_database()
    with pytest.raises(eram.ConfigError, match=r"function eram_version\(\) does not exist"):
        start_worker(driver=driver_of(url=other))


def test_driver_of_another_database_that_has_eram(start_worker, driver_of, conn, dsn):
    conn.execute("create database elsewhere")
    other = re.sub(r"/\w+$", "/elsewhere", dsn)
    try:
        with psycopg.connect(other) as there:
            there.execute("create extension eram")
        with pytest.raises(eram.ConfigError, match='uses the database "elsewhere", but the worker'):
            start_worker(driver=driver_of(url=other))
    finally:
        conn.execute("drop database elsewhere with (force)")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("sqlalchemy", "driver must be a table"),
        ({}, "driver.type must name a kind of driver, got None; it is one of"),
        ({"type": "sqlachemy"}, 'did you mean "sqlalchemy"'),
        ({"type": "django", "pth": 1}, 'driver has no "pth"; did you mean "path"'),
        ({"type": "custom", "filename": "./x.js"}, 'name a custom driver by its "path"'),
        ({"type": "custom"}, "driver.path must say where the factory"),
        ({"type": "custom", "path": "./custom_driver.js"}, "driver.path must say where"),
        ({"type": "django", "path": "a:b"}, 'only a driver of type "custom" has a path'),
        ({"type": "django", "config": "x"}, "driver.config must be a table"),
        ({"type": "django", "config": {"x": object()}}, "driver.config must be plain data"),
        ({"type": "custom", "path": "no_such:thing"}, "cannot be imported: ModuleNotFoundError"),
        ({"type": "custom", "path": "custom_driver:thing"}, "cannot be imported: AttributeError"),
        ({"type": "custom", "path": "custom_driver:built"}, "must be a factory"),
        ({"type": "custom", "path": "custom_driver:create_nothing"}, "has made None, which is no"),
        ({"type": "custom", "path": "custom_driver:break_down"}, "LookupError: no such thing"),
        ({"type": "sqlalchemy"}, 'driver "sqlalchemy": config must have a "url"'),
        ({"type": "sqlalchemy", "config": {"url": "::"}}, "Could not parse"),
        ({"type": "sqlalchemy", "config": {"url": "sqlite://"}}, "must be one of PostgreSQL"),
        (
            {"type": "sqlalchemy", "config": {"url": "postgresql://", "ecko": True}},
            "'ecko'",
        ),
        ({"type": "psycopg", "config": {"hst": "x"}}, "invalid connection option"),
    ],
)
def test_wrong_configuration(start_worker, given, error):
    with pytest.raises(eram.ConfigError, match=error):
        start_worker(driver=given)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+asyncpg://a:p%40ss@h:1/d?ssl=require",
            "dbname=d host=h password=p@ss port=1 sslmode=require user=a",
        ),
        ("postgresql+psycopg://h/d?sslmode=disable", "dbname=d host=h sslmode=disable"),
        ("postgresql://a@/d?host=h1:5432&host=h2", None),
    ],
)
def test_url_for_the_worker(url, expected):
    from psycopg.conninfo import conninfo_to_dict

    found = conninfo_to_dict(Drivers({"type": "sqlalchemy", "config": {"url": url}}).postgresql_url)
    kept = ("dbname", "host", "password", "port", "sslmode", "user")
    if expected is None:
        assert found["host"] == "h1:5432,h2"
    else:
        assert {name: found[name] for name in kept if name in found} == conninfo_to_dict(expected)
