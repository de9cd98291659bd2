"""Unique jobs in races of two: whoever loses is told, and nothing is done twice."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import (
    Threads,
    at_once,
    column,
    complete,
    fetch,
    fetch_late,
    rows,
    start_worker,
    state_of,
    value,
    wait_for_lock_wait,
)
from .unique_helpers import HOUR, KINDS, TAKEN, TWINS, document, pass_window, put, put_all

SEED = int(os.environ.get("ERAM_TEST_SEED", "20260402"))
REPLACE = {"keys": ["id"], "on_conflict": "replace"}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def test_replacements_race_with_claims(conn, connect):
    """A job runs with contents that one of the producers gave it, and nothing changes them then."""
    print(f"ERAM_TEST_SEED={SEED}")
    keys, threads, is_over = 3, Threads(), threading.Event()
    said: list[tuple[int, int, bool]] = []
    seen: list[tuple[int, int, dict[str, Any]]] = []

    def produce(number: int) -> None:
        session, generator = connect(), random.Random(SEED + number)
        for count in range(2000):
            if len(seen) > 150 or threads.stop.is_set():
                break
            names = generator.choices(range(keys), k=generator.choice((1, 1, 2, 3)))
            jobs = [
                document(
                    args={"id": name, "n": number * 10_000 + count},
                    priority=generator.randrange(3),
                    delay=generator.choice((0, 0, 0.005)),
                    unique=REPLACE,
                )
                for name in names
            ]
            commits = generator.random() < 0.8
            with session.transaction(force_rollback=not commits):
                found = put_all(session, *jobs)
            if commits:
                said.extend(
                    (one.id, name, one.is_duplicate) for one, name in zip(found, names, strict=True)
                )
        is_over.set()

    def work() -> None:
        session = connect()
        session_worker = start_worker(session)
        while True:
            was_over = is_over.is_set()
            jobs = fetch(session, session_worker, 2)
            seen.extend((job.id, job.run, job.args) for job in jobs)
            assert complete(session, jobs) == sorted(job.id for job in jobs)
            if was_over and value(session, "select count(*) from eram_queued_jobs") == 0:
                return

    def sample() -> None:
        session = connect()
        while not is_over.is_set():
            assert rows(session, TWINS) == []
            assert rows(session, "select * from eram_check()") == []

    for number in range(6):
        threads.start(produce, number)
    for function in (work, work, sample):
        threads.start(function)
    threads.join(90)
    fetch_rest = fetch_late(conn, start_worker(conn), 0)
    seen += [(job.id, job.run, job.args) for job in fetch_rest]
    complete(conn, fetch_rest)
    claims = Counter(job_id for job_id, _, _ in seen)
    assert set(claims.values()) == {1}
    assert {run for _, run, _ in seen} == {1}
    fresh = [(job_id, name) for job_id, name, is_duplicate in said if not is_duplicate]
    assert sorted(claims) == sorted(job_id for job_id, _ in fresh)
    assert {(job_id, name) for job_id, name, _ in said} == set(fresh)
    stored = dict(conn.execute("select job_id, args from eram_job_specs"))
    assert stored == {job_id: args for job_id, _, args in seen}
    assert value(conn, TAKEN) == 0


def test_a_claim_passes_by_a_job_that_is_being_replaced(conn, connect, worker):
    first = put(conn, args={"id": 1}, unique=REPLACE)
    other = put(conn, args={"id": 2}, unique=REPLACE)
    opened = connect()
    opened.execute("begin")
    put(opened, args={"id": 1, "n": 1}, unique=REPLACE)
    conn.execute("set statement_timeout = '5s'")
    assert [job.id for job in fetch(conn, worker)] == [other.id]
    opened.execute("commit")
    (job,) = fetch_late(conn, worker)
    assert (job.id, job.args) == (first.id, {"id": 1, "n": 1})


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_replacement_that_waited_for_the_claim(conn, connect, worker, level):
    """It comes too late: the job runs by now, and stays as it is."""
    first = put(conn, args={"id": 1}, unique=REPLACE)
    late = connect()
    late.execute(f"begin isolation level {level}")
    value(late, "select count(*) from eram_job_specs")
    threads = Threads()
    outcome: list[Any] = []

    def replace() -> None:
        try:
            outcome.append(put(late, args={"id": 1, "n": 1}, priority=2, unique=REPLACE))
            late.execute("commit")
        except errors.SerializationFailure as exc:
            outcome.append(exc)
            late.execute("rollback")

    with conn.transaction():
        (job,) = fetch(conn, worker)
        threads.start(replace)
        wait_for_lock_wait(connect(), late)
    threads.join()
    if level == "read committed":
        assert outcome == [(first.id, True)]
    else:
        assert isinstance(outcome[0], errors.SerializationFailure)
    assert state_of(conn, first.id) == "executing"
    assert value(conn, "select args from eram_jobs") == {"id": 1} == job.args
    assert complete(conn, [job]) == [first.id]


@pytest.mark.parametrize("move", ["replace", "update", "release", "retry", "move", "rollback"])
@pytest.mark.parametrize("is_batch", [False, True], ids=["single", "batch"])
def test_a_replacement_that_waited_for_a_move(conn, connect, worker, move, is_batch):
    """The job waits all the same, at another place: the last word counts."""
    unique = {**REPLACE, "fields": ["args"]}
    first = put(conn, args={"id": 1}, unique=unique)
    if move in ("release", "retry"):
        (job,) = fetch(conn, worker)
    if move == "retry":
        value(conn, "select eram_fail_job(%s, %s, 'x', delay => '1 hour')", job.id, job.run)
    late, threads = connect(), Threads()
    said: list[Any] = []

    def replace() -> None:
        jobs = [document(args={"id": 1, "n": 2}, unique=unique, delay=60)]
        if is_batch:
            jobs = [*[document(args={"id": n}, unique=unique) for n in (7, 8)], *jobs]
        said.append(put_all(late, *jobs)[-1])

    query = {
        "replace": "select eram_enqueue_job(%s::jsonb) from (values (%s::bigint)) as ids (id)",
        "update": "select eram_update_job(%s, priority => 3)",
        "release": "select eram_release_jobs(array[%s::bigint], array[1])",
        "retry": "select eram_retry_job(%s)",
        "move": "select eram_move_jobs(%s::jsonb, 'elsewhere')",
        "rollback": "select eram_cancel_job(%s)",
    }[move]
    params: list[Any] = [first.id]
    if move == "replace":
        params = [Jsonb(document(args={"id": 1, "n": 1}, unique=unique)), first.id]
    elif move == "move":
        params = [Jsonb({"ids": [first.id]})]
    with conn.transaction(force_rollback=move == "rollback"):
        conn.execute(query, params)
        threads.start(replace)
        if move == "release":
            # The job runs, as far as others can see: there is nothing to wait for.
            threads.join()
        else:
            wait_for_lock_wait(connect(), late)
    threads.join()
    assert said == [(first.id, True)]
    query = "select args from eram_jobs where id = %s"
    assert value(conn, query, first.id) == ({"id": 1} if move == "release" else {"id": 1, "n": 2})


@each_kind
def test_a_retry_races_with_an_enqueue_of_the_same_key(conn, connect, kind):
    """Either the old job lives again, and the new one is its duplicate, or the other way round."""
    sessions = [connect() for _ in range(6)]
    outcomes: Counter[str] = Counter()
    for number in range(40):
        options = {"args": {"n": number}, "unique": kind}
        first = put(conn, **options)
        conn.execute("select eram_cancel_job(%s)", [first.id])
        said: list[Any] = []
        retried: list[Any] = []

        def enqueue(session: psycopg.Connection, options=options, said=said) -> None:
            said.append(put(session, **options))

        def retry(session: psycopg.Connection, first=first, retried=retried) -> None:
            try:
                retried.append(value(session, "select eram_retry_job(%s)", first.id))
            except errors.UniqueViolation as exc:
                retried.append(f"{exc.diag.message_primary} {exc.diag.message_detail}")

        at_once(
            *[lambda one=one, f=enqueue: f(one) for one in sessions[:4]],
            *[lambda one=one, f=retry: f(one) for one in sessions[4:]],
        )
        assert len({one.id for one in said}) == 1
        (holder,) = {one.id for one in said}
        if holder == first.id:
            assert all(one.is_duplicate for one in said)
            assert sorted(retried) == [False, True]
            outcomes["retried"] += 1
        else:
            assert sum(one.is_duplicate for one in said) == 3
            assert all(str(holder) in str(one) for one in retried)
            outcomes["enqueued"] += 1
        assert rows(conn, TWINS) == []
    print(outcomes)
    assert value(conn, TAKEN) == 40


def test_a_retry_waits_for_a_rival_and_takes_the_key_when_it_rolls_back(conn, connect):
    first = put(conn)
    conn.execute("select eram_cancel_job(%s)", [first.id])
    rival, threads = connect(), Threads()
    rival.execute("begin")
    assert put(rival).is_duplicate is False
    session = connect()
    answers: list[bool] = []
    threads.start(lambda: answers.append(value(session, "select eram_retry_job(%s)", first.id)))
    wait_for_lock_wait(conn, session)
    rival.execute("rollback")
    threads.join()
    assert answers == [True]
    assert put(conn) == (first.id, True)


@pytest.mark.parametrize("is_expired", [False, True], ids=["taken", "taken over"])
@pytest.mark.parametrize("is_batch", [False, True], ids=["single", "batch"])
def test_a_window_begins_when_the_wait_for_a_rival_is_over(conn, connect, is_expired, is_batch):
    """However long the rival has kept it waiting before it rolled back."""
    if is_expired:
        put(conn, unique=HOUR)
        pass_window(conn)
    rival, session, threads = connect(), connect(), Threads()
    rival.execute("begin")
    assert put(rival, unique=HOUR).is_duplicate is False
    jobs = [document(unique={"period": 1})]
    jobs += [document(args={"n": 1}, unique={"period": 1})] if is_batch else []
    said: list[Any] = []
    threads.start(lambda: said.extend(put_all(session, *jobs)))
    wait_for_lock_wait(conn, session)
    value(conn, "select pg_sleep(1.1)")
    rival.execute("rollback")
    threads.join()
    spec = rows(conn, "select * from eram_job_specs where job_id = %s", said[0].id)[0]
    assert said[0].is_duplicate is False
    assert (spec.unique_until - spec.inserted_at).total_seconds() > 0.5
    held = "select job_id, expires_at from eram_unique_keys where key = %s"
    assert rows(conn, held, spec.unique_key) == [(spec.job_id, spec.unique_until)]


@each_kind
def test_only_one_of_many_that_would_raise_gets_in(conn, connect, kind):
    sessions = [connect() for _ in range(8)]
    for number in range(10):
        job = {"args": {"n": number}, "unique": {**kind, "on_conflict": "raise"}}
        fresh: list[int] = []
        refused: list[str] = []

        def enqueue(session: psycopg.Connection, job=job, fresh=fresh, refused=refused) -> None:
            try:
                fresh.append(put(session, **job).id)
            except errors.UniqueViolation as exc:
                refused.append(exc.diag.message_detail or "")

        at_once(*[lambda one=one, f=enqueue: f(one) for one in sessions])
        assert (len(fresh), len(refused)) == (1, 7)
        assert all(str(fresh[0]) in detail for detail in refused)


def test_an_enqueue_waits_for_the_end_that_is_under_way(conn, connect, worker):
    """The completion of the first job commits, and the second one is a new job."""
    for commits in (True, False):
        first = put(conn)
        jobs = fetch_late(conn, worker)
        session, threads = connect(), Threads()
        said: list[Any] = []
        with conn.transaction(force_rollback=not commits):
            assert complete(conn, jobs) == [first.id]
            threads.start(lambda session=session, said=said: said.append(put(session)))
            wait_for_lock_wait(connect(), session)
        threads.join()
        assert said[0].is_duplicate is not commits
        assert (said[0].id == first.id) is not commits
        conn.execute("select eram_cancel_job(id) from eram_jobs where finalized_at is null")


@pytest.mark.parametrize("end", ["complete", "cancel"])
@pytest.mark.parametrize("commits", [True, False])
def test_a_take_over_races_with_the_end_of_the_old_job(conn, connect, worker, end, commits):
    """The end waits for nobody, and leaves the new job's key alone."""
    first = put(conn, unique=HOUR)
    jobs = fetch(conn, worker)
    pass_window(conn)
    opened = connect()
    opened.execute("begin")
    second = put(opened, unique=True, delay=60)
    assert second.is_duplicate is False
    conn.execute("set statement_timeout = '5s'")
    if end == "complete":
        assert complete(conn, jobs) == [first.id]
    else:
        assert value(conn, "select eram_cancel_job(%s)", first.id) is True
    opened.execute("commit" if commits else "rollback")
    third = put(conn, unique=True, delay=60)
    assert third.is_duplicate is commits
    assert column(conn, "select job_id from eram_unique_keys") == [third.id]
    assert (third.id == second.id) is commits


