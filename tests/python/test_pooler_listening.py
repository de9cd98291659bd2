"""A worker behind PgBouncer that has a direct connection to listen on."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sample_jobs
from helpers import (
    PATIENCE,
    assert_completed_by_their_effects,
    eventually,
    job_of,
    value,
    wait_for_state,
)
from pgbouncer import PgBouncer, pgbouncer_before
from proxy import Firewall, Link, Proxy
from psycopg.conninfo import make_conninfo

import eram
from eram._base import connection as connection_module
from eram._programs.worker_arguments import read_config
from eram._runtime import listening, waiting

NEVER_POLL = 3600
# Who has declared a queue waiting, or proves life by a lock, and how often.
LOCKS = """
    select coalesce(array_agg(activity.application_name), '{}')
    from pg_locks as locks
    join pg_stat_activity as activity using (pid)
    where
        locks.locktype = 'advisory'
        and locks.classid in ('eram_queues'::regclass, 'eram_workers'::regclass)
        and locks.database = (select oid from pg_database where datname = current_database())
"""
LISTENER = "select pid from pg_stat_activity where application_name = 'eram listening' and "
LISTENER += "datname = current_database()"
LOST = "listening waits for its database"


class TappedLink(Link):
    """Keeps what the client says, and counts what it has fetched."""

    is_fetching = False

    def to_server(self, data):
        self.proxy.sent += data
        self.is_fetching |= b"eram_fetch" in data
        return data

    def to_client(self, data):
        if self.is_fetching:
            self.is_fetching = False
            self.proxy.fetch_count += 1
        return data


class Tap(Proxy):
    fetch_count = 0


@pytest.fixture
def pooler(dsn: str) -> Iterator[PgBouncer]:
    with pgbouncer_before(dsn) as pooler:
        yield pooler


@pytest.fixture
def tapped(pooler: PgBouncer) -> Iterator[Tap]:
    """What passes from a worker to the pooler."""
    with psycopg.connect(pooler.dsn) as through:
        proxy = Tap(through, TappedLink)
    yield proxy
    proxy.close()


@pytest.fixture
def only_hearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No poll finds a job of which the worker was not notified."""
    monkeypatch.setattr(waiting, "BRISK_SECONDS", float(NEVER_POLL))


@pytest.fixture
def listen(dsn: str, pooler: PgBouncer, start_worker: Callable[..., eram.Worker]):
    """Start a worker that is to be notified."""

    def listen(through: str = pooler.dsn, **options: object) -> eram.Worker:
        options = {"listen_dsn": dsn, "poll_interval": NEVER_POLL, **options}
        return start_worker(through, **options)

    return listen


def wait_until_declared(conn: psycopg.Connection, count: int = 1) -> None:
    """Nobody else holds a lock, least of all a session of the pooler."""
    eventually(lambda: value(conn, LOCKS) == count * ["eram listening"])


def wait_until_not_declared(conn: psycopg.Connection) -> None:
    eventually(lambda: value(conn, LOCKS) == [])


def complete(conn: psycopg.Connection, **options: object) -> None:
    """Enqueue a job and wait for its end."""
    wait_for_state(conn, sample_jobs.nothing.options(**options).enqueue(conn).id, "completed")


@pytest.fixture
def as_listener(dsn: str, conn: psycopg.Connection) -> Iterator[str]:
    """The direct way as a role that may work, and nothing else."""
    role, password = f"listener_{secrets.token_hex(4)}", secrets.token_hex(16)
    conn.execute(f"create role {role} login password '{password}'")
    conn.execute("select eram_grant(%s, 'work')", (role,))
    yield make_conninfo(dsn, user=role, password=password)
    conn.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.usefixtures("only_hearing")
def test_idle_worker_is_notified_and_says_nothing_of_it_to_the_pooler(
    conn, pooler, tapped, listen, as_listener
):
    options = {"queues": {"default": 2, "mail": 2}, "listen_dsn": as_listener}
    worker = listen(tapped.dsn(pooler.dsn), **options)
    wait_until_declared(conn, 2)
    complete(conn)
    complete(conn, queue="mail")
    before = tapped.sent.count(b"mail")
    for _ in range(20):
        complete(conn)
    assert tapped.sent.count(b"mail") - before < 10, "one queue is not fetched from for another"
    assert b"eram_fetch" in tapped.sent
    for word in (b"eram_start_waiting", b"eram_stop_waiting", b"listen", b"_pg3_"):
        assert word not in tapped.sent.lower()
    assert value(conn, LOCKS) == 2 * ["eram listening"]
    worker.stop()
    wait_until_not_declared(conn)


