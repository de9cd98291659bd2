"""Running an entry now, and what jobs and the table tell of it afterwards."""

from __future__ import annotations

import datetime as dt

import pytest
from psycopg import errors

from .helpers import complete, enqueue, fetch, row, rows, start_worker, value
from .schedule_helpers import (
    JOBS,
    ORIGINS,
    call,
    entry,
    make_due,
    refused,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
)

# Running one now.


@pytest.mark.parametrize("is_paused", [False, True])
def test_run_now(shared, is_paused):
    schedule(shared, "mail", args={"a": 1}, options={"meta": {"mine": 1, "cron": "no"}})
    if is_paused:
        call(shared, "eram_pause_schedule", name="mail")
    before = entry(shared, "mail")
    job_id = call(shared, "eram_run_schedule", name="mail")
    job = row(shared, JOBS)
    assert (job.id, job.handler, job.args) == (job_id, "app:run", {"a": 1})
    assert job.meta.keys() == {"mine", "cron", "schedule", "scheduled_for"}
    assert (job.meta["mine"], job.meta["cron"], job.meta["schedule"]) == (1, True, "mail")
    scheduled_for = dt.datetime.fromisoformat(job.meta["scheduled_for"])
    assert abs((job.inserted_at - scheduled_for).total_seconds()) < 5
    seen = entry(shared, "mail")
    assert (seen.last_job_id, seen.run_count, seen.last_error) == (job_id, 1, None)
    assert seen.last_run_at >= job.inserted_at
    assert (seen.next_run_at, seen.is_paused) == (before.next_run_at, is_paused)


def test_run_now_refuses_to_overlap(shared):
    schedule(shared, "mail", options={"overlap": False})
    job_id = call(shared, "eram_run_schedule", name="mail")
    for _ in range(2):
        with refused(shared, errors.ObjectInUse, 'schedule "mail" must not overlap'):
            call(shared, "eram_run_schedule", name="mail")
    worker = start_worker(shared)
    jobs = fetch(shared, worker)
    with refused(shared, errors.ObjectInUse, "must not overlap"):
        call(shared, "eram_run_schedule", name="mail")
    complete(shared, jobs)
    assert call(shared, "eram_run_schedule", name="mail") > job_id


def test_run_now_may_overlap(shared):
    schedule(shared, "mail")
    assert call(shared, "eram_run_schedule", name="mail") is not None
    assert call(shared, "eram_run_schedule", name="mail") is not None
    assert value(shared, "select count(*) from eram_jobs") == 2


def test_run_a_command_now(shared):
    shared.execute("create table done (at timestamptz default clock_timestamp())")
    try:
        schedule_sql(shared, "tidy", "insert into done default values")
        next_run_at = entry(shared, "tidy").next_run_at
        assert call(shared, "eram_run_schedule", name="tidy") is None
        assert value(shared, "select count(*) from done") == 0
        with refused(shared, errors.ObjectInUse, "must not overlap"):
            call(shared, "eram_run_schedule", name="tidy")
        tick_and_run(shared)
        assert value(shared, "select count(*) from done") == 1
        assert entry(shared, "tidy").next_run_at == next_run_at
        assert call(shared, "eram_run_schedule", name="tidy") is None
    finally:
        shared.execute("drop table done")


def test_run_maintenance_now(shared):
    tick(shared, 0)
    job_id = enqueue(shared)
    shared.execute("select eram_cancel_job(%s)", [job_id])
    shared.execute("update eram_finished_jobs set finalized_at = now() - interval '2 days'")
    before = entry(shared, "eram:prune")
    assert call(shared, "eram_run_schedule", name="eram:prune") is None
    assert value(shared, "select count(*) from eram_jobs") == 0
    seen = entry(shared, "eram:prune")
    assert (seen.run_count, seen.next_run_at) == (before.run_count + 1, before.next_run_at)


def test_run_now_tells_the_caller_what_is_wrong(shared):
    schedule(shared, "mail")
    shared.execute("update eram_schedules set job = '{\"handler\": 5}' where name = 'mail'")
    with refused(shared, errors.InvalidParameterValue, "handler must be a string"):
        call(shared, "eram_run_schedule", name="mail")


# A cron job says where it came from.


def test_the_meta_of_a_cron_job(shared):
    schedule(shared, "every quarter", "*/15 * * * *", options={"meta": {"mine": [1]}})
    shared.execute("update eram_schedules set next_run_at = '2026-03-01 10:45:00Z'")
    shared.execute("update eram_schedules set missed = 'all'")
    tick(shared, 0)
    meta = value(shared, "select meta from eram_jobs order by id limit 1")
    assert meta.keys() == {"mine", "cron", "schedule", "scheduled_for"}
    assert (meta["mine"], meta["cron"], meta["schedule"]) == ([1], True, "every quarter")
    seen = rows(shared, ORIGINS)
    assert all(job.scheduled_for.minute % 15 == 0 for job in seen)
    assert all(job.scheduled_for.second == 0 for job in seen)


def test_the_time_in_the_meta_is_the_same_in_every_session(shared):
    schedule(shared, "mail", missed="skip")
    due = make_due(shared, "mail")
    shared.execute("set timezone to 'Asia/Kolkata'; set datestyle to 'German, DMY'")
    try:
        shared.execute("do $$ begin perform eram_tick(0); end $$")
    finally:
        shared.execute("reset timezone; reset datestyle")
    expected = due.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    assert row(shared, JOBS).meta["scheduled_for"] == expected


# What people see.


def test_the_table_shows_how_things_stand(shared):
    schedule(shared, "mail", "15 * * * *", timezone="Europe/Berlin")
    due = make_due(shared, "mail", ago="10 seconds")
    tick(shared, 0)
    seen = entry(shared, "mail")
    assert (seen.schedule, seen.timezone) == ("15 * * * *", "Europe/Berlin")
    assert seen.next_run_at > seen.last_run_at > due
    assert (seen.last_error, seen.run_count, seen.is_paused) == (None, 1, False)
    assert seen.last_job_id == value(shared, "select id from eram_jobs")
