"""What can be done over the API, and what of it the database then has."""

from __future__ import annotations

import json

import pytest
from psycopg.types.json import Jsonb

from eram._web import actions


def enqueue(conn, count=1, **options):
    job = Jsonb({"handler": "app:run", **options})
    jobs = "(select jsonb_agg(%s::jsonb) from generate_series(1, %s))"
    query = f"select id from eram_enqueue_jobs({jobs})"
    return [row[0] for row in conn.execute(query, [job, count]).fetchall()]


def states(conn, ids):
    rows = conn.execute("select id, state from eram_jobs where id = any (%s)", [ids]).fetchall()
    found = dict(rows)
    return [found.get(job_id) for job_id in ids]


def is_paused(conn, queue):
    return conn.execute("select is_paused from eram_queues where name = %s", [queue]).fetchone()[0]


def test_a_queue_is_paused_and_resumed(page, conn):
    for name, changed in (("pause", True), ("pause", False), ("resume", True), ("resume", False)):
        done = page.act(f"{name}_queue", queue="mail/ß")
        assert done == {"ok": True, "changed": changed}
        assert is_paused(conn, "mail/ß") == (name == "pause")


def test_a_limit_is_set_and_taken_away(page, conn):
    query = "select global_limit from eram_queues where name = 'mail'"
    for limit in (3, 2**31 - 1, None):
        assert page.act("set_limit", queue="mail", global_limit=limit) == {"ok": True}
        assert conn.execute(query).fetchone() == (limit,)


@pytest.mark.parametrize("limit", [0, -1, 2**31, 1.5, "3", True, [1]])
def test_a_limit_that_nobody_can_mean_is_refused(shared_page, limit):
    assert (
        "global_limit"
        in shared_page.act("set_limit", 400, queue="mail", global_limit=limit)["error"]
    )
    assert shared_page.act("set_limit", 400, queue="mail")["code"] == "bad_request"


def test_a_job_is_cancelled_retried_and_deleted(page, conn):
    ids = enqueue(conn)
    (job_id,) = ids
    assert page.act("cancel_job", id=job_id, reason="not <b>any</b> more") == {
        "ok": True,
        "changed": True,
    }
    assert states(conn, ids) == ["cancelled"]
    assert page.get(f"jobs/{job_id}")["attempts"][0]["error"] == "not <b>any</b> more"
    assert page.act("cancel_job", id=job_id)["changed"] is False
    assert page.act("retry_job", id=job_id)["changed"] is True
    assert states(conn, ids) == ["available"]
    assert page.act("delete_job", id=job_id)["changed"] is True
    assert states(conn, ids) == [None]
    for name in ("retry_job", "cancel_job", "delete_job"):
        error = page.act(name, 404, id=job_id)
        assert (error["code"], error["sqlstate"]) == ("not_found", "42704")


def test_what_cannot_be_now_is_a_conflict(page, conn):
    first = enqueue(conn, unique=True)
    page.act("cancel_job", id=first[0])
    second = enqueue(conn, unique=True)
    assert second != first
    error = page.act("retry_job", 409, id=first[0])
    assert (error["code"], error["sqlstate"]) == ("conflict", "23505")
    conn.execute("select eram_start_worker('w', '{default}', pg_backend_pid())")
    conn.execute("select eram_fetch('default', 1, (select max(id) from eram_workers))")
    error = page.act("delete_job", 409, id=second[0])
    assert "cancel" in error["hint"].lower()


def test_jobs_of_a_filter_are_changed_and_no_others(page, conn):
    mail, other = enqueue(conn, 3, queue="mail"), enqueue(conn, 2)
    some = {"queue": "mail", "state": ["available", "executing", "completed"]}
    assert page.act("cancel_jobs", filter=some, reason="enough") == {
        "ok": True,
        "count": 3,
        "next": None,
    }
    assert states(conn, mail + other) == ["cancelled"] * 3 + ["available"] * 2
    assert page.act("retry_jobs", filter={"all": True})["count"] == 3
    assert page.act("cancel_jobs", ids=[mail[0], other[0], 10**15])["count"] == 2
    assert page.act("delete_jobs", filter={"state": "cancelled"})["count"] == 2
    assert states(conn, mail + other) == [None, "available", "available", None, "available"]
    assert page.act("delete_jobs", filter={"state": "executing"})["count"] == 0
    assert page.act("delete_jobs", filter={"all": True})["count"] == 3


