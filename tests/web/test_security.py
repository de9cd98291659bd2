"""Who is answered, and to whom nothing is told: tokens, hosts, other sites, rights."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from eram._web import security
from eram._web.config import WebConfig, read_token
from eram._web.security import HEADERS
from eram.errors import ConfigError

from .helpers import Page

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of a test
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# All that shows or changes something, and what must never be without a check.
API = (
    *("session", "overview", "queues", "queues/x", "jobs", "jobs/1", "jobs/count?action=retry"),
    *("schedules", "workers", "handlers", "health", "events", "nothing"),
)


@pytest.fixture(scope="module")
def locked(shared_dsn) -> Page:
    """A server that wants a token."""
    page = Page(shared_dsn, allow_actions=True, token=TOKEN)
    yield page
    page.close()


@pytest.fixture(scope="module")
def named(shared_dsn) -> Page:
    """A server that has a name."""
    page = Page(shared_dsn, allow_hosts=("jobs.example.com",))
    yield page
    page.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Let a wrong token be answered soon."""
    monkeypatch.setattr(security, "WRONG_TOKEN_SECONDS", 0.01)


def log_in(page: Page, token: str = TOKEN, following: str = "/jobs?state=discarded"):
    body = urlencode({"token": token, "next": following}).encode()
    return page.ask("/login", "POST", body, FORM)


def cookie_of(answer) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


@pytest.mark.parametrize("path", [*(f"/api/{each}" for each in API), "/metrics"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-horse-battery-staple"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer \xff\xfe"},
        {"Cookie": "eram=x; eram_{port}=x"},
        {"Cookie": "eram_{port}="},
        {"Cookie": "eram_{port}=9999999999.x.y"},
        {"Cookie": f"eram_{{port}}={TOKEN}"},
    ],
)
def test_without_the_token_nothing_is_told(locked, path, headers):
    port = str(locked.server.port)
    headers = {name: value.replace("{port}", port) for name, value in headers.items()}
    answer = locked.ask(path, headers=headers)
    assert (answer.status, answer.json["code"]) == (401, "login")


def test_with_the_token_everything_is(locked):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("session", "overview", "jobs"):
        assert locked.ask(f"/api/{path}", headers=headers).status == 200
    assert locked.ask("/metrics", headers={"authorization": f"bearer {TOKEN}"}).status == 200


def test_a_login_makes_a_session_that_no_script_can_read(locked):
    wrong = log_in(locked, "wrong-horse-battery-staple")
    assert (wrong.status, wrong.headers["Set-Cookie"]) == (401, None)
    assert b"This is not the token." in wrong.body
    right = log_in(locked)
    assert (right.status, right.headers["Location"]) == (303, "/jobs?state=discarded")
    parts = right.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)
    assert TOKEN not in right.headers["Set-Cookie"]
    session = locked.ask("/api/session", headers=cookie_of(right))
    assert (session.status, session.json["needs_login"]) == (200, True)
    assert locked.ask("/", headers=cookie_of(right)).status == 200


def test_a_session_ends(locked, monkeypatch):
    monkeypatch.setattr(security, "SESSION_SECONDS", -1)
    assert locked.ask("/api/session", headers=cookie_of(log_in(locked))).status == 401


def test_sessions_outlive_the_server_but_not_a_change_of_the_token(locked, make_page, monkeypatch):
    cookie = cookie_of(log_in(locked))
    for token, status in ((TOKEN, 200), (TOKEN + "!", 401)):
        other = make_page(token=token)
        other.server.guard.cookie_name = locked.server.guard.cookie_name
        assert other.ask("/api/session", headers=cookie).status == status


def test_pages_lead_to_the_login_and_back(locked):
    answer = locked.ask("/queues/a%2Fb")
    assert answer.status == 303
    form = locked.ask(answer.headers["Location"])
    # With another policy, browsers would not say that the form is from here.
    assert (form.status, form.headers["Referrer-Policy"]) == (200, "same-origin")
    assert b'name="next" type="hidden" value="/queues/a%2Fb"' in form.body
    logged_in = cookie_of(log_in(locked))
    assert locked.ask("/login", headers=logged_in).status == 303


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "jobs",
        "/a\r\nSet-Cookie: x=1",
        "/../../x",
        "",
        '/"><script>',
        "/%0d%0aSet-Cookie:%20x=1",
    ],
)
def test_a_login_leads_nowhere_else(locked, following):
    where = log_in(locked, following=following)
    assert where.headers.get_all("Set-Cookie") is not None
    assert len(where.headers.get_all("Set-Cookie")) == 1
    location = where.headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert "<" not in location
    form = locked.ask(f"/login?{urlencode({'next': following})}")
    assert b"<script" not in form.body


