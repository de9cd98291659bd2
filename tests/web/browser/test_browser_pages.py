"""Each page with real jobs: what it shows, as text; on a phone; in both colours; for everybody."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from psycopg.types.json import Jsonb

from .conftest import settle
from .site_jobs import HOSTILE

PLACES = ["", "queues", "queues/work", "jobs", "schedules", "workers", "handlers", "health"]
PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
# A control that is part of a sentence, or a field's own, need not be as high as a finger.
TOO_SMALL = """() =>
    [...document.querySelectorAll('button, .button, nav a, input:not([type=checkbox])')]
    .filter((element) => element.offsetParent && !element.closest('.skip-link'))
    .filter((element) => element.getBoundingClientRect().height < 39.5)
    .map((element) => element.outerHTML.slice(0, 120))"""


def go_to(tab, path):
    """Go to another page as a click on a link does, without loading anew."""
    tab.evaluate(
        """path => {
            const link = document.createElement('a');
            link.href = path || '.';
            document.body.append(link);
            link.click();
            link.remove();
        }""",
        path,
    )
    settle(tab)


def test_overview(site, visit):
    tab = visit()
    assert tab.title() == "eram"
    assert tab.locator(".figure", has_text="Running").locator(".figure-value").inner_text() == "1"
    queues = tab.locator(".bars a").all_inner_texts()
    assert len(queues) >= 3
    assert set(queues) <= {
        queue for (queue,) in site.conn.execute("select queue from eram_queue_stats")
    }
    assert tab.locator("eram-chart svg.chart").count() == 4


def test_queues_can_be_searched(site, visit):
    tab = visit("queues")
    assert tab.locator("tbody tr").count() >= 3
    tab.get_by_label("Search queues by name").fill("<img")
    expect(tab.locator("tbody th a")).to_have_text([HOSTILE])
    assert "search=" in tab.url
    tab.get_by_label("Search queues by name").fill("no such queue")
    tab.get_by_text("No queue's name has “no such queue” in it").wait_for()


def test_a_queue_with_any_name_has_its_page(site, visit):
    tab = visit("queues")
    tab.locator("tbody th a", has_text="<img").click()
    tab.locator("h1", has_text="<img").wait_for()
    assert tab.locator("h1").inner_text() == HOSTILE
    tab.reload()
    tab.locator("h1", has_text="<img").wait_for()
    tab.locator(".facts", has_text="Waiting").wait_for()
    site.enqueue("echo", queue="..")
    tab.goto(f"{site.url}/queues/_?name=..")
    tab.locator(".facts", has_text="Waiting").wait_for()
    assert tab.locator("h1").inner_text() == ".."


def test_jobs_are_filtered(site, visit):
    tab = visit("jobs")
    assert tab.locator("tbody tr").count() >= 7
    tab.get_by_label("Args contain").fill('{"to": "ada@example.com"}')
    tab.get_by_role("button", name="Filter", exact=True).click()
    expect(tab.locator("tbody th")).to_have_text([f"Job {site.completed}"])
    assert tab.locator("tbody .tag").all_inner_texts() == ["vip", HOSTILE]

    tab.get_by_label("Args contain").fill("n=1")
    tab.get_by_label("Args contain").press("Enter")
    tab.locator(f"tbody tr[data-key='{site.waiting}']").wait_for()
    tab.get_by_role("link", name="Clear").click()
    tab.get_by_role("navigation", name="State").get_by_text("discarded").click()
    tab.wait_for_url("**/jobs?state=discarded")
    expect(tab.locator(f"tbody tr[data-key='{site.completed}']")).to_have_count(0)
    assert set(tab.locator("tbody .badge").all_inner_texts()) == {"discarded"}
    assert tab.locator(f"tbody tr[data-key='{site.discarded}']").count() == 1


def test_a_filter_that_cannot_be_read_is_explained(site, visit):
    tab = visit("jobs?args=%7B%22to")
    assert tab.get_by_label("Args contain").get_attribute("aria-invalid") == "true"
    assert tab.get_by_text("Write it as JSON").is_visible()


def test_a_job_with_its_errors(site, visit):
    tab = visit(f"jobs/{site.retryable}")
    assert tab.locator("h1").inner_text() == f"Job {site.retryable}"
    assert tab.locator(".error-text").inner_text() == f"ValueError: {HOSTILE}"
    assert not tab.locator(".traceback pre").is_visible()
    tab.get_by_text("Traceback", exact=True).click()
    assert "raise ValueError(message)" in tab.locator(".traceback pre").inner_text()
    assert "retryable" in tab.locator(".title-line").inner_text()
    assert (
        site.value("select eram_why(%s)", site.retryable)[:20] in tab.locator(".why").inner_text()
    )


def test_a_job_with_its_args_and_result(site, visit):
    tab = visit(f"jobs/{site.completed}")
    args = tab.get_by_role("group", name="Args").inner_text()
    assert '"to": "ada@example.com"' in args
    assert "<script>window.harmed='script'</script>&amp;" in args
    assert tab.get_by_role("group", name="Result").inner_text() == args
    moments = tab.locator(".moment-name").all_inner_texts()
    assert moments == ["Enqueued", "Attempt 1 began", "Completed"]


def test_schedules_workers_handlers_and_health(site, visit):
    tab = visit("schedules")
    digest = tab.locator("tr[data-key=digest]")
    assert HOSTILE[:60] in digest.inner_text()
    assert digest.locator("time").count() >= 3
    assert "division by zero" in tab.locator("tr[data-key=broken]").inner_text()
    go_to(tab, "workers")
    worker = tab.locator(".workers .card").first
    assert "alive" in worker.inner_text()
    assert worker.locator(".running a").inner_text().endswith(str(site.executing))
    go_to(tab, "handlers")
    assert "web.browser.site_jobs:fail" in tab.locator("tbody").inner_text()
    go_to(tab, "health")
    names = tab.locator(".check h2").all_inner_texts()
    assert {"workers", "queues", "snapshot"} <= {name.lower() for name in names}


def test_what_is_not_there_is_said(site, visit):
    tab = visit("jobs/999999999")
    assert tab.locator(".failure").is_visible()
    go_to(tab, "jobs?queue=nothing-here")
    # The browser says so of every such answer.
    assert all("404" in complaint for complaint in visit.complaints)
    visit.complaints.clear()
    assert tab.get_by_text("No job matches the filter").is_visible()
    go_to(tab, "no/such/page")
    assert tab.get_by_text("There is no such page").is_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_is_accessible(site, visit, colours):
    """By axe-core's rules, in both colours; contrast is among them."""
    tab = visit(color_scheme=colours)
    for path in [*PLACES, f"jobs/{site.retryable}"]:
        go_to(tab, path)
        found = Axe().run(tab)
        serious = [
            f"{path}: {violation['id']} {[node['html'] for node in violation['nodes']][:3]}"
            for violation in found.response["violations"]
            if violation["impact"] in {"serious", "critical"}
        ]
        assert serious == []