def test_batches_in_opposite_orders_do_not_deadlock(conn, connect):
    """With jobs to take, jobs to replace, and jobs to take over, beside bulk ends."""
    numbers = list(range(40))
    put_all(conn, *[document(args={"id": n}, unique={**HOUR, **REPLACE}) for n in numbers[:20]])
    pass_window(conn, *column(conn, "select id from eram_jobs where (args ->> 'id')::int < 10"))
    sessions = [connect() for _ in range(8)]

    def run(number: int) -> None:
        mine, generator = numbers.copy(), random.Random(SEED + number)
        for count in range(12):
            generator.shuffle(mine)
            jobs = [
                document(
                    args={"id": n, "n": count},
                    unique=generator.choice([REPLACE, {**HOUR, **REPLACE}]),
                )
                for n in mine[:30]
            ]
            put_all(sessions[number], *jobs)
            if number % 4 == 0:
                sessions[number].execute(
                    "select eram_cancel_jobs(%s::jsonb)", ['{"handler": "app:run"}']
                )
            elif number % 4 == 1:
                own = start_worker(sessions[number])
                complete(sessions[number], fetch(sessions[number], own, 10))

    at_once(*[lambda n=n: run(n) for n in range(8)])
    assert rows(conn, "select * from eram_check()") == []
