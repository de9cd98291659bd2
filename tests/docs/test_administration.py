"""docs/administration.md, on a database full of jobs: each snippet runs, and does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

PAGE = Path(__file__).parents[2] / "docs" / "administration.md"
LIVING_QUEUES = ["default", "mail", "imports", "billing"]
INVOICE, REMIND, MAIL = "shop.jobs:invoice", "shop.jobs:remind", "shop.jobs:mail"
ROLES = ("shop_web", "shop_worker", "shop_operator")

Results = list[list[Any]]


class Shop:
    """A database with a history. Its jobs have the ids that the page speaks of."""

    def __init__(self, connect: Callable[..., psycopg.Connection]) -> None:
        self._connect = connect
        self.conn = connect()
        self._next_id = 1000
        self._sessions: list[psycopg.Connection] = []

    def value(self, query: str, *params: Any) -> Any:
        row = self.conn.execute(query, params).fetchone()
        assert row is not None, query
        return row[0]

    def ids(self, condition: str) -> list[int]:
        query = f"select id from eram_jobs where {condition} order by id"
        return [row[0] for row in self.conn.execute(query)]

    def state(self, job_id: int) -> str:
        return self.value("select state from eram_jobs where id = %s", job_id)

    def enqueue(self, handler: str, *, first: int = 0, count: int = 1, **options: Any) -> None:
        """Enqueue jobs, the first of them with a certain id."""
        self.conn.execute(
            f"alter sequence eram_job_specs_job_id_seq restart with {first or self._next_id}"
        )
        if not first:
            self._next_id += count
        job = {"handler": handler, **options}
        self.conn.execute("select eram_enqueue_jobs(%s)", [Jsonb([job] * count)])

    def start_worker(self, name: str, queues: list[str]) -> tuple[psycopg.Connection, int]:
        conn = self._connect()
        worker = conn.execute(
            "select eram_start_worker(%s, %s, %s)", [name, queues, conn.info.backend_pid]
        ).fetchone()
        return conn, worker[0]

    def fetch(self, worker: tuple[psycopg.Connection, int], queue: str, count: int) -> list[Any]:
        conn, worker_id = worker
        query = "select id, run from eram_fetch(%s, %s, %s)"
        jobs = conn.execute(query, [queue, count, worker_id]).fetchall()
        assert len(jobs) == count, queue
        return jobs

    def fail(self, worker: tuple[psycopg.Connection, int], queue: str, count: int = 1) -> None:
        """Let jobs fail in one attempt each."""
        for job_id, run in self.fetch(worker, queue, count):
            worker[0].execute(
                "select eram_fail_job(%s, %s, 'connection refused', %s)",
                [job_id, run, Jsonb({"type": "OSError", "traceback": "Traceback ..."})],
            )

    def age(self, condition: str, hours: float) -> None:
        """Let what happened to jobs have happened earlier."""
        for table, columns in (
            ("eram_job_specs", "inserted_at scheduled_at"),
            ("eram_queued_jobs", "scheduled_at"),
            ("eram_running_jobs", "attempted_at"),
            ("eram_finished_jobs", "attempted_at finalized_at"),
            ("eram_job_errors", "errored_at"),
        ):
            changes = ", ".join(
                f"{column} = {column} - make_interval(mins => %s)" for column in columns.split()
            )
            self.conn.execute(
                f"update {table} set {changes} where job_id = any (%s)",
                [*[round(60 * hours)] * len(columns.split()), self.ids(condition)],
            )


@pytest.fixture
def shop(connect: Callable[..., psycopg.Connection]) -> Iterator[Shop]:
    """Jobs in every state, failures of last night, what is stuck for each reason, and who works."""
    shop = Shop(connect)
    conn = shop.conn
    conn.execute("select eram_tick(0)")
    conn.execute("select eram_schedule('digest', '0 7 * * *', 'shop.jobs:digest')")
    conn.execute("select eram_schedule('report', '1 hour', 'shop.jobs:report')")
    conn.execute("select eram_schedule_sql('totals', '1 hour', 'select 1 / 0')")
    conn.execute("select eram_run_schedule('totals')")
    conn.execute("select eram_tick()")
    conn.execute("select eram_tick()")  # The command comes with the second.
    conn.execute("select eram_register_handler(%s, 'billing', 3)", [INVOICE])
    conn.execute("select eram_register_handler(%s, tags => '{spring}')", [REMIND])
    conn.execute("select eram_set_handler(%s, '{\"max_attempts\": 2}')", [REMIND])
    living = shop.start_worker("living", LIVING_QUEUES)
    dying = shop.start_worker("dying", ["crawl"])
    stopped = shop.start_worker("stopped", ["default"])
    stopped[0].execute("select eram_stop_worker(%s)", [stopped[1]])

    # Failures: one that is told of, some like it, an old one and one of another kind.
    for job_id, count in ((42, 1), (0, 4)):
        shop.enqueue(INVOICE, first=job_id, count=count, backoff="none")
        for _ in range(3):
            shop.fail(living, "billing", count)
    shop.age("state = 'discarded'", 6)
    shop.enqueue(INVOICE, first=900, max_attempts=1)
    shop.fail(living, "billing")
    shop.age("id = 900", 72)
    shop.enqueue("shop.jobs:export", queue="billing", first=901, max_attempts=1)
    shop.fail(living, "billing")

    # Ended well, or by hand; kept for ever in one queue.
    conn.execute("select eram_set_queue('audit', max_age => '\"infinity\"')")
    auditor = shop.start_worker("auditor", ["audit"])
    for queue, worker in (("default", living), ("audit", auditor)):
        shop.enqueue(MAIL, queue=queue, count=5)
        jobs = shop.fetch(worker, queue, 5)
        worker[0].execute(
            "select eram_complete_jobs(%s, %s)", [[j[0] for j in jobs], [j[1] for j in jobs]]
        )
    shop.age("state = 'completed'", 3)
    conn.execute("update eram_completions set finalized_at = finalized_at - interval '3 hours'")
    auditor[0].execute("select eram_stop_worker(%s)", [auditor[1]])
    shop.enqueue(MAIL, first=902)
    conn.execute("select eram_cancel_job(902, 'not needed')")

    # Running: on a worker that lives, for long, and on one that has died.
    shop.enqueue(MAIL, queue="mail", first=43)
    shop.fetch(living, "mail", 1)
    shop.age("id = 43", 1)
    shop.enqueue("shop.jobs:crawl", queue="crawl", count=2)
    shop.fetch(dying, "crawl", 2)
    conn.execute("select eram_set_queue('crawl', global_limit => 2)")
    shop.enqueue("shop.jobs:crawl", queue="crawl")
    dying[0].close()

    # Waiting for their backoff; then stuck, for all kinds of reasons.
    shop.enqueue(MAIL, queue="mail", count=3, backoff={"strategy": "fixed", "base": 3600})
    shop.fail(living, "mail", 3)
    shop.enqueue(MAIL, first=47, queue="imports", backoff={"strategy": "fixed", "base": 3600})
    shop.fail(living, "imports")
    conn.execute("select eram_set_queue('imports', global_limit => 2)")
    shop.enqueue("shop.jobs:import", queue="imports", count=6)
    shop.fetch(living, "imports", 2)
    shop.enqueue("shop.jobs:report", queue="reports", count=4)
    conn.execute("select eram_pause_queue('reports')")
    shop.enqueue("shop.jobs:resize", queue="thumbnails", count=3)
    shop.enqueue(MAIL, count=5)
    shop.age("state = 'available' and queue <> 'default'", 2)

    # What the page changes.
    shop.enqueue(MAIL, first=44, priority=5)
    shop.enqueue(MAIL, first=45, delay=86400)
    shop.enqueue(MAIL, first=46, unique=True)
    shop.enqueue(MAIL, first=48, args={"order": 48}, unique={"period": 3600})
    shop.enqueue(REMIND, count=3, delay=3600)
    yield shop
    for role in ROLES:
        conn.execute(
            f"do $$ begin drop owned by {role}; exception when undefined_object then null; end $$"
        )
        conn.execute(f"drop role if exists {role}")


def sections() -> dict[str, list[str]]:
    """Return the statements of each section of the page."""
    found: dict[str, list[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.partition("\n")[0]
        text = "\n".join(re.findall(r"^```sql\n(.*?)^```", section, re.DOTALL | re.MULTILINE))
        assert section.count("```") == 2 * section.count("```sql"), title
        text = re.sub(r" *--.*", "", text)
        statements = [part.strip() for part in re.split(r";\s*\n", text) if part.strip()]
        if statements:
            found[title] = statements
    return found


def in_the_morning(shop: Shop, results: Results) -> None:
    stats, states, failing, health, violations, minutes, handlers, times, workers = results
    assert ("schedules", "critical") in {(row.name, row.level) for row in health}
    assert {row.queue for row in stats} >= {*LIVING_QUEUES, "reports", "thumbnails", "crawl"}
    assert len(states) == 7
    assert [row.name for row in failing] == ["totals"]
    assert violations == []
    assert sum(row.completed + row.failed for row in minutes) > 0
    assert sum(row.completed_count + row.failed_count for row in handlers) > 0
    assert all(row.sample_count > 0 for row in times)
    assert all(row.condition in ("alive", "missing", "silent") for row in workers)


def what_is_stuck_and_why(shop: Shop, results: Results) -> None:
    stuck, reasons, running = results
    queues = {"crawl", "imports", "reports", "thumbnails"}
    assert {row.queue for row in stuck} == queues
    assert {row.queue for row in reasons} == queues
    why = {row.queue: row.eram_why for row in reasons}
    assert "paused" in why["reports"]
    assert "limit" in why["imports"]
    assert "No worker serves" in why["thumbnails"]
    assert "limit" in why["crawl"]
    assert [row.id for row in running] == [43]
    assert "living" in running[0].eram_why


def the_failures_of_last_night(shop: Shop, results: Results) -> None:
    failures, job, attempts, retried, again, mail = results
    assert (failures[0].handler, failures[0].count) == (INVOICE, 15)
    assert failures[0].error == "connection refused"
    assert (job[0].state, job[0].attempt) == ("discarded", 3)
    assert [row.attempt for row in attempts] == [1, 2, 3]
    assert {row.type for row in attempts} == {"OSError"}
    assert retried[0].eram_retry_jobs == 5
    assert shop.state(42) == "available"
    assert again[0].eram_retry_job is False
    assert mail[0].eram_retry_jobs == 3
    # An older failure and one of another handler are left alone, and so is another queue.
    assert shop.ids("state = 'discarded'") == [900, 901]
    assert shop.ids("state = 'retryable'") == [47]


def many_jobs(shop: Shop, results: Results) -> None:
    would_be, cancelled, deleted, _, moved, _ = results
    assert sum(row.count for row in would_be) == cancelled[0].eram_cancel_jobs == 3
    assert deleted[0].eram_delete_jobs == 4
    assert moved[0].eram_move_jobs == 2
    assert shop.ids("id in (44, 46) and queue = 'default'") == [44, 46]
    assert shop.ids("state = 'cancelled'") == []


def one_job(shop: Shop, results: Results) -> None:
    assert all(row[0] is True for (row,) in results)
    assert shop.state(43) == "cancelled"
    assert shop.ids("id = 44 and priority = 0") == [44]
    assert shop.state(45) == "available"
    assert shop.state(46) == "scheduled"
    assert shop.value("select max_attempts from eram_jobs where id = 47") == 5
    assert shop.ids("id = 48") == []
    assert "no such job" in shop.value("select eram_why(48)")


def pause_drain_move_cap(shop: Shop, results: Results) -> None:
    paused, running, resumed, moved, *_ = results
    assert paused[0].eram_pause_queue
    assert running[0].running_count == 0
    assert resumed[0].eram_resume_queue
    assert moved[0].eram_move_jobs == 3
    assert len(shop.ids("handler = 'shop.jobs:resize' and queue = 'default'")) == 3
    limits = dict(shop.conn.execute("select name, global_limit from eram_queues").fetchall())
    assert (limits["imports"], limits["crawl"]) == (4, None)


def defaults_of_a_handler(shop: Shop, results: Results) -> None:
    assert [row.name for row in results[0]] == [INVOICE, REMIND]
    for handler, expected in ((INVOICE, 10), (REMIND, 20)):
        job_id = shop.value("select eram_enqueue_job(%s)", handler)
        assert shop.value("select max_attempts from eram_jobs where id = %s", job_id) == expected
    assert shop.value("select queue from eram_handlers where name = %s", INVOICE) == "billing"


def what_is_kept(shop: Shop, results: Results) -> None:
    general, audit, _, pruned = results
    assert {row.max_age for row in general} == {"1 day", "7 days"}
    assert {row.max_age for row in audit} == {"infinity"}
    # The five of the default queue, and the old failure.
    assert pruned[0].eram_prune_jobs == 6
    assert len(shop.ids("state = 'completed' and queue = 'audit'")) == 5


def workers(shop: Shop, results: Results) -> None:
    known, busy = results
    assert [row.name for row in known][:2] == ["living", "dying"]
    assert {row.name: row.end_reason for row in known}["stopped"] == "stopped"
    assert [(row.attempted_by, row.queue, row.count) for row in busy] == [
        ("dying", "crawl", 2),
        ("living", "imports", 2),
    ]


def what_recurs(shop: Shop, results: Results) -> None:
    listed, paused, run = results
    assert {"digest", "report", "totals", "eram:prune"} <= {row.name for row in listed}
    assert paused[0].eram_pause_schedule
    assert shop.value("select meta ->> 'schedule' from eram_jobs where id = %s", run[0][0])


def copies_replicas_upgrades(shop: Shop, results: Results) -> None:
    jobs, workers, runs = results
    assert shop.value("select max(job_id) from eram_job_specs") == jobs[0].setval
    assert shop.value("select max(id) from eram_workers") == workers[0].setval
    assert len(runs) == shop.value("select count(distinct true) from eram_schedule_runs")
    assert shop.value("select count(*) from eram_check()") == 0


def who_may_do_what(shop: Shop, _: Results) -> None:
    may = "select has_function_privilege(%s, 'eram_' || %s, 'execute')"
    for role, function, expected in (
        ("shop_web", "enqueue_jobs(jsonb)", True),
        ("shop_web", "why(bigint)", False),
        ("shop_worker", "enqueue_jobs(jsonb)", False),
        ("shop_worker", "fetch(text, integer, bigint)", True),
        ("shop_operator", "retry_jobs(jsonb)", True),
        ("shop_operator", "revoke(text, text)", False),
    ):
        assert shop.value(may, role, function) is expected, (role, function)


CHECKS: dict[str, Callable[[Shop, Results], None]] = {
    "In the morning": in_the_morning,
    "What is stuck, and why": what_is_stuck_and_why,
    "The failures of last night": the_failures_of_last_night,
    "Many jobs": many_jobs,
    "One job": one_job,
    "Pause, drain, move, cap": pause_drain_move_cap,
    "Defaults of a handler": defaults_of_a_handler,
    "What is kept": what_is_kept,
    "Workers": workers,
    "What recurs": what_recurs,
    "Copies, replicas, upgrades": copies_replicas_upgrades,
    "Who may do what": who_may_do_what,
}


def test_the_page_does_what_it_says(shop: Shop) -> None:
    """In the order of the page, each statement by itself, as psql sends them."""
    page = sections()
    assert list(page) == list(CHECKS)
    for title, statements in page.items():
        results: Results = []
        for statement in statements:
            with shop.conn.cursor(row_factory=namedtuple_row) as cursor:
                cursor.execute(statement)
                results.append(cursor.fetchall() if cursor.description else [])
        CHECKS[title](shop, results)


def test_the_page_is_about_a_database_that_has_everything(shop: Shop) -> None:
    """Otherwise the other test would show little."""
    states = dict(shop.conn.execute("select state, count(*) from eram_jobs group by state"))
    assert len(states) == 7
    assert shop.value("select count(*) from eram_unique_keys") == 2
    assert shop.value("select count(*) from eram_schedules where last_error is not null") == 1


def test_each_function_that_the_page_names_is_there(shop: Shop) -> None:
    """In tables and in prose, too."""
    named = set(re.findall(r"\beram_\w+", PAGE.read_text(encoding="utf-8")))
    there = {
        row[0]
        for row in shop.conn.execute(
            "select proname from pg_proc union all select relname from pg_class"
        )
    }
    assert named - there == set()
    assert len(named) > 30
