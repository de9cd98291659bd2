"""The pictures of the page in docs/images: a shop's jobs, and a browser that looks at them.

Run it with `make screenshots`. It needs Chromium.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from playwright.sync_api import Browser, sync_playwright
from psycopg.types.json import Jsonb

from eram._web.config import WebConfig
from eram._web.database import Database
from eram._web.server import Server
from eram.embedded import EmbeddedServer

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}
SEED = 7

# Each queue's handler, jobs a minute, jobs waiting, global limit, and tags.
QUEUES = {
    "mail": ("shop.mail:send_receipt", 420, 38, 20, ["transactional"]),
    "webhooks": ("shop.webhooks:deliver", 260, 112, None, []),
    "search-index": ("shop.search:index_product", 610, 240, None, []),
    "images": ("shop.images:make_thumbnails", 95, 17, 8, ["catalogue"]),
    "billing": ("shop.billing:charge_card", 34, 3, 4, ["payments", "eu"]),
    "reports": ("shop.reports:export_orders", 2, 5, 1, ["back-office"]),
}
FAILURES = {
    "webhooks": ("HTTPError", "503 Service Unavailable from hooks.example.com"),
    "mail": ("SMTPServerDisconnected", "Connection unexpectedly closed: timed out"),
    "billing": ("CardDeclined", "insufficient_funds"),
}
TRACEBACK = """Traceback (most recent call last):
  File "/app/shop/billing.py", line 58, in charge_card
    payment = gateway.charge(customer, amount, currency)
  File "/app/shop/gateway.py", line 131, in charge
    raise CardDeclined(answer["reason"])
shop.gateway.CardDeclined: insufficient_funds"""


def args_of(queue: str, dice: random.Random) -> dict[str, Any]:
    order = dice.randint(48_000, 49_999)
    name = dice.choice(["ada", "grace", "alan", "emmy", "kurt"])
    args: dict[str, dict[str, Any]] = {
        "mail": {"to": f"{name}@example.com", "order": order},
        "webhooks": {"event": "order.paid", "order": order, "shop": dice.randint(1, 90)},
        "search-index": {"product": dice.randint(1, 9_000)},
        "images": {"product": dice.randint(1, 9_000), "sizes": [64, 256, 1024]},
        "billing": {"order": order, "amount": dice.randint(900, 30_000), "currency": "EUR"},
        "reports": {"month": "2026-10", "format": "csv"},
    }
    return args[queue]


class Shop:
    """A database in which a shop's jobs have been run, by the calls that any worker makes."""

    def __init__(self, dsn: str) -> None:
        self.conn = psycopg.connect(dsn, autocommit=True)
        self.dice = random.Random(SEED)

    def close(self) -> None:
        self.conn.close()

    def call(self, query: str, *parameters: Any) -> list[Any]:
        cursor = self.conn.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []

    def enqueue(self, queue: str, count: int, **options: Any) -> None:
        handler, _, _, _, tags = QUEUES[queue]
        jobs = [
            {
                "handler": handler,
                "queue": queue,
                "args": args_of(queue, self.dice),
                "tags": tags,
                **options,
            }
            for _ in range(count)
        ]
        self.call("select count(*) from eram_enqueue_jobs(%s)", Jsonb(jobs))

    def fill(self) -> None:
        self.call("select setval(pg_get_serial_sequence('eram_job_specs', 'job_id'), 184200)")
        for queue, (_, _, _, limit, _) in QUEUES.items():
            self.call("select eram_set_queue(%s, global_limit => %s)", queue, limit or 0)
        worker = self.call(
            "select eram_start_worker('worker-7c9f', %s, pg_backend_pid())", list(QUEUES)
        )[0][0]
        self.schedule()
        for queue in QUEUES:
            self.enqueue(queue, 40)
            self.work(queue, worker, 40)
        for queue, (_, _, waiting, _, _) in QUEUES.items():
            self.enqueue(queue, waiting, priority=5)
        self.give_up_on_one(worker)
        for queue in self.dice.sample(list(QUEUES), len(QUEUES)) * 3:
            self.enqueue(queue, 1)
            if self.dice.random() < 0.7:
                self.work(queue, worker, 1)
        self.enqueue("mail", 1, delay="2 hours")
        for queue, running in (("search-index", 9), ("mail", 6), ("webhooks", 5), ("billing", 2)):
            self.call("select count(*) from eram_fetch(%s, %s, %s)", queue, running, worker)
        self.call("select eram_pause_queue('reports')")
        self.remember()

    def work(self, queue: str, worker: int, count: int) -> None:
        """Run jobs: most go well."""
        while jobs := self.call(
            "select id, run from eram_fetch(%s, %s, %s)", queue, min(count, 4), worker
        ):
            count -= len(jobs)
            for job, run in jobs:
                kind, message = FAILURES.get(queue, (None, ""))
                if kind and self.dice.random() < 0.12:
                    detail = Jsonb({"type": kind, "traceback": TRACEBACK})
                    self.call("select eram_fail_job(%s, %s, %s, %s)", job, run, message, detail)
                else:
                    self.call("select eram_complete_jobs(array[%s], array[%s])", job, run)
            if count <= 0:
                return

    def give_up_on_one(self, worker: int) -> None:
        """Let a job fail until its attempts are used up."""
        kind, message = FAILURES["billing"]
        self.enqueue("billing", 1, max_attempts=3)
        for _ in range(3):
            job, run = self.call("select id, run from eram_fetch('billing', 1, %s)", worker)[0]
            detail = Jsonb({"type": kind, "traceback": TRACEBACK})
            self.call("select eram_fail_job(%s, %s, %s, %s)", job, run, message, detail)
            self.call(
                "select eram_retry_job(id) from eram_jobs where id = %s and state = 'retryable'",
                job,
            )
        self.discarded = job

    def schedule(self) -> None:
        self.call(
            "select eram_schedule('daily-digest', '0 7 * * mon-fri', 'shop.mail:send_digest',"
            " timezone => 'Europe/Berlin')"
        )
        self.call("select eram_schedule('stock-sync', '5 minutes', 'shop.stock:synchronise')")
        self.call("select eram_tick()")

    def remember(self) -> None:
        """Write an hour of minutes as the recorder would have, had it been there."""
        rows = []
        for ago in range(1, 60):
            wave = 1 + 0.28 * math.sin(ago / 8) + self.dice.uniform(-0.05, 0.05)
            trouble = 4 if 22 <= ago <= 30 else 1
            for queue, (_, rate, waiting, _, _) in QUEUES.items():
                wait, run = 0.012 * wave * trouble, 0.06 * wave
                rows.append((
                    queue,
                    ago,
                    int(rate * wave / math.sqrt(trouble)),
                    int(rate * 0.012 * trouble * self.dice.uniform(0.4, 1.6)),
                    int(self.dice.random() < 0.02 * trouble),
                    int(self.dice.random() < 0.01),
                    int(waiting * wave * trouble),
                    int(3 * wave),
                    *(wait, wait * self.dice.uniform(8, 11), wait * 20),
                    *(run, run * self.dice.uniform(5, 6), run * 9),
                ))  # fmt: skip
        with self.conn.cursor() as cursor:
            cursor.executemany(
                "insert into eram_minutes values (%s, date_trunc('minute', now(), 'UTC') - %s *"
                " interval '1 minute', %s, %s, %s, %s, %s, %s, 100, 100,"
                " array[make_interval(secs => %s), make_interval(secs => %s),"
                " make_interval(secs => %s)], array[make_interval(secs => %s),"
                " make_interval(secs => %s), make_interval(secs => %s)])",
                rows,
            )


