"""The stream of events: one look for all, none when nobody listens, and rest for the database."""

from __future__ import annotations

import socket
import threading
import time
from unittest.mock import Mock

import psycopg
import pytest

from eram._web import events, handler
from eram._web.http import HttpError
from eram._web.look import REST_FACTOR, Look, SharedLooks
from eram._web.overview import Looks

from .helpers import PATIENCE, eventually


def poller_of(page):
    return page.server.routes.api.poller


def test_an_open_page_hears_what_changes(page, conn, listen):
    stream = listen(page)
    assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["Cache-Control"] == "no-store"
    names = iter(stream)
    assert next(names) == ("ping", {})
    assert stream.next("overview")["queue_count"] == 0
    conn.execute("select eram_enqueue_job('app:run')")
    eventually(lambda: stream.next("overview")["totals"]["waiting"] == 1)


def test_an_event_is_what_api_overview_answers(page, conn, listen):
    conn.execute("select eram_enqueue_job('app:run', queue => 'line' || chr(8232) || 'end')")
    conn.execute("select eram_enqueue_job('app:run', queue => 'other')")
    found = listen(page).next("overview")
    assert {row["queue"] for row in found["queues"]} == {"line\u2028end", "other"}
    assert set(found) == set(page.get("overview"))


def test_nobody_listens_so_nobody_looks(page, conn, listen):
    poller = poller_of(page)
    assert not poller.is_running
    before = set(threading.enumerate())
    streams = [listen(page) for _ in range(3)]
    for stream in streams:
        stream.next("overview")
    new = set(threading.enumerate()) - before
    threads = [each for each in new if each.name == "eram-web-poller"]
    assert len(threads) == 1
    for stream in streams:
        stream.close()
    eventually(lambda: not poller.is_running and poller.stream_count == 0)
    eventually(lambda: not threads[0].is_alive())
    # And it begins anew.
    assert listen(page).next("overview")["queue_count"] == 0


def test_an_action_is_seen_at_once(make_page, listen):
    page = make_page(allow_actions=True, refresh=600)
    stream = listen(page)
    assert stream.next("overview")["queue_count"] == 0
    page.act("pause_queue", queue="mail")
    assert stream.next("overview")["queue_count"] == 1


def test_no_more_streams_than_there_are_places(page, listen, monkeypatch):
    monkeypatch.setattr(events, "MAX_STREAMS", 2)
    first, _ = listen(page), listen(page)
    refused = page.ask("/api/events")
    assert (refused.status, refused.json["code"]) == (503, "too_many_streams")
    assert refused.headers["Retry-After"] == "30"
    first.close()
    eventually(lambda: poller_of(page).stream_count == 1)
    assert listen(page).next("overview")


def test_a_stream_ends_so_that_whoever_reads_on_must_still_be_logged_in(page, listen, monkeypatch):
    monkeypatch.setattr(events, "STREAM_SECONDS", 0.0)
    assert list(listen(page)) == [("ping", {})]
    eventually(lambda: poller_of(page).stream_count == 0)
    monkeypatch.setattr(events, "STREAM_SECONDS", 3600.0)
    assert listen(page).next("overview")


def test_who_does_not_read_is_let_go(page, conn, monkeypatch):
    """Its thread would wait for ever for room in the socket's buffer."""
    monkeypatch.setattr(handler, "WRITE_SECONDS", 0.2)
    for number in range(50):
        conn.execute("select eram_pause_queue(%s)", [f"{number}".rjust(128, "q")])
    poller = poller_of(page)
    page.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", page.server.port))
        wire.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: poller.stream_count == 1)
        eventually(lambda: poller.stream_count == 0)


def test_a_dear_look_is_followed_by_rest():
    looks = []

    def find():
        looks.append(time.monotonic())
        time.sleep(0.03)
        return str(len(looks))

    look = Look(find)
    assert look.get(0) == "1"
    assert look.rest >= 0.03 * REST_FACTOR
    assert look.get(0) == "1"
    assert look.get(0) == "1"
    look.forget()
    assert look.get(0) == "2"


def test_many_who_ask_at_once_are_one_look():
    looks = []

    def find():
        looks.append(1)
        time.sleep(0.05)
        return "found"

    look = Look(find)
    threads = [threading.Thread(target=look.get, args=(60,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


def ask_together(look, *, count, looking, go):
    """Have some ask while the first of them looks; return what they are answered."""
    answers = []

    def ask():
        try:
            answers.append(look())
        except psycopg.OperationalError as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    threads[0].start()
    assert looking.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.2)  # one that asks later looks itself, and is one too many
    go.set()
    for thread in threads:
        thread.join()
    return answers


def test_an_error_is_the_answer_to_all_who_have_waited_for_it():
    """Each would wait as long as the first otherwise, and all behind him."""
    looks, looking, go = [], threading.Event(), threading.Event()

    def find():
        looks.append(1)
        looking.set()
        assert go.wait(PATIENCE)
        raise psycopg.OperationalError("gone")

    look = Look(find)
    answers = ask_together(lambda: look.get(60), count=8, looking=looking, go=go)
    assert [str(answer) for answer in answers] == ["gone"] * 8
    assert len(looks) < 8


def test_who_asks_for_the_same_list_at_the_same_time_shares_a_look():
    looks, looking, go = [], threading.Event(), threading.Event()

    def find():
        looks.append(1)
        looking.set()
        assert go.wait(PATIENCE)
        return str(len(looks))

    shared = SharedLooks()
    answers = ask_together(lambda: shared.get("x", find), count=8, looking=looking, go=go)
    assert len(answers) == 8
    assert len(looks) < 8
    # Who comes later is not told what was.
    before = len(looks)
    assert shared.get("x", find) == str(before + 1)
    assert shared.get("y", find) == str(before + 2)


def test_what_is_changed_behind_a_look_is_looked_at_again():
    seen = []

    def find():
        seen.append(1)
        if len(seen) == 1:
            look.forget()
        return str(len(seen))

    look = Look(find)
    assert look.get(60) == "1"
    assert look.get(60) == "2"
    assert look.get(60) == "2"


def test_an_action_during_a_look_is_followed_by_another(make_page, listen):
    page = make_page(allow_actions=True, refresh=600)
    looks = page.server.routes.api._looks
    find, first = looks.overview, []

    def overview():
        found = find()
        if not first:
            first.append(found)
            page.act("pause_queue", queue="mail")
        return found

    looks.overview = overview
    stream = listen(page)
    assert stream.next("overview")["queue_count"] == 0
    assert stream.next("overview")["queue_count"] == 1


def test_a_look_that_was_given_up_is_followed_by_rest(page, monkeypatch):
    poller = poller_of(page)
    monkeypatch.setattr(Looks, "rest", 50.0)
    for state, pause in (("57014", 50.0), ("57P01", events.TROUBLE_SECONDS)):
        error = HttpError(503, "timeout", "in vain", sqlstate=state)
        monkeypatch.setattr(poller._looks, "overview", Mock(side_effect=error))
        # What is not there is asked for again soon.
        assert poller._look()[1] == pause


def test_a_look_that_fails_is_no_answer_to_the_next():
    answers = [psycopg.OperationalError("gone"), None]

    def find():
        if (error := answers.pop(0)) is not None:
            raise error
        return "found"

    look = Look(find)
    with pytest.raises(psycopg.OperationalError):
        look.get(60)
    assert look.get(60) == "found"
