"""What changes while one looks, and what is shown when nothing can be asked."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import psycopg
from playwright.sync_api import expect

from web.helpers import Page, eventually


def test_the_overview_follows(site, visit):
    tab = visit()
    expect(tab.locator(".connection")).to_have_text("Live")
    assert tab.locator(".bars a", has_text="just-now").count() == 0
    site.conn.execute(
        "select eram_enqueue_job('web.jobs:echo', null, 'just-now') from generate_series(1, 500)"
    )
    expect(tab.locator(".bars a", has_text="just-now")).to_be_visible()
    site.conn.execute('select eram_delete_jobs(\'{"queue": "just-now"}\')')


def test_a_job_follows_and_what_was_unfolded_stays(site, visit):
    job = site.enqueue("fail", queue="work", backoff={"strategy": "fixed", "base": 3600})
    tab = visit(f"jobs/{job}")
    expect(tab.locator(".title-line .badge")).to_have_text("retryable")
    tab.get_by_text("Traceback", exact=True).click()
    site.conn.execute("select eram_retry_job(%s)", (job,))
    expect(tab.locator(".errors > li")).to_have_count(2)
    expect(tab.locator(".traceback pre >> visible=true")).to_have_count(1)


def test_a_database_that_stops_and_comes_back(crash_server, visit):
    database = crash_server()
    page = Page(database.dsn, allow_actions=True, refresh=0.5)
    tab = visit(url=page.server.url)
    try:
        banner = tab.locator("#banner")
        expect(tab.locator(".connection")).to_have_text("Live")
        assert banner.is_hidden()
        database.stop("immediate")
        expect(banner).to_be_visible()
        expect(banner).to_contain_text("No connection to the database since")
        expect(tab.locator("body")).to_have_class("is-stale")
        # What was known is still there to be read, and another page says what is wrong.
        assert tab.locator(".figure").count() > 0
        tab.get_by_role("link", name="Queues", exact=True).click()
        expect(tab.locator(".failure")).to_be_visible()
        database.start()
        expect(banner).to_be_hidden()
        expect(tab.get_by_text("No queues yet")).to_be_visible()
        with psycopg.connect(database.dsn, autocommit=True) as conn:
            conn.execute("select eram_enqueue_job('web.jobs:echo', null, 'after')")
        expect(tab.locator("tbody th", has_text="after")).to_be_visible()
    finally:
        visit.forget(tab)  # the answers 503
        page.close()


def test_a_server_that_goes_and_comes_back(site, visit):
    """A process of its own, which is killed: nothing says goodbye to the browser."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_program(site.dsn, port)
    tab = visit(url=f"http://127.0.0.1:{port}")
    try:
        expect(tab.locator(".connection")).to_have_text("Live")
        server.kill()
        server.wait()
        expect(tab.locator("#banner")).to_be_visible()
        expect(tab.locator("#banner")).to_contain_text("No connection to the server since")
        server = start_program(site.dsn, port)
        expect(tab.locator("#banner")).to_be_hidden()
        expect(tab.locator(".connection")).to_have_text("Live")
    finally:
        visit.forget(tab)  # connections that were refused
        server.kill()
        server.wait()


def start_program(dsn, port):
    """Run `python -m eram.web`, and wait until it listens."""
    command = [sys.executable, "-m", "eram.web", "--dsn", dsn, "--port", str(port)]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        assert program.poll() is None
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True

    eventually(listens)
    return program


def test_nothing_there_yet(make_page, visit):
    """A database with eram in it and nothing else."""
    tab = visit(url=make_page().server.url)
    expect(tab.get_by_text("No queues yet")).to_be_visible()
    expect(tab.get_by_text("No job has ended in the last hour")).to_be_visible()
    for name, text in (
        ("Queues", "No queues yet"),
        ("Jobs", "No jobs yet"),
        ("Schedules", "No schedules yet"),
        ("Workers", "No workers"),
        ("Handlers", "Nothing has run in the last hour"),
    ):
        tab.get_by_role("link", name=name, exact=True).click()
        expect(tab.locator(".empty-title", has_text=text)).to_be_visible()


def test_a_thousand_queues_are_shown_by_pages(make_page, dsn, visit):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "select eram_enqueue_job('web.jobs:echo', null, 'queue-' || lpad(n::text, 4, '0'))"
            " from generate_series(1, 1000) as n"
        )
    tab = visit("queues", url=make_page().server.url)
    expect(tab.get_by_text("1,000 queues")).to_be_visible()
    expect(tab.locator("tbody tr")).to_have_count(50)
    tab.get_by_role("button", name="Next").click()
    expect(tab.locator("tbody th").first).to_have_text("queue-0051")
    tab.get_by_label("Search queues by name").fill("0999")
    expect(tab.locator("tbody th")).to_have_text(["queue-0999"])


