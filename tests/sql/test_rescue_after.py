"""Jobs of workers that cannot be judged: rescue_after, and the lifeline's options."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, enqueue, fetch, row, start_worker, value
from .rescue_helpers import RESCUE, WORKER, kill, silence


@pytest.fixture
def undecided(conn, connect):
    """A silent worker with jobs of two queues, which cannot be declared dead for now.

    Another claim of its is under way, and does not end.
    """
    worker = value(conn, "select eram_start_worker('undecided', '{default,other}')")
    enqueue(conn)
    enqueue(conn, queue="other")
    fetch(conn, worker)
    fetch(conn, worker, queue="other")
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    silence(conn, worker, "2 hours")
    claimer = connect(autocommit=False)
    assert fetch(claimer, worker) == []
    return worker


def queues_rescued(conn: psycopg.Connection) -> list[str]:
    return column(conn, "select queue from eram_queued_jobs where run = 1 order by queue")


def test_rescue_after_is_for_jobs_of_workers_that_cannot_be_judged(conn, undecided):
    assert value(conn, RESCUE) == 0
    assert value(conn, "select eram_rescue_jobs('3 hours')") == 0
    assert value(conn, "select eram_rescue_jobs('1 hour')") == 2
    assert row(conn, WORKER, undecided).ended_at is None
    errors = column(conn, "select error from eram_job_errors")
    assert (
        errors
        == [f'worker {undecided} ("undecided") did not prove its life while it held this job'] * 2
    )


@pytest.mark.parametrize(
    ("own", "general", "rescued"),
    [
        ("1 hour", "3 hours", ["other"]),
        ("3 hours", "1 hour", ["default"]),
        ("3 hours", "0", ["default"]),
        ("1 second", None, []),
    ],
)
def test_rescue_after_of_a_queue_goes_first(conn, undecided, own, general, rescued):
    conn.execute("insert into eram_queues (name, rescue_after) values ('other', %s)", [own])
    conn.execute("set eram.rescue_swept = ''")
    assert value(conn, "select eram_rescue_jobs(%s)", general) == len(rescued)
    assert queues_rescued(conn) == rescued


@pytest.mark.parametrize("rescue_after", ["0", "1 hour"])
def test_rescue_after_leaves_alone_whose_worker_beats(conn, rescue_after):
    """Behind a pooler there is no lock, and a long job is no reason to run it twice."""
    worker = value(conn, "select eram_start_worker('pooled', '{default}')")
    enqueue(conn)
    fetch(conn, worker)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    silence(conn, worker, "40 seconds")
    assert value(conn, "select eram_rescue_jobs(%s)", rescue_after) == 0


def test_rescue_after_leaves_alone_whose_worker_is_on_its_way_back(conn, connect):
    lost = connect()
    worker = start_worker(lost)
    enqueue(conn)
    fetch(lost, worker)
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '2 hours'")
    kill(conn, lost)
    for _ in range(2):
        assert value(conn, "select eram_rescue_jobs('1 hour')") == 0
    assert row(conn, WORKER, worker).missing_since is not None


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        ({"rescue_afer": 1}, 'unknown key "rescue_afer" in options', 'mean "rescue_after"'),
        ({"rescue_after": -1}, "rescue_after must be between 0 and", ""),
        ({"rescue_after": 0}, "rescue_after must be longer than zero", '"infinity" for never'),
        ({"rescue_after": "0 hours"}, "rescue_after must be longer than zero", ""),
        ({"rescue_after": "-1 month 40 days"}, "rescue_after must be between 0 and", ""),
        ({"rescue_after": 1e20}, "rescue_after must be between 0 and", "A number is seconds"),
        ({"rescue_after": "soon"}, 'invalid rescue_after: "soon"', "A number is seconds"),
        ({"rescue_after": True}, "rescue_after must be a number or a string, got boolean", ""),
        ([], "options must be a JSON object, got array", ""),
    ],
)
def test_wrong_options_of_the_lifeline(conn, options, error, hint):
    with pytest.raises(psycopg.DataError) as caught:
        conn.execute("select _eram_check_lifeline_options(%s)", [Jsonb(options)])
    assert error in (caught.value.diag.message_primary or "")
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("options", "rescued"),
    [
        ({}, 2),
        ({"rescue_after": None}, 2),
        ({"rescue_after": 7000}, 2),
        ({"rescue_after": 7300}, 0),
        ({"rescue_after": "1 hour 59 minutes"}, 2),
        ({"rescue_after": "infinity"}, 0),
    ],
)
def test_the_lifeline_rescues_by_its_options(conn, undecided, options, rescued):
    conn.execute("select _eram_check_lifeline_options(%s)", [Jsonb(options)])
    conn.execute("select _eram_run_lifeline(%s)", [Jsonb(options)])
    assert len(queues_rescued(conn)) == rescued
