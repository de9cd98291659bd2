"""`python -m eram enqueue`: what is typed in is what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eram.__main__ import main as eram_main


def enqueue(dsn: str, *arguments: str) -> int:
    return eram_main(["enqueue", "--dsn", dsn, *arguments])


def only_job(conn: psycopg.Connection) -> dict[str, Any]:
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        (job,) = cursor.execute(
            "select *, round(extract(epoch from jobs.scheduled_at - jobs.inserted_at)) as delay"
            " from eram_jobs as jobs join eram_job_specs as specs on specs.job_id = jobs.id"
        ).fetchall()
    return job


def test_it_prints_the_id(conn, dsn, capsys):
    assert enqueue(dsn, "app.jobs:send") == 0
    job = only_job(conn)
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{job['id']}\n", "")
    assert (job["handler"], job["args"], job["queue"]) == ("app.jobs:send", {}, "default")


@pytest.mark.parametrize(
    ("texts", "args"),
    [
        (["to=ada@example.com", "zip=01234"], {"to": "ada@example.com", "zip": "01234"}),
        (["query=a=b", "empty="], {"query": "a=b", "empty": ""}),
        (
            ["count:=3", 'list:=[1, "a"]', "none:=null"],
            {"count": 3, "list": [1, "a"], "none": None},
        ),
        (['{"to": "ada", "deep": {"a": [1.5]}}'], {"to": "ada", "deep": {"a": [1.5]}}),
        ([' {"to": "łódź"}'], {"to": "łódź"}),
        (["{}"], {}),
    ],
)
def test_arguments(conn, dsn, texts, args):
    assert enqueue(dsn, "app.jobs:send", *texts) == 0
    assert only_job(conn)["args"] == args


def test_options_and_arguments_in_any_order(conn, dsn):
    options = ["--queue", "mail", "--priority", "3", "--max-attempts", "5", "--tag", "a"]
    options += ["--tag", "b", "--meta", '{"by": "hand"}', "--timeout", "2.5"]
    options += ["--backoff", "[10, 60]", "--delay", "90"]
    assert enqueue(dsn, "--json", "app.jobs:send", "to=ada", *options, "from=grace") == 0
    job = only_job(conn)
    assert job["args"] == {"to": "ada", "from": "grace"}
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("mail", 3, 5)
    assert (job["tags"], job["meta"]) == (["a", "b"], {"by": "hand"})
    assert (job["timeout"], job["delay"]) == (timedelta(seconds=2.5), 90)
    assert job["backoff"] is not None


def test_durations_may_be_intervals_and_a_backoff_a_word(conn, dsn):
    options = ["--delay", "10 minutes", "--timeout", "1 hour", "--backoff", "linear"]
    assert enqueue(dsn, "app.jobs:send", *options) == 0
    job = only_job(conn)
    assert (job["delay"], job["timeout"]) == (600, timedelta(hours=1))


def test_a_time(conn, dsn):
    assert enqueue(dsn, "app.jobs:send", "--at", "2100-01-01T00:00:00+01:00") == 0
    assert only_job(conn)["scheduled_at"].timestamp() == 4102441200


@pytest.mark.parametrize("how", [["--unique"], ["--unique-by", '{"keys": ["to"], "period": 60}']])
def test_a_duplicate_is_said_to_be_one(conn, dsn, capsys, how):
    assert enqueue(dsn, "app.jobs:send", "to=ada", *how) == 0
    first = capsys.readouterr().out
    assert enqueue(dsn, "app.jobs:send", "to=ada", *how) == 0
    said = capsys.readouterr()
    assert said.out == first
    assert "a duplicate, so this one was not stored" in said.err
    assert enqueue(dsn, "app.jobs:send", "to=ada", "--json", *how) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"id": int(first), "is_duplicate": True}
    assert said.err == ""
    assert only_job(conn)["id"] == int(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app:job", "to"], "'to' is no argument: say NAME=TEXT, NAME:=JSON, or one JSON object"),
        (["app:job", "=ada"], "'=ada' is no argument"),
        (["app:job", "[1]"], "'[1]' is no argument"),
        (["app:job", "a=1", "a:=2"], 'the argument "a" is given twice'),
        (["app:job", "a:=ada"], 'the argument "a" cannot be read as JSON: Expecting value'),
        (["app:job", '{"a": }'], "the arguments cannot be read as JSON: Expecting value"),
        (["app:job", '{"a": 1}', "b=2"], "is no argument"),
        (["app:job", "a:=NaN"], "cannot be stored as JSON"),
        (["app:job", r'a:="\u0000"'], "it holds a NUL character"),
        (["app:job", "--meta", "[1]"], "meta"),
        (["app:job", "--meta", "{"], "--meta cannot be read as JSON"),
        (["app:job", "--backoff", "lineal"], "linear"),
        (["app:job", "--unique-by", '{"key": []}'], "key"),
        (["app:job", "--priority", "99"], "priority"),
        (["app:job", "--delay", "soon"], "soon"),
        (["app:job", "--at", "2100-01-01T00:00:00"], "offset"),
        (["app:job", "--dsn", "nonsense"], "dsn cannot be read"),
        ([""], "handler"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_stored(conn, dsn, capsys, arguments, message):
    assert enqueue(dsn, *arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("eram enqueue: ")
    assert message in said.err
    assert said.out == ""
    assert conn.execute("select count(*) from eram_jobs").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app:job", "--quueue", "mail"], 'did you mean "--queue"?'),
        (["app:job", "--priority", "high"], "argument --priority: invalid int value: 'high'"),
        (["app:job", "--delay", "1", "--at", "now"], "not allowed with argument"),
        (["app:job", "--unique", "--unique-by", "{}"], "not allowed with argument"),
        ([], "the following arguments are required: HANDLER"),
    ],
)
def test_wrong_options(dsn, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        enqueue(dsn, *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_job_that_is_refused_for_another_reason_is_a_failure(dsn, capsys):
    unique = ["--unique-by", '{"on_conflict": "raise"}']
    assert enqueue(dsn, "app.jobs:send", *unique) == 0
    assert enqueue(dsn, "app.jobs:send", *unique) == 1
    assert "eram enqueue: " in capsys.readouterr().err


def test_an_answer_that_cannot_be_written_is_said_so(conn, dsn):
    command = [sys.executable, "-m", "eram", "enqueue", "--dsn", dsn, "app.jobs:send"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("eram enqueue: the answer is lost: ")
    assert only_job(conn)


def test_what_is_not_in_utf_8_is_shown(dsn, capsys):
    with pytest.raises(SystemExit) as end:
        enqueue(dsn, "app.jobs:send", "--tag", "\udcff")
    assert end.value.code == 2
    assert "an argument is not in UTF-8: '\\udcff'" in capsys.readouterr().err


def test_a_database_without_eram(bare_dsn, capsys):
    assert enqueue(bare_dsn, "app:job") == 2
    assert "eram is not installed in the database" in capsys.readouterr().err


def test_a_database_that_cannot_be_reached(tmp_path, capsys):
    assert enqueue(f"host={tmp_path} dbname=nowhere", "app:job") == 1
    assert capsys.readouterr().err.startswith("eram enqueue: ")