def test_what_changes_its_place_keeps_focus_and_selected_text(site, visit):
    """A row that rises is not moved: to move it would take both from it."""
    tab = visit()
    said = tab.evaluate(
        """async () => {
            const { h, morph } = await import(`${document.baseURI}static/dom.js`);
            const list = (keys) => h('ul', {}, [...keys].map((key) =>
                h('li', { 'data-key': key },
                    h('a', { href: '#' }, `go ${key}`), `text of ${key}`)));
            const said = [];
            for (const [before, after, focused, selected] of [
                ['abc', 'cab', 'c', 'c'], ['abcd', 'dcba', 'd', 'd'], ['abcde', 'xebd', 'e', 'e'],
                ['abcd', 'cdba', 'c', 'd'], ['ab', 'xyba', 'b', 'b'], ['abc', 'acb', 'a', 'c'],
            ]) {
                const shown = list(before);
                document.querySelector('main').append(shown);
                const row = (key) => shown.querySelector(`[data-key=${key}]`);
                row(focused).querySelector('a').focus();
                getSelection().selectAllChildren(row(selected));
                morph(shown, list(after));
                said.push([
                    [...shown.children].map((each) => each.dataset.key).join(''),
                    document.activeElement.textContent,
                    String(getSelection()),
                ]);
                shown.remove();
            }
            return said;
        }"""
    )
    assert said == [
        ["cab", "go c", "go ctext of c"],
        ["dcba", "go d", "go dtext of d"],
        ["xebd", "go e", "go etext of e"],
        ["cdba", "go c", "go dtext of d"],
        ["xyba", "go b", "go btext of b"],
        ["acb", "go a", "go ctext of c"],
    ]


def test_an_answer_that_was_cut_off_is_told(site, visit):
    tab = visit("queues")
    tab.evaluate(
        """() => {
            const real = window.fetch;
            Object.assign(window, { asked: 0, isCut: true });
            window.fetch = async (url, options) => {
                if (!String(url).includes('api/handlers')) return real(url, options);
                window.asked += 1;
                return window.isCut ? new Response('{"rows": [{"han') : real(url, options);
            };
        }"""
    )
    tab.get_by_role("link", name="Handlers", exact=True).click()
    expect(tab.locator(".failure")).to_contain_text("the answer of the server cannot be read")
    # At once, because the page tries by itself, too, and would take the button away.
    said = tab.evaluate(
        """() => {
            const asked = window.asked;
            window.isCut = false;
            const again = document.querySelector('.failure button');
            again.click();
            return [again.textContent, window.asked - asked];
        }"""
    )
    assert said == ["Try again", 1]
    expect(tab.locator("tbody tr").first).to_be_visible()


def test_time_and_numbers_as_people_read_them(site, visit):
    tab = visit()
    said = tab.evaluate(
        """async () => {
            const from = `${document.baseURI}static`;
            const { ago, duration, exact, number } = await import(`${from}/format.js`);
            const { ticks } = await import(`${from}/scales.js`);
            const at = new Date('2026-11-22T16:00:00Z');
            const later = (seconds) => ago(at, at.getTime() + seconds * 1000);
            return {
                durations: [0, 0.00002, 0.0042, 0.24, 3.14159, 59.9, 125, 11520, 356400]
                    .map(duration),
                ago: [0, 42, 185, 7300, 200000, -90].map(later),
                exact: exact(at),
                numbers: [null, 0, 1234567].map(number),
                counts: ticks(7), many: ticks(1234), none: ticks(0),
                times: ticks(0.25, { isTime: true }), minutes: ticks(400, { isTime: true }),
            };
        }"""
    )
    assert said["durations"] == [
        "0 s", "20 µs", "4.2 ms", "240 ms", "3.1 s", "59 s", "2 min 5 s", "3 h 12 min", "4 d 3 h",
    ]  # fmt: skip
    assert said["ago"] == ["now", "42 s ago", "3 min ago", "2 h ago", "2 days ago", "in 1 min"]
    assert "2026-11-22 16:00:00.000 UTC" in said["exact"]
    assert said["numbers"] == ["\u2013", "0", "1,234,567"]
    assert said["counts"] == [0, 2, 4, 6, 8]
    assert said["many"] == [0, 500, 1000, 1500]
    assert said["none"] == [0, 1]
    assert said["times"] == [0, 0.1, 0.2, 0.30000000000000004]
    assert said["minutes"] == [0, 120, 240, 360, 480]
