"""The fetch cursor is a setting: whatever it says, no job is lost."""

from __future__ import annotations

import random

import pytest

from .cursor_helpers import COUNTS, HEADER, LANES, MOVED, SHORTEST, advance
from .helpers import (
    enqueue,
    enqueue_many,
    fetch,
    fetch_late,
    fetch_sweeping,
    read_cursor,
    start_worker,
    wait_until,
    write_cursor,
)


@pytest.mark.parametrize("ahead", [1, 3600, 10**7])
def test_a_clock_set_back_drops_the_cursor(conn, worker, ahead):
    """As if everything had been read up to a time that is still to come."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    for place in (MOVED, *range(HEADER, len(cursor), 2)):
        cursor[place] += ahead * 1_000_000
    job_id = enqueue(conn)
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


@pytest.mark.parametrize("place", [1, 2, 4, MOVED])
def test_a_sweep_in_the_future_drops_the_cursor(conn, worker, place):
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[place] += 10**12
    job_id = enqueue(conn)
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


def test_a_full_scan_finds_what_a_wrong_cursor_hides(conn, worker):
    """The net under the net: once a minute, everything is read from the front."""
    advance(conn, worker)
    job_id = enqueue(conn)
    wait_until(lambda: fetch(conn, worker), "the job is claimed")
    # Back it goes, behind every cursor: what must never happen.
    conn.execute(
        """
        with gone as (delete from eram_running_jobs where job_id = %s returning *)
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select job_id, timestamptz '2020-01-01 00:00:00Z', run, attempt, lane, queue from gone
        """,
        [job_id],
    )
    conn.execute("update eram_job_specs set inserted_at = '2020-01-01 00:00:00Z'")
    assert fetch(conn, worker) == []
    cursor = read_cursor(conn)
    cursor[4] -= 61_000_000
    write_cursor(conn, cursor)
    assert [job.id for job in fetch(conn, worker)] == [job_id]


def as_text(*numbers: object) -> str:
    """Write a list as the setting has it."""
    return "{" + ",".join(map(str, numbers)) + "}"


COUNTED = [*[0] * 8, 1, 1, 1]
MANY = [*[0] * 8, 20, 20, 20]
GARBAGE = [
    "",
    " ",
    "null",
    "{}",
    "{1}",
    "garbage",
    as_text(*COUNTED),
    as_text(*COUNTED, *[0] * 5),
    as_text(*COUNTED, *[0] * 7),
    as_text(*MANY, *[0] * 119),
    as_text(*MANY, *[0] * 121),
    as_text(*[0] * 8, 21, 1, 1, *[0] * 46),
    as_text(*[0] * 8, 1, 21, 1, *[0] * 46),
    as_text(*[0] * 8, 1, 1, 21, *[0] * 46),
    as_text(*[0] * 8, 0, 1, 2, *[0] * 6),
    as_text(*[0] * 8, 2, 1, 0, *[0] * 6),
    as_text(*[0] * 8, "9" * 18, "9" * 18, "9" * 18, *[0] * 6),
    as_text(*[0] * 8, -1, 3, 1, *[0] * 6),
    *(as_text(*[each] * SHORTEST) for each in (0, 1, "x", -1, 1.5, "null", "9" * 18, "9" * 30)),
    as_text(*["1"] * 9, *["{1}"] * 8),
    "{" + as_text(*COUNTED, *[0] * 6) + "}",
    "[0:16]=" + as_text(*COUNTED, *[0] * 6),
    as_text(*COUNTED, *[0] * 6) + "\n",
    as_text(*COUNTED, *[0] * 6).replace(",", ", "),
    "{" + "0," * 100_000 + "0}",
    "'; drop table eram_job_specs; --",
    "🦀" * 1000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: repr(text[:12]))
def test_a_garbage_setting_is_dropped(conn, worker, garbage):
    advance(conn, worker)
    job_id = enqueue(conn)
    write_cursor(conn, garbage)
    assert [job.id for job in fetch(conn, worker)] == [job_id]
    # The safe cursor stands before the job, in the second of the lanes.
    assert len(read_cursor(conn)) in {SHORTEST, SHORTEST + 2 * 2}


@pytest.mark.parametrize(
    ("place", "number"),
    [(3, 10**18 - 1), (5, 10**18 - 1), (0, 10**18 - 1), (0, -1), (0, -5), (3, 10**17), (5, 10**16)],
)
def test_one_absurd_number_in_a_setting_neither_raises_nor_hides_a_job(conn, worker, place, number):
    """A mark from another cluster, or a scan that is said to have cost a thousand years."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[place] = number
    write_cursor(conn, cursor)
    job_id = enqueue(conn)
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


