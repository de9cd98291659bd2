"""A worker behind a transaction pooler: no session can be relied on, so it only polls."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
import sample_jobs
from helpers import eventually, wait_for_state
from proxy import PoolerLink, Proxy


@pytest.fixture
def pooler(conn: psycopg.Connection) -> Iterator[Proxy]:
    pooler = Proxy(conn, PoolerLink)
    yield pooler
    pooler.close()


def test_worker_behind_a_pooler_polls(dsn, conn, pooler, start_worker):
    worker = start_worker(pooler.dsn(dsn), poll_interval=0.1)
    is_direct = conn.execute("select is_direct from eram_workers").fetchone()
    assert is_direct == (False,)
    answers = [sample_jobs.echo.enqueue(conn, number=number) for number in range(20)]
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    eventually(lambda: worker.unfinished == 0)
    assert b"eram_fetch" in pooler.sent
    assert b"eram_start_waiting" not in pooler.sent
    assert b"_pg3_" not in pooler.sent, "a prepared statement"
    inherited = b"set_config('default_transaction_isolation'"
    assert inherited not in pooler.sent, "a setting that another client would inherit"


def test_job_put_off_behind_a_pooler_keeps_nobody_busy(dsn, conn, pooler, start_worker):
    start_worker(pooler.dsn(dsn), poll_interval=0.2)
    answer = sample_jobs.snooze_twice.enqueue(conn)
    assert wait_for_state(conn, answer.id, "completed")["result"]["run"] == 3
    before = pooler.sent.count(b"eram_fetch")
    threading.Event().wait(1)
    assert pooler.sent.count(b"eram_fetch") - before < 10


def test_transactions_behind_a_pooler(dsn, conn, pooler, start_worker):
    conn.execute("create table effects (value bigint)")
    start_worker(pooler.dsn(dsn), poll_interval=0.1)
    answers = [sample_jobs.insert.enqueue(conn, value=value) for value in range(20)]
    for answer in answers:
        wait_for_state(conn, answer.id, "completed")
    assert conn.execute("select count(*) from effects").fetchone() == (20,)
    assert b"_pg3_" not in pooler.sent
