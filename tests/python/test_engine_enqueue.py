"""Enqueueing by an engine, started or not, over connections of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, value
from proxy import BrokenLinkError, Link, Proxy

import eram
from eram.drivers.psycopg import PsycopgDriver

MINE = (
    "from pg_stat_activity where application_name = 'eram enqueue' and datname = current_database()"
)


def test_one_connection_serves_one_thread_after_the_other(conn, make_engine, aside):
    engine = make_engine(allow=["sample_jobs"])
    for _ in range(3):
        answer = engine.enqueue(sample_jobs.mail, {"to": "x"}, priority=1)
    for _ in range(3):
        aside.submit(engine.enqueue, "any", {"a": 1}).result(PATIENCE)
    job = job_of(conn, answer.id)
    assert (job["handler"], job["args"], job["priority"]) == ("sample_jobs:mail", {"to": "x"}, 1)
    # What the decorator says holds.
    assert (job["queue"], job["max_attempts"]) == ("mail", 5)
    assert value(conn, f"select count(*) {MINE}") == 1


def test_many_threads_at_once(conn, make_engine, aside):
    engine = make_engine()
    answers = [aside.submit(engine.enqueue, "any", {"number": each}) for each in range(100)]
    assert len({each.result(PATIENCE).id for each in answers}) == 100


def test_session_of_the_caller(conn, connect, make_engine):
    engine = make_engine()
    mine = connect(autocommit=False)
    answer = engine.enqueue("any", session=mine)
    assert not job_of(conn, answer.id)
    mine.commit()
    assert job_of(conn, answer.id)


def test_lost_connection_is_replaced(conn, make_engine):
    engine = make_engine()
    engine.enqueue("any")
    for _ in range(2):
        conn.execute(f"select pg_terminate_backend(pid, 5000) {MINE}")
        engine.enqueue("any")
    assert value(conn, "select count(*) from eram_jobs") == 3


class LosingLink(Link):
    """Breaks instead of passing an answer on, when it is told to."""

    def to_client(self, data):
        if self.proxy.is_broken:
            self.proxy.is_broken = False
            raise BrokenLinkError
        return data


@pytest.fixture
def network(conn):
    proxy = Proxy(conn, LosingLink)
    yield proxy
    proxy.close()


def test_enqueue_whose_answer_got_lost_is_not_made_again(dsn, conn, make_engine, network):
    """It is stored, or it is not: that is for the caller to say."""
    engine = make_engine(dsn=network.dsn(dsn))
    engine.enqueue("any")
    network.is_broken = True
    with pytest.raises(psycopg.OperationalError):
        engine.enqueue("any")
    assert value(conn, "select count(*) from eram_jobs") == 2
    engine.enqueue("any")
    assert value(conn, "select count(*) from eram_jobs") == 3


def test_connection_that_broke_without_a_word_is_replaced(dsn, conn, make_engine, network):
    engine = make_engine(dsn=network.dsn(dsn))
    for _ in range(2):
        engine.enqueue("any")
        for each in network._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
    assert value(conn, "select count(*) from eram_jobs") == 2


def test_stop_closes_them_and_more_can_be_had(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"]).start()
    engine.enqueue("any")
    engine.stop()
    eventually(lambda: value(conn, f"select count(*) {MINE}") == 0)
    assert engine.enqueue("any").id
    engine.stop()
    eventually(lambda: value(conn, f"select count(*) {MINE}") == 0)


def test_stop_closes_them_without_a_start(conn, make_engine):
    engine = make_engine()
    engine.enqueue("any")
    assert engine.stop()
    eventually(lambda: value(conn, f"select count(*) {MINE}") == 0)


def test_stop_in_the_midst_of_an_enqueue_is_no_deadlock(conn, dsn, make_engine, monkeypatch):
    """As a signal handler does it, in the thread that enqueues."""
    engine = make_engine(driver={"type": "psycopg", "config": {"dsn": dsn}})
    enqueue = PsycopgDriver.enqueue

    def stop_first(*args):
        assert engine.stop()
        return enqueue(*args)

    monkeypatch.setattr(PsycopgDriver, "enqueue", stop_first)
    assert job_of(conn, engine.enqueue("any").id)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_has_connections_of_its_own(conn, make_engine):
    engine = make_engine()
    engine.enqueue("any")
    child = multiprocessing.get_context("fork").Process(target=engine.enqueue, args=("child",))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    engine.enqueue("any")
    query = "select handler from eram_jobs order by id"
    assert [each for (each,) in conn.execute(query)] == ["any", "child", "any"]


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (("any", [1]), {}, TypeError),
        (("any",), {"quue": "x"}, TypeError),
        (("any",), {"priority": "1"}, TypeError),
        (("any",), {"priority": 99}, psycopg.errors.NumericValueOutOfRange),
        ((sample_jobs.mail, {"subject": "x"}), {}, eram.ArgumentsError),
        ((sample_jobs.plain,), {}, TypeError),
        (("any", {"x": object()}), {}, eram.UnstorableValueError),
        (("any",), {"session": "postgresql:///x"}, TypeError),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_stored(conn, make_engine, args, options, error):
    engine = make_engine()
    with pytest.raises(error):
        engine.enqueue(*args, **options)
    assert value(conn, "select count(*) from eram_jobs") == 0
    assert engine.enqueue("any").id


def test_without_a_database(make_engine):
    engine = make_engine(dsn="host=/nowhere dbname=x")
    with pytest.raises(psycopg.OperationalError):
        engine.enqueue("any")
