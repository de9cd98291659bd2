"""How long a unique key is in force: what ends it, and what does not."""

from __future__ import annotations

import pytest

from .helpers import column, complete, contents, enqueue, fetch, row, start_worker, state_of, value
from .unique_ends import (
    be_rescued,
    cancel_itself,
    cancel_many,
    cancel_many_running,
    cancel_running,
    cancel_waiting,
    complete_one,
    complete_unkept,
    delete_completed,
    delete_many,
    delete_many_completed,
    delete_waiting,
    discard,
    fail,
    fail_at_once,
    fail_for_good,
    lose_worker,
    move,
    prune_completed,
    release,
    snooze,
    stop_worker,
    update,
)
from .unique_helpers import HOUR, KINDS, TAKEN, claim, document, key_of, pass_window, put, put_all

each_kind = pytest.mark.parametrize("unique", KINDS.values(), ids=KINDS)


# How a job ends, and whether a window goes on.
ENDS = [
    (complete_one, True),
    (complete_unkept, True),
    (prune_completed, True),
    (fail_for_good, False),
    (cancel_waiting, False),
    (cancel_running, False),
    (cancel_itself, False),
    (cancel_many, False),
    (cancel_many_running, False),
    (discard, False),
    (lose_worker, False),
    (delete_waiting, False),
    (delete_completed, False),
    (delete_many, False),
    (delete_many_completed, False),
]


@each_kind
@pytest.mark.parametrize(("end", "goes_on"), [pytest.param(*e, id=e[0].__name__) for e in ENDS])
def test_the_end_of_a_job(conn, unique, end, goes_on):
    first = put(conn, args={"a": 1}, unique=unique)
    other = put(conn, args={"a": 2}, unique=unique, delay=3600)
    end(conn, first.id)
    is_held = goes_on and "period" in unique
    assert value(conn, TAKEN) == 1 + is_held
    again = put(conn, args={"a": 1}, unique=unique)
    assert again.is_duplicate is is_held
    assert (again.id == first.id) is is_held
    assert put(conn, args={"a": 2}, unique=unique) == (other.id, True)


@each_kind
@pytest.mark.parametrize("end", [complete_one, fail_for_good, cancel_waiting, discard, lose_worker])
def test_an_end_that_is_rolled_back_keeps_the_key(conn, unique, end):
    first = put(conn, unique=unique)
    with conn.transaction(force_rollback=True):
        end(conn, first.id)
    assert put(conn, unique=unique) == (first.id, True)


STAYS = [fail, fail_at_once, snooze, release, stop_worker, be_rescued, update, move]


@each_kind
@pytest.mark.parametrize("stay", STAYS, ids=lambda stay: stay.__name__)
def test_what_is_no_end(conn, unique, stay):
    """The job keeps its key, though another enqueue of it may be under way; then it ends."""
    first = put(conn, unique=unique)
    held = row(conn, "select * from eram_unique_keys")
    stay(conn, first.id)
    assert state_of(conn, first.id) in ("available", "retryable", "scheduled")
    assert put(conn, unique=unique) == (first.id, True)
    assert row(conn, "select * from eram_unique_keys") == held
    assert key_of(conn, first.id) == held.key
    assert column(conn, "select unique_key from eram_queued_jobs") == [held.key]
    conn.execute("select eram_cancel_job(%s)", [first.id])
    assert value(conn, TAKEN) == 0


@each_kind
def test_while_it_runs(conn, unique):
    first = put(conn, unique=unique)
    job = claim(conn, first.id)
    before = contents(conn)
    for on_conflict in ("skip", "replace"):
        assert put(conn, unique={**unique, "on_conflict": on_conflict}) == (first.id, True)
    assert contents(conn) == before
    assert complete(conn, [job]) == [first.id]


def test_a_window_is_not_prolonged_by_duplicates(conn):
    first = put(conn, unique={"period": 100})
    held = row(conn, "select * from eram_unique_keys")
    for unique in (
        {"period": 100},
        {"period": 10_000},
        {"period": 1},
        True,
        {"period": 900, "on_conflict": "replace"},
    ):
        assert put(conn, unique=unique) == (first.id, True)
        assert row(conn, "select * from eram_unique_keys") == held
    complete_one(conn, first.id)
    assert put(conn, unique={"period": 10_000}) == (first.id, True)
    assert row(conn, "select * from eram_unique_keys") == held
    specs = column(conn, "select unique_until from eram_job_specs")
    assert specs == [held.expires_at]


