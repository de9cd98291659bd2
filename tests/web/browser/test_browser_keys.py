"""Everything by keyboard: the way from a filter to a retry, dialogs, shortcuts, charts."""

from __future__ import annotations

from playwright.sync_api import expect

FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"


def test_from_a_filter_to_a_retry_and_back(site, visit):
    for _ in range(3):
        job = site.enqueue("echo", queue="by-keys")
        site.conn.execute("select eram_cancel_job(%s)", (job,))
    tab = visit()
    keys = tab.keyboard
    keys.press("g")
    keys.press("j")
    expect(tab.locator("h1")).to_have_text("Jobs")
    expect(tab.locator("tbody tr").first).to_be_visible()
    keys.press("/")
    expect(tab.get_by_label("Args contain")).to_be_focused()
    keys.press("Tab")
    expect(tab.get_by_label("Queue", exact=True)).to_be_focused()
    keys.type("by-keys")
    keys.press("Enter")
    expect(tab.locator("tbody tr")).to_have_count(3)
    keys.press("Escape")
    tab.locator("tbody th a").first.focus()
    keys.press("ArrowDown")
    keys.press("ArrowUp")
    keys.press("x")
    expect(tab.get_by_text("1 job selected")).to_be_visible()
    keys.press("x")
    expect(tab.get_by_text("1 job selected")).to_have_count(0)
    keys.press("Enter")
    expect(tab.locator("h1")).to_have_text(f"Job {job}")
    expect(tab.get_by_role("button", name="Retry")).to_be_visible()
    expect(tab.locator("h1")).to_be_focused()
    keys.press("Tab")
    assert tab.evaluate(FOCUSED) == "Retry"
    keys.press("Enter")
    expect(tab.locator(".title-line .badge")).to_have_text("available")
    assert site.state(job) == "available"
    tab.go_back()
    expect(tab.locator("h1")).to_have_text("Jobs")
    assert "queue=by-keys" in tab.url


def test_a_dialog_keeps_the_focus_and_gives_it_back(site, visit):
    job = site.enqueue("echo", queue="dialogs")
    tab = visit(f"jobs/{job}")
    tab.get_by_role("button", name="Delete").focus()
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    expect(dialog).to_be_visible()
    inside = (
        "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
    )
    for _ in range(5):
        tab.keyboard.press("Tab")
        assert tab.evaluate(inside)
    tab.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(tab.get_by_role("button", name="Delete")).to_be_focused()
    assert site.state(job) == "available"


def test_the_skip_link_leads_to_the_content(site, visit):
    tab = visit("queues")
    tab.keyboard.press("Tab")
    expect(tab.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("main")).to_be_focused()
    assert tab.url.endswith("/queues")


def test_a_chart_is_read_minute_by_minute(site, visit):
    tab = visit()
    chart = tab.get_by_role("slider", name="Jobs ended, by minute")
    chart.focus()
    tab.keyboard.press("End")
    expect(chart).to_have_attribute("aria-valuenow", "59")
    tab.keyboard.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuenow", "58")
    tab.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "0")
    assert "completed 0, attempts failed 0" in chart.get_attribute("aria-valuetext")


def test_times_are_exact_on_focus_and_when_asked(site, visit):
    tab = visit(f"jobs/{site.completed}", timezone_id="Europe/Berlin")
    time = tab.locator(".facts time").first
    assert time.inner_text().endswith(("ago", "now"))
    time.focus()
    expect(tab.get_by_role("tooltip")).to_contain_text("Europe/Berlin · 20")
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("tooltip")).to_be_hidden()
    tab.keyboard.press("t")
    expect(time).to_have_text(
        tab.evaluate("document.querySelector('.facts time').dataset.tip")[:19]
    )


def test_help_and_the_end_of_shortcuts(site, visit):
    tab = visit()
    tab.keyboard.press("?")
    dialog = tab.get_by_role("dialog", name="Keyboard shortcuts")
    dialog.get_by_label("Shortcuts of a single letter are on").uncheck()
    dialog.get_by_role("button", name="Close").click()
    tab.keyboard.press("g")
    tab.keyboard.press("q")
    tab.wait_for_timeout(200)
    assert tab.locator("h1").inner_text() == "Overview"
