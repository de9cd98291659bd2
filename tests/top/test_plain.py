"""What `eram top` prints where there is no terminal to draw on, and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from eram.top import main
from top.conftest import Start, enqueue
from top.screens import TIMES, environ

Top = Callable[..., str]


@pytest.fixture
def top(dsn: str, capsys: pytest.CaptureFixture[str]) -> Top:
    """Run the command where there is no terminal; return what it prints."""

    def run(*arguments: str, dsn: str = dsn, code: int = 0) -> str:
        assert main(["--dsn", dsn, *arguments]) == code
        said = capsys.readouterr()
        assert bool(said.err) == bool(code)
        return said.err if code else said.out

    return run


def test_into_a_pipe_it_prints_once_and_plainly(shop: psycopg.Connection, top: Top):
    said = top()
    assert "\x1b" not in said
    lines = said.splitlines()
    assert lines[0].startswith(f"eram {shop.execute('select eram_version()').fetchone()[0]}")
    assert any(line.startswith("QUEUE") for line in lines)
    (mail,) = [line.split() for line in lines if line.startswith("mail ")]
    assert mail[1:3] == ["4", "4"]
    assert "3/4" in mail
    assert any(re.match(rf"host-1 +alive +3 +\d+s +shop:mail {TIMES}3$", line) for line in lines)
    assert top("--once").splitlines()[1:3] == lines[1:3]


def test_names_are_as_long_as_they_are_where_there_is_room(shop: psycopg.Connection, top: Top):
    name = "q" * 128
    enqueue(shop, "shop:mail", queue=name)
    assert f"\n{name} " in top()


def test_all_of_it_as_one_object(shop: psycopg.Connection, top: Top):
    seen = json.loads(top("--json"))
    assert seen["totals"]["waiting"] == 16
    assert seen["totals"]["running"] == 3
    assert seen["totals"]["workers"] == 2
    queues = {queue["name"]: queue for queue in seen["queues"]}
    assert queues["reports"]["is_paused"] is True
    assert queues["reports"]["oldest_due_seconds"] > 0
    assert (queues["mail"]["running"], queues["mail"]["limit"]) == (3, 4)
    assert queues["later"]["completed_per_minute"] == 1
    workers = {worker["name"]: worker for worker in seen["workers"]}
    assert workers["host-1"]["runs"] == [{"handler": "shop:mail", "count": 3}]
    assert workers["host-1"]["condition"] == "alive"
    assert len(seen["throughput"]) == 60
    assert seen["health"]["level"] in {"ok", "warn", "critical"}
    assert not [check for check in seen["health"]["checks"] if check["level"] == "ok"]


def test_the_last_hour_is_counted_by_minutes(shop: psycopg.Connection, top: Top):
    shop.execute("update eram_finished_jobs set finalized_at = finalized_at - interval '3 minutes'")
    shop.execute("update eram_completions set finalized_at = finalized_at - interval '3 minutes'")
    seen = json.loads(top("--json"))
    counts = [minute["completed"] for minute in seen["throughput"]]
    assert counts in ([0] * 57 + [1, 0, 0], [0] * 56 + [1, 0, 0, 0])
    assert re.search(r"\ndone   ▁{56,57}█▁{2,3}  most 1/min\n", top())


def test_what_is_not_well_is_said_worst_first(shop: psycopg.Connection, top: Top):
    enqueue(shop, "shop:crawl", queue="crawl")
    for table, columns in (
        ("eram_queued_jobs", "scheduled_at"),
        ("eram_job_specs", "scheduled_at inserted_at"),
    ):
        changes = ", ".join(f"{each} = {each} - interval '2 days'" for each in columns.split())
        shop.execute(f"update {table} set {changes} where queue = 'crawl'")
    lines = top().splitlines()
    found = [line.split()[0] for line in lines if re.match(r"(critical|warn|unknown) \w+: ", line)]
    assert found == sorted(found, key=["critical", "warn", "unknown"].index)
    assert any(re.match(r"(critical|warn) queues: .*crawl", line) for line in lines)
    assert re.search(r"\d (critical|warn)", lines[0])


def test_no_name_steers_the_terminal_that_shows_it(
    shop: psycopg.Connection, top: Top, start: Start
):
    """Not even names that no function would have taken."""
    evil = "\x1b]0;owned\x07\x1b[2J\nQUEUE \x9b31m \u202elast"
    shop.execute("update eram_queued_jobs set queue = %s where queue = 'reports'", [evil])
    shop.execute("update eram_workers set name = %s where name = 'host-1'", [evil])
    shop.execute("update eram_job_specs set handler = %s where handler = 'shop:mail'", [evil])
    try:
        for said in (top(), top("--json")):
            assert not set(said) & set("\x1b\x07\x9b\u202e")
        screen = start(columns=200)
        screen.wait_for(r"\x1b]0;owned\x07\x1b[2J\nQUEUE \x9b31m \u202elast")
        sent = screen.raw.decode()
        assert "\x1b]" not in sent
        assert not set(sent) & set("\x07\x9b\u202e\n")
    finally:
        shop.execute("update eram_queued_jobs set queue = 'reports' where queue = %s", [evil])
        shop.execute("update eram_job_specs set handler = 'shop:mail' where handler = %s", [evil])


def test_without_colours_wide_names_keep_the_table_straight(shop: psycopg.Connection, start: Start):
    enqueue(shop, "shop:mail", queue="日本語のキュー")
    screen = start(NO_COLOR="1")
    screen.wait_for("日本語のキュー", "(paused) reports")
    ends = set()
    for name in ("mail", "日本語のキュー"):
        (line,) = [each for each in screen.cells if "".join(each).strip().startswith(name)]
        ends.add(max(place for place, cell in enumerate(line) if cell.isdigit()))
    assert ends == {99}
    assert screen.style_at("(paused)").fg == "default"
    assert b"m" not in re.findall(rb"\x1b\[[?\d;]*([A-Za-z])", screen.raw)


def test_a_terminal_that_can_only_print_is_printed_to(shop: psycopg.Connection, start: Start):
    screen = start(TERM="dumb")
    assert screen.wait() == 0
    assert b"\x1b" not in screen.raw
    assert "QUEUE" in screen.text


def test_what_cannot_be_written_is_written_otherwise(shop: psycopg.Connection, dsn: str):
    enqueue(shop, "shop:mail", queue="日本")
    said = subprocess.run(
        [sys.executable, "-m", "eram", "top", "--dsn", dsn],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environ(PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
    ).stdout.decode("ascii")
    assert r"\u65e5\u672c " in said
    assert "shop:mail x3" in said


@pytest.mark.parametrize("command", [("top", "--once"), ("check",), ("metrics",)])
def test_without_standard_streams_it_does_the_same(dsn: str, command: tuple[str, ...]):
    """As a service may start it; what it opens next must not take their numbers."""
    program = [sys.executable, "-m", "eram", *command, "--dsn", dsn]
    for closing, is_heard in (("<&-", True), ("<&- >&-", False)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", *program],
            check=False,
            capture_output=True,
            env=environ(),
        )
        assert (done.returncode, done.stderr, bool(done.stdout)) == (0, b"", is_heard)


def test_an_empty_database_has_nothing_to_show(top: Top):
    assert "no queue has jobs, workers or settings yet" in top()
    assert json.loads(top("--json"))["queues"] == []


def test_what_cannot_be_done_is_said(top: Top, bare_dsn: str):
    assert "eram is not installed in the database" in top(dsn=bare_dsn, code=2)
    assert "interval must be" in top("--interval", "0", code=2)
    nowhere = "host=127.0.0.1 port=1 connect_timeout=2"
    assert "Connection refused" in top(dsn=nowhere, code=1)
    assert "Connection refused" in top("--json", dsn=nowhere, code=1)


def test_a_role_without_rights_is_told_so(shop: psycopg.Connection, dsn: str, top: Top):
    shop.execute("create role top_nobody")
    try:
        shop.execute("grant usage on schema public to top_nobody")
        said = top(dsn=f"{dsn}?options=-crole%3Dtop_nobody", code=1)
    finally:
        shop.execute("drop owned by top_nobody")
        shop.execute("drop role top_nobody")
    assert "permission denied" in said
    assert "select eram_grant('ROLE', 'read')" in said


def test_a_thousand_queues_cost_little(conn: psycopg.Connection, top: Top, start: Start):
    conn.execute(
        "select count(eram_enqueue_job('a:b', queue => 'queue-' || n % 1500))"
        " from generate_series(1, 3000) as n"
    )
    seen = json.loads(top("--json"))
    assert seen["totals"]["queues"] == 1500
    assert seen["totals"]["waiting"] == 3000
    assert len(seen["queues"]) == 1000
    screen = start(lines=15)
    screen.wait_for("queues 1,500")
    screen.press("G")
    screen.wait_for("> ")
    screen.press("q")
    assert screen.wait() == 0
