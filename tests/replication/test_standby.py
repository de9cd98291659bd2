"""A hot standby: what reads works there, and whatever writes says that it cannot."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from eram.embedded import EmbeddedServer
from install.in_use import check_copy, used, value
from replication.conftest import Pair

PATIENCE = 60

# A call of each function that only reads; for a job, of every job that there is.
READS = {
    "eram_backoff": 'select eram_backoff(3, \'{"strategy": "fixed", "jitter": 0}\')',
    "eram_check": "select * from eram_check()",
    "eram_count_handlers": "select * from eram_count_handlers() order by handler",
    "eram_count_jobs": "select * from eram_count_jobs() order by queue",
    "eram_count_minutes": "select * from eram_count_minutes() order by queue, minute",
    "eram_find_jobs": "select * from eram_find_jobs('{\"all\": true}') order by 1",
    "eram_measure_latency": "select * from eram_measure_latency() order by queue",
    "eram_next_run": "select eram_next_run('0 7 * * *', 'Europe/Berlin')",
    "eram_outcome": "select id, outcome.* from eram_jobs, eram_outcome(id) as outcome order by id",
    "eram_reindex_plan": "select * from eram_reindex_plan()",
    "eram_retention": "select * from eram_retention('mail')",
    "eram_version": "select eram_version()",
    "eram_health": "select name from eram_health() order by name",
    "eram_metrics": "select distinct name from eram_metrics() order by name",
    "eram_why": "select id, eram_why(id) from eram_jobs order by id",
}
# How old something is depends on the moment, and the locks of the primary's sessions are not there.
STEADY = {
    "eram_metrics": "name, type, help",
    "eram_queue_stats": "queue, waiting_count, running_count, worker_count, is_estimate",
    "eram_worker_stats": "worker, name, queues, heartbeat_at, running_count",
}
WRITES = {
    "enqueue": "select eram_enqueue_job('app:work')",
    "enqueue many": 'select * from eram_enqueue_jobs(\'[{"handler": "app:work"}]\')',
    "register": "select eram_start_worker('w', '{default}')",
    "fetch": "select * from eram_fetch('odd', 1, 2)",
    "complete": "select eram_complete_jobs(array[6], array[1])",
    "fail": "select eram_fail_job(6, 1, 'no')",
    "cancel": "select eram_cancel_job(13)",
    "retry": "select eram_retry_job(2)",
    "pause": "select eram_pause_queue('default')",
    "schedule": "select eram_schedule('x', '1 hour', 'app:x')",
    "tick": "select * from eram_tick(1)",
    "stop": "select eram_stop_worker(2)",
}


@pytest.fixture(scope="module")
def pair(
    two_servers: Pair, start_standby: Callable[[str], EmbeddedServer]
) -> Iterator[tuple[Pair, dict[str, int], EmbeddedServer]]:
    """A primary in use, its standby, and its jobs."""
    with psycopg.connect(two_servers.first, autocommit=True) as conn:
        conn.execute("create extension eram")
        server = start_standby(two_servers.first)
        with used(two_servers.first) as jobs:
            conn.execute("analyze")
            here = value(conn, "select pg_current_wal_lsn()")
            with psycopg.connect(server.dsn, autocommit=True) as standby:
                deadline = time.monotonic() + PATIENCE
                while not value(standby, "select pg_last_wal_replay_lsn() >= %s", here):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield Pair(two_servers.first, server.dsn), jobs, server
        conn.execute("drop extension eram")


@pytest.fixture
def primary(pair) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pair[0].first, autocommit=True) as conn:
        yield conn


@pytest.fixture
def standby(pair) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pair[0].second, autocommit=True) as conn:
        yield conn


def readable(conn: psycopg.Connection, kind: str) -> list[str]:
    """List what eram_grant() gives to who reads: relations, or functions by their names."""
    query = f"select {kind}::text from _eram_rights_for('read') where {kind} is not null"
    return sorted({row[0].split("(")[0] for row in conn.execute(query)})


def test_whatever_can_be_read_is_read(primary, standby):
    relations = readable(primary, "relation")
    assert {"eram_jobs", "eram_latest_jobs", "eram_schedules", "eram_queue_stats"} <= {*relations}
    for name in relations:
        columns = STEADY.get(name, "*")
        query = f"select {columns} from {name} order by 1::text"
        assert standby.execute(query).fetchall() == primary.execute(query).fetchall(), name
    assert value(standby, "select count(*) from eram_jobs") > 10


def test_whatever_reads_works(primary, standby):
    functions = [name for name in readable(primary, "routine") if not name.startswith("_")]
    assert functions
    assert {*functions} <= READS.keys()
    for name, query in READS.items():
        there, here = standby.execute(query).fetchall(), primary.execute(query).fetchall()
        if name != "eram_why":
            assert there == here, name
        assert there or name == "eram_check"


@pytest.mark.parametrize("what", WRITES)
def test_whatever_writes_is_refused(standby, what):
    """By the SQLSTATE that clients take for a server which is not, or not yet, the primary."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.execute(WRITES[what])


def test_check_says_how_it_is(pair):
    command = [sys.executable, "-m", "eram", "check", "--dsn", pair[0].second]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 'in schema "public"; workers: 2' in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("worker", "--allow", "json"),
        ("enqueue", "app:work"),
    ],
    ids=lambda command: command[0],
)
def test_programs_end_at_a_standby_and_say_why(pair, command):
    name, *arguments = command
    options = [sys.executable, "-m", "eram", name, "--dsn", pair[0].second, *arguments]
    done = subprocess.run(options, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert re.search("read-only|recovery|standby", done.stderr)


def test_promoted_standby_goes_on(two_servers, start_standby):
    """What ran there is rescued, and nothing else changes."""
    with psycopg.connect(two_servers.second, autocommit=True) as conn:
        conn.execute("create extension eram")
        with used(two_servers.second) as jobs:
            server = start_standby(two_servers.second)
        with psycopg.connect(server.dsn, autocommit=True) as promoted:
            assert value(promoted, "select pg_promote()")
        check_copy(server.dsn, jobs)
        conn.execute("drop extension eram")