def test_many_jobs_are_changed_a_batch_at_a_time_until_time_is_up(page, conn, monkeypatch):
    monkeypatch.setattr(actions, "BATCH_SIZE", 10)
    monkeypatch.setattr(actions, "BULK_SECONDS", 0)
    ids = enqueue(conn, 25)
    first = page.act("cancel_jobs", filter={"all": True})
    assert first == {"ok": True, "count": 10, "next": ids[15]}
    assert states(conn, ids) == ["available"] * 15 + ["cancelled"] * 10
    second = page.act("cancel_jobs", filter={"all": True}, before=first["next"])
    assert (second["count"], second["next"]) == (10, ids[5])
    monkeypatch.setattr(actions, "BULK_SECONDS", 60)
    assert page.act("cancel_jobs", filter={"all": True}, before=second["next"])["count"] == 5
    monkeypatch.setattr(actions, "BATCH_SIZE", 7)
    assert page.act("delete_jobs", filter={"all": True}) == {"ok": True, "count": 25, "next": None}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": {}},
        {"filter": {"state": "lost"}},
        {"filter": {"state": ["available", "lost"]}},
        {"filter": {"sate": "available"}},
        {"filter": {"all": False}},
        {"filter": {"all": True, "state": "available"}},
        {"filter": {"all": True}, "ids": [1]},
        {"filter": []},
        {"filter": {"ids": []}},
        {"filter": {"queue": None}},
        {"filter": {"state": []}},
        {"filter": {"state": 7}},
        {"ids": []},
        {"ids": [1.5]},
        {"ids": ["1"]},
        {"ids": [2**70]},
        {"ids": list(range(1, 10_002))},
        {"ids": [1], "before": 0},
        {"ids": [1], "reason": "x", "more": 1},
    ],
)
@pytest.mark.parametrize("name", ["retry_jobs", "cancel_jobs", "delete_jobs"])
def test_a_filter_that_could_mean_more_than_was_meant_is_refused(shared_page, shared, name, body):
    ids = enqueue(shared)
    error = shared_page.act(name, 400, **body)
    assert error["code"] == "bad_request"
    assert error["error"]
    assert states(shared, ids) == ["available"]


def test_a_schedule_is_run_paused_and_resumed(page, conn):
    conn.execute("select eram_schedule('daily', '@daily', 'app:daily')")
    done = page.act("run_schedule", name="daily")
    assert states(conn, [done["job_id"]]) == ["available"]
    assert page.act("pause_schedule", name="daily") == {"ok": True, "changed": True}
    assert page.get("schedules")["rows"][0]["is_paused"] is True
    assert page.act("resume_schedule", name="daily") == {"ok": True, "changed": True}
    for name in ("run_schedule", "pause_schedule", "resume_schedule"):
        assert page.act(name, 404, name="nowhere")["sqlstate"] == "42704"


@pytest.mark.parametrize("name", actions.ACTIONS)
@pytest.mark.parametrize("body", [{"more": 1}, {"id": "1"}, {"queue": ["x"]}, {"name": ""}])
def test_a_body_of_another_shape_is_refused(shared_page, name, body):
    assert shared_page.act(name, 400, **body)["code"] == "bad_request"


def test_what_an_action_changed_is_seen_at_once(make_page):
    page = make_page(allow_actions=True, refresh=3600)
    assert page.get("overview")["queue_count"] == 0
    page.act("pause_queue", queue="mail")
    assert [row["queue"] for row in page.get("overview")["queues"]] == ["mail"]


def test_without_being_allowed_nothing_can_be_done(make_page, conn):
    page = make_page()
    session = page.get("session")
    assert (session["may_act"], session["actions"]) == (False, [])
    assert "--allow-actions" in session["actions_hint"]
    for name in actions.ACTIONS:
        error = page.act(name, 403, queue="mail")
        assert error["code"] == "read_only"
    assert conn.execute("select count(*) from eram_queues").fetchone() == (0,)


def test_an_action_that_there_is_not_is_not_found(shared_page):
    for name in ("drop_table", "pause_queue/x", "", "__class__"):
        assert shared_page.act(name, 404)["code"] == "not_found"


def test_a_get_does_not_act(shared_page):
    answer = shared_page.ask("/api/actions/pause_queue?queue=mail")
    assert (answer.status, json.loads(answer.body)["code"]) == (404, "not_found")
