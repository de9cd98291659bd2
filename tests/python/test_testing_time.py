"""`advance` lets time pass for jobs, and `tick` enqueues those of schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import testing_jobs as jobs
from helpers import job_of, schedule_of, value

from eram import testing


def test_a_delayed_job_is_due_when_its_delay_has_passed(test_conn):
    job_id = jobs.greet.options(delay=3600).enqueue(test_conn, name="Ada").id
    testing.advance(test_conn, timedelta(minutes=59))
    assert job_of(test_conn, job_id)["state"] == "scheduled"
    # By then an hour, as far as it is counted from when it was enqueued.
    testing.assert_enqueued(test_conn, jobs.greet, delay=3600)
    testing.advance(test_conn, 60)
    assert job_of(test_conn, job_id)["state"] == "available"
    assert testing.drain(test_conn).counts == {"completed": 1}


def test_what_was_enqueued_after_a_while_waits_from_then(test_conn):
    first = jobs.greet.options(delay=60).enqueue(test_conn, name="Ada").id
    testing.advance(test_conn, 50)
    second = jobs.greet.options(delay=60).enqueue(test_conn, name="Grace").id
    testing.advance(test_conn, 50)
    assert [each.job.id for each in testing.drain(test_conn)] == [first]
    testing.advance(test_conn, 10)
    assert [each.job.id for each in testing.drain(test_conn)] == [second]


def test_a_snoozed_job_comes_back(test_conn):
    job_id = jobs.end.enqueue(test_conn, outcome="snooze").id
    assert testing.drain(test_conn).counts == {"snoozed": 1}
    assert testing.drain(test_conn).counts == {}
    testing.advance(test_conn, 60)
    assert testing.drain(test_conn).counts == {"snoozed": 1}
    assert job_of(test_conn, job_id)["attempt"] == 0


def test_the_window_of_a_unique_job_ends(test_conn):
    first = jobs.hourly.enqueue(test_conn, number=1)
    testing.drain(test_conn)
    testing.advance(test_conn, 3599)
    assert jobs.hourly.enqueue(test_conn, number=1) == (first.id, True)
    testing.advance(test_conn, 60)
    assert not jobs.hourly.enqueue(test_conn, number=1).is_duplicate


def test_what_has_ended_becomes_old(test_conn):
    jobs.greet.enqueue(test_conn, name="Ada")
    jobs.fail.options(max_attempts=1).enqueue(test_conn)
    testing.drain(test_conn, raises=False)
    prune = "select eram_prune_jobs('1 hour', 10)"
    assert value(test_conn, prune) == 0
    testing.advance(test_conn, timedelta(hours=2))
    errored_at = value(test_conn, "select errored_at from eram_errors")
    assert datetime.now(UTC) - errored_at > timedelta(hours=2)
    assert value(test_conn, prune) == 2


def test_what_others_have_committed_does_not_age(connect, conn):
    job_id = jobs.greet.options(delay=60).enqueue(conn, name="Ada").id
    other = connect()
    with other.transaction(force_rollback=True):
        testing.advance(other, 3600)
        assert job_of(other, job_id)["state"] == "scheduled"


def test_time_goes_back_with_a_savepoint(test_conn):
    test_conn.execute("select eram_schedule('hourly', '1 hour', 'testing_jobs:greet')")
    job_id = jobs.greet.options(delay=60).enqueue(test_conn, name="Ada").id
    with test_conn.transaction(force_rollback=True):
        testing.advance(test_conn, 3600)
    assert job_of(test_conn, job_id)["state"] == "scheduled"
    assert testing.tick(test_conn) == 0


@pytest.mark.parametrize(
    ("by", "error"), [(-1, ValueError), (float("inf"), ValueError), ("1 hour", TypeError)]
)
def test_time_goes_forward_only(test_conn, by, error):
    with pytest.raises(error, match="the time that passes"):
        testing.advance(test_conn, by)


def schedule(conn: psycopg.Connection, entry: str, **options: str) -> None:
    named = "".join(f", {name} => '{value}'" for name, value in options.items())
    conn.execute(
        f"select eram_schedule('digest', '{entry}', 'testing_jobs:greet', '{{\"name\": \"Ada\"}}'"
        f"{named})"
    )


def test_a_schedule_enqueues_when_it_is_due(test_conn):
    schedule(test_conn, "1 hour")
    assert testing.tick(test_conn) == 0
    testing.advance(test_conn, 3600)
    assert testing.tick(test_conn) == 1
    assert testing.tick(test_conn) == 0
    job = testing.assert_enqueued(test_conn, jobs.greet, {"name": "Ada"}, count=1)
    assert job.meta["schedule"] == "digest"
    assert testing.drain(test_conn).results == ["Hello, Ada!"]


@pytest.mark.parametrize(("missed", "count"), [("once", 1), ("all", 3), ("skip", 0)])
def test_days_that_nobody_ticked_are_missed(test_conn, missed, count):
    schedule(test_conn, "0 7 * * *", missed=missed, timezone="Europe/Berlin")
    next_run_at = schedule_of(test_conn, "digest")["next_run_at"]
    # Some minutes after the third occurrence.
    until = next_run_at + timedelta(days=2, minutes=10)
    testing.advance(test_conn, until - datetime.now(UTC))
    assert testing.tick(test_conn) == 1
    found = testing.enqueued(test_conn, jobs.greet)
    assert len(found) == count
    # The next one is on the hour of the local day, as time has passed.
    after = schedule_of(test_conn, "digest")["next_run_at"]
    assert after.astimezone(UTC) > until
    assert after - until < timedelta(days=1)


def test_time_that_stops_at_each_occurrence_misses_none(test_conn):
    schedule(test_conn, "0 7 * * *", missed="skip")
    for _ in range(3):
        next_run_at = schedule_of(test_conn, "digest")["next_run_at"]
        passed = value(test_conn, "select _eram_time_passed()")
        testing.advance(test_conn, next_run_at - passed - datetime.now(UTC) + timedelta(seconds=1))
        assert testing.tick(test_conn) == 1
    assert len(testing.enqueued(test_conn, jobs.greet)) == 3


def test_a_tick_leaves_commands_and_maintenance_alone(test_conn):
    test_conn.execute("select eram_schedule_sql('count', '1 hour', 'insert into words values (1)')")
    testing.advance(test_conn, timedelta(days=1))
    assert testing.tick(test_conn) == 0
    assert test_conn.execute("select from words").fetchall() == []


def test_a_broken_entry_says_so_and_stops_no_other(test_conn):
    schedule(test_conn, "1 hour")
    test_conn.execute(
        "select eram_schedule('broken', '1 hour', 'testing_jobs:greet', '{}',"
        " options => '{\"priority\": 3}')"
    )
    test_conn.execute(
        "update eram_schedules set job = job || '{\"priority\": 99}' where name = 'broken'"
    )
    testing.advance(test_conn, 3600)
    assert testing.tick(test_conn) == 2
    assert len(testing.enqueued(test_conn)) == 1
    assert "priority" in schedule_of(test_conn, "broken")["last_error"]
