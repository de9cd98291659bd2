"""A network that drops what passes without a word: no connection is closed, none answers."""

from __future__ import annotations

import logging

import outage_jobs
import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, value, wait_for_state
from outage_helpers import ALLOW, LOST, Watch, outage_under_work
from proxy import Firewall

import eram
from eram._base import connection as connection_module

SILENCE = "no answer for"


@pytest.fixture
def impatient(monkeypatch):
    """What gets no answer is given up soon, but not what a busy machine is late with."""
    monkeypatch.setitem(connection_module.NETWORK_OPTIONS, "connect_timeout", 3)
    monkeypatch.setattr(connection_module, "CALL_SECONDS", 3.0)
    monkeypatch.setattr(connection_module, "STATEMENT_SECONDS", 3.0)


@pytest.fixture
def firewall(conn):
    firewall = Firewall(conn)
    yield firewall
    firewall.close()


@pytest.mark.usefixtures("impatient")
def test_firewall_that_drops_packets(dsn, firewall, start_worker, caplog):
    """The server notices it in the end: the worker is back before anyone rescues its jobs."""
    through = firewall.dsn(dsn)
    with outage_under_work(dsn, caplog, start_worker, through=through) as endure:
        firewall.drop(is_noticed=False)
        endure()
        firewall.mend()


@pytest.mark.usefixtures("impatient", "settled_server")
def test_worker_that_a_firewall_cut_off_for_long_is_taken_for_dead(
    dsn, conn, firewall, start_worker, caplog
):
    """Another one runs its jobs; what it has made of them itself counts no more."""
    watch = Watch(caplog)
    heard: list[tuple[int, object]] = []
    forget = eram.on_success(
        outage_jobs.hold, lambda job, outcome: heard.append((job.run, outcome.result["run"]))
    )
    cut = start_worker(
        firewall.dsn(dsn), queues={"default": 3, "cut": 1}, allow=ALLOW, poll_interval=0.1
    )
    first = cut.id
    names = "abc"
    ids = [outage_jobs.hold.enqueue(conn, name=name).id for name in names]
    for name in names:
        assert sample_jobs.started[f"{name} 1"].wait(PATIENCE)

    firewall.drop(is_noticed=True)
    eventually(lambda: watch.lines(logging.WARNING, LOST))
    start_worker(queues={"default": 3}, allow=ALLOW)
    for name in names:
        assert sample_jobs.started[f"{name} 2"].wait(PATIENCE)
        sample_jobs.gates[f"{name} 1"].set()
    eventually(lambda: set(cut.unreported) == set(ids))
    firewall.mend()
    for job_id in ids:
        # If the network swallowed a report it may have been taken, for all that the worker knows.
        lost = (logging.ERROR, f"lost job {job_id}: run 1")
        in_doubt = (logging.WARNING, f"job {job_id}: the connection was lost during the report")
        eventually(lambda ways=(lost, in_doubt): any(watch.lines(*way) for way in ways))
    eventually(lambda: cut.id != first)
    assert value(conn, "select count(*) from eram_running_jobs where run = 2") == len(ids)

    for name in names:
        sample_jobs.gates[f"{name} 2"].set()
    for job_id in ids:
        job = wait_for_state(conn, job_id, "completed")
        assert (job["result"]["run"], job["attempt"], len(job["errors"])) == (2, 2, 1)
    after = outage_jobs.pass_through.options(queue="cut").enqueue(conn)
    assert wait_for_state(conn, after.id, "completed")["result"] == {"run": 1}
    eventually(lambda: len(heard) == len(ids))
    forget()
    assert heard == [(2, 2)] * len(ids)
    assert len(watch.lines(logging.WARNING, LOST)) == 1


@pytest.mark.usefixtures("impatient")
def test_call_that_gets_no_answer_is_given_up(dsn, conn, firewall):
    session = connection_module.open_session(
        firewall.dsn(dsn), "test", patience=connection_module.call_seconds
    )
    firewall.drop(is_noticed=False)
    with pytest.raises(psycopg.OperationalError, match=SILENCE):
        session.conn.execute("select 1")
    assert session.conn.closed


@pytest.mark.usefixtures("impatient")
def test_call_that_may_take_for_ever_does(dsn, conn):
    """The session of a handler: what it does there is its own business."""
    session = connection_module.open_session(dsn, "test")
    assert session.conn.execute("select pg_sleep(4)").fetchone() == ("",)
    session.conn.close()


@pytest.mark.usefixtures("impatient")
def test_command_whose_end_gets_lost_gives_way_to_the_next(dsn, conn, firewall, start_worker):
    query = "select eram_schedule_sql(%s, '@yearly', %s, timeout => '3 seconds')"
    conn.execute(query, ("lost", "select pg_sleep(600)"))
    conn.execute(query, ("next", "create table next ()"))
    start_worker(firewall.dsn(dsn), allow=ALLOW)
    conn.execute("select eram_run_schedule('lost')")
    sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = %s"
    eventually(lambda: value(conn, sleeping, conn.info.dbname))
    firewall.drop(is_noticed=True)
    firewall.mend()
    conn.execute("select eram_run_schedule('next')")
    eventually(lambda: value(conn, "select to_regclass('next')"))
