"""Exactly once: each job has its effect and ends, whatever is killed at whatever moment."""

from __future__ import annotations

import random
import re
import signal
import threading
from dataclasses import dataclass, field
from typing import Any

import async_transaction_jobs
import custom_driver
import orm_jobs
import pytest
import sample_jobs
from helpers import eventually, value, wait_for_state
from proxy import BrokenLinkError, Link, Proxy
from psycopg.conninfo import conninfo_to_dict

import eram

PATIENCE = 120


@dataclass
class Kind:
    """One way to have a transaction."""

    handler: Any
    allow: str
    # The name of its sessions.
    sessions: str
    driver: str = ""
    config: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "psycopg": Kind(sample_jobs.insert, "sample_jobs", "eram jobs default"),
    "async": Kind(async_transaction_jobs.insert, "async_transaction_jobs", "eram jobs default"),
    "sqlalchemy": Kind(orm_jobs.add, "orm_jobs", "eram jobs", "sqlalchemy", {"url": "{dsn}"}),
    "sqlalchemy async": Kind(
        orm_jobs.add_async,
        "orm_jobs",
        "eram jobs",
        "sqlalchemy",
        {"url": "{asyncpg}", "pool_size": 1},
    ),
    "django": Kind(
        "django_site.jobs:add",
        "django_site.jobs",
        "django site",
        "django",
        {"settings": "django_site.settings"},
    ),
    "custom": Kind(custom_driver.add, "custom_driver", "custom driver", "custom", {"url": "{dsn}"}),
}


class Scene:
    """Workers of one kind, jobs that each insert one row, and someone who kills."""

    def __init__(self, conn, dsn, kind, run_program, tmp_path, seed):
        self.conn = conn
        self.kind = kind
        self.random = random.Random(seed)
        self._dsn = dsn
        self._run_program = run_program
        self._config = tmp_path / "eram.toml"
        self._config.write_text(self._toml())
        self._workers = []
        self.deaths = 0
        conn.execute("create table effects (value bigint)")

    def _toml(self):
        asyncpg = self._dsn.replace("postgresql:", "postgresql+asyncpg:")
        text = f'dsn = "{self._dsn}"\nallow = ["{self.kind.allow}"]\nqueues = {{default = 4}}\n'
        if self.kind.driver:
            text += f'[driver]\ntype = "{self.kind.driver}"\n'
            text += 'path = "custom_driver:create"\n' if self.kind.driver == "custom" else ""
            text += "[driver.config]\n"
        for name, each in self.kind.config.items():
            told = each.format(dsn=self._dsn, asyncpg=asyncpg) if isinstance(each, str) else each
            text += f'{name} = "{told}"\n' if isinstance(told, str) else f"{name} = {told}\n"
        return text

    def enqueue(self, numbers):
        eram.enqueue_many(
            self.conn,
            [
                {
                    "handler": self.kind.handler,
                    "args": {"value": number},
                    # Whatever is lost is tried again at once, and often.
                    "max_attempts": 1_000,
                    "backoff": {"strategy": "fixed", "base": "0.05 seconds"},
                }
                for number in numbers
            ],
        )

    def start_worker(self):
        arguments = ("--config", str(self._config), "--poll-interval", "0.2")
        self._workers.append(self._run_program(*arguments, DJANGO_SITE_DSN=self._dsn))

    def rows(self):
        return value(self.conn, "select count(*) from effects")

    def wait_for_rows(self, count):
        eventually(lambda: self.rows() >= count, PATIENCE)
        # Anywhere in what comes next.
        threading.Event().wait(self.random.uniform(0, 0.02))

    def kill_a_worker(self):
        worker = self._workers.pop(self.random.randrange(len(self._workers)))
        worker.signal(signal.SIGKILL)
        worker.wait()
        self.deaths += 1
        self.start_worker()

    def terminate_sessions(self):
        """End one or all of the sessions that handlers run in."""
        few = self.random.choice((1, 1, 100))
        found = self.conn.execute(
            "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
            " where datname = current_database() and application_name = %s"
            " order by random() limit %s) as sessions",
            (self.kind.sessions, few),
        )
        self.deaths += len(found.fetchall())

    def check(self, count):
        """Wait until all has ended, and see that all was done, and once."""
        query = "select count(*) from eram_jobs where state = 'completed'"
        eventually(lambda: value(self.conn, query) == count, PATIENCE)
        assert self.conn.execute(
            "select count(*), count(distinct value) from effects"
        ).fetchone() == (
            count,
            count,
        )
        assert value(self.conn, "select count(*) from eram_jobs") == count