def test_every_page_fits_a_phone(site, visit):
    tab = visit(**PHONE)
    for path in [*PLACES, f"jobs/{site.retryable}"]:
        go_to(tab, path)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, path
        assert tab.evaluate(TOO_SMALL) == [], path
    assert not tab.get_by_role("link", name="Queues", exact=True).is_visible()
    tab.get_by_role("button", name="Menu").click()
    tab.get_by_role("link", name="Queues", exact=True).click()
    tab.locator("h1", has_text="Queues").wait_for()
    assert tab.get_by_role("button", name="Menu").get_attribute("aria-expanded") == "false"


def test_names_without_a_blank_fit_a_phone(make_page, conn, visit):
    """Of queues, handlers, workers, schedules, tags, and in errors."""
    name = "x" * 120
    options = Jsonb({"handler": name, "queue": name, "tags": [name], "args": {name: name}})
    conn.execute("select eram_enqueue_job(%s), eram_enqueue_job(%s)", (options, options))
    conn.execute("select eram_schedule(%s, '@daily', %s)", (name, name))
    conn.execute(
        "select eram_start_worker(%(name)s, array[%(name)s], pg_backend_pid())", {"name": name}
    )
    jobs = conn.execute(
        "select id, run from eram_fetch(%s, 2, (select worker from eram_worker_stats))", (name,)
    ).fetchall()
    detail = Jsonb({"type": name, "traceback": name * 9})
    conn.execute("select eram_fail_job(%s, %s, %s, %s)", (*jobs[0], name, detail))
    tab = visit(url=make_page(allow_actions=True).server.url, **PHONE)
    for path in ("", "queues", f"queues/{name}", "jobs", "schedules", "workers", "handlers"):
        go_to(tab, path)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, path
    for job, _ in jobs:
        go_to(tab, f"jobs/{job}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, job


def test_the_choice_of_colours_is_kept(site, visit):
    tab = visit(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    tab.get_by_role("button", name="Colours").click()  # light
    tab.get_by_role("button", name="Colours").click()  # dark
    dark = tab.evaluate(ground)
    assert dark != light
    tab.reload()
    tab.wait_for_selector("main h1")
    assert tab.evaluate(ground) == dark
    tab.get_by_role("button", name="Colours").click()  # as the system
    assert tab.evaluate(ground) == light
