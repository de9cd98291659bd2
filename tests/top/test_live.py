"""The overview live, in a terminal: what it shows, how it moves, and how it leaves."""

from __future__ import annotations

import itertools
import re
import signal
import termios
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from top.conftest import Start, enqueue
from top.screens import TIMES, Screen

FOOT = "q quit  j k select  s sort  ? help"


def row(screen: Screen, name: str) -> list[str]:
    """Return the cells of a queue or a worker."""
    (line,) = [line for line in screen.lines if re.search(rf"(^|[ )]){re.escape(name)} ", line)]
    return line.split()


def names(screen: Screen) -> list[str]:
    """Return the queues from top to bottom."""
    start = next(n for n, line in enumerate(screen.lines) if "QUEUE" in line)
    table = "\n".join(screen.lines[start + 1 :]).split("\n\n")[0].replace("(paused) ", "")
    return [line.removeprefix(">").split()[0] for line in table.splitlines()]


def test_it_shows_queues_and_workers_and_follows_what_happens(
    shop: psycopg.Connection, start: Start
):
    screen = start()
    screen.wait_for("QUEUE", "host-1", FOOT)
    assert re.search(r"waiting 16\b.*due 16\b.*running 3\b", screen.text)
    assert "workers 2" in screen.text
    assert names(screen) == ["reports", "mail", "later"]
    assert "(paused) reports" in screen.text
    assert row(screen, "mail")[1] == "4"
    assert "3/4" in row(screen, "mail")
    worker = row(screen, "host-1")
    assert worker[1:3] == ["alive", "3"]
    assert worker[-2:] == ["shop:mail", f"{TIMES}3"]
    assert screen.style_at("(paused)").fg == "brown"
    assert dear_pause(screen) >= 0.2

    enqueue(shop, "shop:mail", queue="mail", count=100)
    screen.wait_for("waiting 116")
    assert names(screen) == ["mail", "reports", "later"]


def test_keys_select_sort_and_help(shop: psycopg.Connection, start: Start):
    screen = start()
    screen.wait_for(FOOT)
    assert ">" not in screen.text
    screen.press("jp")
    screen.wait_for("to pause and resume queues, start with --allow-actions")
    query = "select name from eram_queues where is_paused"
    assert shop.execute(query).fetchall() == [("reports",)]
    for keys, selected in (
        ("j", "mail"),
        ("\x1b[B", "later"),
        ("j", "later"),
        ("\x1bOA", "mail"),
        ("k", "(paused) reports"),
        ("k", "(paused) reports"),
        ("G", "later"),
        ("\x1b[H", "(paused) reports"),
    ):
        screen.press(keys)
        screen.wait_for(f"> {selected}")
    assert screen.style_at("> (paused)").reverse
    # What is selected stays so, wherever it comes to stand.
    screen.press("s")
    screen.wait_for("sorted by due", "DUE*")
    screen.press("ssss")
    screen.wait_for("sorted by failed")
    screen.press("s")
    screen.wait_for("sorted by name", "QUEUE*")
    assert names(screen) == ["later", "mail", "reports"]
    screen.wait_for("> (paused) reports")
    screen.press("?")
    screen.wait_for("j k     select the next queue", "an estimate", without="QUEUE")
    # Neither half a key nor one without a meaning does any harm.
    screen.press("\x1b[")
    screen.press("C")
    screen.wait_for("QUEUE")
    screen.press("?")
    screen.wait_for("an estimate")
    screen.press("\x1b")
    screen.wait_for("QUEUE", FOOT)


def test_with_leave_a_queue_is_resumed_and_paused(shop: psycopg.Connection, start: Start):
    screen = start("--allow-actions")
    screen.wait_for("p pause  " + FOOT)
    screen.press("p")
    screen.wait_for("select a queue first")
    screen.press("jp")
    screen.wait_for("resumed: reports", "> reports", without="(paused)")
    assert shop.execute("select name from eram_queues where is_paused").fetchall() == []
    screen.press("p")
    screen.wait_for("paused: reports", "> (paused) reports")
    assert shop.execute("select name from eram_queues where is_paused").fetchall() == [("reports",)]


@pytest.fixture
def reader(shop: psycopg.Connection, dsn: str) -> Iterator[str]:
    """How to connect as a role that may read."""
    shop.execute("create role top_reader")
    try:
        shop.execute("select eram_grant('top_reader', 'read')")
        yield make_conninfo(dsn, options="-crole=top_reader")
    finally:
        shop.execute("drop owned by top_reader")
        shop.execute("drop role top_reader")


def test_a_reader_sees_all_and_changes_nothing(reader: str, start: Start):
    screen = start("--allow-actions", dsn=reader)
    screen.wait_for("host-1", f"shop:mail {TIMES}3")
    screen.press("jp")
    screen.wait_for("failed: permission denied for function eram_resume_queue", "(paused) reports")
    # The connection is as good as before.
    screen.press("k")
    screen.wait_for(FOOT)
    assert "no answer" not in screen.text
    assert "no connection" not in screen.text
    screen.press("q")
    assert screen.wait() == 0


@pytest.fixture
def closing(shop: psycopg.Connection, dsn: str) -> Iterator[Callable[[], None]]:
    """End the program's session and let nobody in, until the test ends or it is called again."""
    name = shop.info.dbname
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as admin:
        states = itertools.cycle(("false", "true"))

        def change() -> None:
            admin.execute(f"alter database {name} allow_connections {next(states)}")
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'eram top' and datname = %s",
                [name],
            )

        yield change
        admin.execute(f"alter database {name} allow_connections true")