def take(browser: Browser, shop: Shop, url: str) -> None:
    job = f"jobs/{shop.discarded}"
    pictures = {
        "page-overview-light": ("", DESKTOP, "light"),
        "page-overview-dark": ("", DESKTOP, "dark"),
        "page-jobs": ("jobs", DESKTOP, "light"),
        "page-job": (job, DESKTOP, "light"),
        "page-queues": ("queues", DESKTOP, "light"),
        "page-phone": ("", PHONE, "dark"),
    }
    IMAGES.mkdir(exist_ok=True)
    for name, (path, viewport, colours) in pictures.items():
        context = browser.new_context(
            viewport=viewport,
            color_scheme=colours,
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        tab = context.new_page()
        tab.goto(f"{url.rstrip('/')}/{path}")
        tab.wait_for_selector("main h1")
        tab.wait_for_selector("main .skeleton", state="detached")
        tab.wait_for_selector("[data-condition=live]")
        if path == job:
            tab.locator(".traceback summary").first.click()
        tab.wait_for_timeout(500)  # lines are drawn when their size is known
        tab.screenshot(path=IMAGES / f"{name}.png")
        context.close()


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="eram-shop-") as directory,
        EmbeddedServer(Path(directory)) as server,
    ):
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("create database shop")
        dsn = server.dsn.replace("/postgres?", "/shop?", 1)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("create extension eram")
        shop = Shop(dsn)
        shop.fill()
        config = WebConfig(dsn=dsn, port=0, allow_actions=True)
        page = Server(config, Database(dsn, config.statement_timeout))
        page.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            take(browser, shop, page.url)
            browser.close()
        page.stop()
        shop.close()


if __name__ == "__main__":
    main()
