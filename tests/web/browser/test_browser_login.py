"""The way through the login in a browser, and out again."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from web.helpers import eventually

from .conftest import settle

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of a test


def test_in_by_the_token_to_what_was_asked_for_and_out(make_page, conn, visit, monkeypatch):
    monkeypatch.setattr("eram._web.security.WRONG_TOKEN_SECONDS", 0.01)
    conn.execute("select eram_enqueue_job('app:run', queue => 'a&b')")
    page = make_page(token=TOKEN, base_path="/eram", allow_actions=True)
    tab = visit("jobs?queue=a%26b&state=available", url=page.server.url)
    assert Axe().run(tab).response["violations"] == []
    expect(tab.get_by_label("Token")).to_be_focused()
    tab.keyboard.type("wrong-horse-battery-staple")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("This is not the token.")
    visit.complaints.clear()  # the browser says that there was an answer 401
    tab.get_by_label("Token").fill(TOKEN)
    tab.get_by_role("button", name="Log in").click()
    settle(tab)
    assert tab.url == f"{page.server.url}jobs?queue=a%26b&state=available"
    expect(tab.locator("tbody tr")).to_have_count(1)
    # No script sees the cookie, and what is shown does not hold the token.
    assert tab.evaluate("document.cookie") == ""
    assert TOKEN not in tab.content()

    # Where a session ends, an open page leads back to the form, and from there to itself.
    page.server.guard._key = b"another"
    tab.get_by_role("link", name="Queues", exact=True).click()
    tab.wait_for_url("**/login?next=*")
    tab.get_by_label("Token").fill(TOKEN)
    tab.keyboard.press("Enter")
    settle(tab)
    assert tab.url == f"{page.server.url}queues"
    tab.get_by_role("button", name="Log out").click()
    tab.wait_for_url("**/eram/login")
    tab.goto(f"{page.server.url}queues")
    expect(tab.get_by_label("Token")).to_be_visible()
    visit.complaints.clear()  # the answers 401
    eventually(lambda: page.server.routes.api.poller.stream_count == 0)