@pytest.mark.parametrize(("place", "cost_place"), [(4, 5), (2, 3)])
def test_a_cost_that_cannot_be_true_does_not_switch_a_scan_off(conn, worker, place, cost_place):
    """A scan that is said to have taken longer than the time since it began never was."""
    advance(conn, worker)
    cursor = read_cursor(conn)
    cursor[cost_place] = 10**15
    cursor[place] -= 10 * 60 * 1_000_000
    write_cursor(conn, cursor)
    fetch(conn, worker)
    after = read_cursor(conn)
    assert after[place] > cursor[place] or after[cost_place] < 10**15


def test_random_settings_never_raise_and_never_lose_a_job_for_long(conn, worker):
    """Numbers at random in the right form. What they hide comes with the next full scan."""
    rnd = random.Random(7)
    for _ in range(150):
        lengths = [rnd.choice([1, 2, rnd.randint(1, LANES)]) for _ in COUNTS]
        numbers = [
            rnd.choice([0, 1, 10**6, 10**15, 10**18 - 1, rnd.randrange(10**18)])
            for _ in range(HEADER + 2 * sum(lengths))
        ]
        numbers[COUNTS[0] : HEADER] = lengths
        # Times of the future are dropped, which others show; costs are another test's matter.
        for place in (1, 2, 4, MOVED, *range(HEADER, len(numbers), 2)):
            numbers[place] %= 10**15
        numbers[3] = numbers[5] = rnd.randrange(10**6)
        write_cursor(conn, numbers)
        job_id = enqueue(conn, priority=rnd.randint(0, 9))
        found = fetch(conn, worker)
        if not found:
            cursor = read_cursor(conn)
            cursor[4], cursor[5] = 0, 0
            write_cursor(conn, cursor)
            found = fetch(conn, worker)
        assert [job.id for job in found] == [job_id]


def test_a_dear_sweep_before_a_cheap_one_does_not_spoil_the_cursor(conn, worker):
    """What one has cost is forgotten step by step, so it may be more than the time since the last.

    If the cursor were dropped, each drop would cost a walk over all that was consumed.
    """
    full_at, cost = 4, 3
    enqueue(conn)
    assert len(fetch_sweeping(conn, worker)) == 1
    cursor = read_cursor(conn)
    cursor[cost] = 30_000_000
    write_cursor(conn, cursor)
    enqueue(conn)
    assert len(fetch(conn, worker)) == 1
    assert read_cursor(conn)[full_at] == cursor[full_at]


def test_discard_all_costs_nothing_but_a_full_scan(conn, connect):
    session = connect()
    worker = start_worker(conn)
    advance(session, worker)
    job_id = enqueue(conn)
    session.execute("discard all")
    assert [job.id for job in fetch(session, worker)] == [job_id]


def test_another_client_of_a_pooled_session_can_use_its_cursor(conn, connect):
    session = connect()
    first, second = start_worker(conn), start_worker(conn)
    ids = enqueue_many(conn, 10)
    claimed = [fetch(session, [first, second][n % 2], 1)[0].id for n in range(10)]
    assert claimed == ids


FAR = 10**18 - 1


def forged(now: int, *, mark: int, swept_at: int, cost: int, full_at: int, full_cost: int) -> str:
    """Write a cursor in the right form that has read all that will ever come."""
    head = (mark, now - 10, swept_at, cost, full_at, full_cost, 0, now - 10, 1, 1, 1)
    return as_text(*head, *[FAR] * 6)


HOUR = 3_600_000_000
FORGED = {
    "dear scans": lambda now: forged(
        now, mark=0, swept_at=now - HOUR, cost=HOUR, full_at=now - HOUR, full_cost=HOUR
    ),
    "a mark that there is not": lambda now: forged(
        now, mark=-5, swept_at=now - 10, cost=0, full_at=now - 61_000_000, full_cost=0
    ),
    "a mark that is still to come": lambda now: forged(
        now, mark=FAR, swept_at=now - 10, cost=0, full_at=now - 61_000_000, full_cost=0
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_cursor_is_repaired_by_the_next_full_scan(conn, worker, kind):
    """The first job may be found by that alone; those after it by any sweep."""
    advance(conn, worker)
    now = read_cursor(conn)[MOVED]
    write_cursor(conn, FORGED[kind](now))
    for _ in range(3):
        job_id = enqueue(conn)
        assert [job.id for job in fetch_late(conn, worker, seconds=2)] == [job_id]


def test_no_forged_cost_puts_a_scan_off_for_more_than_ten_minutes(conn, worker):
    advance(conn, worker)
    now = read_cursor(conn)[MOVED]
    costs = {"cost": 30_000_000, "full_cost": 6_000_000}
    write_cursor(
        conn, forged(now, mark=0, swept_at=now - 601_000_000, full_at=now - 601_000_000, **costs)
    )
    job_id = enqueue(conn)
    assert [job.id for job in fetch(conn, worker)] == [job_id]
