"""`assert_enqueued`, `refute_enqueued` and `enqueued` look at the jobs of a transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import testing_jobs as jobs

import eram
from eram import testing


def test_what_was_enqueued_is_found_by_everything_that_it_is(test_conn):
    enqueued = jobs.email.options(delay=90).enqueue(test_conn, to="ada")
    job = testing.assert_enqueued(
        test_conn,
        jobs.email,
        {"to": "ada"},
        queue="mail",
        priority=2,
        max_attempts=3,
        tags=["mail"],
        meta={"by": "tests"},
        delay=timedelta(seconds=90),
        scheduled_at=datetime.now(UTC) + timedelta(seconds=90),
        state="scheduled",
        count=1,
    )
    assert job.id == enqueued.id
    assert (job.state, job.attempt, job.tags) == ("scheduled", 0, ("mail",))
    assert testing.enqueued(test_conn) == [job]


@pytest.mark.parametrize(
    ("criteria", "shown"),
    [
        ({"args": {"to": "grace"}}, 'differs in args: args {"to": "ada"}'),
        ({"args": {"to": "ada", "cc": None}}, "differs in args"),
        ({"queue": "default"}, 'differs in queue: queue "mail"'),
        ({"priority": 0}, "differs in priority: priority 2"),
        ({"max_attempts": 20}, "differs in max_attempts: max_attempts 3"),
        ({"tags": ["mail", "urgent"]}, 'differs in tags: tags ["mail"]'),
        ({"meta": {"by": "me"}}, 'differs in meta: meta {"by": "tests"}'),
        ({"delay": 60}, "differs in delay: delay 90.0"),
        ({"scheduled_at": datetime(2001, 1, 1, tzinfo=UTC)}, "differs in scheduled_at"),
        ({"state": "available"}, 'differs in state: state "scheduled"'),
        ({"state": ["completed", "discarded"]}, 'differs in state: state "scheduled"'),
    ],
)
def test_a_miss_says_what_differs(test_conn, criteria, shown):
    jobs.email.options(delay=90).enqueue(test_conn, to="ada")
    testing.refute_enqueued(test_conn, jobs.email, **criteria)
    with pytest.raises(AssertionError, match="no such job was enqueued") as caught:
        testing.assert_enqueued(test_conn, jobs.email, **criteria)
    assert shown in str(caught.value)


def test_args_are_contained_as_jsonb_contains_them(test_conn):
    eram.enqueue(test_conn, "shop:order", {"items": [{"id": 1, "n": 2}, {"id": 2}], "vip": True})
    testing.assert_enqueued(test_conn, "shop:order", {"items": [{"id": 2}]})
    testing.assert_enqueued(test_conn, args={"vip": True})
    testing.refute_enqueued(test_conn, args={"vip": 1})


def test_the_nearest_misses_are_of_the_same_handler(test_conn):
    for number in range(6):
        jobs.greet.enqueue(test_conn, name=str(number))
    mail = jobs.email.enqueue(test_conn, to="ada").id
    with pytest.raises(AssertionError) as caught:
        testing.assert_enqueued(test_conn, jobs.email, {"to": "grace"}, queue="other")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith('no such job was enqueued: handler "testing_jobs:email", args')
    assert lines[1].startswith(f"  job {mail} differs in args, queue: ")
    assert "differs in handler" in lines[2]
    assert lines[-1] == "  and 2 more jobs"


def test_the_number_of_jobs_can_be_said(test_conn):
    for name in ("Ada", "Grace"):
        jobs.greet.enqueue(test_conn, name=name)
    testing.assert_enqueued(test_conn, jobs.greet, count=2)
    with pytest.raises(AssertionError, match=r"2 such jobs were enqueued, not 3") as caught:
        testing.assert_enqueued(test_conn, jobs.greet, count=3)
    assert '"name": "Grace"' in str(caught.value)
    with pytest.raises(AssertionError, match="2 such jobs were enqueued: handler"):
        testing.refute_enqueued(test_conn, jobs.greet)


def test_nothing_at_all_is_said_so(test_conn):
    testing.refute_enqueued(test_conn)
    with pytest.raises(AssertionError, match="there is no job at all"):
        testing.assert_enqueued(test_conn, jobs.greet)


def test_what_has_ended_waits_no_more_but_can_be_looked_for(test_conn):
    jobs.greet.enqueue(test_conn, name="Ada")
    testing.drain(test_conn)
    testing.refute_enqueued(test_conn, jobs.greet)
    job = testing.assert_enqueued(test_conn, jobs.greet, state="completed")
    assert job.result == "Hello, Ada!"


def test_what_others_have_committed_does_not_count_unless_it_is_asked_for(connect, conn):
    jobs.greet.enqueue(conn, name="Ada")
    other = connect()
    with other.transaction(force_rollback=True):
        testing.refute_enqueued(other, jobs.greet)
        with pytest.raises(AssertionError, match="because they were committed: 1"):
            testing.assert_enqueued(other, jobs.greet)
        testing.assert_enqueued(other, jobs.greet, committed=True)


def test_a_configured_handler_stands_for_its_handler(test_conn):
    jobs.greet.enqueue(test_conn, name="Ada")
    testing.assert_enqueued(test_conn, jobs.greet.options(priority=5))


@pytest.mark.parametrize(
    ("criteria", "error", "message"),
    [
        ({"quue": "mail"}, TypeError, 'there is no option "quue"; did you mean "queue"?'),
        ({"state": "complete"}, ValueError, 'no state "complete"; did you mean "completed"?'),
        ({"state": ["done"]}, ValueError, 'there is no state "done"; '),
        ({"priority": "1"}, TypeError, "priority must be an integer"),
        ({"scheduled_at": datetime(2001, 1, 1)}, ValueError, "must have a time zone"),  # noqa: DTZ001
        ({"args": ["ada"]}, TypeError, "args must be a mapping"),
        ({"args": {"to": object()}}, eram.UnstorableValueError, "cannot be stored as JSON"),
        ({"handler": print}, TypeError, "handler must be a path or a handler"),
        ({"count": 0}, ValueError, "see refute_enqueued"),
    ],
)
def test_wrong_criteria_are_refused(test_conn, criteria, error, message):
    with pytest.raises(error) as caught:
        testing.assert_enqueued(test_conn, **criteria)
    assert message in str(caught.value)


def test_a_connection_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match="conn must be a psycopg"):
        testing.enqueued("postgresql://")
