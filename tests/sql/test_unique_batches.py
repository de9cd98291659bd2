"""Unique jobs in batches: duplicates of jobs there were, and of others in the same batch."""

from __future__ import annotations

import random
from typing import Any

import pytest
from psycopg import errors

from .helpers import column, complete, contents, fetch, row, rows, value
from .unique_helpers import HOUR, KINDS, TAKEN, document, put, put_all

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
JOB = "select * from eram_jobs where id = %s"


@each_kind
def test_duplicates_within_a_batch(conn, kind):
    """The first one wins."""
    jobs = [document(args={"id": n % 3, "n": n}, unique={**kind, "keys": ["id"]}) for n in range(9)]
    found = put_all(conn, *jobs)
    assert [one.is_duplicate for one in found] == [False] * 3 + [True] * 6
    assert [one.id for one in found] == [one.id for one in found[:3]] * 3
    args = rows(conn, "select job_id, args from eram_job_specs order by job_id")
    assert args == [(one.id, {"id": n, "n": n}) for n, one in enumerate(found[:3])]


@each_kind
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("conflicts", "wins"),
    [
        (("replace", "replace", "replace"), 2),
        (("skip", "replace", "replace"), 2),
        (("skip", "replace", "skip"), 1),
        (("replace", "skip", "skip"), 0),
        (("skip", "skip", "replace"), 2),
        (("skip", "skip", "skip"), 0),
        (("raise", "replace", "skip"), 1),
    ],
)
def test_mixed_duplicates_within_a_batch(conn, kind, exists, conflicts, wins):
    """Whoever replaces does so with what stood before, be it of the same batch."""
    if exists and conflicts[0] == "raise":
        conflicts = ("skip", *conflicts[1:])
    expected = {"id": 1, "n": wins}
    if exists:
        first = put(conn, args={"id": 1, "n": -1}, unique={**kind, "keys": ["id"]}, priority=9)
        if "replace" not in conflicts:
            expected["n"] = -1
    jobs = [
        document(
            args={"id": 1, "n": n},
            priority=n,
            unique={**kind, "keys": ["id"], "on_conflict": on_conflict},
        )
        for n, on_conflict in enumerate(conflicts)
    ]
    found = put_all(conn, {"handler": "app:a"}, *jobs, {"handler": "app:b"})
    assert [one.is_duplicate for one in found] == [False, exists, True, True, False]
    assert len({one.id for one in found}) == 3
    if exists:
        assert found[1].id == first.id
    job = row(conn, JOB, found[1].id)
    assert (job.args, job.priority) == (expected, expected["n"] if expected["n"] >= 0 else 9)


@each_kind
@pytest.mark.parametrize("place", [0, 1, 2])
def test_raise_within_a_batch(conn, kind, place):
    """A rival of the same batch is a rival; nothing of the batch is written."""
    before = contents(conn)
    jobs = [document(args={"id": 1}, unique=kind) for _ in range(3)]
    jobs[place]["unique"] = {**kind, "on_conflict": "raise"}
    if place == 0:
        found = put_all(conn, *jobs)
        assert [one.is_duplicate for one in found] == [False, True, True]
        return
    with pytest.raises(errors.UniqueViolation) as caught:
        put_all(conn, {"handler": "app:x"}, *jobs)
    assert caught.value.diag.message_hint
    assert contents(conn) == before


def test_the_window_in_a_batch_is_that_of_the_first(conn):
    """And if its period is another, the later ones are duplicates all the same."""
    put_all(conn, document(unique=HOUR), document(unique=True), document(unique={"period": 5}))
    held = row(conn, "select *, expires_at - clock_timestamp() as rest from eram_unique_keys")
    assert held.rest.total_seconds() > 3000
    assert column(conn, "select unique_until from eram_job_specs") == [held.expires_at]


def test_an_expired_window_is_taken_over_once_by_a_batch(conn):
    first = put(conn, unique=HOUR)
    conn.execute("update eram_unique_keys set expires_at = clock_timestamp()")
    conn.execute("update eram_job_specs set unique_until = clock_timestamp()")
    found = put_all(conn, *[document(unique=HOUR)] * 3)
    assert [one.is_duplicate for one in found] == [False, True, True]
    assert {one.id for one in found} & {first.id} == set()
    assert len({one.id for one in found}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_random_batch_against_a_model(conn, worker, seed):
    """Which are duplicates of what, in what order the rows come, and what the jobs then are."""
    generator = random.Random(seed)
    live: dict[int, int] = {}
    said: dict[int, int] = {}
    for _ in range(12):
        documents, expected, number = [], [], 0
        for _ in range(generator.randrange(1, 60)):
            number = generator.randrange(1_000_000)
            name = generator.choice([None, *range(20)])
            on_conflict = generator.choice(["skip", "skip", "replace"])
            documents.append(
                document(
                    args={"id": name, "n": number},
                    queue=f"q{name}" if name else "default",
                    priority=generator.randrange(10),
                    unique=name is not None and {"keys": ["id"], "on_conflict": on_conflict},
                )
            )
            expected.append((name, on_conflict, number))
        found = put_all(conn, *documents)
        assert len(found) == len(documents)
        for one, (name, on_conflict, number) in zip(found, expected, strict=True):
            if name is None:
                assert (one.is_duplicate, one.id in said) == (False, False)
            elif name in live:
                assert one == (live[name], True)
                if on_conflict != "replace":
                    continue
            else:
                assert (one.is_duplicate, one.id in said) == (False, False)
                live[name] = one.id
            said[one.id] = number
        fresh = [one.id for one in found if not one.is_duplicate]
        assert fresh == sorted(fresh)
        numbers = dict(conn.execute("select job_id, (args ->> 'n')::int from eram_job_specs"))
        assert numbers == said
        for name in generator.sample(sorted(live), len(live) // 3):
            conn.execute("select eram_cancel_job(%s)", [live.pop(name)])
        assert value(conn, TAKEN) == len(live)


def test_a_big_batch(conn, worker):
    """Five thousand keys, each named twice, in another order."""
    numbers = list(range(5000))
    again = numbers.copy()
    random.Random(1).shuffle(again)
    jobs: list[Any] = [document(args={"n": n}) for n in [*numbers, *again]]
    found = put_all(conn, *jobs)
    ids = {n: one.id for n, one in zip(numbers, found, strict=False)}
    assert [one.is_duplicate for one in found] == [False] * 5000 + [True] * 5000
    assert [one.id for one in found[5000:]] == [ids[n] for n in again]
    assert rows(conn, "select * from eram_check()") == []
    assert len(complete(conn, fetch(conn, worker, 5000))) == 5000
    assert value(conn, TAKEN) == 0
