"""`python -m eram check`: nothing but what is wrong is a problem."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eram import check
from eram._server import extension
from eram.check import main

FRESH = f'eram {extension.version()} in schema "public"; workers: 0'


def problems(dsn: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    code = main(["--dsn", dsn, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["is_healthy"] is (code == 0)
    return answer["problems"]


def test_a_fresh_database_is_well(dsn, capsys):
    assert main(["--dsn", dsn]) == 0
    assert capsys.readouterr().out.splitlines() == [
        FRESH,
        "note: ticker: nobody has ticked yet; python -m eram tick",
        "all is well",
    ]


def test_a_database_in_use_is_well(conn, dsn, capsys):
    conn.execute("select eram_tick()")
    conn.execute("select eram_start_worker('w1', '{default}', pg_backend_pid())")
    conn.execute("select eram_enqueue_job('app:job')")
    conn.execute("select eram_enqueue_job('app:job', queue => 'unserved')")
    assert main(["--dsn", dsn]) == 0
    said = capsys.readouterr().out
    assert "workers: 1" in said
    assert "note:" not in said


def test_the_answer_for_a_program(dsn, capsys):
    assert main(["--dsn", dsn, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("notes")
    assert answer == {
        "is_healthy": True,
        "package_version": extension.version(),
        "version": extension.version(),
        "schema": "public",
        "is_extension": True,
        "worker_count": 0,
        "problems": [],
    }


def test_violated_invariants_are_problems(conn, dsn, capsys):
    (job_id,) = conn.execute("select eram_enqueue_job('app:job')").fetchone()
    conn.execute("update eram_queued_jobs set attempt = 20, run = 20")
    expected = {"problem": "more attempts than allowed", "job_id": job_id, "detail": "20 of 20"}
    assert problems(dsn, capsys) == [expected]
    assert main(["--dsn", dsn]) == 1
    said = capsys.readouterr().out
    assert f"\nproblem: more attempts than allowed (job {job_id}): 20 of 20\n" in said
    assert said.endswith("\nproblems: 1\n")
    conn.execute("update eram_queued_jobs set attempt = 0, run = 0")


def test_of_many_problems_some_are_shown(conn, dsn, capsys, monkeypatch):
    monkeypatch.setattr(check, "MAX_SHOWN_PROBLEMS", 2)
    conn.execute("select eram_enqueue_job('app:job') from generate_series(1, 5)")
    conn.execute("update eram_queued_jobs set attempt = 20, run = 20")
    assert main(["--dsn", dsn]) == 1
    said = capsys.readouterr().out
    assert said.count("problem: ") == 2
    assert "... and 3 more; --json has all of them\n" in said
    assert len(problems(dsn, capsys)) == 5
    conn.execute("update eram_queued_jobs set attempt = 0, run = 0")


def test_another_version_is_a_problem(dsn, capsys, monkeypatch):
    monkeypatch.setattr(extension, "version", lambda: "99.0.0")
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "another version"
    assert "this package is 99.0.0; python -m eram upgrade" in problem["detail"]


def test_an_extension_that_is_not_what_it_says_is_a_problem(conn, dsn, capsys):
    conn.execute("update pg_extension set extversion = '0.0.1' where extname = 'eram'")
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "version"
    assert problem["detail"].startswith("the extension is noted as 0.0.1")


def test_nobody_who_ticks_is_a_problem(conn, dsn, capsys):
    conn.execute("select eram_tick()")
    conn.execute("select eram_schedule('daily', '@daily', 'app:job')")
    conn.execute(
        "update eram_schedules set next_run_at = now() - interval '4 minutes' where name = 'daily'"
    )
    assert main(["--dsn", dsn]) == 0
    assert "\nnote: ticker: nobody ticks: schedules overdue: 1" in capsys.readouterr().out
    conn.execute(
        "update eram_schedules set next_run_at = now() - interval '1 hour' where name = 'daily'"
    )
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "ticker"
    assert 'nobody ticks: schedules overdue: 1, "daily" since' in problem["detail"]
    assert problem["detail"].endswith("; python -m eram tick")


def test_nobody_who_runs_commands_is_a_problem(conn, dsn, capsys):
    conn.execute("select eram_tick()")
    conn.execute("select eram_schedule_sql('totals', '@daily', 'select 1')")
    conn.execute(
        "update eram_schedules set next_run_at = now() - interval '1 hour' where name = 'totals'"
    )
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "schedules"
    assert "nobody who may runs commands" in problem["detail"]
    assert "as the owner of eram" in problem["detail"]


def test_a_schedule_that_failed_is_a_problem_until_it_is_paused(conn, dsn, capsys):
    conn.execute("select eram_schedule('daily', '@daily', 'app:job')")
    conn.execute(
        "update eram_schedules set last_run_at = now(), last_error = 'no such table'"
        " where name = 'daily'"
    )
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "schedules"
    assert ": no such table; select public.eram_run_schedule('daily');" in problem["detail"]
    conn.execute("select eram_pause_schedule('daily')")
    assert problems(dsn, capsys) == []


def test_a_silent_worker_is_a_problem(conn, dsn, capsys):
    conn.execute("select eram_start_worker('w1', '{default}', 0)")
    conn.execute("update eram_workers set heartbeat_at = now() - interval '3 minutes'")
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "workers"
    assert '("w1") since' in problem["detail"]


def test_a_queue_that_nobody_serves_is_a_problem_until_it_is_paused(conn, dsn, capsys):
    conn.execute("select eram_enqueue_job('app:job', queue => 'mail')")
    conn.execute("update eram_job_specs set inserted_at = inserted_at - interval '1 hour'")
    conn.execute("update eram_queued_jobs set scheduled_at = scheduled_at - interval '5 minutes'")
    (problem,) = problems(dsn, capsys)
    assert problem["problem"] == "queues"
    assert problem["detail"].startswith(
        'nobody serves a queue: "mail" has 1 due jobs, the first for 00:05'
    )
    conn.execute("select eram_pause_queue('mail')")
    assert problems(dsn, capsys) == []


def test_a_database_without_eram(bare_dsn, capsys):
    assert main(["--dsn", bare_dsn]) == 2
    assert "eram is not installed in the database" in capsys.readouterr().err


def test_a_schema_that_is_not_in_the_search_path(bare_dsn, capsys):
    with psycopg.connect(bare_dsn) as conn:
        conn.execute("create schema jobs")
        conn.execute("create extension eram schema jobs")
    assert main(["--dsn", bare_dsn]) == 2
    error = capsys.readouterr().err
    assert 'eram is in schema "jobs", which is not in the search_path' in error
    assert main(["--dsn", make_conninfo(bare_dsn, options="-csearch_path=jobs")]) == 0


def test_a_database_that_cannot_be_reached(tmp_path, capsys):
    assert main(["--dsn", f"host={tmp_path} dbname=nowhere"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("eram check: ")
    assert said.out == ""


def test_the_rights_that_it_takes(conn, dsn, capsys):
    role = f"{conn.info.dbname}_reader"
    conn.execute(f"create role {role} login password 'secret'")
    try:
        through = make_conninfo(dsn, user=role, password="secret")
        assert main(["--dsn", through]) == 1
        assert "select eram_grant('ROLE', 'read')" in capsys.readouterr().err
        conn.execute(f"select eram_grant('{role}', 'read')")
        assert main(["--dsn", through]) == 0
    finally:
        conn.execute(f"drop owned by {role}")
        conn.execute(f"drop role {role}")