@pytest.mark.parametrize(
    "following",
    ["/eram/../shop", "/eram/%2e%2E/shop", "/eram/../eramine", "/eram/.%2e/", "/eramine", "/"],
)
def test_a_login_leads_to_no_neighbour(make_page, following):
    page = make_page(base_path="/eram", token=TOKEN)
    body = urlencode({"token": TOKEN, "next": following}).encode()
    assert page.ask("/eram/login", "POST", body, FORM).headers["Location"] == "/eram/"
    body = urlencode({"token": TOKEN, "next": "/eram/queues/a%2F.."}).encode()
    where = page.ask("/eram/login", "POST", body, FORM).headers["Location"]
    assert where == "/eram/queues/a%2F.."


def test_a_logout_takes_the_cookie_away(locked):
    cookie = cookie_of(log_in(locked))
    csrf = locked.ask("/api/session", headers=cookie).json["csrf"]
    answer = locked.ask("/api/logout", "POST", b"", {**cookie, "X-Eram-Csrf": csrf})
    assert answer.status == 200
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert locked.ask("/api/logout", "POST", b"", cookie).json["code"] == "csrf"


def act(page, headers, body=b'{"queue": "mail"}'):
    headers = {"Content-Type": "application/json", **headers}
    return page.ask("/api/actions/pause_queue", "POST", body, headers)


def test_an_action_needs_the_csrf_token_of_its_own_session(locked, shared_page):
    first, second = cookie_of(log_in(locked)), cookie_of(log_in(locked))
    csrf = locked.ask("/api/session", headers=first).json["csrf"]
    for headers in ({}, {"X-Eram-Csrf": ""}, {"X-Eram-Csrf": csrf[:-1]}, {"X-Eram-Csrf": "ÿ"}):
        assert act(locked, {**first, **headers}).json["code"] == "csrf"
    assert act(locked, {**second, "X-Eram-Csrf": csrf}).json["code"] == "csrf"
    assert act(locked, {**first, "X-Eram-Csrf": csrf}).status == 200
    # A program that knows the token is no browser that was led astray.
    assert act(locked, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert act(shared_page, {}).json["code"] == "csrf"
    assert act(shared_page, {"X-Eram-Csrf": csrf}).json["code"] == "csrf"


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:{port}"}, True),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Origin": "file://127.0.0.1:{port}"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, False),
    ],
)
def test_other_sites_cannot_act(shared_page, headers, is_taken):
    port = str(shared_page.server.port)
    headers = {name: value.replace("{port}", port) for name, value in headers.items()}
    csrf = shared_page.get("session")["csrf"]
    answer = act(shared_page, {**headers, "X-Eram-Csrf": csrf})
    assert answer.status == (200 if is_taken else 403)
    assert log_in_status(shared_page, headers) == (401 if is_taken else 403)


def log_in_status(page, headers):
    return page.ask("/login", "POST", b"token=x", {**FORM, **headers}).status


def test_other_sites_cannot_make_the_database_work(shared_page):
    for path in ("/api/overview", "/api/events", "/metrics"):
        assert shared_page.ask(path, headers={"Sec-Fetch-Site": "cross-site"}).status == 403


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:8980", True),
        ("[::1]:80", True),
        ("jobs.example.com", True),
        ("Jobs.Example.com.:443", True),
        ("", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", True),
        ("@localhost", False),
    ],
)
def test_only_known_hosts_are_answered(named, host, is_known):
    for path in ("/", "/api/session", "/static/base.css", "/login"):
        answer = named.ask(path, headers={"Host": host})
        assert (answer.status != 403) == is_known, (path, answer.body)


