"""What a worker says to the server, as the server's log tells it."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import eram
from eram.embedded import EmbeddedServer

from .judging import above
from .meter import number
from .moves import fill

PATIENCE = 60
# What a worker says depends on when it is let to. The least of some tries counts.
TRIES = 5
JOBS_AT_ONCE = 1_000
JOBS_ALONE = 10
IDLE_SECONDS = 2.0
SETTLED_SECONDS = 0.5  # longer than from one question to the next
STATEMENT = re.compile(r"(\w+)\|([^|]*)\|LOG:  (?:statement|execute [^:]*): (.*)")
CALLED = re.compile(r"eram_\w+")
QUEUE = "eram queue default"
TRANSACTIONS = "eram jobs default"
PRODUCER = "producer"
# The sessions of that name that are to be notified.
WAITING_SESSIONS = """
    select count(*)
    from pg_locks as locks
    join pg_stat_activity as sessions on sessions.pid = locks.pid
    where
        locks.locktype = 'advisory'
        and locks.classid = 'eram_queues'::regclass
        and locks.mode = 'ShareLock'
        and sessions.datname = current_database()
        and sessions.application_name = %s
"""
FETCHES = {"eram_fetch"}
REPORTS = {"eram_complete_jobs"}
WAITING = {"eram_start_waiting", "eram_stop_waiting"}
BEATS = {"eram_heartbeat", "eram_tick"}

Figures = dict[str, float]


@eram.job(transaction=True)
def inside(job: eram.Job, conn: psycopg.Connection) -> None:
    """Do nothing, in the transaction that completes the job."""


class Statements(Counter[tuple[str, str]]):
    """How often each was said: by the session's name, and by the function called or the text."""

    def of(self, session: str) -> Statements:
        """Return those of one session."""
        return Statements({said: count for said, count in self.items() if said[0] == session})

    def besides(self, *functions: set[str]) -> int:
        """Count those that call none of these."""
        return sum(
            count for (_, called), count in self.items() if called not in set.union(*functions)
        )


class Watched:
    """A worker in this process, and what it says about its queue and about itself."""

    def __init__(self, log: Path, conn: psycopg.Connection) -> None:
        self.conn = conn
        self._log = log
        self._database = conn.info.dbname
        self._heard = log.stat().st_size

    def statements(self) -> Statements:
        """Return what it has said since the last call."""
        with self._log.open("rb") as file:
            file.seek(self._heard)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._heard += len(text)
        found = Statements()
        for line in text.decode().splitlines():
            said = STATEMENT.match(line)
            if said and said[1] == self._database:
                called = CALLED.search(said[3])
                found[said[2], called[0] if called else said[3]] += 1
        return found

    def run(self, count: int, handler: str = "noop:nothing") -> None:
        """Enqueue as many jobs, and wait until they are completed."""
        before = self._finished()
        fill(self.conn, count, handler)
        wait_until(lambda: self._finished() >= before + count)

    def settle(self) -> None:
        """Wait until it has nothing to do but to wait, and has asked all that it had to ask."""
        wait_until(lambda: number(self.conn, WAITING_SESSIONS, QUEUE) == 1)
        is_asking = True
        while is_asking:
            self.statements()
            time.sleep(SETTLED_SECONDS)
            said = self.statements()
            is_asking = said.besides(WAITING) != said.total()

    def _finished(self) -> int:
        return number(self.conn, "select count(*) from eram_finished_jobs")


@contextlib.contextmanager
def watch(server: EmbeddedServer, conn: psycopg.Connection, **options: object) -> Iterator[Watched]:
    """Start a worker whose statements are logged."""
    dsn = make_conninfo(
        **{**conninfo_to_dict(server.dsn), "dbname": conn.info.dbname},
        options="-c log_statement=all",
    )
    worker = eram.Worker(dsn, allow=["noop", __name__], **{"queues": {"default": 10}, **options})
    watched = Watched(server.log, conn)
    worker.start()
    try:
        yield watched
    finally:
        worker.stop()
        assert worker.join(PATIENCE)


def draining(worker: Watched) -> Figures:
    """Let a thousand jobs come at once."""
    worker.run(JOBS_AT_ONCE)
    said = worker.statements().of(QUEUE)
    return {
        "drain: statements a job": said.total() / JOBS_AT_ONCE,
        "drain: other statements": said.besides(FETCHES, REPORTS, WAITING),
    }


def one_by_one(worker: Watched) -> Figures:
    """Let each job come when the last one has ended."""
    worker.settle()
    for _ in range(JOBS_ALONE):
        worker.run(1)
    said = worker.statements()
    own = said.of(QUEUE)
    figures = {
        "one by one: statements a job": own.total() / JOBS_ALONE,
        "one by one: of other sessions": said.besides(BEATS) - own.besides(BEATS),
    }
    for _ in range(JOBS_ALONE):
        worker.run(1, inside.path)
    said = worker.statements().of(TRANSACTIONS)
    return {**figures, "one by one: of its transaction": said.total() / JOBS_ALONE}


def idling(worker: Watched) -> Figures:
    """Let nothing come."""
    worker.settle()
    begun_at, first_id = time.monotonic(), _next_id(worker.conn)
    time.sleep(IDLE_SECONDS)
    said, ids = worker.statements(), _next_id(worker.conn) - first_id
    seconds = time.monotonic() - begun_at
    return {
        "idle: statements a second": round(said.total() / seconds, 1),
        "idle: most of a kind a second": round(max(said.values()) / seconds, 1),
        "idle: other statements": said.besides(FETCHES, WAITING, BEATS),
        "idle: transaction ids a second": round(ids / seconds, 1),
    }


def producing(dsn: str, log: Path) -> Figures:
    """Enqueue a job, and ten, by Python, and count what is said for each call."""
    found: Figures = {}
    options = {"application_name": PRODUCER, "options": "-c log_statement=all"}
    with psycopg.connect(dsn, autocommit=True, **options) as conn:
        heard = Watched(log, conn)
        eram.enqueue(conn, "noop:nothing")
        found["produce: statements a job"] = heard.statements().of(PRODUCER).total()
        eram.enqueue_many(conn, [{"handler": "noop:nothing"}] * 10)
        found["produce: statements a call"] = heard.statements().of(PRODUCER).total()
    return found


SCENES: Mapping[str, Callable[[Watched], Figures]] = {
    scene.__name__: scene for scene in (draining, one_by_one, idling)
}


def least(worker: Watched, scene: str, allowed: Mapping[str, float]) -> Figures:
    """Play a scene until everything in it is within its limits, or has been too much each time."""
    found = SCENES[scene](worker)
    for _ in range(TRIES - 1):
        if not above(found, allowed):
            break
        again = SCENES[scene](worker)
        found = {name: min(figure, again[name]) for name, figure in found.items()}
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what only asking can tell."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _next_id(conn: psycopg.Connection) -> int:
    return number(conn, "select pg_snapshot_xmax(pg_current_snapshot())::text")
