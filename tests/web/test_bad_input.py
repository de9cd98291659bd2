"""Whatever is sent, the answer is a clear one, and the server and the database are as before."""

from __future__ import annotations

import json
import random
import socket
from urllib.parse import quote

import pytest

from eram._web import connections, handler
from eram._web.actions import ACTIONS

from .helpers import PATIENCE, Page, eventually

SEED = 8
ROUNDS = 250

TEXTS = (
    *("", " ", "0", "-1", "1.5", "1e400", "NaN", "null", "true", "\u0661", "1_000", "+1", " 1 "),
    *("9223372036854775807", "9223372036854775808", "9" * 400, "\0", "a\0b", "\x01", "\r\n"),
    *("'", "''; drop table eram_queues; --", "%", "%s", "%%", "\\", "${jndi:x}", "{{7*7}}"),
    *("ä", "😀", "\u202e", "a" * 5_000, "{}", "[]", "{", '{"a": 1}', '{"a": "\\u0000"}', '"x"'),
    *('{"a": "\\ud800"}', "a=1", "a=1,b", "=", "a=", "a={", '{"a": NaN}', '{"a":1,"a":2}'),
    *("[" * 150 + "]" * 150, '{"a":' * 101 + "1" + "}" * 101, "[" * 5_000, '{"n": 1e999}'),
    *("available", "available,lost", "infinity", "2026-01-01", "..", ".", "<script>", "app:run"),
)
NAMES = (
    *("state", "queue", "handler", "tags", "args", "id", "before", "limit", "search", "after"),
    *("action", "name", "all", "", "__proto__", "token", "next"),
)
PATHS = (
    *("session", "overview", "queues", "queues/x", "jobs", "jobs/1", "jobs/count", "schedules"),
    *("workers", "handlers", "health", "nothing", "", "jobs/1/2", "queues/"),
)
VALUES = (*TEXTS, None, True, 0, -1, 1.5, 10**30, [], {}, [1], {"a": {"b": [None]}}, [[[[]]]])


