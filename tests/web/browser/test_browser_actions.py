"""Each action by its button, and its effect in SQL; what asks first, and what is not offered."""

from __future__ import annotations

from playwright.sync_api import expect

from web.helpers import Page, eventually

from .conftest import start_again
from .site_jobs import HOSTILE


def button(tab, name):
    return tab.get_by_role("button", name=name, exact=True)


def confirm(tab, title, name):
    """Answer a dialog, which must have this title."""
    dialog = tab.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(title)
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).to_have_count(0)


def said(tab, text):
    expect(tab.locator(".notice", has_text=text)).to_be_visible()


def test_a_queue_is_paused_and_resumed(site, visit):
    site.enqueue("echo", queue="paused-here")
    paused = "select is_paused from eram_queues where name = 'paused-here'"
    tab = visit("queues?search=paused-here")
    button(tab, "Pause").click()
    expect(tab.locator("tbody .badge")).to_have_text("paused")
    assert site.value(paused) is True
    tab.locator("tbody th a").click()
    button(tab, "Resume").click()
    expect(button(tab, "Pause")).to_be_visible()
    assert site.value(paused) is False


def test_a_limit_is_set_in_place_while_the_page_goes_on(site, visit):
    site.enqueue("echo", queue="limited-here")
    limit = "select global_limit from eram_queues where name = 'limited-here'"
    tab = visit("queues?search=limited-here")
    tab.get_by_role("button", name="Limit of limited-here: no limit. Change").click()
    field = tab.get_by_label("Limit of limited-here; empty for none")
    expect(field).to_be_focused()
    field.fill("7")
    site.enqueue("echo", queue="limited-here")  # a look of the server finds it, the page waits
    tab.wait_for_timeout(1000)
    expect(field).to_have_value("7")
    field.press("Enter")
    expect(tab.locator("tbody .inline-button")).to_have_text("7")
    assert site.value(limit) == 7
    tab.locator("tbody .inline-button").click()
    field.fill("")
    button(tab, "Set").click()
    expect(tab.locator("tbody .inline-button")).to_have_text("no limit")
    assert site.value(limit) is None


def test_a_limit_that_is_none_is_refused_and_left_with_escape(site, visit):
    site.enqueue("echo", queue="limit-refused")
    tab = visit("queues?search=limit-refused")
    tab.locator("tbody .inline-button").click()
    field = tab.get_by_label("Limit of limit-refused; empty for none")
    field.fill("-1")
    field.press("Enter")
    said(tab, "a limit is a whole number from 1 on")
    expect(field).to_be_visible()
    field.press("Escape")
    expect(tab.locator("tbody .inline-button")).to_have_text("no limit")


def test_one_job_is_retried_cancelled_and_deleted(site, visit):
    job = site.enqueue("echo", queue="one-by-one", args={"html": HOSTILE})
    tab = visit(f"jobs/{job}")
    button(tab, "Cancel").click()
    tab.get_by_label("Reason").fill(HOSTILE)
    confirm(tab, f"Cancel job {job}?", "Cancel")
    expect(tab.locator(".title-line .badge")).to_have_text("cancelled")
    assert site.state(job) == "cancelled"
    expect(tab.locator(".error-text")).to_contain_text(HOSTILE)
    button(tab, "Retry").click()
    said(tab, f"Job {job} is retried")
    expect(tab.locator(".title-line .badge")).to_have_text("available")
    assert site.state(job) == "available"
    button(tab, "Delete").click()
    tab.get_by_role("dialog").get_by_role("button", name="Keep").click()
    assert site.state(job) == "available"
    button(tab, "Delete").click()
    confirm(tab, f"Delete job {job}?", "Delete")
    said(tab, f"Job {job} is deleted")
    assert site.state(job) is None


# What the page hears, and whether it then asks for the jobs; for it, time goes by as told.
HEARING = """
    const { fetch: ask, EventSource: Source } = window;
    const now = performance.now.bind(performance);
    window.later = 0;
    performance.now = () => now() + window.later;
    window.asked = 0;
    window.fetch = (url, ...rest) => {
        window.asked += new URL(url).pathname.endsWith('/api/jobs');
        return ask(url, ...rest);
    };
    window.EventSource = class extends Source {
        constructor(url) {
            super(url);
            this.addEventListener('overview', ({ data }) => {
                window.waiting = JSON.parse(data).totals.waiting;
            });
        }
    };
"""


def hear(tab, site):
    """Wait until the page has heard of all that waits, rested; say whether it asked for the jobs.

    It asks at once or not at all.
    """
    waiting = site.value("select sum(waiting_count)::integer from eram_queue_stats")
    tab.evaluate("[window.later, window.waiting, window.asked] = [window.later + 1e9, null, 0]")
    eventually(lambda: tab.evaluate("window.waiting") == waiting)
    return tab.evaluate("window.asked > 0")


