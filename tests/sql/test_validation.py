"""What every call refuses: with a named condition, a hint, and nothing written."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import contents, enqueue, fetch, start_worker, value
from .validation_helpers import (
    ARRAY,
    FORMAT,
    INVALID,
    LONG,
    NAME,
    NULL,
    OVERFLOW,
    RANGE,
    STATE,
    UNDEFINED,
    refused,
)

# Calls of every function with arguments that it must refuse. %(worker)s is a live worker,
# %(stopped)s one that has stopped, %(job)s a running job of the live one, with run 1.
BAD_CALLS: list[tuple[str, type[psycopg.Error]]] = [
    ("eram_enqueue_job(null::text)", NULL),
    ("eram_enqueue_job(null::jsonb)", INVALID),
    ("eram_enqueue_job('')", NULL),
    ("eram_enqueue_job('  ')", NAME),
    (r"eram_enqueue_job(e'a\nb')", NAME),
    ("eram_enqueue_job('a:b', args => '[]')", INVALID),
    ("eram_enqueue_job('a:b', args => '5')", INVALID),
    ("eram_enqueue_job('a:b', args => 'null')", INVALID),
    ("eram_enqueue_job('a:b', meta => '\"x\"')", INVALID),
    ("eram_enqueue_job('a:b', meta => 'null')", INVALID),
    ("eram_enqueue_job('a:b', queue => '')", NULL),
    ("eram_enqueue_job('a:b', queue => ' q')", NAME),
    ("eram_enqueue_job('a:b', queue => repeat('q', 129))", LONG),
    ("eram_enqueue_job('a:b', priority => -1)", RANGE),
    ("eram_enqueue_job('a:b', priority => 10)", RANGE),
    ("eram_enqueue_job('a:b', max_attempts => 0)", RANGE),
    ("eram_enqueue_job('a:b', max_attempts => -1)", RANGE),
    ("eram_enqueue_job('a:b', max_attempts => 2147483647)", RANGE),
    ("eram_enqueue_job('a:b', scheduled_at => 'infinity')", OVERFLOW),
    ("eram_enqueue_job('a:b', scheduled_at => '-infinity')", OVERFLOW),
    ("eram_enqueue_job('a:b', scheduled_at => '4000-01-01 00:00:00+00 BC')", OVERFLOW),
    ("eram_enqueue_job('a:b', scheduled_at => '20000-01-01 00:00:00+00')", OVERFLOW),
    ("eram_enqueue_job('a:b', delay => '-1 second')", RANGE),
    ("eram_enqueue_job('a:b', delay => '-1 month')", RANGE),
    ("eram_enqueue_job('a:b', delay => '101 years')", RANGE),
    ("eram_enqueue_job('a:b', delay => '178000000 years')", RANGE),
    ("eram_enqueue_job('a:b', delay => '1 s', scheduled_at => now())", INVALID),
    ("eram_enqueue_job('a:b', tags => array[null])", NULL),
    ("eram_enqueue_job('a:b', tags => array['a', null])", NULL),
    ("eram_enqueue_job('a:b', tags => '{{a},{b}}')", ARRAY),
    ("eram_enqueue_job('a:b', tags => '{\"\"}')", NULL),
    ("eram_enqueue_job('a:b', backoff => 'null')", INVALID),
    ("eram_enqueue_job('a:b', backoff => '[]')", INVALID),
    ("eram_enqueue_job('a:b', timeout => '0')", RANGE),
    ("eram_enqueue_job('a:b', timeout => '1 mon -40 days')", RANGE),
    ("eram_enqueue_job('a:b', unique_by => '[]')", INVALID),
    ("eram_enqueue_job('a:b', unique_by => 'null')", INVALID),
    ("eram_enqueue_jobs(null)", INVALID),
    ("eram_enqueue_jobs('null')", INVALID),
    ("eram_enqueue_jobs('5')", INVALID),
    ("eram_enqueue_jobs('\"a:b\"')", INVALID),
    ("eram_enqueue_jobs('[5]')", INVALID),
    ("eram_enqueue_jobs('[[]]')", INVALID),
    ("eram_fetch('default', -1, %(worker)s)", INVALID),
    ("eram_fetch('default', null, %(worker)s)", INVALID),
    ("eram_fetch(null, 1, %(worker)s)", NULL),
    ("eram_fetch('', 1, %(worker)s)", NULL),
    ("eram_fetch(' ', 1, %(worker)s)", NAME),
    ("eram_fetch(repeat('q', 129), 1, %(worker)s)", LONG),
    ("eram_fetch('default', 1, null)", UNDEFINED),
    ("eram_fetch('default', 1, 0)", UNDEFINED),
    ("eram_fetch('default', 1, -1)", UNDEFINED),
    ("eram_fetch('default', 0, 999999)", UNDEFINED),
    ("eram_fetch('default', 1, 9223372036854775807)", UNDEFINED),
    ("eram_fetch('default', 1, -9223372036854775808)", UNDEFINED),
    ("eram_fetch('default', 1, %(stopped)s)", STATE),
    ("eram_complete_jobs(null, null)", NULL),
    ("eram_complete_jobs('{1}', null)", NULL),
    ("eram_complete_jobs(null, '{1}')", NULL),
    ("eram_complete_jobs('{null}', '{1}')", NULL),
    ("eram_complete_jobs(array[%(job)s], '{null}')", NULL),
    ("eram_complete_jobs(array[%(job)s], '{1,1}')", ARRAY),
    ("eram_complete_jobs(array[%(job)s, 2], '{1}')", ARRAY),
    ("eram_complete_jobs(array[%(job)s], '{}')", ARRAY),
    ("eram_complete_jobs(array[[%(job)s]], '{{1}}')", ARRAY),
    ("eram_complete_jobs(array[%(job)s], '{{1}}')", ARRAY),
    ("eram_complete_jobs(array[%(job)s], '{1}', '{}')", ARRAY),
    ("eram_complete_jobs(array[%(job)s], '{1}', array['1', '2']::jsonb[])", ARRAY),
    ("eram_release_jobs(null, null)", NULL),
    ("eram_release_jobs('{null}', '{1}')", NULL),
    ("eram_release_jobs(array[%(job)s], '{1,1}')", ARRAY),
    ("eram_release_jobs(array[[%(job)s]], '{{1}}')", ARRAY),
    ("eram_fail_job(null, 1, 'x')", NULL),
    ("eram_fail_job(%(job)s, null, 'x')", NULL),
    ("eram_fail_job(%(job)s, 1, 'x', '[]')", INVALID),
    ("eram_fail_job(%(job)s, 1, 'x', '5')", INVALID),
    ("eram_fail_job(%(job)s, 1, 'x', 'null')", INVALID),
    ("eram_fail_job(%(job)s, 1, 'x', delay => '-1 second')", RANGE),
    ("eram_fail_job(%(job)s, 1, 'x', delay => '101 years')", RANGE),
    ("eram_snooze_job(null, 1, '1 minute')", NULL),
    ("eram_snooze_job(%(job)s, null, '1 minute')", NULL),
    ("eram_snooze_job(%(job)s, 1, null)", NULL),
    ("eram_snooze_job(%(job)s, 1, '-1 microsecond')", RANGE),
    ("eram_snooze_job(%(job)s, 1, '178000000 years')", RANGE),
    ("eram_discard_job(null, 1, 'x')", NULL),
    ("eram_discard_job(%(job)s, null, 'x')", NULL),
    ("eram_cancel_job(null)", NULL),
    ("eram_cancel_job(999999)", UNDEFINED),
    ("eram_cancel_job(-1, 'x')", UNDEFINED),
    ("eram_start_worker(null, '{default}')", NULL),
    ("eram_start_worker('', '{default}')", NULL),
    ("eram_start_worker(' w', '{default}')", NAME),
    ("eram_start_worker(repeat('w', 256), '{default}')", LONG),
    ("eram_start_worker('w', null)", INVALID),
    ("eram_start_worker('w', '{}')", INVALID),
    ("eram_start_worker('w', '{{a},{b}}')", INVALID),
    ("eram_start_worker('w', array[null])", NULL),
    ("eram_start_worker('w', '{\"\"}')", NULL),
    ("eram_start_worker('w', '{a,\" b\"}')", NAME),
    ("eram_start_worker('w', '{a}', stalled_after => '-1 s')", RANGE),
    ("eram_start_worker('w', '{a}', stalled_after => '101 years')", RANGE),
    ("eram_stop_worker(null)", UNDEFINED),
    ("eram_stop_worker(0)", UNDEFINED),
    ("eram_stop_worker(999999)", UNDEFINED),
    ("eram_start_waiting(null)", NULL),
    ("eram_start_waiting('')", NULL),
    ("eram_start_waiting(' q')", NAME),
    ("eram_stop_waiting(null)", NULL),
    ("eram_stop_waiting('')", NULL),
    ("eram_rescue_jobs('-1 hour')", RANGE),
    ("eram_rescue_jobs('101 years')", RANGE),
    ("eram_set_queue(null)", NULL),
    ("eram_set_queue('')", NULL),
    ("eram_set_queue(' q')", NAME),
    ("eram_set_queue('q', priority => 10)", RANGE),
    ("eram_set_queue('q', priority => -1)", RANGE),
    ("eram_set_queue('q', max_attempts => 0)", RANGE),
    ("eram_set_queue('q', backoff => '[]')", INVALID),
    ("eram_set_queue('q', backoff => 'null')", INVALID),
    ("eram_set_queue('q', backoff => '{\"strategy\": \"fixd\"}')", INVALID),
    ("eram_backoff(null)", NULL),
    ("eram_backoff(0)", RANGE),
    ("eram_backoff(-2147483648, '\"none\"')", RANGE),
    ("eram_backoff(1, 'null')", INVALID),
    ('eram_backoff(1, \'{"strateg": "none"}\')', INVALID),
    ("eram_pause_queue(null)", NULL),
    ("eram_pause_queue('')", NULL),
    ("eram_pause_queue(repeat('q', 129))", LONG),
    ("eram_resume_queue(null)", NULL),
    ("eram_resume_queue(e'q\\t')", NAME),
]
INFINITE_CALLS = [
    "eram_enqueue_job('a:b', delay => 'infinity')",
    "eram_enqueue_job('a:b', delay => '-infinity')",
    """eram_enqueue_job('{"handler": "a:b", "delay": "infinity"}')""",
    "eram_fail_job(%(job)s, 1, 'x', delay => 'infinity')",
    "eram_snooze_job(%(job)s, 1, 'infinity')",
    "eram_snooze_job(%(job)s, 1, '-infinity')",
    "eram_start_worker('w', '{a}', stalled_after => 'infinity')",
    "eram_rescue_jobs('infinity')",
    """eram_set_queue('q', backoff => '{"strategy": "fixed", "base": "infinity"}')""",
]


@pytest.fixture
def known(shared: psycopg.Connection) -> dict[str, int]:
    """A live worker, one that has stopped, and a job that runs, as %(names)s of a call."""
    live = start_worker(shared)
    stopped = start_worker(shared)
    shared.execute("select eram_stop_worker(%s)", [stopped])
    job = enqueue(shared)
    assert [claimed.id for claimed in fetch(shared, live)] == [job]
    return {"worker": live, "stopped": stopped, "job": job}


@pytest.mark.parametrize(("call", "error"), BAD_CALLS, ids=[call for call, _ in BAD_CALLS])
def test_a_bad_call_is_refused(shared, known, call, error):
    refused(shared, f"select {call}", known, error)


@pytest.mark.parametrize("call", INFINITE_CALLS)
def test_an_infinite_interval_is_refused(shared, known, call):
    """PostgreSQL 17 has infinite intervals; earlier ones refuse the word by themselves."""
    if shared.info.server_version < 170000:
        if "{" not in call or "start_worker" in call:
            with pytest.raises(FORMAT):
                shared.execute(f"select {call}", known)
        else:
            refused(shared, f"select {call}", known, FORMAT)
    else:
        refused(shared, f"select {call}", known, RANGE)


@pytest.mark.parametrize(
    "call", ["eram_heartbeat(null)", "eram_heartbeat(0)", "eram_heartbeat(%(stopped)s)"]
)
def test_a_heartbeat_of_no_live_worker_is_no_error(shared, known, call):
    """A worker that was declared dead finds out by it: that is no mistake of the caller."""
    before = contents(shared)
    alive = shared.execute(f"select * from {call}", known).fetchone()
    assert alive == (False, [], [])
    assert contents(shared) == before


@pytest.mark.parametrize(
    "call",
    [
        "eram_complete_jobs('{999999}', '{1}')",
        "eram_complete_jobs('{}', '{}')",
        "eram_complete_jobs(array[%(job)s], '{2}')",
        "eram_complete_jobs(array[%(job)s], '{-1}')",
        "eram_release_jobs('{999999,-5}', '{1,1}')",
        "eram_release_jobs('{}', '{}')",
    ],
)
def test_a_finish_of_what_is_not_held_returns_no_row_and_writes_nothing(shared, known, call):
    before = contents(shared)
    assert shared.execute(f"select * from {call}", known).fetchall() == []
    assert contents(shared) == before


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("eram_fail_job(999999, 1, 'x')", None),
        ("eram_fail_job(%(job)s, 2, 'x')", None),
        ("eram_snooze_job(999999, 1, '0')", False),
        ("eram_discard_job(%(job)s, 0)", False),
        ("eram_cancel_job(%(job)s, run => 2)", False),
        ("eram_cancel_job(999999, run => 2)", False),
    ],
)
def test_a_lost_race_returns_and_writes_nothing(shared, known, call, answer):
    before = contents(shared)
    assert shared.execute(f"select {call}", known).fetchone() == (answer,)
    assert contents(shared) == before


def test_a_refused_call_in_a_transaction_leaves_the_rest_to_the_caller(shared):
    before = contents(shared)
    with pytest.raises(RANGE), shared.transaction():
        enqueue(shared)
        enqueue(shared, priority=10)
    assert contents(shared) == before
    assert value(shared, "select count(*) from eram_jobs") == 0