def test_on_all_addresses_any_address_is_known_and_no_name(shared_dsn):
    page = Page(shared_dsn, host="0.0.0.0", token=TOKEN)  # noqa: S104 - with a token
    try:
        for host, status in (("10.1.2.3:8980", 401), ("[fe80::1]", 401), ("evil.example", 403)):
            assert page.ask("/api/session", headers={"Host": host}).status == status
    finally:
        page.close()


@pytest.mark.parametrize(
    "path", ["/", "/api/session", "/api/nothing", "/static/base.css", "/login", "/metrics", "/no"]
)
def test_every_answer_forbids_what_browsers_would_do_with_it(shared_page, path):
    headers = shared_page.ask(path).headers
    for name, value in HEADERS.items():
        assert headers.get_all(name) == [value]
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "Python" not in headers["Server"]
    if not path.startswith("/static") and path != "/":
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../config.py",
        "/static/..%2fconfig.py",
        "/static/%2e%2e/config.py",
        "/static/",
        "/static//etc/passwd",
        "/static/..",
        "/static/.",
        "/static/%2fetc%2fpasswd",
        "/static",
        "/static/index.html",
        "/static/login.html",
        "/static/base.css/",
        "/static/base.css%00",
        "//static/base.css/../../config.py",
        "/static/....//config.py",
        "/static/base.CSS",
    ],
)
def test_only_the_files_of_the_page_can_be_had(shared_page, path):
    answer = shared_page.ask(path)
    assert answer.status in {400, 404}
    assert answer.json["error"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "jobs.example.com"])  # noqa: S104
def test_whoever_is_reached_from_elsewhere_needs_a_token(host):
    with pytest.raises(ConfigError, match="a token is needed"):
        WebConfig(host=host)
    assert WebConfig(host=host, token=TOKEN).token == TOKEN
    assert TOKEN not in repr(WebConfig(host=host, token=TOKEN))


@pytest.mark.parametrize(
    "token", ["x" * 15, "with a blank in it", "täglich-neues-wort", "x\n" * 20]
)
def test_a_token_that_is_none_is_refused_without_being_shown(tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read_token(str(file))
    assert token not in str(refused.value)
    with pytest.raises(ConfigError):
        WebConfig(token=token)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    monkeypatch.setenv("ERAM_WEB_TOKEN", "x" * 20)
    assert (read_token(str(file)), read_token(None)) == (TOKEN, "x" * 20)
    for text in ("", "\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="16 characters"):
            read_token(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(str(tmp_path / "none"))


@pytest.fixture
def role(conn, dsn):
    """A role with a password of its own; it goes with the test."""
    name, password = f"web_{secrets.token_hex(4)}", secrets.token_hex(16)
    conn.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(name), password))
    yield name, make_conninfo(dsn, user=name, password=password)
    conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def test_the_rights_of_the_role_decide(role, make_page, conn):
    name, dsn = role
    page = make_page(dsn=dsn, allow_actions=True)
    refused = page.ask("/api/overview")
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert "eram_grant('ROLE', 'read')" in refused.json["hint"]
    conn.execute("select eram_grant(%s, 'read')", [name])
    conn.execute("select eram_enqueue_job('app:run')")
    for path in (each for each in API if each not in {"events", "nothing", "queues/x"}):
        assert page.ask(f"/api/{path}").status == 200, path
    assert page.ask("/metrics").status == 200
    session = page.get("session")
    assert (session["may_act"], session["role"]) == (False, name)
    assert f"eram_grant('{name}', 'admin')" in session["actions_hint"]
    for action, body in (
        ("pause_queue", {"queue": "x"}),
        ("delete_jobs", {"ids": [1]}),
        ("run_schedule", {"name": "x"}),
    ):
        error = page.act(action, 403, **body)
        assert (error["code"], error["sqlstate"]) == ("forbidden", "42501")
        assert "eram_grant('ROLE', 'admin')" in error["hint"]
    assert conn.execute("select count(*) from eram_queues").fetchone() == (0,)
    conn.execute("select eram_grant(%s, 'admin')", [name])
    assert page.get("session")["may_act"] is True
    assert page.act("pause_queue", queue="x")["changed"] is True


def test_a_look_cannot_write_whatever_is_called(shared_page):
    with pytest.raises(Exception, match="read-only transaction") as refused:  # noqa: SIM117
        with shared_page.server.database.read() as look:
            look.value("select eram_pause_queue('x')")
    assert isinstance(refused.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)