@pytest.fixture
def scene(conn, dsn, run_program, tmp_path, settled_server):
    def scene(kind, seed):
        return Scene(conn, dsn, KINDS[kind], run_program, tmp_path, seed)

    return scene


LONGEST_PLAY = 10


def play(scene, *, count, workers, every, strike):
    """Have jobs done while someone strikes, each time after some more of them."""
    for _ in range(workers):
        scene.start_worker()
    for first in range(0, LONGEST_PLAY * count, count):
        scene.enqueue(range(first, first + count))
        done = first
        while (done := done + scene.random.randrange(*every)) < first + count:
            scene.wait_for_rows(done)
            strike(scene)
        scene.check(first + count)
        assert scene.deaths >= count // every[1] - 1
        # What was struck was at work. It may not have been, once.
        if value(scene.conn, "select max(attempt) from eram_jobs") > 1:
            return
    pytest.fail("nobody who was struck was at work")


def test_workers_are_killed(scene):
    """5,000 jobs, each of which inserts one row, in workers that are killed at random moments."""
    play(scene("psycopg", 1), count=5_000, workers=3, every=(200, 700), strike=Scene.kill_a_worker)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "psycopg"])
def test_workers_of_other_kinds_are_killed(scene, kind):
    play(scene(kind, 2), count=250, workers=2, every=(60, 120), strike=Scene.kill_a_worker)


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_are_terminated(scene, kind):
    play(scene(kind, 3), count=400, workers=1, every=(10, 40), strike=Scene.terminate_sessions)


JOB_MARK = re.compile(rb"eram\.transaction = '[0-9]")


class CommitLink(Link):
    """Breaks when the first transaction of a job commits: just before, or just after."""

    breaks_before = False
    is_at_job = is_committing = False

    def to_server(self, data):
        # Its mark is the job's id and run; the driver was tried out before.
        self.is_at_job = self.is_at_job or JOB_MARK.search(data) is not None
        if self.is_at_job and b"COMMIT" in data.upper() and not self.proxy.is_broken:
            self.proxy.is_broken = self.is_committing = True
            if self.breaks_before:
                raise BrokenLinkError
        return data

    def to_client(self, data):
        if self.is_committing:
            raise BrokenLinkError
        return data


class EarlyCommitLink(CommitLink):
    breaks_before = True


@pytest.mark.parametrize("link", [CommitLink, EarlyCommitLink])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "django"])
def test_connection_is_lost_during_the_commit(conn, dsn, start_worker, caplog, kind, link):
    """Nobody tells the worker which it was: the report that follows counts, or it does not."""
    conn.execute("create table effects (value bigint)")
    proxy = Proxy(conn, link)
    place = conninfo_to_dict(proxy.dsn(dsn))
    options = {"dsn": proxy.dsn(dsn)}
    if KINDS[kind].driver:
        way = "postgresql{}://{user}:{password}@{host}:{port}/{dbname}"
        urls = {"dsn": way.format("", **place), "asyncpg": way.format("+asyncpg", **place)}
        config = KINDS[kind].config
        config = {**config, "url": config["url"].format(**urls)}
        options["driver"] = {"type": KINDS[kind].driver, "config": config}
        if kind == "custom":
            options["driver"]["path"] = "custom_driver:create"
    start_worker(allow=[KINDS[kind].allow], queues={"default": 1}, **options)
    handler = KINDS[kind].handler.options(backoff=[0.05])
    answer = handler.enqueue(conn, value=7)
    job = wait_for_state(conn, answer.id, "completed")
    assert value(conn, "select array_agg(value) from effects") == [7]
    assert proxy.is_broken
    if link is CommitLink:
        assert job["attempt"] == 1
        eventually(lambda: "so its transaction was committed" in caplog.text)
    else:
        assert job["attempt"] == 2
    assert "lost job" not in caplog.text
    proxy.close()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strike", [Scene.kill_a_worker, Scene.terminate_sessions])
def test_for_longer(scene, kind, strike):
    seed = random.randrange(2**32)
    print("seed", seed)
    play(scene(kind, seed), count=5_000, workers=3, every=(50, 250), strike=strike)
