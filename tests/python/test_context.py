"""Each run has a context of its own, in which the job is known."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta

import context_jobs
import pytest
import sample_jobs
from helpers import eventually, wait_for_state

import eram


@pytest.fixture
def start_worker(start_worker):
    def start(**options):
        return start_worker(**{"allow": ["context_jobs", "sample_jobs"], **options})

    return start


def result(conn, handler, **args):
    answer = handler.enqueue(conn, **args)
    return answer.id, wait_for_state(conn, answer.id, "completed")["result"]


def test_there_is_no_job_outside_of_handlers():
    assert eram.current_job() is None


def test_job_is_known_where_its_handler_runs(conn, start_worker):
    start_worker()
    job_id, found = result(conn, context_jobs.look)
    # A thread has it only with a copy of the context.
    assert found == [job_id, None, job_id]
    job_id, found = result(conn, context_jobs.look_in_transaction)
    assert found == [job_id]


def test_job_is_known_to_the_tasks_of_its_handler(conn, start_worker):
    start_worker()
    job_id, found = result(conn, context_jobs.look_async_in_transaction)
    assert found == [job_id, job_id]
    job_id, found = result(conn, context_jobs.look_async)
    # What runs in an executor has no context of the caller's, except by to_thread.
    assert found == [job_id, job_id, job_id, job_id, job_id, job_id, None]


@pytest.mark.parametrize("name", ["leave_a_mark", "leave_a_mark_async"])
def test_what_a_handler_sets_the_next_one_does_not_see(conn, start_worker, name):
    handler = getattr(context_jobs, name)
    start_worker(queues={"default": 1})
    expected = "none" if name == "leave_a_mark" else ["none", True]
    for _ in range(3):
        assert result(conn, handler)[1] == expected


def test_handlers_that_await_together_do_not_see_each_others_marks(conn, start_worker):
    start_worker(queues={"default": 20})
    answers = [context_jobs.leave_a_mark_async.enqueue(conn) for _ in range(40)]
    for answer in answers:
        assert wait_for_state(conn, answer.id, "completed")["result"] == ["none", True]


def test_what_a_handler_does_to_its_args_stays_with_it(conn, start_worker):
    told = []
    unsubscribe = eram.on_success(
        context_jobs.change_args, lambda job, _: told.append((job.args, job.meta))
    )
    try:
        start_worker()
        job_id, found = result(conn, context_jobs.change_args, words=["a"])
        # The parameters are not the same objects either.
        assert found == {"words": ["a", "added"], "args": {"words": ["a", "more"], "new": 1}}
        eventually(lambda: told)
    finally:
        unsubscribe()
    assert told == [({"words": ["a"]}, {})]
    stored = conn.execute("select args, meta from eram_jobs where id = %s", (job_id,)).fetchone()
    assert stored == ({"words": ["a"]}, None)


def make_job(**changes):
    values = {
        "id": 7,
        "run": 3,
        "handler": "a:b",
        "args": b'\1{"to": "x"}',
        "meta": b'\1{"by": "y"}',
        "tags": ["t", "u"],
        "queue": "q",
        "priority": 1,
        "attempt": 2,
        "max_attempts": 20,
        "inserted_at": 0,
        "scheduled_at": 1_000_000,
        "attempted_at": 2_000_000,
        "timeout": 1.5,
    }
    return eram.Job(tuple({**values, **changes}.values()))


ATTRIBUTES = {
    "id": 7,
    "run": 3,
    "handler": "a:b",
    "args": {"to": "x"},
    "meta": {"by": "y"},
    "tags": ("t", "u"),
    "queue": "q",
    "priority": 1,
    "attempt": 2,
    "max_attempts": 20,
    "inserted_at": datetime(2000, 1, 1, tzinfo=UTC),
    "scheduled_at": datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC),
    "attempted_at": datetime(2000, 1, 1, 0, 0, 2, tzinfo=UTC),
    "timeout": timedelta(seconds=1.5),
    "deadline": None,
    "cancelled": False,
    "timed_out": False,
}


def test_job_has_these_attributes_documented():
    job = make_job()
    assert {name: getattr(job, name) for name in ATTRIBUTES} == ATTRIBUTES
    for name in ATTRIBUTES:
        assert getattr(eram.Job, name).__doc__


@pytest.mark.parametrize("name", [*ATTRIBUTES, "notes"])
def test_job_is_frozen(name):
    job = make_job()
    with pytest.raises(AttributeError):
        setattr(job, name, 1)
    with pytest.raises(AttributeError):
        delattr(job, name)


def test_job_is_told_apart_by_what_it_is():
    """Two objects are two, whatever they say: none is ever made twice of one run."""
    job, same = make_job(), make_job()
    assert job == job  # noqa: PLR0124
    assert job != same
    assert len({job, same}) == 2
    assert repr(job) == "<Job 7 a:b run 3>"


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda job: pickle.loads(pickle.dumps(job))],  # noqa: S301
)
def test_job_can_be_copied_and_sent_to_other_processes(copied):
    job = make_job()
    job.mark_begun()
    job.mark_timed_out()
    twin = copied(job)
    expected = {**ATTRIBUTES, "deadline": job.deadline, "cancelled": True, "timed_out": True}
    assert {name: getattr(twin, name) for name in ATTRIBUTES} == expected


def test_positional_arguments_of_an_enqueue_are_stored_by_name(conn):
    job_id = sample_jobs.mail.enqueue(conn, "x", subject="y").id
    other = sample_jobs.mail.options(priority=1).enqueue(conn, "x", "y").id
    query = "select args from eram_jobs where id = any(%s)"
    assert (
        conn.execute(query, ([job_id, other],)).fetchall() == [({"to": "x", "subject": "y"},)] * 2
    )
