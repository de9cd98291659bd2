"""Queues, schedules, workers, handlers, the overview and health, over the API."""

from __future__ import annotations

import json

import pytest
from psycopg.types.json import Jsonb

from .helpers import Page

QUEUES = ("a/b", "A%_b", "plain", "quo\"te'", "spät", "..", "_", "zuletzt")
QUEUE_COLUMNS = {
    *("queue", "is_paused", "waiting_count", "due_count", "retryable_count", "oldest_due_age"),
    *("running_count", "global_limit", "completed_per_minute", "failed_per_minute"),
    *("worker_count", "is_estimate"),
}


@pytest.fixture(scope="module")
def filled(shared, shared_page) -> Page:
    """A job in each queue, two more in one of them, a worker that runs one, a schedule."""
    for queue in (*QUEUES, "plain", "plain"):
        shared.execute(
            "select eram_enqueue_job(%s)", [Jsonb({"handler": "app:run", "queue": queue})]
        )
    shared.execute("select eram_start_worker('host:1', '{plain,spät}', pg_backend_pid())")
    shared.execute("select eram_set_queue('plain', global_limit => 7, rescue_after => '90 s')")
    claim = "select id, run from eram_fetch('plain', 2, (select max(id) from eram_workers))"
    (first, _) = shared.execute(claim).fetchall()
    shared.execute("select eram_complete_jobs(%s, %s)", [[first[0]], [first[1]]])
    shared.execute(
        "select eram_schedule('daily', '30 4 * * *', 'app:daily', timezone => 'Asia/Tokyo')"
    )
    shared.execute("select eram_schedule('often', '90 seconds', 'app:often')")
    shared.execute("select eram_schedule('off', '@hourly', 'app:off')")
    shared.execute("select eram_pause_schedule('off')")
    return shared_page


def test_queues_come_with_their_numbers(filled):
    found = filled.get("queues")
    assert {row["queue"] for row in found["rows"]} == set(QUEUES)
    assert (found["count"], found["next"]) == (len(QUEUES), None)
    (plain,) = (row for row in found["rows"] if row["queue"] == "plain")
    assert set(plain) == QUEUE_COLUMNS
    assert (plain["waiting_count"], plain["running_count"], plain["global_limit"]) == (1, 1, 7)
    assert plain["worker_count"] == 1
    assert 0 <= plain["oldest_due_age"] < 3600


def test_queues_come_page_by_page(filled):
    seen, after = [], None
    while True:
        page = filled.get("queues", limit=3, **({"after": after} if after else {}))
        seen += [row["queue"] for row in page["rows"]]
        assert page["count"] == len(QUEUES)
        after = page["next"]
        if after is None:
            break
    assert len(seen) == len(QUEUES)
    assert set(seen) == set(QUEUES)


@pytest.mark.parametrize(
    ("search", "wanted"),
    [("A", {"a/b", "A%_b", "plain"}), ("%_", {"A%_b"}), ("\\", set()), ("e'", {"quo\"te'"})],
)
def test_a_search_takes_text_as_it_is(filled, search, wanted):
    found = filled.get("queues", search=search)
    assert {row["queue"] for row in found["rows"]} == wanted
    assert found["count"] == len(found["rows"])


@pytest.mark.parametrize(
    "path",
    [
        "queues/a%2Fb",
        "queues/A%25_b",
        "queues/quo%22te'",
        "queues/sp%C3%A4t",
        "queues/_",
        "queues/_?name=..",
        "queues/_?name=plain",
    ],
)
def test_a_queue_is_found_whatever_its_name(filled, path):
    queue = filled.get(path)["queue"]
    assert queue["queue"] in QUEUES
    assert queue["waiting_count"] == 1


def test_one_queue_has_its_settings(filled):
    found = filled.get("queues/plain")
    assert found["settings"]["global_limit"] == 7
    assert found["settings"]["rescue_after"] == 90
    assert found["latency"]["sample_count"] == 1
    assert found["latency"]["run_p95"] >= 0
    assert [minute["completed"] for minute in found["throughput"]] == [1]
    assert filled.get("queues/zuletzt")["settings"] is None


def test_a_queue_that_is_not_there_is_not_found(filled):
    assert filled.ask("/api/queues/nowhere").status == 404


