"""Filters of the bulk functions: what they match, and what they refuse."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, contents, enqueue, start_worker, value
from .lifecycle_helpers import ENDED, STATES, bulk, matching, one_of_each

BULK = {"cancel": "", "retry": "", "delete": "", "move": ", 'elsewhere'"}


@pytest.fixture
def shared_worker(shared) -> int:
    return start_worker(shared)


@pytest.fixture
def jobs(shared, shared_worker) -> dict[str, int]:
    return one_of_each(shared, shared_worker)


def test_all_matches_all(shared, jobs):
    assert matching(shared, {"all": True}) == set(jobs.values())


@pytest.mark.parametrize("state", STATES)
def test_a_state_matches_the_jobs_that_are_shown_in_it(shared, jobs, state):
    assert matching(shared, {"state": state}) == {jobs[state]}
    assert matching(shared, {"state": [state]}) == {jobs[state]}


def test_one_of_several_states_will_do(shared, jobs):
    assert matching(shared, {"state": list(ENDED)}) == {jobs[state] for state in ENDED}
    pairs = [{"available", "retryable"}, {"scheduled", "executing"}, {"cancelled", "available"}]
    for pair in pairs:
        assert matching(shared, {"state": list(pair)}) == {jobs[state] for state in pair}


def test_a_state_twice_matches_each_job_once(shared, jobs):
    assert matching(shared, {"state": ["completed", "completed"]}) == {jobs["completed"]}
    twice = [jobs["completed"], jobs["available"]] * 2
    assert matching(shared, {"ids": twice}) == set(twice)


def test_ids_match_in_every_state_and_unknown_ones_do_not(shared, jobs):
    for job_id in jobs.values():
        assert matching(shared, {"ids": [job_id, 10**18, -1, 0]}) == {job_id}
    assert matching(shared, {"ids": [9223372036854775807]}) == set()


def test_a_queue_and_a_handler_match_in_every_state(shared, shared_worker, jobs):
    start_worker(shared, "mail")
    others = one_of_each(shared, shared_worker, queue="mail", handler="app:mail")
    third = enqueue(shared, "app:third", queue="third")
    for key, names in (("queue", ("default", "mail")), ("handler", ("app:run", "app:mail"))):
        assert matching(shared, {key: names[0]}) == set(jobs.values())
        assert matching(shared, {key: names[1]}) == set(others.values())
        assert matching(shared, {key: [*names, "nowhere"]}) == {*jobs.values(), *others.values()}
        assert matching(shared, {key: "nowhere"}) == set()
    assert matching(shared, {"queue": "mail", "handler": "app:run"}) == set()
    assert matching(shared, {"queue": "third"}) == {third}


def test_tags_args_and_meta_match_by_containment_in_every_state(shared, shared_worker):
    given = {"tags": ["a", "b"], "args": {"to": "x", "n": {"m": [1, 2]}}, "meta": {"by": "y"}}
    jobs = set(one_of_each(shared, shared_worker, **given).values())
    enqueue(shared, tags=["a"], args={"to": "z"}, meta={"by": "z"})
    enqueue(shared)
    right: list[dict[str, Any]] = [
        {"tags": ["a", "b"]},
        {"tags": ["b"]},
        {"tags": ["b", "b"]},
        {"args": {"to": "x"}},
        {"args": {"n": {"m": [2]}}},
        {"meta": {"by": "y"}},
        {"tags": ["a"], "args": {"to": "x"}, "meta": {"by": "y"}, "queue": "default"},
    ]
    wrong: list[dict[str, Any]] = [
        {"tags": ["a", "c"]},
        {"args": {"to": "y"}},
        {"args": {"to": "x", "n": 1}},
        {"meta": {"to": "x"}},
    ]
    for filter_ in right:
        assert matching(shared, filter_) == jobs, filter_
    for filter_ in wrong:
        assert matching(shared, filter_) == set(), filter_


def test_before_and_after_are_of_the_time_when_a_job_came_into_its_state(shared, jobs):
    """What begins at a time is after it, and not before it: ranges that meet do not overlap."""
    times = dict(
        shared.execute(
            """
            select state, coalesce(finalized_at, attempted_at, scheduled_at)
            from eram_jobs
            """
        ).fetchall()
    )
    for state, at in times.items():
        (earlier, later) = column(
            shared,
            "select %s::timestamptz + unnest('{-1us,1us}'::interval[])",
            at,
        )
        only = {"state": state}
        for key, time, matches in (
            ("before", at, False),
            ("before", later, True),
            ("after", at, True),
            ("after", later, False),
            ("after", earlier, True),
            ("before", earlier, False),
        ):
            found = matching(shared, {**only, key: time.isoformat()})
            assert found == ({jobs[state]} if matches else set()), (state, key, time)
        both = {"after": earlier.isoformat(), "before": later.isoformat()}
        assert jobs[state] in matching(shared, both)
        assert matching(shared, {**both, "after": later.isoformat(), **only}) == set()


def test_a_time_needs_an_offset_and_may_have_any(shared, jobs):
    assert matching(shared, {"before": "2100-01-01T00:00:00Z"}) == set(jobs.values())
    assert matching(shared, {"after": "2100-01-01 00:00:00+14:00"}) == set()
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat, match="before of filter"):
        matching(shared, {"before": "2100-01-01T00:00:00"})


BAD = [
    ({}, "must not be empty", "all"),
    ([], "must be a JSON object, got array", None),
    (None, "must be a JSON object, got null", None),
    ("all", "must be a JSON object, got string", None),
    (7, "must be a JSON object, got number", None),
    ({"states": "available"}, 'unknown key "states"', '"state"'),
    ({"quue": "x"}, 'unknown key "quue"', '"queue"'),
    ({"queue": "x", "tag": ["y"]}, 'unknown key "tag"', '"tags"'),
    ({"x" * 100_000: 1}, "unknown key", "Did you mean"),
    ({"all": False}, '"all" must be true', None),
    ({"all": "true"}, '"all" must be true', None),
    ({"all": None}, '"all" must be true', None),
    ({"all": True, "queue": "x"}, "the only key", None),
    ({"ids": []}, "ids of filter must be a list of ids", None),
    ({"ids": None}, "ids of filter", None),
    ({"ids": 1}, "ids of filter", None),
    ({"ids": "1"}, "ids of filter", None),
    ({"ids": ["1"]}, "ids of filter", None),
    ({"ids": [1.5]}, "ids of filter", None),
    ({"ids": [1, None]}, "ids of filter", None),
    ({"ids": [10**19]}, "ids of filter", None),
    ({"ids": [[1]]}, "ids of filter", None),
    ({"state": "done"}, 'unknown state "done"', "Did you mean"),
    ({"state": ["available", "complete"]}, 'unknown state "complete"', '"completed"'),
    ({"state": "Available"}, 'unknown state "Available"', '"available"'),
    ({"state": ""}, 'unknown state ""', None),
    ({"state": []}, "state of filter", None),
    ({"state": None}, "state of filter", None),
    ({"state": 1}, "state of filter", None),
    ({"state": [None]}, "state of filter", None),
    ({"queue": None}, "queue of filter", None),
    ({"queue": []}, "queue of filter", None),
    ({"queue": {}}, "queue of filter", None),
    ({"queue": ["a", 1]}, "queue of filter", None),
    ({"queue": ""}, "queue must not be null or empty", None),
    ({"queue": "a\nb"}, "invalid queue", None),
    ({"queue": "x" * 129}, "too long", None),
    ({"handler": None}, "handler of filter", None),
    ({"handler": []}, "handler of filter", None),
    ({"handler": True}, "handler of filter", None),
    ({"handler": ["a:b", ""]}, "handler must not be null or empty", None),
    ({"handler": "x" * 513}, "too long", None),
    ({"tags": []}, "tags of filter", None),
    ({"tags": None}, "tags of filter", None),
    ({"tags": "a"}, "tags must be an array of strings", None),
    ({"tags": ["a", 1]}, "tags must be an array of strings", None),
    ({"tags": [""]}, "tag must not be null or empty", None),
    ({"args": {}}, "args of filter", None),
    ({"args": None}, "args of filter", None),
    ({"args": []}, "args of filter", None),
    ({"args": "x"}, "args of filter", None),
    ({"meta": {}}, "meta of filter", None),
    ({"meta": [1]}, "meta of filter", None),
    ({"before": None}, "before of filter", None),
    ({"after": None}, "after of filter", None),
    ({"before": 1700000000}, "before of filter must be a time", None),
    ({"after": "yesterday"}, "after of filter must be a time", None),
    ({"after": "2025-02-30T00:00:00Z"}, "no time of the calendar", None),
    ({"before": ["2025-01-01T00:00:00Z"]}, "before of filter", None),
]


@pytest.mark.parametrize(("filter_", "message", "hint"), BAD, ids=[str(bad[0])[:40] for bad in BAD])
def test_a_bad_filter_is_refused_by_all_and_changes_nothing(shared, jobs, filter_, message, hint):
    before = contents(shared)
    for function, more in BULK.items():
        with pytest.raises((psycopg.DataError, psycopg.ProgrammingError)) as caught:
            shared.execute(f"select eram_{function}_jobs(%s{more})", [Jsonb(filter_)])
        assert message in str(caught.value.diag.message_primary)
        assert caught.value.diag.message_hint
        if hint:
            assert hint in str(caught.value.diag.message_hint)
        assert len(str(caught.value.diag.message_primary)) < 400
    assert contents(shared) == before


@pytest.mark.parametrize("function", BULK)
def test_null_is_refused(shared, jobs, function):
    with pytest.raises(psycopg.errors.NullValueNotAllowed, match="filter must not be null"):
        shared.execute(f"select eram_{function}_jobs(null{BULK[function]})")


def test_nul_cannot_even_be_said(shared):
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        bulk(shared, "cancel", {"queue": "a\0b"})


def test_huge_filters_work(shared, jobs):
    job_id = jobs["available"]
    ids = [*range(10**9, 10**9 + 50_000), job_id]
    assert matching(shared, {"ids": ids}) == {job_id}
    queues = ["default", *(f"q{n}" for n in range(1000))]
    assert matching(shared, {"queue": queues}) == set(jobs.values())
    assert matching(shared, {"args": {"x" * 100_000: "y" * 100_000}}) == set()
    assert matching(shared, {"tags": [f"t{n}" for n in range(5000)]}) == set()


def test_a_huge_job_id_is_no_number_of_another_kind(shared, jobs):
    """1e0 is the integer 1 in JSON; it names a job like any other."""
    text = f'{{"ids": [{jobs["scheduled"]}e0]}}'
    assert value(shared, "select eram_cancel_jobs(%s::jsonb)", text) == 1


def test_text_that_is_no_json_is_refused_by_the_server(shared):
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        shared.execute("select eram_cancel_jobs('all')")


def test_a_place_that_holds_none_of_the_states_is_not_read(shared, jobs):
    places = {
        "eram_queued_jobs": ("available", "scheduled", "retryable"),
        "eram_running_jobs": ("executing",),
        "eram_finished_jobs": ENDED,
    }
    scans = """
        select
            pg_stat_get_xact_numscans(%(table)s::regclass)
            + (
                select sum(pg_stat_get_xact_numscans(indexrelid))
                from pg_index
                where indrelid = %(table)s::regclass
            )
    """
    for table, there in places.items():
        for state in STATES:
            with shared.transaction():
                before = shared.execute(scans, {"table": table}).fetchone()
                matching(shared, {"state": state})
                after = shared.execute(scans, {"table": table}).fetchone()
            assert (after > before) is (state in there), (table, state)
