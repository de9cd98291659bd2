"""What a queue does with jobs that no thread has begun when its worker is taken for dead."""

from __future__ import annotations

import psycopg
import pytest
from test_cancels import hold, make_job

from eram._base.connection import job_cursor
from eram._base.outage import Outage
from eram._jobs.finding import Handlers
from eram._runtime.notifier import Notifier
from eram._runtime.queue import QueueRunner

POLL_SECONDS = 0.5


class Registration:
    """That of a worker which the server does not know."""

    def __init__(self) -> None:
        self.worker_id = 1
        self.renewed: list[int] = []

    def renew(self, worker_id: int) -> None:
        self.renewed.append(worker_id)


@pytest.fixture
def registration() -> Registration:
    return Registration()


@pytest.fixture
def runner(registration):
    """A queue whose threads do not run; it has begun one job, and holds two more."""
    runner = QueueRunner(
        "q",
        limit=1,
        dsn="",
        handlers=Handlers([]),
        middleware=(),
        registration=registration,
        notifier=Notifier(),
        outage=Outage(),
        poll_interval=POLL_SECONDS,
        on_ended=pytest.fail,
    )
    hold(runner, make_job(8, 1), make_job(9, 1), begun=[make_job(7, 1)])
    yield runner
    runner._sleeper.close()


def fetch(runner: QueueRunner, conn: psycopg.Connection, *wanted: int) -> float:
    waiting = runner._make_waiting(conn, can_listen=False)
    cursor = job_cursor(conn)
    return (
        runner._fetch(cursor, waiting, *wanted)
        if wanted
        else runner._fetch_or_wait(cursor, waiting)
    )


def begun(runner: QueueRunner) -> list[int]:
    """Return the ids of the jobs in hand; none of them waits for a thread."""
    assert runner._pool.buffered == 0
    return [job.id for job in runner.unfinished]


def test_refused_fetch_drops_what_others_will_have(conn, runner, registration):
    """Though it may take a while to register anew: they would run twice meanwhile."""
    assert fetch(runner, conn, 1) == POLL_SECONDS
    assert registration.renewed == [1]
    assert begun(runner) == [7]


def test_registered_anew_it_drops_what_the_former_worker_held(conn, runner, registration):
    """When it was the heartbeat that was told."""
    registration.worker_id = 2
    fetch(runner, conn)
    assert registration.renewed == []
    assert begun(runner) == [7]
    assert not runner._has_news()
