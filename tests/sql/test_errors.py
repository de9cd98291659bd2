"""What is kept of attempts that did not end well, and how it reads."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import (
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    row,
    rows,
    shared_buffers,
    start_worker,
    value,
)

MOST_BYTES = 33_000
FAIL = "select eram_fail_job(%s, %s, %s, %s::text::jsonb)"
DETAIL = "select detail from eram_job_errors where job_id = %s order by run desc limit 1"


def claim(conn: psycopg.Connection, worker: int, **options: Any) -> Any:
    job_id = enqueue(conn, **options)
    (job,) = [job for job in fetch(conn, worker) if job.id == job_id]
    return job


def kept(conn: psycopg.Connection, worker: int, detail: str) -> Any:
    """Fail a job with a detail, given as JSON text; return what was stored of it."""
    job = claim(conn, worker)
    assert value(conn, FAIL, job.id, job.run, "boom", detail) == "retryable"
    assert value(conn, "select pg_column_size(detail || '{}') from eram_job_errors") < MOST_BYTES
    return value(conn, DETAIL, job.id)


def test_the_end_of_a_long_traceback_survives(conn, worker):
    trace = "Traceback, the first line\n" + "  in between\n" * 100_000 + "ValueError: the last line"
    detail = kept(conn, worker, json.dumps({"type": "ValueError", "traceback": trace, "pid": 7}))
    assert (detail["type"], detail["pid"]) == ("ValueError", 7)
    assert detail["traceback"].startswith("Traceback, the first line\n")
    assert detail["traceback"].endswith(" in between\nValueError: the last line")
    start, end = detail["traceback"].split(" characters ...] ")
    start, _, count = start.rpartition(" [... ")
    assert len(start) + int(count) + len(end) == len(trace)
    assert len(end) > 20_000


def test_what_is_short_enough_is_kept_as_it_is(conn, worker):
    given = {"type": "E", "traceback": "x" * 31_000, "nested": {"a": [1, {"b": None}]}, "": 1.5}
    assert kept(conn, worker, json.dumps(given)) == given


@pytest.mark.parametrize("letter", ["a", "ä", "€", "😀", '"', "\n", "\x01"])
@pytest.mark.parametrize("other", ["b", "😀"])
def test_letters_of_any_width_are_cut_between_and_not_within(conn, worker, letter, other):
    given = {"traceback": letter * 50_000 + other * 50_000}
    found = kept(conn, worker, json.dumps(given))["traceback"]
    start, _, end = found.partition(" [... ")
    assert set(start) == {letter}
    assert set(end.partition(" characters ...] ")[2]) == {other}
    assert len(found.encode()) > 20_000


def nested(depth: int) -> str:
    return '{"a":' * depth + f'"{"x" * 100_000}END"' + "}" * depth


LARGE = {
    "nested ten deep": f'{{"type": "T", "traceback": "tb", "context": {nested(10)}}}',
    "nested a thousand deep": f'{{"type": "T", "traceback": "tb", "context": {nested(1000)}}}',
    "a long list": json.dumps({"type": "T", "traceback": "tb", "list": list(range(100_000))}),
    "many keys": json.dumps(
        {"type": "T", "traceback": "tb", **{f"k{n}": "v" * (n % 999) for n in range(5000)}}
    ),
    "many long ones": json.dumps(
        {"type": "T", "traceback": "tb", **{f"k{n}": "v" * 30_000 for n in range(100)}}
    ),
    "a long key": json.dumps({"type": "T", "traceback": "tb", "k" * 100_000: 1}),
    "a long number": f'{{"type": "T", "traceback": "tb", "number": {"1" * 100_000}}}',
}


@pytest.mark.parametrize("name", LARGE)
def test_whatever_is_large_leaves_room_for_the_rest(conn, worker, name):
    detail = kept(conn, worker, LARGE[name])
    assert (detail["type"], detail["traceback"]) == ("T", "tb")


def test_a_nested_traceback_ends_with_its_end(conn, worker):
    detail = kept(conn, worker, json.dumps({"cause": {"error": "x" * 100_000 + "the last line"}}))
    assert detail["cause"].startswith('{"error": "xxx')
    assert detail["cause"].endswith('the last line"}')


def test_a_failure_of_many_megabytes_is_not_lost(conn, worker):
    """In one string, in one list, and from a table where it is stored compressed."""
    job = claim(conn, worker)
    conn.execute(
        """
        create temp table given as
        select jsonb_build_object(
            'traceback', repeat('x', 30000000) || 'END',
            'list', (select jsonb_agg(n) from generate_series(1, 700000) as n)) as detail
        """
    )
    fail = "select eram_fail_job(%s, %s, repeat('e', 30000000), detail) from given"
    assert value(conn, fail, job.id, job.run) == "retryable"
    found = row(
        conn,
        "select error, traceback, pg_column_size(detail || '{}') as size from eram_errors "
        "join eram_job_errors using (job_id, error)",
    )
    assert found.error == "e" * 10_000
    assert found.traceback.endswith("xxEND")
    assert found.size < MOST_BYTES
    conn.execute("drop table given")


def test_what_is_compressed_where_it_comes_from_is_measured_whole(conn, worker):
    job = claim(conn, worker)
    conn.execute(
        """
        create temp table given (detail jsonb);
        insert into given select jsonb_build_object('traceback', repeat('x', 1000000));
        """
    )
    assert value(conn, "select pg_column_size(detail) from given") < MOST_BYTES
    value(conn, "select eram_fail_job(%s, %s, 'x', detail) from given", job.id, job.run)
    assert value(conn, "select length(traceback) from eram_errors") < MOST_BYTES
    conn.execute("drop table given")


def test_each_attempt_that_did_not_end_well_is_a_row(conn):
    first, second = start_worker(conn, name="first"), start_worker(conn, name="second")
    job = claim(conn, first, handler="app:mail", queue="default", max_attempts=2)
    detail = {"type": "ValueError", "traceback": "...", "worker": "a key of the client's own"}
    conn.execute("select eram_fail_job(%s, 1, 'one', %s, delay => '0')", [job.id, Jsonb(detail)])
    (again,) = fetch_late(conn, second)
    conn.execute("select eram_fail_job(%s, %s, 'two')", [again.id, again.run])
    found = rows(conn, "select * from eram_errors order by job_id, run")
    assert [error[:5] for error in found] == [
        (job.id, "default", "app:mail", 1, 1),
        (job.id, "default", "app:mail", 2, 2),
    ]
    assert [error[6:] for error in found] == [
        ("first", "one", "ValueError", "..."),
        ("second", "two", None, None),
    ]
    assert found[0].errored_at < found[1].errored_at
    for view in ("eram_jobs", "eram_latest_jobs"):
        errors = value(conn, f"select errors from {view} where id = %s", job.id)
        assert [(error["worker"], error["attempt"], error["error"]) for error in errors] == [
            ("first", 1, "one"),
            ("second", 2, "two"),
        ]


ENDS = {
    "discarded": "select eram_discard_job(%(id)s, 1, 'why')",
    "cancelled": "select eram_cancel_job(%(id)s, 'why', 1)",
    "rescued": (
        "update eram_running_jobs set worker = 0; set eram.rescue_swept = ''; "
        "select eram_rescue_jobs()"
    ),
}


@pytest.mark.parametrize("kind", ENDS)
def test_other_ends_are_rows_with_their_type(conn, worker, kind):
    job = claim(conn, worker)
    for statement in ENDS[kind].split("; "):
        conn.execute(statement, {"id": job.id})
    found = row(conn, "select * from eram_errors")
    assert (found.job_id, found.run, found.type) == (job.id, 1, kind)
    # Nobody knows the worker that the test has made up.
    assert found.attempted_by == (None if kind == "rescued" else "tester")


def test_the_errors_of_a_job_are_found_by_the_index(conn, worker):
    ids = enqueue_many(conn, 5000)
    conn.execute(
        """
        insert into eram_job_errors (job_id, run, attempt, worker, errored_at, error, detail)
        select jobs.id, runs.run, runs.run, %s, now(), 'x', '{}'
        from unnest(%s::bigint[]) as jobs (id)
        cross join generate_series(1, 5) as runs (run)
        """,
        [worker, ids],
    )
    conn.execute("update eram_queued_jobs set run = 5, attempt = 5")
    conn.execute("analyze eram_job_errors, eram_job_specs")
    query = f"select * from eram_errors where job_id = {ids[2000]}"
    assert [error.run for error in rows(conn, query)] == [1, 2, 3, 4, 5]
    assert shared_buffers(conn, query) < 40


def test_errors_go_with_their_job(conn, worker):
    job = claim(conn, worker)
    conn.execute("select eram_discard_job(%s, 1)", [job.id])
    assert value(conn, "select count(*) from eram_errors") == 1
    assert value(conn, "select eram_prune_jobs('0')") == 1
    assert value(conn, "select count(*) from eram_job_errors") == 0


def test_a_job_that_ended_well_keeps_the_errors_before(conn, worker):
    job = claim(conn, worker)
    conn.execute("select eram_fail_job(%s, 1, 'x', delay => '0')", [job.id])
    (again,) = fetch_late(conn, worker)
    conn.execute("select eram_complete_jobs(%s, %s)", [[again.id], [again.run]])
    assert value(conn, "select count(*) from eram_errors") == 1
    assert value(conn, "select state from eram_jobs") == "completed"