def test_selected_jobs_are_cancelled_and_others_are_not(site, visit):
    jobs = [site.enqueue("echo", queue="selected") for _ in range(4)]
    tab = visit("jobs?queue=selected", script=HEARING)
    for job in jobs[1:3]:
        tab.get_by_label(f"Select {job}").check()
    tab.locator("h1").click()  # the focus is no reason for rows to stay
    # What comes in the meantime moves nothing and unselects nothing.
    late = site.enqueue("echo", queue="selected")
    assert not hear(tab, site)
    expect(tab.locator("tbody tr")).to_have_count(4)
    expect(tab.get_by_text("2 jobs selected")).to_be_visible()
    button(tab, "Cancel").click()
    confirm(tab, "Cancel 2 jobs?", "Cancel 2 jobs")
    said(tab, "2 jobs cancelled")
    assert [site.state(job) for job in [*jobs, late]] == [
        "available",
        "cancelled",
        "cancelled",
        "available",
        "available",
    ]
    expect(tab.locator("tbody tr")).to_have_count(5)
    # Without a selection it does ask.
    assert hear(tab, site)


def test_all_that_match_the_filter_are_acted_on(site, visit):
    """More than a page of them; the dialog says how many, and of which filter."""
    site.conn.execute(
        "select eram_enqueue_job('web.jobs:echo', jsonb_build_object('n', n % 2), 'matching')"
        " from generate_series(1, 120) as n"
    )
    tab = visit("jobs?queue=matching&args=n%3D1")
    expect(tab.locator("tbody tr")).to_have_count(50)
    tab.get_by_label("Select all on this page").check()
    button(tab, "Select all that match the filter").click()
    expect(tab.get_by_text("All that match the filter")).to_be_visible()
    count = "select count(*) from eram_jobs where queue = 'matching' and state = %s"
    for verb, done, state in (
        ("Cancel", "cancelled", "cancelled"),
        ("Retry", "retried", "available"),
    ):
        button(tab, verb).click()
        expect(tab.locator(".filter-words")).to_have_text("queue matching, args n=1")
        confirm(tab, f"{verb} 60 jobs?", f"{verb} 60 jobs")
        said(tab, f"60 jobs {done}")
        assert site.value(count, state) == (60 if state == "cancelled" else 120)
        tab.get_by_label("Select all on this page").check()
        button(tab, "Select all that match the filter").click()
    button(tab, "Delete").click()
    confirm(tab, "Delete 60 jobs?", "Delete 60 jobs")
    expect(tab.get_by_text("No job matches the filter")).to_be_visible()
    assert site.value(count, "available") == 60


def test_pages_of_jobs(site, visit):
    site.conn.execute(
        "select eram_enqueue_job('web.jobs:echo', null, 'many') from generate_series(1, 55)"
    )
    tab = visit("jobs?queue=many")
    first = tab.locator("tbody th").first.inner_text()
    button(tab, "Next").click()
    expect(tab.locator("tbody tr")).to_have_count(5)
    button(tab, "First").click()
    expect(tab.locator("tbody th").first).to_have_text(first)


def test_a_schedule_is_run_paused_and_resumed(site, visit):
    site.conn.execute(
        "select eram_schedule('by-hand', '@daily', 'web.jobs:echo',"
        """ options => '{"queue": "by-hand"}')"""
    )
    paused = "select is_paused from eram_schedules where name = 'by-hand'"
    tab = visit("schedules")
    row = tab.locator("tr[data-key=by-hand]")
    row.get_by_role("button", name="Run now").click()
    confirm(tab, "Run by-hand now?", "Run now")
    said(tab, "Schedule by-hand is carried out")
    assert site.value("select count(*) from eram_jobs where queue = 'by-hand'") == 1
    expect(row.get_by_role("link", name="job")).to_be_visible()
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".badge")).to_have_text("paused")
    assert site.value(paused) is True
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".badge")).to_have_count(0)
    assert site.value(paused) is False


def test_an_error_of_the_database_is_shown(site, visit):
    job = site.enqueue("echo", queue="taken-away")
    tab = visit(f"jobs/{job}")
    site.conn.execute("select eram_delete_job(%s)", (job,))
    button(tab, "Cancel").click()
    confirm(tab, f"Cancel job {job}?", "Cancel")
    expect(tab.locator(".notice, .failure").first).to_contain_text(str(job))
    visit.complaints.clear()  # the browser says that there was an answer 404


def test_without_the_right_nothing_is_offered(site, visit):
    page = Page(site.dsn)
    try:
        tab = visit("jobs", url=page.server.url)
        expect(tab.get_by_text("Read-only")).to_be_visible()
        assert tab.get_by_role("checkbox").count() == 0
        tab.goto(f"{page.server.url.rstrip('/')}/queues")
        expect(tab.locator("tbody tr").first).to_be_visible()
        assert tab.get_by_role("button", name="Pause").count() == 0
        assert tab.locator(".inline-button").count() == 0
    finally:
        page.close()


def test_a_server_started_anew_is_acted_on_without_loading_the_page_anew(site, visit):
    """Its token is another one: the page asks for it."""
    site.enqueue("echo", queue="anew")
    page = Page(site.dsn, allow_actions=True, refresh=60)
    tab = visit("queues?search=anew", url=page.server.url)
    port = page.server.port
    page.close()
    page = start_again(site.dsn, port, allow_actions=True, refresh=60)
    try:
        button(tab, "Pause").click()
        expect(tab.locator("tbody .badge")).to_have_text("paused")
        assert site.value("select is_paused from eram_queues where name = 'anew'") is True
    finally:
        visit.forget(tab)  # the stream that broke, and the answer 403
        page.close()
