"""A worker follows the primary, wherever its way to it has led in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
import sample_jobs
from helpers import eventually, value, wait_for_state
from proxy import Link, Proxy

from eram.embedded import EmbeddedServer
from replication.conftest import Pair, start_standby, two_servers  # noqa: F401 - fixtures

SESSIONS = "from pg_stat_activity where application_name ^@ 'eram '"


class HeardLink(Link):
    """Keeps what the client says."""

    def to_server(self, data):
        self.proxy.sent += data
        return data


class Name(Proxy):
    """A name that leads to one server, and from some moment on to another."""

    def lead_to(self, conn: psycopg.Connection) -> None:
        self._host, self._port = conn.info.host, conn.info.port
        self.sent.clear()


@pytest.fixture
def servers(
    two_servers: Pair,  # noqa: F811 - the fixture
    start_standby: Callable[[str], EmbeddedServer],  # noqa: F811
) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """Sessions of a primary and of its standby."""
    with psycopg.connect(two_servers.first, autocommit=True) as primary:
        primary.execute("create extension eram")
        standby = start_standby(two_servers.first)
        with psycopg.connect(standby.dsn, autocommit=True) as conn:
            yield primary, conn
        standby.stop()
        primary.execute("drop extension eram")


def test_worker_that_was_led_to_a_standby_comes_back(
    two_servers,  # noqa: F811 - the fixture
    servers,
    start_worker,
):
    """As by a name or an address that follows a failover late: the standby stays one."""
    primary, standby = servers
    with closing(Name(primary, HeardLink)) as name:
        worker = start_worker(name.dsn(two_servers.first), poll_interval=0.1)
        wait_for_state(primary, sample_jobs.echo.enqueue(primary, number=1).id, "completed")
        name.lead_to(standby)
        primary.execute(f"select pg_terminate_backend(pid) {SESSIONS}")
        for part in (b"eram maintenance", b"eram queue default"):
            eventually(lambda part=part: part in name.sent)
        name.lead_to(primary)
        after = sample_jobs.echo.enqueue(primary, number=2)
        wait_for_state(primary, after.id, "completed")
        maintenance = "and application_name = 'eram maintenance'"
        eventually(lambda: value(primary, f"select count(*) = 1 {SESSIONS} {maintenance}"))
        eventually(lambda: value(standby, f"select count(*) = 0 {SESSIONS}"))
        assert value(primary, "select array_agg(id) from eram_workers") == [worker.id]
