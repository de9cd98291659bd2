"""One browser and one server of the page for all tests here, and a real worker behind it.

The browser is the Chromium of the operating system. Where there is none the tests are skipped;
ERAM_REQUIRE_CHROMIUM=1 forbids that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, ConsoleMessage, expect, sync_playwright
from playwright.sync_api import Page as Tab
from psycopg.types.json import Jsonb
from pytest_postgresql.executors import PostgreSQLExecutor

import eram
from databases import fresh_database
from web.helpers import Page, eventually

from . import site_jobs

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"width": 1280, "height": 800}
PATIENCE_MILLISECONDS = 20_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)


def find_chromium() -> str:
    """Say where Chromium is, or skip."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("ERAM_REQUIRE_CHROMIUM"):
            pytest.fail("there is no Chromium here, which this run must have")
        pytest.skip("there is no Chromium here; CI has one")
    return found


# For this package only: as long as it runs, the main thread can have no other event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()


class Site:
    """A page with jobs of all kinds behind it, one of each state by name."""

    completed: int
    retryable: int
    discarded: int
    executing: int
    scheduled: int
    waiting: int
    cancelled: int

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.conn = psycopg.connect(dsn, autocommit=True)
        self.page = Page(dsn, allow_actions=True, refresh=0.5)
        self.url = self.page.server.url.rstrip("/")

    def value(self, query: str, *parameters: Any) -> Any:
        return self.conn.execute(query, parameters).fetchone()[0]

    def enqueue(self, handler: str, **options: Any) -> int:
        document = {"handler": f"{site_jobs.__name__}:{handler}", **options}
        return self.value("select eram_enqueue_job(%s)", Jsonb(document))

    def state(self, job: int) -> str | None:
        row = self.conn.execute("select state from eram_jobs where id = %s", (job,)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        self.page.close()
        self.conn.close()


@pytest.fixture(scope="package")
def site(server: PostgreSQLExecutor, browser: Browser) -> Iterator[Site]:
    """Jobs in every state, queues with names that do harm elsewhere, schedules, a worker."""
    # Other tests may run in between; then all of it is made once more.
    site_jobs.gate.clear()
    with fresh_database(server) as dsn, contextlib.ExitStack() as cleanup:
        site = Site(dsn)
        cleanup.callback(site.close)
        fill(site)
        worker = eram.Worker(dsn, queues={"work": 4, "held": 1}, allow=[site_jobs.__name__])
        worker.start()
        cleanup.callback(worker.join, 30)
        cleanup.callback(worker.stop)
        cleanup.callback(site_jobs.gate.set)
        eventually(lambda: site.state(site.completed) == "completed")
        eventually(lambda: site.state(site.discarded) == "discarded")
        eventually(lambda: site.state(site.retryable) == "retryable")
        eventually(lambda: site.state(site.executing) == "executing")
        yield site
        site_jobs.gate.set()


def fill(site: Site) -> None:
    hostile = site_jobs.HOSTILE
    site.completed = site.enqueue(
        "echo", queue="work", args={"to": "ada@example.com", "html": hostile}, tags=["vip", hostile]
    )
    site.retryable = site.enqueue(
        "fail", queue="work", args={"message": hostile}, backoff={"strategy": "fixed", "base": 3600}
    )
    site.discarded = site.enqueue("fail", queue="work", max_attempts=1)
    site.executing = site.enqueue("hold", queue="held")
    site.scheduled = site.enqueue("echo", queue="work", delay="1 day")
    site.waiting = site.enqueue("echo", queue=hostile, args={"n": 1})
    site.cancelled = site.enqueue("echo", queue=hostile)
    site.conn.execute("select eram_cancel_job(%s, %s)", (site.cancelled, hostile))
    site.conn.execute("select eram_schedule('digest', '0 7 * * *', %s)", (hostile,))
    site.conn.execute("select eram_schedule_sql('broken', '@daily', 'select 1/0')")
    site.conn.execute("select eram_run_schedule('broken')")
    for _ in range(3):  # it is taken, run, and known to have failed
        site.conn.execute("select eram_tick()")


class Visitor:
    """Opens pages, and hears what the browser complains of."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._contexts = contextlib.ExitStack()
        self.tabs: list[Tab] = []
        self.complaints: list[str] = []

    def __call__(
        self, path: str = "", *, url: str | None = None, script: str = "", **options: Any
    ) -> Tab:
        context = self._browser.new_context(**{"viewport": DESKTOP, **options})
        self._contexts.callback(context.close)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.add_init_script(script)
        tab = context.new_page()
        tab.on("console", self._hear)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.goto(f"{(url or self._url).rstrip('/')}/{path}")
        settle(tab)
        self.tabs.append(tab)
        return tab

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def forget(self, tab: Tab) -> None:
        """Leave a page that had reason to complain."""
        tab.goto("about:blank")
        self.complaints.clear()

    def close(self) -> None:
        self._contexts.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Open a page of the site; the browser may complain of nothing and run no data."""
    visitor = Visitor(browser, site.url)
    try:
        yield visitor
        assert [tab.evaluate("window.harmed ?? null") for tab in visitor.tabs if tab.url] == (
            [None] * len(visitor.tabs)
        )
        assert visitor.complaints == []
    finally:
        visitor.close()


def start_again(dsn: str, port: int, **options: Any) -> Page:
    """Start a server of the page where one has just ended, which may take it a moment."""
    pages: list[Page] = []

    def start() -> bool:
        with contextlib.suppress(OSError):
            pages.append(Page(dsn, port=port, **options))
        return bool(pages)

    eventually(start)
    return pages[0]


def settle(tab: Tab) -> None:
    """Wait until a page has its data."""
    tab.wait_for_selector("main h1")
    tab.wait_for_selector("main .skeleton", state="detached")
    tab.wait_for_selector("main [aria-busy]", state="detached")