def test_an_outage_is_told_and_outlived(
    shop: psycopg.Connection, start: Start, closing: Callable[[], None]
):
    screen = start(columns=120)
    screen.wait_for("host-1")
    closing()
    screen.press("r")
    # What was last seen is still there, and keys work.
    screen.wait_for("no connection since", "is not currently accepting connections", "host-1")
    screen.press("j")
    screen.wait_for("> (paused) reports")
    enqueue(shop, "shop:mail", queue="mail", count=30)
    closing()
    screen.wait_for("waiting 46", without="no connection")


def test_it_resizes_down_to_what_is_hardly_a_terminal(shop: psycopg.Connection, start: Start):
    screen = start(columns=120, lines=30)
    screen.wait_for("RETRY", "OLDEST", "WORKERS", FOOT)
    screen.resize(40, 20)
    # What matters most stays; nothing is wider than the terminal, so nothing is broken.
    screen.wait_for("WAITING", "RUNNING", "host-1", without="RETRY")
    screen.wait_until(lambda: len(screen.lines) == 20 and FOOT in screen.lines[-1], "a foot")
    assert names(screen) == ["(paused)", "mail", "later"] or names(screen)[1:] == ["mail", "later"]
    assert "3/4" in row(screen, "mail")
    screen.resize(12, 4)
    screen.wait_until(lambda: screen.lines[-1].startswith("q quit"), "a small foot")
    screen.resize(100, 40)
    screen.wait_for("RETRY", FOOT)


@pytest.mark.parametrize("way", ["\x03", signal.SIGTERM, signal.SIGHUP], ids=repr)
def test_it_leaves_the_terminal_as_it_was(
    shop: psycopg.Connection, start: Start, way: str | signal.Signals
):
    screen = start()
    screen.wait_for(FOOT)
    assert not screen.mode[3] & (termios.ECHO | termios.ICANON)
    assert not screen.has_cursor
    if isinstance(way, str):
        screen.press(way)
    else:
        screen.signal(way)
    assert screen.wait() == 0
    assert_left(screen)
    query = "select count(*) from pg_stat_activity where application_name = 'eram top'"
    wait_for_none(shop, query)


def test_it_can_be_ended_before_it_has_seen_anything(shop: psycopg.Connection, start: Start):
    with psycopg.connect(shop.info.dsn, password=shop.info.password) as locker:
        locker.execute("lock table eram_running_jobs in access exclusive mode")
        screen = start()
        wait_for_waiter(shop)
        screen.press("\x03")
        assert screen.wait() == 130
    assert screen.raw.strip() == b"^C"


def assert_left(screen: Screen) -> None:
    assert screen.mode == screen.mode_before
    assert screen.has_cursor
    assert b"\x1b[?1049l" in screen.raw
    assert b"\x1b[?7h" in screen.raw


def wait_for_none(conn: psycopg.Connection, query: str) -> None:
    for _ in range(400):
        if conn.execute(query).fetchone() == (0,):
            return
        threading.Event().wait(0.05)
    pytest.fail("its session is still there")


BREAKING = """
import sys
from eram._top import live
draw, drawn = live.screen, []

def screen(*args):
    drawn.append(args)
    if len(drawn) > 3:
        raise RuntimeError("the picture has fallen down")
    return draw(*args)

live.screen = screen
from eram.top import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_error_of_its_own_is_told_on_the_terminal_that_was(
    shop: psycopg.Connection, start: Start
):
    screen = start(program=("-c", BREAKING))
    assert screen.wait() == 1
    assert_left(screen)
    said = screen.raw.rpartition(b"\x1b[?1049l")[2].decode()
    assert "RuntimeError: the picture has fallen down" in said


def test_it_can_be_suspended_and_comes_back(shop: psycopg.Connection, start: Start):
    screen = start()
    screen.wait_for(FOOT)
    screen.press("\x1a")
    screen.wait_until(lambda: screen.is_stopped, "suspended")
    screen._read(0)
    assert screen.mode == screen.mode_before
    before = len(screen.raw)
    screen.signal(signal.SIGCONT)
    screen.wait_until(lambda: b"QUEUE" in screen.raw[before:], "drawn again")
    assert not screen.mode[3] & termios.ECHO
    screen.press("q")
    assert screen.wait() == 0


def test_a_dear_look_is_taken_more_rarely(shop: psycopg.Connection, start: Start):
    # Another session holds what every look reads, for half a second.
    screen = start()
    screen.wait_for(FOOT)
    with psycopg.connect(shop.info.dsn, password=shop.info.password) as locker:
        locker.execute("lock table eram_running_jobs in access exclusive mode")
        wait_for_waiter(shop)
        threading.Event().wait(0.5)
    screen.wait_until(lambda: dear_pause(screen) >= 5, "a longer pause")
    # A look is there for the asking.
    enqueue(shop, "shop:mail", queue="mail", count=30)
    screen.press("r")
    screen.wait_for("waiting 46")


def dear_pause(screen: Screen) -> float:
    found = re.search(r"every ([\d.e+]+) s", screen.text)
    return float(found[1]) if found else 0.0


def wait_for_waiter(conn: psycopg.Connection) -> None:
    query = (
        "select count(*) from pg_stat_activity"
        " where application_name = 'eram top' and wait_event_type = 'Lock'"
    )
    for _ in range(400):
        if conn.execute(query).fetchone() == (1,):
            return
        threading.Event().wait(0.05)
    pytest.fail("it does not look")