def sent(text: str) -> str:
    """Encode a text for a URL, at times in a way that nobody would."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.fixture(scope="module")
def target(shared_page) -> Page:
    return shared_page


def assert_clear(answer, *statuses: int) -> None:
    assert answer.status in statuses, (answer.status, answer.body)
    if answer.status != 200:
        error = answer.json
        assert set(error) >= {"error", "hint", "sqlstate", "code"}
        assert error["error"]


def test_any_parameter_gets_an_answer(target):
    rng = random.Random(SEED)
    statuses = set()
    for _ in range(ROUNDS):
        path = rng.choice(PATHS)
        if rng.random() < 0.3:
            path = f"{rng.choice(('queues', 'jobs'))}/{sent(rng.choice(TEXTS))}"
        names = rng.sample(NAMES, rng.randint(0, 3))
        query = "&".join(f"{sent(name)}={sent(rng.choice(TEXTS))}" for name in names)
        answer = target.ask(f"/api/{path}?{query}")
        assert_clear(answer, 200, 400, 404, 414)
        statuses.add(answer.status)
    assert statuses >= {200, 400, 404}


def test_any_body_gets_an_answer(target, shared):
    rng = random.Random(SEED)
    csrf = target.get("session")["csrf"]
    headers = {"Content-Type": "application/json", "X-Eram-Csrf": csrf}
    keys = ("queue", "id", "ids", "filter", "name", "reason", "before", "global_limit", "more")
    statuses = set()
    for _ in range(ROUNDS):
        body = {key: rng.choice(VALUES) for key in rng.sample(keys, rng.randint(0, 3))}
        if rng.random() < 0.3:
            body["filter"] = {
                name: rng.choice(VALUES) for name in rng.sample(NAMES[:8], rng.randint(0, 2))
            }
        text = json.dumps(body).encode()
        if rng.random() < 0.2:
            text = rng.choice((text[:-1], b"\xff" + text, rng.choice(TEXTS).encode(), b"[1]", b"7"))
        answer = target.ask(f"/api/actions/{rng.choice(tuple(ACTIONS))}", "POST", text, headers)
        assert_clear(answer, 200, 400, 404)
        statuses.add(answer.status)
    assert 400 in statuses
    assert shared.execute("select * from eram_check()").fetchall() == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs?queue=%",
        "/api/jobs?queue=%4",
        "/api/jobs?queue=%zz",
        "/api/jobs?queue=%ff",
        "/api/jobs?queue=%00",
        "/api/queues/%c3",
        "/api/queues/%00",
        "/api/jobs?%ff=1",
        "/api/jobs?limit=1&limit=2",
        "/api/jobs?limit=0",
        "/api/jobs?limit=201",
        "/api/jobs/0",
        "/api/jobs?colour=red",
        "/api/overview?x=1",
        "/api/jobs?" + "&".join(f"a{n}=" for n in range(60)),
        "/api/jobs?state=lost",
        "/api/jobs?args=7",
        "/api/jobs?args=%5B1%5D",
        "/api/jobs?args=a",
        "/api/jobs?id=x",
        "/api/jobs?before=-1",
        "/api/jobs/count",
        "/api/jobs/x",
        "/api/jobs/%D9%A1",
    ],
)
def test_what_nobody_can_mean_is_refused(target, path):
    assert_clear(target.ask(path), 400)


def test_a_slip_is_told_what_it_was_meant_to_be(target):
    assert "queue" in target.ask("/api/jobs?queu=x").json["hint"]
    assert "available" in target.ask("/api/jobs?state=availabel").json["hint"]


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"]
)
def test_other_methods_are_refused(target, method):
    answer = target.ask("/api/overview", method)
    assert answer.status in {405, 501}
    assert answer.json["error"]


def test_a_head_is_a_get_without_its_body(target):
    for path in ("/api/queues", "/", "/static/base.css", "/api/events"):
        answer = target.ask(path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")


HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET http://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", b"505"),
        (b"GET / HTTP/9\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 150 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", b"400"),
        # What a proxy in front may read in another way.
        (b"GET / HTTP/1.1\r\n" + HOST + b"no header\r\nOrigin: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Origin : x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\rX: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0\r\n\r\n", b"400"),
        (b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n", b"400"),
        (
            b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", b"400"),
        (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", b"400"),
        (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 1000001\r\n\r\n", b"413"),
        (
            b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 99 + b"\r\n\r\n",
            b"400",
        ),
        (
            b"POST /login HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"400",
        ),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(target, text, status):
    with socket.create_connection(("127.0.0.1", target.server.port), timeout=PATIENCE) as wire:
        wire.sendall(text)
        wire.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := wire.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 " + status)
    assert received.count(b"\r\nServer: ") == 1
    assert target.get("session")["may_act"] is True


def test_a_connection_serves_one_request_after_the_other(target):
    request = b"GET /api/queues HTTP/1.1\r\n" + HOST
    both = request + b"\r\n" + request + b"Connection: close\r\n\r\n"
    assert target.say(both).count(b"HTTP/1.1 200 OK\r\n") == 2


def test_a_client_that_asks_before_it_sends_a_body_is_told_to_go_on(target):
    with socket.create_connection(("127.0.0.1", target.server.port), timeout=PATIENCE) as wire:
        wire.sendall(b"POST /login HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n")
        wire.sendall(b"Connection: close\r\nContent-Length: 2\r\n\r\n")
        assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(b"{}")
        assert wire.recv(100).startswith(b"HTTP/1.1 415 ")


def test_a_body_that_a_get_brings_is_no_request(target):
    smuggled = b"POST /api/logout HTTP/1.1\r\n" + HOST + b"\r\n"
    request = (
        b"GET /api/queues HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    )
    assert target.say(request % len(smuggled) + smuggled).count(b"HTTP/1.1 ") == 1


def test_slow_clients_are_shut_out(make_page, monkeypatch):
    monkeypatch.setattr(handler, "READ_SECONDS", 0.1)
    page = make_page()
    with socket.create_connection(("127.0.0.1", page.server.port), timeout=PATIENCE) as wire:
        # Each byte comes in time, and the request does not.
        wire.sendall(b"GET / HTTP/1.1\r\n")
        assert wire.recv(100) == b""
    eventually(lambda: len(page.server.connections) == 0)


def test_a_connection_without_a_request_makes_room_for_others(make_page, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    page = make_page()
    place = ("127.0.0.1", page.server.port)
    idle = [socket.create_connection(place, timeout=PATIENCE) for _ in range(3)]
    try:
        eventually(lambda: len(page.server.connections) == 3)
        assert page.get("queues")["count"] == 0
        assert idle[0].recv(1) == b""
    finally:
        for wire in idle:
            wire.close()


def test_where_all_are_at_work_one_more_is_sent_away(make_page, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    page = make_page()
    place = ("127.0.0.1", page.server.port)
    busy = [socket.create_connection(place, timeout=PATIENCE) for _ in range(2)]
    try:
        for wire in busy:
            wire.sendall(b"GET ")
        eventually(
            lambda: (
                len(page.server.connections) == 2
                and all(each.idle_since is None for each in page.server.connections._open)
            )
        )
        assert page.say(b"").startswith(b"HTTP/1.1 503 ")
    finally:
        for wire in busy:
            wire.close()
    eventually(lambda: len(page.server.connections) == 0)