def test_schedules_say_when_they_run_next(filled):
    found = filled.get("schedules")
    rows = {row["name"]: row for row in found["rows"]}
    # Beside what eram does on its own account.
    assert {name for name in rows if not name.startswith("eram:")} == {"daily", "often", "off"}
    assert [run[11:] for run in rows["daily"]["next_runs"]] == ["19:30:00+00:00"] * 3
    assert len(set(rows["daily"]["next_runs"])) == 3
    assert rows["daily"]["next_runs"][0] == rows["daily"]["next_run_at"]
    assert len(rows["often"]["next_runs"]) == 3
    assert (rows["off"]["is_paused"], rows["off"]["next_runs"]) == (True, [])
    page = filled.get("schedules", search="AI", limit=1)
    assert [row["name"] for row in page["rows"]] == ["daily"]
    page = filled.get("schedules", search="OF", limit=1)
    rest = filled.get("schedules", search="OF", limit=1, after=page["next"])
    assert [row["name"] for row in page["rows"] + rest["rows"]] == ["off", "often"]
    assert (page["count"], rest["next"]) == (2, None)


def test_a_schedule_whose_next_run_cannot_be_told_hides_no_other(filled, shared):
    shared.execute("update eram_schedules set timezone = 'Mars/Olympus' where name = 'daily'")
    rows = {row["name"]: row for row in filled.get("schedules")["rows"]}
    shared.execute("update eram_schedules set timezone = 'Asia/Tokyo' where name = 'daily'")
    assert rows["daily"]["next_runs"] == [rows["daily"]["next_run_at"]]
    assert rows["often"]["next_runs"] == [rows["often"]["next_run_at"]]


def test_workers_say_what_they_run(filled):
    found = filled.get("workers")
    (worker,) = found["rows"]
    assert found["count"] == 1
    assert (worker["name"], worker["condition"]) == ("host:1", "alive")
    assert worker["queues"] == ["plain", "spät"]
    (job,) = worker["running"]
    assert (job["handler"], job["queue"]) == ("app:run", "plain")
    assert worker["running_count"] == 1


def test_handlers_have_their_times(filled):
    (handler,) = filled.get("handlers")["rows"]
    assert (handler["handler"], handler["completed_count"]) == ("app:run", 1)
    assert handler["running_count"] == 1
    assert isinstance(handler["run_p95"], float | int)


def test_the_overview_adds_up(filled):
    found = filled.get("overview")
    assert found["queue_count"] == len(QUEUES)
    assert {row["queue"] for row in found["queues"]} == set(QUEUES)
    assert set(found["queues"][0]) == QUEUE_COLUMNS
    assert found["totals"] == {
        "waiting": len(QUEUES),
        "due": len(QUEUES),
        "running": 1,
        "retryable": 0,
        "completed_per_minute": 1,
        "failed_per_minute": 0,
        "workers": 1,
        "is_estimate": False,
    }
    assert [minute["completed"] for minute in found["throughput"]] == [1]
    assert set(found["health"]) == {"level", "checks"}
    assert "ok" not in {check["level"] for check in found["health"]["checks"]}


def test_health_has_all_checks_worst_first(filled, shared):
    # Nobody serves some of these queues.
    found = filled.get("health")
    checks = shared.execute("select name, level from eram_health()").fetchall()
    assert [(check["name"], check["level"]) for check in found["checks"]] == checks
    assert found["level"] == found["checks"][0]["level"]
    assert set(found["checks"][0]) == {"name", "level", "finding", "meaning", "action", "value"}


def test_metrics_are_those_of_the_database(filled):
    answer = filled.ask("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert '\neram_queue_running_jobs{queue="plain"} 1\n' in answer.body.decode()


def test_a_session_says_what_there_is(filled, shared):
    found = filled.get("session")
    assert (found["schema"], found["role"], found["refresh_seconds"]) == ("public", "postgres", 0.1)
    assert found["database"] == shared.info.dbname
    assert (found["may_act"], found["actions_hint"], found["needs_login"]) == (True, None, False)
    assert len(found["actions"]) == 12


@pytest.mark.parametrize(
    "path", ["/", "/queues", "/queues/a%2Fb", "/jobs/7", "/health", "/jobs?a=b"]
)
def test_every_path_of_the_page_is_the_same_file(filled, path):
    answer = filled.ask(path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<base href="/">' in answer.body
    assert answer.body == filled.ask("/").body


def test_files_are_kept_by_browsers_as_long_as_they_are_the_same(filled):
    first = filled.ask("/static/base.css")
    assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
    again = filled.ask("/static/base.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    changed = filled.ask("/static/base.css", headers={"If-None-Match": '"another"'})
    assert changed.status == 200


def test_below_a_path_of_its_own_everything_is_found(make_page):
    page = make_page(base_path="/tools/eram")
    assert b'<base href="/tools/eram/">' in page.ask("/tools/eram/").body
    assert page.ask("/tools/eram").body == page.ask("/tools/eram/").body
    assert page.get("overview")["queue_count"] == 0
    assert page.ask("/tools/eram/static/base.css").status == 200
    for path in ("/", "/api/overview", "/tools/eramx/", "/tools"):
        answer = page.ask(path)
        assert (answer.status, json.loads(answer.body)["code"]) == (404, "not_found")
