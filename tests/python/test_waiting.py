"""When a session fetches, and when it asks the server first."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sample_jobs
from helpers import PATIENCE, eventually, value

from eram._base import statements
from eram._runtime.waiting import Waiting

NEVER_POLL = 10 * PATIENCE


class WaitingSession:
    """A session that fetches as a queue's thread does, and an eye on what it says."""

    def __init__(self, session, observer):
        self.session = session
        self._observer = observer
        self.waiting = Waiting(session, "default", poll_interval=NEVER_POLL, can_listen=True)
        session.add_notify_handler(lambda _: self.waiting.notified())
        pid = session.info.backend_pid
        self._worker = value(session, "select eram_start_worker('w', '{default}', %s)", pid)

    def fetch(self):
        """Fetch and complete jobs; say whether the server was asked before."""
        self.waiting.before_fetch()
        query = "select query from pg_stat_activity where pid = %s"
        said = value(self._observer, query, self.session.info.backend_pid)
        rows = self.session.execute(statements.FETCH, ("default", 10, self._worker)).fetchall()
        for row in rows:
            self.session.execute(statements.COMPLETE_JOBS, ([row[0]], [row[1]], None))
        self.waiting.after_fetch(fetched=len(rows), demand=10)
        return "eram_start_waiting" in said


@pytest.fixture
def idle(conn, connect):
    """A session that has settled."""
    session = WaitingSession(connect(), conn)
    session.fetch()
    assert session.fetch()
    eventually(lambda: not session.fetch() and session.waiting.seconds_left() > PATIENCE)
    return session


def test_slow_poll_that_finds_nothing_is_one_statement(idle):
    assert not any(idle.fetch() for _ in range(5))
    assert idle.waiting.seconds_left() > PATIENCE


def test_notified_session_fetches_first_and_asks_afterwards(conn, idle):
    sample_jobs.nothing.enqueue(conn)
    idle.session.execute("select")
    assert idle.waiting.seconds_left() == 0
    assert not idle.fetch()
    assert idle.waiting.seconds_left() < 1
    assert idle.fetch()
    eventually(lambda: not idle.fetch())


def test_session_notified_in_vain_asks_at_once(idle):
    idle.waiting.notified()
    assert not idle.fetch()
    assert idle.waiting.seconds_left() == 0
    assert idle.fetch()
    eventually(lambda: not idle.fetch())


def test_notification_that_comes_with_an_answer_is_not_forgotten(conn, idle):
    """Neither is it asked about again and again."""
    idle.waiting.notified()
    assert not idle.fetch()
    sample_jobs.nothing.options(delay=timedelta(hours=1)).enqueue(conn)
    assert idle.fetch()
    eventually(lambda: idle.waiting.seconds_left() == 0)
    eventually(idle.fetch)
    eventually(lambda: not idle.fetch() and idle.waiting.seconds_left() > PATIENCE)


def test_poll_that_has_found_a_job_is_followed_by_a_question(conn, connect, idle):
    """Its producer notifies nobody, and may have enqueued others for later."""
    silent = connect()
    silent.execute("set eram.notify = off")
    sample_jobs.nothing.enqueue(silent)
    assert not idle.fetch()
    assert idle.fetch()
    assert value(conn, "select count(*) from eram_finished_jobs") == 1


@pytest.fixture
def held_up(connect):
    """A session that cannot settle, because a transaction is open that was there before."""
    connect().execute("begin; select pg_current_xact_id()")
    session = WaitingSession(connect(), connect())
    session.fetch()
    return session


def test_session_that_cannot_settle_polls_ever_more_rarely(held_up):
    """What is committed late is found after a tenth of the time that it has taken, at the most."""
    assert all(held_up.fetch() for _ in range(8))
    assert held_up.waiting.seconds_left() < 1
    held_up.waiting._declared_at -= 600
    eventually(lambda: held_up.fetch() and held_up.waiting.seconds_left() > 50)
    assert held_up.waiting.seconds_left() < 70


def test_jobs_for_later_start_when_they_are_due_whatever_came_before(conn, start_worker):
    """No poll helps: the next one is far away."""
    start_worker(queues={"default": 3}, poll_interval=NEVER_POLL)
    count = 0
    for delays in ([0, 0.05], [0.3], [0, 0, 0, 0, 0.1, 0.5], [0.02, 0.04, 0.06, 1.2]):
        with conn.transaction():
            for delay in delays:
                sample_jobs.nothing.options(delay=delay).enqueue(conn)
        count += len(delays)
        completed = "select count(*) from eram_finished_jobs"
        eventually(lambda: value(conn, completed) == count)  # noqa: B023 - it is over by then
