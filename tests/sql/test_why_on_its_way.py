"""What eram_why() says of jobs that an open transaction has in its hands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg
import pytest

from .helpers import complete, enqueue, fetch, state_of, value

CANCEL = "select eram_cancel_job(%(id)s)"
LOCK = "select from eram_queued_jobs where job_id = %(id)s for update"
SHARE = "select from eram_queued_jobs where job_id = %(id)s for share"
KEY_SHARE = "select from eram_queued_jobs where job_id = %(id)s for key share"
NEXT = "It is the next to be claimed"


def why(conn: psycopg.Connection, job_id: int) -> str:
    return value(conn, "select eram_why(%s)", job_id)


def on_its_way(holder: str) -> str:
    return f"It is on its way: {holder} has its ticket, as a claim has until it is committed."


def open_of(*sessions: psycopg.Connection) -> str:
    pids = sorted(session.info.backend_pid for session in sessions)
    return " or ".join(f"the open transaction of session {pid}" for pid in pids)


def run(conn: psycopg.Connection, statements: str, job_id: int) -> None:
    for statement in statements.split("; "):
        conn.execute(statement, {"id": job_id})


@pytest.fixture
def job(conn, worker) -> int:
    """A job that waits, of a queue that has a worker."""
    assert worker
    return enqueue(conn)


def test_its_ticket_is_in_an_open_transaction(conn, connect, worker, job):
    other = connect()
    conn.execute("begin")
    fetch(conn, worker)
    assert why(other, job) == on_its_way(open_of(conn))
    conn.execute("rollback")
    assert NEXT in why(other, job)


HELD = {
    "in a savepoint": f"savepoint s; {CANCEL}",
    "in one that was released": f"savepoint s; {CANCEL}; release s",
    "in two of them": f"savepoint s; savepoint t; {CANCEL}; release t; release s",
    "in one within another": f"savepoint s; savepoint t; {CANCEL}; release t",
    "locked": LOCK,
    "locked in a savepoint": f"savepoint s; {LOCK}; release s",
    "locked, and then taken": f"{LOCK}; savepoint s; {CANCEL}",
    "locked, and then taken, released": f"{LOCK}; savepoint s; {CANCEL}; release s",
    "locked, and then taken back": f"{LOCK}; savepoint s; {CANCEL}; rollback to s",
    "shared": SHARE,
    "shared twice": f"{KEY_SHARE}; savepoint s; {SHARE}; release s",
    "in a block": "do $$ begin perform eram_cancel_job(%(id)s);"
    " exception when division_by_zero then null; end $$",
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_however_it_is_held(conn, connect, job, held, end):
    other = connect(autocommit=False)
    statements = HELD[held]
    if held == "in a block":
        other.execute(statements.replace("%(id)s", str(job)))
    else:
        run(other, statements, job)
    assert why(conn, job) == on_its_way(open_of(other))
    other.execute(end)
    assert ("It was cancelled" in why(conn, job)) is (
        end == "commit" and state_of(conn, job) == "cancelled"
    )
    if state_of(conn, job) != "cancelled":
        assert NEXT in why(conn, job)


GIVEN_BACK = {
    "taken": f"savepoint s; {CANCEL}; rollback to s",
    "locked": f"savepoint s; {LOCK}; rollback to s",
    "released and taken back": f"savepoint s; savepoint t; {CANCEL}; release t; rollback to s",
}


@pytest.mark.parametrize("given_back", GIVEN_BACK)
def test_what_was_given_back_by_a_savepoint_is_held_by_nobody(conn, connect, job, given_back):
    other = connect(autocommit=False)
    other.execute("select pg_current_xact_id()")
    run(other, GIVEN_BACK[given_back], job)
    assert NEXT in why(conn, job)


def test_two_share_it(conn, connect, job):
    """And one after the other lets it go."""
    first, second = connect(autocommit=False), connect(autocommit=False)
    run(first, SHARE, job)
    run(second, SHARE, job)
    assert why(conn, job) == on_its_way(open_of(first, second))
    first.commit()
    assert why(conn, job) == on_its_way(open_of(second))
    second.commit()
    assert NEXT in why(conn, job)


def test_of_several_who_may_have_it_all_are_told(conn, connect, job):
    """Who took it in a savepoint is known no closer: it began before, and works on the table."""
    taker, suspect, idle, late = (connect(autocommit=False) for _ in range(4))
    others = [enqueue(conn) for _ in range(2)]
    idle.execute("select pg_current_xact_id()")
    run(suspect, CANCEL, others[0])
    run(taker, f"select pg_current_xact_id(); savepoint s; {CANCEL}; release s", job)
    run(late, CANCEL, others[1])
    assert why(conn, job) == on_its_way(open_of(taker, suspect))
    assert why(conn, others[0]) == on_its_way(open_of(suspect))
    assert why(conn, others[1]) == on_its_way(open_of(late))
    suspect.rollback()
    assert why(conn, job) == on_its_way(open_of(taker))
    late.rollback()


def test_what_looks_later_than_the_newest_id_is_seen(conn, connect, job):
    """In a transaction that began before, and has an id of its own."""
    other, looker = connect(autocommit=False), connect(autocommit=False)
    looker.execute("select pg_current_xact_id(), age('3'::xid)")
    run(other, f"savepoint s; {CANCEL}; release s", job)
    assert why(looker, job) == on_its_way(open_of(other))
    conn.execute("select pg_current_xact_id()")
    assert why(looker, job) == on_its_way(open_of(other))


@pytest.mark.parametrize("offset", [0, 1, 1000, 2**31 - 1, 2**31, -1, -1000, -(2**31)])
def test_any_id_can_be_read(conn, offset):
    """Ids of long ago, ids that are not there yet, and lists that are not there."""
    newest = value(conn, "select pg_current_xact_id()::text::bigint")
    text = str((newest + offset) % 2**32)
    full = value(conn, "select _eram_full_xid(%s::text::xid)", text)
    assert full % 2**32 == int(text)
    assert abs(full - newest) <= 2**31 + 1000
    look = "select _eram_holder_words(%s::text::xid, 'eram_queued_jobs')"
    assert value(conn, look, text) is None
    assert value(conn, "select _eram_is_in_progress(%s::text::xid)", text) is False


def test_a_list_of_the_same_number_as_an_id_is_no_confusion(conn, connect, job):
    """Who holds nothing of the table is not told of, though the number may be his."""
    holder, bystander = connect(autocommit=False), connect(autocommit=False)
    number = value(bystander, "select pg_current_xact_id()::xid::text")
    run(holder, LOCK, job)
    look = "select _eram_holder_words(%s::text::xid, 'eram_queued_jobs')"
    assert value(conn, look, number) is None
    run(bystander, SHARE.replace("%(id)s", "0"), job)
    assert value(conn, look, number) == open_of(bystander)


@pytest.mark.parametrize("place", ["waiting", "executing"])
def test_a_prepared_transaction_has_it(conn, connect, worker, place):
    job = enqueue(conn)
    jobs = fetch(conn, worker) if place == "executing" else []
    name = f'eram "{place}" {job}'
    other = connect()
    other.execute("set eram.notify = off")
    for statements in (CANCEL, f"savepoint s; {CANCEL}; release s"):
        other.execute("begin")
        run(other, statements, job)
        other.execute(f"prepare transaction '{name}'")
        try:
            said = why(conn, job)
        finally:
            other.execute(f"rollback prepared '{name}'")
        if jobs:
            assert said.endswith(f' The end of this run is in the prepared transaction "{name}".')
        else:
            assert said == on_its_way(f'the prepared transaction "{name}"')
    complete(conn, jobs)


def test_a_claim_of_a_limited_queue_is_prepared(conn, connect, worker):
    ids = [enqueue(conn) for _ in range(2)]
    conn.execute("select eram_set_queue('default', global_limit => 5)")
    with prepared(connect, "claim", lambda other: fetch(other, worker, 1)):
        said = why(conn, ids[1])
    assert said == (
        'Queue "default" has a global limit, and a claim in the prepared transaction "claim" is '
        "not committed."
    )


@contextlib.contextmanager
def prepared(connect: Callable[..., psycopg.Connection], name: str, action: Callable):
    """Do something in a transaction that is prepared, and rolled back in the end."""
    other = connect()
    other.execute("set eram.notify = off; begin")
    action(other)
    other.execute(f"prepare transaction '{name}'")
    try:
        yield
    finally:
        other.execute(f"rollback prepared '{name}'")


@pytest.mark.parametrize("released", [False, True])
def test_the_end_of_its_run_is_in_an_open_transaction(conn, connect, worker, job, released):
    other = connect()
    jobs = fetch(conn, worker)
    conn.execute("begin; savepoint s")
    complete(conn, jobs)
    if released:
        conn.execute("release s")
    assert why(other, job).endswith(f" The end of this run is in {open_of(conn)}.")
    conn.execute("commit")
    assert why(other, job).startswith("It was completed")
