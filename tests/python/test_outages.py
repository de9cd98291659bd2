"""Outages: the worker says so once, waits, comes back, and loses nothing that it could keep."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path

import psycopg
import pytest
from helpers import PATIENCE, eventually
from outage_helpers import ALLOW, Watch, outage_under_work
from pgbouncer import PgBouncer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

TERMINATE = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_restart(crash_server, start_worker, caplog, mode):
    server = crash_server()
    with outage_under_work(server.dsn, caplog, start_worker) as endure:
        server.stop(mode)
        endure()
        server.start()


@pytest.fixture
def admin(dsn):
    """A connection to another database of the server."""
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as conn:
        yield conn


def test_connections_cut_by_the_server(dsn, admin, start_worker, caplog):
    with outage_under_work(dsn, caplog, start_worker):
        rows = admin.execute(TERMINATE, (conninfo_to_dict(dsn)["dbname"],)).fetchall()
        assert len(rows) >= 6


def test_connections_cut_again_and_again(dsn, admin, start_worker, caplog):
    """Each loss is over at once: to say all of them would say less."""
    name = conninfo_to_dict(dsn)["dbname"]
    watch = Watch(caplog)
    with outage_under_work(dsn, caplog, start_worker):
        for _ in range(5):
            before = watch.try_count
            admin.execute(TERMINATE, (name,))
            eventually(lambda before=before: watch.try_count >= before + 4)


@pytest.fixture
def renamed_away(dsn, admin):
    """A block in which the database has another name."""
    name = conninfo_to_dict(dsn)["dbname"]

    def rename(old, new):
        admin.execute(f"alter database {old} allow_connections false")
        try:
            admin.execute(TERMINATE, (old,))
            admin.execute(f"alter database {old} rename to {new}")
        finally:
            with contextlib.suppress(psycopg.errors.InvalidCatalogName):
                admin.execute(f"alter database {new} allow_connections true")

    @contextlib.contextmanager
    def block():
        rename(name, "elsewhere")
        try:
            yield
        finally:
            rename("elsewhere", name)

    return block


def test_database_renamed_away(dsn, renamed_away, start_worker, caplog):
    with outage_under_work(dsn, caplog, start_worker) as endure, renamed_away():
        endure()


@pytest.mark.nightly
def test_database_renamed_away_for_more_than_a_minute(dsn, renamed_away, start_worker, caplog):
    """That is worth another line in the log."""
    watch = Watch(caplog)
    reminder = "the database has been missed for 6"
    with outage_under_work(dsn, caplog, start_worker), renamed_away():
        eventually(lambda: watch.lines(logging.WARNING, reminder), 90)
    assert len(watch.lines(logging.WARNING, reminder)) == 1


def test_worker_is_stopped_during_an_outage(dsn, conn, renamed_away, start_worker):
    """It has nothing in hand, so there is nothing to wait for, however long its next pause is."""
    conn.close()
    worker = start_worker(queues={"default": 1, "other": 1}, allow=ALLOW)
    with renamed_away():
        eventually(lambda: bool(worker._outage))
        worker.stop()
        assert worker.join(PATIENCE)


@pytest.fixture
def pooler(dsn):
    # Short, because a socket lies there.
    with tempfile.TemporaryDirectory(prefix="eram-") as folder:
        pooler = PgBouncer(dsn, Path(folder))
        pooler.start()
        yield pooler
        pooler.stop()


def test_pooler_restart(dsn, pooler, start_worker, caplog):
    """The worker is taken for alive meanwhile: behind a pooler, only minutes of silence count."""
    options = {"through": pooler.dsn, "poll_interval": 0.1}
    with outage_under_work(dsn, caplog, start_worker, **options) as endure:
        pooler.stop()
        endure()
        pooler.start()
