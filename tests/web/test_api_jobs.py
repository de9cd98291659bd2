"""Jobs over the API: lists, filters, pages of them, and one job with all that is known of it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import Page

HTML = "<img src=x onerror=\"alert(1)\"></script><script>alert('2')</script>"


def enqueue(conn: psycopg.Connection, handler: str = "app:run", **options: Any) -> int:
    row = conn.execute(
        "select eram_enqueue_job(%s)", [Jsonb({"handler": handler, **options})]
    ).fetchone()
    return row[0]


def fail_once(conn: psycopg.Connection, queue: str, error: str) -> int:
    """Have the next job of a queue fail; return its id."""
    worker = conn.execute("select eram_start_worker('tester', %s)", [[queue]]).fetchone()[0]
    ((job_id, run),) = conn.execute(
        "select id, run from eram_fetch(%s, 1, %s)", [queue, worker]
    ).fetchall()
    conn.execute(
        "select eram_fail_job(%s, %s, %s, %s, '1 day')",
        [job_id, run, error, Jsonb({"type": "ValueError", "traceback": f"Traceback: {HTML}"})],
    )
    conn.execute("select eram_stop_worker(%s)", [worker])
    return job_id


@pytest.fixture(scope="module")
def ids(shared) -> dict[str, int]:
    """Some jobs, of which each filter finds others."""
    found = {
        "mail": enqueue(shared, "app:mail", args={"to": "a@example.com", "n": 1}, tags=["slow"]),
        "both": enqueue(shared, "app:mail", args={"to": "b@example.com"}, tags=["slow", "odd"]),
        "slash": enqueue(shared, queue="a/b ?&#%", args={"deep": {"user": [1, {"x": True}]}}),
        "later": enqueue(shared, delay=3600, args={"text": "a, b=c"}),
        "html": enqueue(shared, queue="failing", args={"html": HTML}, meta={"html": HTML}),
    }
    assert fail_once(shared, "failing", f"no: {HTML}") == found["html"]
    return found


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, ("html", "later", "slash", "both", "mail")),
        ({"state": "scheduled"}, ("later",)),
        ({"state": "scheduled,retryable"}, ("html", "later")),
        ({"queue": "a/b ?&#%"}, ("slash",)),
        ({"handler": "app:mail"}, ("both", "mail")),
        ({"handler": "app:none"}, ()),
        ({"tags": "slow"}, ("both", "mail")),
        ({"tags": "slow, odd"}, ("both",)),
        ({"args": '{"to": "a@example.com"}'}, ("mail",)),
        ({"args": "to=a@example.com n=1"}, ("mail",)),
        ({"args": "to=a@example.com, n=2"}, ()),
        ({"args": 'text="a, b=c"'}, ("later",)),
        ({"args": '{"deep": {"user": [{"x": true}]}}'}, ("slash",)),
        (
            {"state": "", "queue": "", "args": " ", "tags": ","},
            ("html", "later", "slash", "both", "mail"),
        ),
        ({"state": "available", "handler": "app:mail", "tags": "odd"}, ("both",)),
    ],
)
def test_a_filter_finds_its_jobs_newest_first(shared_page: Page, ids, query, wanted):
    found = shared_page.get("jobs", **query)
    assert [job["id"] for job in found["rows"]] == [ids[name] for name in wanted]
    assert found["next"] is None


def test_ids_are_a_filter(shared_page, ids):
    found = shared_page.get("jobs", id=f"{ids['mail']}, {ids['html']},9223372036854775807")
    assert [job["id"] for job in found["rows"]] == [ids["html"], ids["mail"]]


def test_pages_follow_one_another(shared_page, ids):
    seen: list[int] = []
    following: Any = None
    for _ in range(10):
        page = shared_page.get("jobs", limit=2, **({"before": following} if following else {}))
        seen += [job["id"] for job in page["rows"]]
        following = page["next"]
        if following is None:
            break
    assert seen == sorted(ids.values(), reverse=True)


def test_a_row_says_what_a_list_shows(shared_page, ids):
    (job,) = shared_page.get("jobs", id=ids["html"])["rows"]
    assert job["args"] == {"html": HTML}
    assert json.loads(job["args_text"]) == {"html": HTML}
    assert (job["state"], job["queue"], job["attempt"], job["max_attempts"]) == (
        *("retryable", "failing", 1, 20),
    )
    assert job["last_error"] == f"no: {HTML}"
    assert job["scheduled_at"].endswith("+00:00")
    assert set(job) == {
        *("id", "state", "queue", "handler", "args", "args_text", "is_args_cut", "tags", "attempt"),
        *("max_attempts", "priority", "scheduled_at", "attempted_at", "finalized_at"),
        *("inserted_at", "last_error"),
    }


def test_long_args_are_cut_in_a_list_and_whole_in_their_job(shared_page, shared):
    long = enqueue(shared, "app:long", args={"text": "x" * 5_000})
    huge = enqueue(shared, "app:long", args={"text": [str(n) * 8 for n in range(60_000)]})
    # Small in the table: a page of them would take longer than a look may.
    wide = enqueue(shared, "app:long", args={"text": "x" * 2_000_000})
    rows = shared_page.get("jobs", handler="app:long")["rows"]
    assert [(job["id"], job["args"], job["is_args_cut"]) for job in rows] == [
        (wide, None, True),
        (huge, None, True),
        (long, None, True),
    ]
    beginning = '{"text": "' + 290 * "x"
    assert [job["args_text"] for job in rows] == ["." * 300, "." * 300, beginning]
    assert shared_page.get(f"jobs/{long}")["job"]["args"] == {"text": "x" * 5_000}
    job = shared_page.get(f"jobs/{huge}")["job"]
    assert job["args"] is None
    assert len(job["args_text"]) == 200_000
    shared.execute('select eram_delete_jobs(\'{"handler": "app:long"}\')')


def test_one_job_has_its_attempts_and_why_it_does_not_run(shared_page, ids):
    found = shared_page.get(f"jobs/{ids['html']}")
    job, (attempt,) = found["job"], found["attempts"]
    assert found["attempt_count"] == 1
    assert (job["args"], job["meta"]) == ({"html": HTML}, {"html": HTML})
    assert job["result"] is None
    assert "errors" not in job
    assert job["why"].startswith("It waits for its retry")
    assert attempt["error"] == f"no: {HTML}"
    assert attempt["traceback"] == f"Traceback: {HTML}"
    assert (attempt["attempt"], attempt["type"]) == (1, "ValueError")


def test_numbers_arrive_as_they_were_stored(shared_page, shared):
    number = "12345678901234567890.10"
    job_id = shared.execute(
        "select eram_enqueue_job('app:exact', %s::jsonb)", [f'{{"n": {number}}}']
    ).fetchone()[0]
    body = shared_page.ask(f"/api/jobs/{job_id}").body.decode()
    assert f'"args":{{"n": {number}}}' in body
    assert (
        f'"args":{{"n": {number}}}' in shared_page.ask("/api/jobs?handler=app:exact").body.decode()
    )
    shared.execute("select eram_delete_job(%s)", [job_id])


def test_a_job_that_is_not_there_is_not_found(shared_page):
    for job_id in (999_999, 2**63 - 1):
        answer = shared_page.ask(f"/api/jobs/{job_id}")
        assert answer.status == 404
        assert str(job_id) in answer.json["error"]


@pytest.mark.parametrize(("action", "wanted"), [("retry", 1), ("cancel", 5), ("delete", 5)])
def test_a_count_says_how_many_an_action_is_for(shared_page, ids, action, wanted):
    found = shared_page.get("jobs/count", action=action)
    assert found == {"count": wanted, "is_exact": True}
    some = shared_page.get("jobs/count", action=action, state="completed,discarded")
    assert some == {"count": 0, "is_exact": True}


def test_a_list_goes_on_where_few_of_many_match(make_page, connect):
    """The database looks at so many in a call; what it found is put together."""
    conn = connect()
    conn.execute(
        """
        insert into eram_job_specs
            (handler, args, tags, queue, priority, max_attempts, inserted_at, scheduled_at)
        select
            case when n in (3, 119999) then 'app:rare' else 'app:run' end,
            '{}', '{}', 'default', 0, 20, now(), now()
        from generate_series(1, 120000) as n;
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select job_id, inserted_at, 0, 0, 1, queue
        from eram_job_specs;
        """
    )
    query = 'select cardinality(ids) from eram_find_jobs(\'{"handler": "app:rare"}\')'
    assert conn.execute(query).fetchone() == (1,)
    page = make_page(statement_timeout=60)
    seen: list[int] = []
    before: dict[str, Any] = {}
    while True:
        found = page.get("jobs", handler="app:rare", **before)
        seen += [job["id"] for job in found["rows"]]
        if found["next"] is None:
            break
        before = {"before": found["next"]}
    assert seen == [119_999, 3]
