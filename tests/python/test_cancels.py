"""A run that was cancelled is not taken for the next one of its job."""

from __future__ import annotations

import pytest

import eram
from eram._base.outage import Outage
from eram._jobs.finding import Handlers
from eram._runtime.notifier import Notifier
from eram._runtime.queue import QueueRunner


class Registered:
    """A registration that nobody renews."""

    worker_id = 1

    def renew(self, worker_id):
        pytest.fail("nothing is fetched")


@pytest.fixture
def runner():
    """A queue whose threads do not run."""
    runner = QueueRunner(
        "q",
        limit=1,
        dsn="",
        handlers=Handlers([]),
        middleware=(),
        registration=Registered(),
        notifier=Notifier(),
        outage=Outage(),
        poll_interval=1,
        on_ended=pytest.fail,
    )
    yield runner
    runner._sleeper.close()


def make_job(number, run):
    return eram.Job((number, run, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))


def hold(runner, *jobs, begun=()):
    runner._in_hand.update(jobs, begun)
    runner._pool.feed(jobs)


def test_run_that_has_not_begun_is_not_taken_for_the_cancelled_one(runner):
    first, second, other = make_job(7, 1), make_job(7, 2), make_job(8, 1)
    hold(runner, second, other, begun=[first])
    runner.cancel([(7, 1)])
    runner._mark_cancelled()
    assert (first.cancelled, second.cancelled, other.cancelled) == (True, False, False)
    assert set(runner.unfinished) == {first, second, other}
    assert runner._pool.take_back(2) == [other, second]


def test_run_that_has_begun_is_not_told_of_the_one_before(runner):
    second = make_job(7, 2)
    hold(runner, begun=[second])
    runner.cancel([(7, 1)])
    runner._mark_cancelled()
    assert not second.cancelled


def test_cancelled_run_that_has_not_begun_does_not_begin(runner):
    second = make_job(7, 2)
    hold(runner, second)
    runner.cancel([(7, 2), (9, 9)])
    runner._mark_cancelled()
    assert runner.unfinished == []
    assert runner._pool.take_back(1) == []
