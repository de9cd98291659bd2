"""What the parts of a worker know of an outage together, and what they say of it."""

from __future__ import annotations

import logging
import threading
import time

import psycopg
import pytest
from helpers import PATIENCE, eventually

from eram._base import outage as outage_module
from eram._base.outage import Complaint, Outage, is_outage

REFUSED = psycopg.OperationalError("connection refused\nand more")
STARTING = psycopg.errors.CannotConnectNow("the database system is starting up")


@pytest.fixture
def said(caplog):
    """The lines of the log, from level INFO."""
    caplog.set_level(logging.INFO, logger=outage_module.__name__)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "state",
    ["08006", "53100", "53200", "53300", "57P01", "57P03", "57P05", "58030", "3D000", "25006"],
)
def test_error_about_the_state_of_the_server_is_an_outage(state):
    assert is_outage(psycopg.errors.lookup(state)("no"))


@pytest.mark.parametrize(
    "state", ["22P05", "23505", "40P01", "42501", "42883", "53400", "54000", "55P03", "57014"]
)
def test_error_about_what_was_sent_is_none(state):
    assert not is_outage(psycopg.errors.lookup(state)("no"))


def test_lost_connection_is_an_outage_without_a_state():
    assert is_outage(REFUSED)
    assert is_outage(psycopg.InterfaceError("the connection is closed"))
    assert not is_outage(psycopg.ProgrammingError("no placeholder"))
    assert not is_outage(OSError("not the database"))


def test_first_part_says_so_and_the_last_one_that_it_is_over(said):
    outage = Outage()
    one, other = outage.part("one"), outage.part("other")
    one.lost(REFUSED)
    other.lost(STARTING)
    one.lost(STARTING)
    assert said() == ["one waits for its database: connection refused"]
    assert outage
    one.back()
    assert len(said()) == 1
    other.back()
    other.back()
    assert len(said()) == 2
    assert said()[1].startswith("the database is back after ")
    assert not outage


def test_part_that_needs_no_database_any_more_holds_nothing_up(said):
    outage = Outage()
    one, other = outage.part("one"), outage.part("other")
    one.lost(REFUSED)
    other.lost(REFUSED)
    one.leave()
    other.back()
    assert not outage
    assert len(said()) == 2


def test_who_stops_meanwhile_has_not_seen_the_end(said):
    outage = Outage()
    one, other = outage.part("one"), outage.part("other")
    one.lost(REFUSED)
    other.lost(REFUSED)
    one.leave()
    other.leave()
    assert not outage
    assert said() == ["one waits for its database: connection refused"]


def test_long_outage_is_said_again(said, monkeypatch):
    monkeypatch.setattr(outage_module, "REMINDER_SECONDS", 0.0)
    outage = Outage()
    one, other = outage.part("one"), outage.part("other")
    one.lost(REFUSED)
    other.lost(STARTING)
    assert said()[1:] == [
        "the database has been missed for 0 s, by one, other: the database system is starting up"
    ]


def test_relapse_is_said_only_when_it_lasts(said, monkeypatch):
    part = Outage().part("one")
    for _ in range(10):
        part.lost(REFUSED)
        part.back()
    assert len(said()) == 2
    monkeypatch.setattr(outage_module, "SHORT_RELAPSE_SECONDS", 0.0)
    part.lost(REFUSED)
    part.back()
    assert len(said()) == 4


def test_outage_after_a_quiet_time_is_a_new_one(said, monkeypatch):
    monkeypatch.setattr(outage_module, "RELAPSE_SECONDS", 0.0)
    part = Outage().part("one")
    for _ in range(3):
        part.lost(REFUSED)
        part.back()
    assert len(said()) == 6


def is_waiting(outage: Outage) -> bool:
    return bool(vars(outage._changed)["_waiters"])


def test_part_that_is_back_wakes_the_others():
    outage = Outage()
    scout, sleeper = outage.part("scout"), outage.part("sleeper", longest_seconds=1000.0)
    scout.lost(REFUSED)
    for _ in range(30):
        sleeper.lost(REFUSED)
        sleeper.pause()
    waiting = threading.Thread(target=sleeper.wait, args=(lambda: False,))
    waiting.start()
    eventually(lambda: is_waiting(outage))
    scout.back()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_wait_ends_when_there_is_nothing_to_wait_for():
    outage = Outage()
    part = outage.part("one", longest_seconds=1000.0)
    for _ in range(30):
        part.pause()
    stopping = threading.Event()
    waiting = threading.Thread(target=part.wait, args=(stopping.is_set,))
    waiting.start()
    stopping.set()
    outage.wake()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_pauses_grow_with_jitter_up_to_a_few_seconds():
    """The first try is at once; each worker is its own, so a fleet is never in step."""
    runs = [[part.pause() for _ in range(12)] for part in map(Outage().part, "abc")]
    assert all(run[0] == 0 for run in runs)
    assert len({run[-1] for run in runs}) > 1
    assert all(3.0 <= run[-1] <= 5.0 for run in runs)
    assert all(sum(run[:4]) < 2 for run in runs)


def test_part_that_was_served_tries_at_once_again():
    part = Outage().part("one")
    for _ in range(5):
        part.pause()
    part.back()
    assert part.pause() == 0


def test_complaint_is_made_when_it_is_news(said, monkeypatch):
    complaint = Complaint("tick waits")
    for _ in range(3):
        complaint.say(psycopg.OperationalError("a"))
    complaint.say(psycopg.OperationalError("b"))
    monkeypatch.setattr(time, "monotonic", lambda clock=time.monotonic: clock() + 61)
    complaint.say(psycopg.OperationalError("b"))
    assert said() == ["tick waits: a", "tick waits: b", "tick waits: b"]
