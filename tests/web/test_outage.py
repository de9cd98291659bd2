"""The database goes away, hangs or is busy: the page says so, and goes on by itself."""

from __future__ import annotations

import threading

import psycopg
import pytest

from eram._web import database
from eram._web.connections import MAX_CONNECTIONS

from .helpers import Events, Page, eventually


def test_the_page_survives_the_database(crash_server):
    server = crash_server()
    page = Page(server.dsn, allow_actions=True)
    stream = Events(page)
    try:
        assert stream.next("overview")["queue_count"] == 0
        csrf = page.get("session")["csrf"]
        server.stop("immediate")
        trouble = stream.next("trouble")
        assert "does not answer" in trouble["error"]
        assert trouble["hint"]
        for path in ("/api/jobs", "/api/session", "/api/queues/x", "/metrics"):
            answer = page.ask(path)
            assert (answer.status, answer.json["code"]) == (503, "outage"), path
            assert answer.headers["Retry-After"]
        headers = {"Content-Type": "application/json", "X-Eram-Csrf": csrf}
        action = page.ask("/api/actions/pause_queue", "POST", b'{"queue": "a"}', headers)
        assert action.status == 503
        # What needs no database is there.
        assert page.ask("/").status == 200
        server.start()
        assert stream.next("overview")["queue_count"] == 0
        assert page.act("pause_queue", queue="a")["changed"] is True
        assert page.get("overview")["queue_count"] == 1
    finally:
        stream.close()
        page.close()


def test_connections_that_were_cut_are_replaced_without_a_word(page, conn):
    page.get("queues")
    cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    cut += " where application_name = 'eram web' and datname = current_database()"
    for _ in range(3):
        assert conn.execute(cut).fetchone()[0] >= 1
        assert page.get("queues")["count"] == 0
        assert page.act("pause_queue", queue="mail")["ok"] is True
        page.act("resume_queue", queue="mail")
        conn.execute("delete from eram_queues")


def test_a_look_that_takes_too_long_is_given_up(make_page, connect):
    page = make_page(statement_timeout=0.2)
    # What the list reads is locked away.
    blocker = connect(autocommit=False)
    blocker.execute("lock table eram_finished_jobs in access exclusive mode")
    answer = page.ask("/api/jobs")
    blocker.rollback()
    assert (answer.status, answer.json["code"]) == (503, "timeout")
    assert answer.json["sqlstate"] in {"57014", "55P03"}
    assert "Narrow it down" in answer.json["hint"]
    assert page.get("jobs")["rows"] == []


def test_the_overview_is_shown_though_health_takes_too_long(make_page, connect, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    page = make_page()
    blocker = connect(autocommit=False)
    # Health alone reads it.
    blocker.execute("lock table eram_schedules in access exclusive mode")
    found = page.get("overview")
    assert page.ask("/api/health").status == 503
    blocker.rollback()
    assert (found["queue_count"], found["health"]["level"]) == (0, "unknown")
    (check,) = found["health"]["checks"]
    assert check["finding"].startswith("this could not be looked at: canceling statement")
    page.server.routes.api._looks.forget()
    assert page.get("overview")["health"]["level"] in {"ok", "warn", "critical"}


def test_an_action_waits_for_a_lock_no_longer_than_a_moment(page, connect, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    fresh = Page(page.server.config.dsn, allow_actions=True)
    blocker = connect(autocommit=False)
    blocker.execute("lock table eram_queues in access exclusive mode")
    try:
        error = fresh.act("pause_queue", 503, queue="mail")
        assert (error["code"], error["sqlstate"]) == ("timeout", "55P03")
    finally:
        blocker.rollback()
        fresh.close()
    assert page.act("pause_queue", queue="mail")["changed"] is True


def test_more_than_there_are_connections_for_wait_their_turn(page, connect, monkeypatch):
    monkeypatch.setattr(database, "MAX_WAIT_SECONDS", 0.05)
    blocker = connect(autocommit=False)
    blocker.execute("lock table eram_job_specs in access exclusive mode")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(page.ask("/api/jobs").status))
        for _ in range(database.MAX_CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    waiting = "select count(*) from pg_locks where not granted"
    watcher = connect()
    eventually(
        lambda: watcher.execute(waiting).fetchone()[0] == database.MAX_CONNECTIONS or answers
    )
    refused = page.ask("/api/jobs")
    blocker.rollback()
    for thread in threads:
        thread.join()
    assert (refused.status, refused.json["code"]) == (503, "busy")
    assert page.get("jobs")["rows"] == []


def test_an_older_eram_is_named(make_page, create_bare_database):
    page = make_page(dsn=create_bare_database())
    answer = page.ask("/api/queues")
    assert (answer.status, answer.json["code"]) == (503, "version")
    assert "python -m eram upgrade" in answer.json["hint"]


def test_a_stopped_server_leaves_nothing_running(make_page, connect):
    page = make_page(statement_timeout=60)
    blocker, watcher = connect(autocommit=False), connect()
    blocker.execute("lock table eram_finished_jobs in access exclusive mode")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(page.ask("/api/jobs").status))
    thread.start()
    mine = "select count(*) from pg_stat_activity where application_name = 'eram web'"
    mine += " and datname = current_database()"
    active = f"{mine} and wait_event_type = 'Lock'"
    eventually(lambda: watcher.execute(active).fetchone()[0] == 1)
    page.server.stop()
    eventually(lambda: watcher.execute(mine).fetchone()[0] == 0)
    thread.join()
    assert answers == [503]
    blocker.rollback()


def test_there_are_enough_connections_for_a_few_browsers():
    # Each has six at a time, and a stream.
    assert MAX_CONNECTIONS > 10 * 7


def test_psycopg_refuses_in_no_other_words(page):
    with pytest.raises(Exception, match="NUL") as refused:  # noqa: SIM117
        with page.server.database.read() as look:
            look.value("select %s::text", "\0")
    assert isinstance(refused.value.__cause__, psycopg.DataError)