@pytest.mark.usefixtures("only_hearing")
def test_worker_without_it_is_not_notified(conn, tapped, pooler, listen):
    listen(queues={"mail": 1})
    wait_until_declared(conn)
    listen(tapped.dsn(pooler.dsn), listen_dsn="")
    eventually(lambda: tapped.fetch_count == 1)
    job = sample_jobs.nothing.enqueue(conn)
    for _ in range(5):
        complete(conn, queue="mail")
    assert (tapped.fetch_count, job_of(conn, job.id)["state"]) == (1, "available")
    assert value(conn, LOCKS) == ["eram listening"]


@pytest.mark.usefixtures("only_hearing")
def test_busy_worker_is_not_notified(conn, listen):
    listen(queues={"default": 1})
    wait_until_declared(conn)
    for number in range(3):
        name = f"busy {number}"
        held = sample_jobs.wait.enqueue(conn, name=name)
        assert sample_jobs.started[name].wait(PATIENCE)
        # It may still expect to be done with the first one in a moment; this one shows it.
        after = sample_jobs.nothing.enqueue(conn)
        wait_until_not_declared(conn)
        sample_jobs.gates[name].set()
        for job in (held, after):
            wait_for_state(conn, job.id, "completed")
        wait_until_declared(conn)
    complete(conn)


@pytest.mark.usefixtures("only_hearing")
def test_job_for_later_starts_when_it_is_due(conn, listen):
    listen()
    wait_until_declared(conn)
    for delay in (0.3, 0.6):
        complete(conn, delay=delay)


def test_job_that_was_on_its_way_when_the_worker_was_declared(conn, connect, listen):
    """Its producer notifies nobody, and the next slow poll is an hour away."""
    late = connect(autocommit=False)
    job = sample_jobs.nothing.enqueue(late)
    listen()
    wait_until_declared(conn)
    late.commit()
    wait_for_state(conn, job.id, "completed")


@pytest.mark.usefixtures("only_hearing")
def test_job_that_the_notified_fetch_passes_over_is_found(conn, connect, listen):
    """It was on its way during a fetch, whose cursor the next one may begin at still."""
    listen()
    wait_until_declared(conn)
    late = connect(autocommit=False)
    for _ in range(20):
        passed = sample_jobs.nothing.enqueue(late)
        complete(conn)
        late.commit()
        wait_for_state(conn, passed.id, "completed")


@pytest.mark.usefixtures("only_hearing")
def test_job_passed_over_by_the_fetch_that_finds_another_is_found(conn, connect, listen):
    """Their notification is one, and sweeps are dear: the next one is not due for a while."""
    held = connect(autocommit=False)
    held.execute(
        "select eram_enqueue_job('sample_jobs:nothing', priority => 1)"
        " from generate_series(1, 20000)"
    )
    held.commit()
    held.execute("select from eram_queued_jobs for update")
    listen()
    wait_until_declared(conn)
    late = connect(autocommit=False)
    for _ in range(3):
        passed = sample_jobs.nothing.enqueue(late)
        # The second one is claimed by a sweep, which moves the cursor.
        complete(conn)
        threading.Event().wait(0.5)
        complete(conn)
        found = sample_jobs.nothing.enqueue(late)
        late.commit()
        for job in (found, passed):
            wait_for_state(conn, job.id, "completed")


@pytest.mark.usefixtures("only_hearing")
def test_full_queue_is_not_declared(conn, listen):
    conn.execute("select eram_set_queue('default', global_limit => 1)")
    listen(queues={"default": 5})
    wait_until_declared(conn)
    first = sample_jobs.wait.enqueue(conn, name="full")
    assert sample_jobs.started["full"].wait(PATIENCE)
    second = sample_jobs.nothing.enqueue(conn)
    wait_until_not_declared(conn)
    sample_jobs.gates["full"].set()
    for job in (first, second):
        wait_for_state(conn, job.id, "completed")
    wait_until_declared(conn)
    complete(conn)