def test_a_key_until_the_end_is_not_cut_short_by_a_window(conn):
    first = put(conn)
    assert put(conn, unique={"period": 0.01}) == (first.id, True)
    value(conn, "select pg_sleep(0.02)")
    assert put(conn, unique={"period": 0.01}) == (first.id, True)
    complete_one(conn, first.id)
    assert put(conn, unique={"period": 0.01}).is_duplicate is False


@pytest.mark.parametrize("unique", [HOUR, True], ids=["window", "until the end"])
@pytest.mark.parametrize("state", ["available", "executing", "completed", "pruned"])
def test_a_window_that_is_over_is_taken_over(conn, state, unique):
    first = put(conn, unique=HOUR)
    job = claim(conn, first.id) if state in ("executing", "completed") else None
    if state == "completed":
        complete(conn, [job])
    elif state == "pruned":
        prune_completed(conn, first.id)
    pass_window(conn)
    second = put(conn, unique=unique)
    assert (second.is_duplicate, second.id != first.id) == (False, True)
    assert put(conn, unique=unique) == (second.id, True)
    held = row(conn, "select * from eram_unique_keys")
    assert (held.job_id, held.expires_at is None) == (second.id, unique is True)
    assert value(conn, "select unique_until from eram_job_specs where job_id = %s", second.id) == (
        held.expires_at
    )


@pytest.mark.parametrize("unique", [HOUR, True], ids=["window", "until the end"])
@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "discard", "delete", "lose"])
def test_the_end_of_a_job_whose_key_is_anothers_by_now(conn, unique, end):
    """Both live, since the window was over; the first one's end is not the second one's."""
    first = put(conn, unique=HOUR)
    pass_window(conn)
    second = put(conn, unique=unique, delay=3600)
    assert second.is_duplicate is False
    held = row(conn, "select * from eram_unique_keys")
    ends = {
        "complete": complete_one,
        "fail": fail_for_good,
        "cancel": cancel_running,
        "discard": discard,
        "delete": delete_waiting,
        "lose": lose_worker,
    }
    ends[end](conn, first.id)
    assert row(conn, "select * from eram_unique_keys") == held
    assert put(conn, unique=unique) == (second.id, True)


@pytest.mark.parametrize("stay", STAYS, ids=lambda stay: stay.__name__)
def test_what_comes_back_while_its_key_is_anothers(conn, stay):
    first = put(conn, unique=HOUR)
    pass_window(conn)
    second = put(conn, unique=True, delay=3600)
    held = row(conn, "select * from eram_unique_keys")
    if stay is move:
        conn.execute("select eram_move_jobs('{\"queue\": \"default\"}', 'elsewhere')")
    else:
        stay(conn, first.id)
    assert put(conn) == (second.id, True)
    assert row(conn, "select * from eram_unique_keys") == held


def test_many_ends_in_one_call(conn):
    """A batch of jobs with keys of both kinds, and without one."""
    documents = [
        document(args={"n": n}, unique=[True, HOUR, False][n % 3], max_attempts=1)
        for n in range(60)
    ]
    ids = [one.id for one in put_all(conn, *documents)]
    assert value(conn, TAKEN) == 40
    jobs = fetch(conn, start_worker(conn))
    assert sorted(complete(conn, jobs)) == ids
    assert value(conn, TAKEN) == 20
    again = put_all(conn, *documents)
    assert [one.is_duplicate for one in again] == [n % 3 == 1 for n in range(60)]
    assert [one.id for one in again if one.is_duplicate] == ids[1::3]
    assert enqueue(conn) > max(one.id for one in again)


def test_a_window_that_ended_while_the_statement_ran(conn):
    """The time of a statement is that of its beginning; what is in force is so by the clock."""
    conn.execute(
        """
        do $$
        declare
            v_first  bigint := eram_enqueue_job('app:run', unique_by => '{"period": 0.05}');
            v_second bigint;
        begin
            perform pg_sleep(0.1);
            v_second := eram_enqueue_job('app:run', unique_by => '{"period": 60}');
            assert v_first <> v_second, 'the window is over';
            assert not exists (select from eram_check()), 'all is well';
        end;
        $$
        """
    )


def test_a_prune_removes_keys_that_were_over_long_ago(conn):
    first, second, third = (
        put(conn, args={"n": n}, unique=unique).id for n, unique in enumerate((HOUR, HOUR, True))
    )
    pass_window(conn, first)
    conn.execute(
        "update eram_unique_keys set expires_at = expires_at - interval '1 day' where job_id = %s",
        [first],
    )
    value(conn, "select eram_prune_jobs('0')")
    keys = column(conn, "select job_id from eram_unique_keys order by 1")
    assert keys == [second, third]
    assert put(conn, args={"n": 0}, unique=HOUR).is_duplicate is False
