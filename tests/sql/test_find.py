"""eram_find_jobs(): every page of every filter, and what each costs, at 130,000 jobs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, row, shared_buffers, value
from .lifecycle_helpers import STATES

JOBS = 130_000
MOST_LOOKS = 100_000
# Where no index helps, each look is one at an index and one at a row, or two.
WALK_BUFFERS = 7 * MOST_LOOKS
MOST_BUFFERS = 3_000
WALKS = {"a rare handler", "a rare handler's waiting", "a rare handler's completed", "a tag"}
# Each of them is found by another way: an index that knows of few, or a walk from the newest on.
FILTERS: dict[str, Any] = {
    "all": {"all": True},
    "ids": {"ids": [1, 500, 129_999, 10**12]},
    "one state": {"state": "available"},
    "rare states": {"state": ["discarded", "cancelled"]},
    "what runs": {"state": "executing"},
    "what waits for its backoff": {"state": "retryable"},
    "what is not due": {"state": ["retryable", "scheduled"]},
    "what completed": {"state": "completed"},
    "a small queue": {"queue": "small"},
    "a small queue's completed": {"queue": "small", "state": "completed"},
    "a small queue's waiting": {"queue": ["small", "none"], "state": ["available", "retryable"]},
    "a small queue's rare": {"queue": "small", "state": "discarded"},
    "a large queue's rare": {"queue": "default", "state": ["cancelled", "executing"]},
    "a rare handler": {"handler": "app:rare"},
    "a rare handler's waiting": {"handler": "app:rare", "state": "available"},
    "a rare handler's completed": {"handler": ["app:rare", "app:none"], "state": "completed"},
    "rare args": {"args": {"user": 77}},
    "frequent args": {"args": {"kind": 3}, "state": "available"},
    "meta": {"meta": {"trace": "t5"}},
    "a tag": {"tags": ["odd"]},
    "a time": {"after": "2001-01-01 00:00+00", "state": "executing"},
    "nothing": {"queue": "none"},
}


@pytest.fixture(scope="module")
def full(module_dsn: str):
    """A database with jobs in all states, the waiting ones in front; nobody writes to it."""
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        conn.execute(
            f"""
            insert into eram_job_specs
                (handler, args, meta, tags, queue, priority, max_attempts, inserted_at,
                scheduled_at)
            select
                case when n % 20000 = 7 then 'app:rare' else 'app:run' end,
                jsonb_build_object('user', n / 3, 'kind', n % 4),
                case when n % 10000 = 5 then jsonb_build_object('trace', 't' || n % 10) end,
                case when n % 30001 = 1 then array['odd', 'even'] else '{{}}' end,
                case when n % 1000 = 9 then 'small' else 'default' end,
                n % 3, 20, now(), now()
            from generate_series(1, {JOBS}) as n;
            insert into eram_workers
                (name, queues, is_direct, timeline, stalled_after, started_at, heartbeat_at)
            values ('w', '{{default}}', false, _eram_timeline(), '0', now(), now());
            insert into eram_finished_jobs
                (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
            select
                job_id, 1, now(), now(), 1, 1,
                case job_id % 1000
                    when 9 then 'discarded' when 0 then 'cancelled' else 'completed'
                end,
                queue
            from eram_job_specs
            where job_id <= {JOBS // 2} and job_id % 5000 <> 17;
            update eram_finished_jobs
            set state = 'completed'
            where queue = 'small' and job_id % 2 = 1 and job_id % 4000 <> 9;
            insert into eram_completions (queue, finalized_at, ids)
            select queue, max(finalized_at), array_agg(job_id)
            from eram_finished_jobs
            where state = 'completed'
            group by queue, job_id / 100;
            insert into eram_running_jobs (job_id, worker, attempted_at, run, attempt, lane, queue)
            select job_id, 1, now(), 1, 1, 1 + 2 * (job_id % 3), queue
            from eram_job_specs
            where job_id <= {JOBS // 2} and job_id % 5000 = 17;
            insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
            select
                job_id,
                now() + case when job_id % 3000 < 3 then interval '1 day' else '0' end,
                job_id % 2, job_id % 2, 1 + 2 * (job_id % 3), queue
            from eram_job_specs
            where job_id > {JOBS // 2};
            """
        )
        conn.execute("vacuum analyze")
        assert conn.execute("select * from eram_check()").fetchall() == []
        yield conn


def pages_of(conn: psycopg.Connection, filter_: Any, max_count: int) -> list[list[int]]:
    """Return what each call finds, until there is no more."""
    pages: list[list[int]] = []
    before = None
    while True:
        page = row(
            conn, "select * from eram_find_jobs(%s, %s, %s)", Jsonb(filter_), before, max_count
        )
        pages.append(page.ids)
        assert len(page.ids) <= max_count
        if page.next_before is None:
            return pages
        assert before is None or page.next_before < before
        before = page.next_before


@pytest.mark.parametrize("name", FILTERS)
def test_all_pages_together_are_all_that_matches_newest_first(full, name):
    query = "select job_id from _eram_matching_jobs(%s, %s) order by job_id desc"
    wanted = column(full, query, Jsonb(FILTERS[name]), list(STATES))
    assert bool(wanted) == (name != "nothing")
    # Several pages of few, and not too many of many.
    pages = pages_of(full, FILTERS[name], 5_000 if len(wanted) > 500 else 7)
    assert [job_id for page in pages for job_id in page] == wanted


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_costs_little_whatever_the_filter(full, name):
    query = "select * from eram_find_jobs(%s, null, 50)"
    most = WALK_BUFFERS if name in WALKS else MOST_BUFFERS
    assert shared_buffers(full, query, Jsonb(FILTERS[name])) <= most


def test_a_call_ends_after_so_many_looks_and_says_how_far_it_came(full):
    query = "select * from eram_find_jobs(%s, %s)"
    page = row(full, query, Jsonb({"handler": "app:none"}), None)
    assert page.ids == []
    assert JOBS - MOST_LOOKS - 10_000 <= page.next_before <= JOBS - MOST_LOOKS + 1
    rest = row(full, query, Jsonb({"handler": "app:none"}), page.next_before)
    assert (rest.ids, rest.next_before) == ([], None)


def test_without_a_number_there_are_fifty(full):
    query = "select cardinality(ids) from eram_find_jobs(%s)"
    assert value(full, query, Jsonb({"all": True})) == 50


def test_ids_that_are_found_and_rows_that_are_read_are_of_one_moment(full):
    states = column(
        full,
        """
        select distinct jobs.state
        from eram_find_jobs('{"state": "retryable"}', null, 1000) as found
        cross join unnest(found.ids) as listed (id)
        join eram_latest_jobs as jobs on jobs.id = listed.id
        """,
    )
    assert states == ["retryable"]


@pytest.mark.parametrize("filter_", [None, {}, {"sate": "available"}, {"ids": []}, {"queue": 7}])
def test_a_filter_is_refused_as_by_the_bulk_functions(full, filter_):
    with pytest.raises(psycopg.Error) as refused:
        full.execute(
            "select * from eram_find_jobs(%s)", [None if filter_ is None else Jsonb(filter_)]
        )
    with pytest.raises(type(refused.value)):
        full.execute("select eram_cancel_jobs(%s)", [None if filter_ is None else Jsonb(filter_)])


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_as_many_as_nobody_can_mean_are_refused(full, count):
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="between 1 and 10000"):
        full.execute("select * from eram_find_jobs('{\"all\": true}', null, %s)", [count])