@pytest.mark.usefixtures("only_hearing")
def test_losses_of_either_connection(conn, pooler, listen, caplog):
    caplog.set_level(logging.INFO, logger="eram")
    listen()
    wait_until_declared(conn)
    (pid,) = (row[0] for row in conn.execute(LISTENER))
    conn.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    wait_until_declared(conn)
    complete(conn)
    assert LOST in caplog.text

    pooler.stop()
    met = sample_jobs.nothing.enqueue(conn)
    pooler.start()
    wait_for_state(conn, met.id, "completed")
    wait_until_declared(conn)
    complete(conn)


def test_worker_polls_while_it_cannot_listen(dsn, conn, pooler, listen, caplog):
    proxy = Proxy(conn, Link)
    listen_dsn = proxy.dsn(dsn)
    proxy.close()
    listen(listen_dsn=listen_dsn, poll_interval=0.1)
    complete(conn)
    eventually(lambda: LOST in caplog.text)
    assert value(conn, LOCKS) == []


def test_listener_whose_network_drops_what_is_sent(dsn, conn, listen, caplog, monkeypatch):
    monkeypatch.setitem(connection_module.NETWORK_OPTIONS, "connect_timeout", 3)
    monkeypatch.setattr(connection_module, "CALL_SECONDS", 3.0)
    monkeypatch.setattr(listening, "CHECK_SECONDS", 0.5)
    firewall = Firewall(conn)
    listen(listen_dsn=firewall.dsn(dsn), poll_interval=0.1)
    wait_until_declared(conn)
    firewall.drop(is_noticed=False)
    eventually(lambda: f"{LOST}: no answer for" in caplog.text)
    complete(conn)
    firewall.mend()
    wait_until_declared(conn)
    firewall.close()


def test_another_database_is_refused(create_bare_database, conn, listen):
    other = create_bare_database()
    with pytest.raises(eram.ConfigError, match=r'listen_dsn leads to the database "test_\d+", but'):
        listen(listen_dsn=other)
    assert conn.execute("select from eram_workers").fetchall() == []


def test_listening_through_the_pooler_is_given_up(conn, pooler, listen, caplog):
    listen(listen_dsn=pooler.dsn, poll_interval=0.1)
    complete(conn)
    assert caplog.text.count("listen_dsn leads to a pooler") == 1
    assert value(conn, LOCKS) == []


def test_worker_that_needs_no_pooler_listens_by_itself(dsn, conn, listen, caplog):
    caplog.set_level(logging.INFO, logger="eram")
    listen(dsn)
    eventually(lambda: "eram queue default" in value(conn, LOCKS))
    assert caplog.text.count("listen_dsn is not needed") == 1
    assert conn.execute(LISTENER).fetchall() == []
    complete(conn)


@pytest.mark.usefixtures("only_hearing")
def test_engine_that_is_stopped_and_started_listens_again(dsn, conn, pooler, make_engine):
    config = {"dsn": pooler.dsn, "listen_dsn": dsn, "poll_interval": NEVER_POLL}
    engine = make_engine(allow=["sample_jobs"], **config)
    for _ in range(2):
        engine.start()
        wait_until_declared(conn)
        complete(conn)
        assert engine.stop(PATIENCE)
        wait_until_not_declared(conn)


def test_option_of_the_program():
    config = read_config(["--allow", "app", "--listen-dsn", "host=db"], {})
    assert config.listen_dsn == "host=db"
    with pytest.raises(eram.ConfigError, match="listen_dsn cannot be read"):
        read_config(["--allow", "app", "--listen-dsn", "db"], {})


def test_transactions_of_several_workers_over_few_sessions(dsn, conn, listen):
    """The pool has fewer sessions than there are threads."""
    conn.execute("create table effects (value bigint)")
    with pgbouncer_before(dsn, default_pool_size=3) as pooler:
        workers = [listen(pooler.dsn, queues={"default": 3}) for _ in range(2)]
        wait_until_declared(conn, 2)
        jobs = [sample_jobs.insert.enqueue(conn, value=number) for number in range(40)]
        for job in jobs:
            assert wait_for_state(conn, job.id, "completed")["errors"] is None
        for worker in workers:
            worker.stop()
            assert worker.join(PATIENCE)
    assert value(conn, "select array_agg(value order by value) from effects") == list(range(40))
    assert_completed_by_their_effects(conn)
