"""What every call refuses: with a named condition, a hint, and nothing written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import contents, enqueue, fetch, start_worker, value

NULL = errors.NullValueNotAllowed
INVALID = errors.InvalidParameterValue
RANGE = errors.NumericValueOutOfRange
ARRAY = errors.ArraySubscriptError
NAME = errors.InvalidName
LONG = errors.NameTooLong
FORMAT = errors.InvalidDatetimeFormat
OVERFLOW = errors.DatetimeFieldOverflow
UNDEFINED = errors.UndefinedObject
STATE = errors.ObjectNotInPrerequisiteState

# A name that no name may be, and why.
BAD_NAMES: list[tuple[Any, type[psycopg.Error]]] = [
    ("", NULL),
    (" ", NAME),
    (" a", NAME),
    ("a ", NAME),
    ("a\nb", NAME),
    ("a\tb", NAME),
    ("a\x7fb", NAME),
    ("a\x1fb", NAME),
]
# A value and what is wrong with it, for each key of a job document.
BAD_KEYS: dict[str, list[tuple[Any, type[psycopg.Error]]]] = {
    "handler": [
        *BAD_NAMES,
        (None, NULL),
        ("h" * 513, LONG),
        ("h" * 100_000, LONG),
        (5, INVALID),
        ([], INVALID),
        ({}, INVALID),
        (True, INVALID),
    ],
    "queue": [*BAD_NAMES, ("q" * 129, LONG), (5, INVALID), ([], INVALID), ({}, INVALID)],
    "args": [([], INVALID), ([{}], INVALID), ("text", INVALID), (5, INVALID), (False, INVALID)],
    "meta": [([], INVALID), ("{}", INVALID), (0, INVALID), (True, INVALID)],
    "priority": [
        *((bad, RANGE) for bad in (-1, 10, 2147483647, -2147483648 + 1)),
        *((bad, INVALID) for bad in (1.5, "1", "", True, [], {}, 2**31, -(2**63), 10**400)),
    ],
    "max_attempts": [
        *((bad, RANGE) for bad in (0, -1, 1_000_001, 2147483647)),
        *((bad, INVALID) for bad in (2**31, 1.5, "20", False, [1], {}, 10**400)),
    ],
    "scheduled_at": [
        *(
            (bad, FORMAT)
            for bad in (
                *("2099-01-31T08:00:00", "2099-01-31 08:00", "2099-01-31", "08:00Z", "now", ""),
                *("infinity", "-infinity", "epoch", "tomorrow", "2099-1-31T08:00:00Z"),
                *(
                    "2099-01-31T08:00:00 Europe/Berlin",
                    "2099-01-31T08:00:00Zulu",
                    "20990131T080000Z",
                ),
                *("2099-01-31T08:00:00Z\n", " 2099-01-31T08:00:00Z", "2099-01-31T08:00:00Z BC"),
                *("10000-01-31T08:00:00Z", 4085640000, 0, True, [], {}),
            )
        ),
        *(
            (bad, OVERFLOW)
            for bad in (
                *("2099-02-30T08:00:00Z", "2099-02-29T08:00:00Z", "2099-13-01T08:00:00Z"),
                *("2099-00-01T08:00:00Z", "2099-01-32T08:00:00Z", "2099-01-31T25:00:00Z"),
                *("2099-01-31T08:60:00Z", "2099-01-31T08:00:61Z", "0000-01-01T00:00:00Z"),
                *("9999-12-31T00:00:01Z", "0001-01-01T00:00:00Z"),
            )
        ),
        ("2099-01-31T08:00:00+99:00", errors.InvalidTimeZoneDisplacementValue),
    ],
    "delay": [
        *((bad, RANGE) for bad in (-1, -0.5, 3155760001, 1e300, 10**400, -(10**400))),
        *(
            (bad, RANGE)
            for bad in ("-1 second", "101 years", "1 month -40 days", "177000000 years")
        ),
        *((bad, FORMAT) for bad in ("soon", "", "1 fortnight", "NaN", "1 minute\x01")),
        *((bad, INVALID) for bad in (True, [], {}, [60])),
    ],
    "tags": [
        *((bad, INVALID) for bad in ("one", 1, {}, True, [1], [None], [["one"]], ["one", {}])),
        ([""], NULL),
        ([" "], NAME),
        (["a", "b\n"], NAME),
        (["t" * 256], LONG),
    ],
    "backoff": [
        *((bad, INVALID) for bad in ("", "Exp", "1 minute", 5, True, [])),
        *((bad, INVALID) for bad in ([1] * 101, [True], [[1]], [{"base": 1}])),
        *((bad, NULL) for bad in ([None], [1, None])),
        *((bad, RANGE) for bad in ([-1], [1e300], [1, "-1 day"], ["200 years"])),
        *((bad, FORMAT) for bad in (["soon"], ["exp"], ["NaN"])),
        *(
            ({"strategy": bad}, INVALID)
            for bad in (1, True, [], {}, "", "Fixed", "quadratic", "x" * 20_000)
        ),
        *(
            ({"strategy": "fixed", name: bad}, INVALID)
            for name in ("base", "cap", "jitter")
            for bad in ([], {}, True)
        ),
        *(
            ({"strategy": "linear", name: bad}, RANGE)
            for name in ("base", "cap")
            for bad in (-1, 1e300, 10**400, "-1 day", "200 years", "1 month -40 days")
        ),
        *(({"base": bad}, FORMAT) for bad in ("soon", "", "NaN", "1e6")),
        ({"base": " " * 20_000 + "1 second"}, INVALID),
        *(({"jitter": bad}, RANGE) for bad in (-0.1, 1.01, 10**400, -(10**400))),
        *(({"jitter": bad}, INVALID) for bad in ("0.5", "NaN")),
        *(({"delays": bad}, INVALID) for bad in ([], 5, "exp", {}, False, [1] * 10_000)),
        *(({"delays": [1], name: 1}, INVALID) for name in ("base", "bse", "max_attempts")),
        ({"delays": [1], "strategy": "fixed"}, INVALID),
        ({"delays": [1, -1]}, RANGE),
    ],
    "timeout": [
        *((bad, RANGE) for bad in (0, -1, 0.0001, 1e300, "-1 s", "25 days")),
        *((bad, FORMAT) for bad in ("soon", "")),
        *((bad, INVALID) for bad in (True, [], {})),
    ],
    "unique": [
        *((bad, INVALID) for bad in ([], 30, "30", "true", {"perod": 30}, {"": 1})),
        *(({"period": bad}, RANGE) for bad in (0, -1, 1e300, "-1 s", "200 years")),
        *(({"period": bad}, FORMAT) for bad in ("soon", "")),
        *(({"period": bad}, INVALID) for bad in (True, [], {})),
        *(
            ({name: bad}, INVALID)
            for name in ("fields", "keys")
            for bad in ([], {}, "args", 1, True, [1], [None], ["x"] * 101)
        ),
        ({"fields": ["handler", "arg"]}, INVALID),
        ({"fields": ["handler"], "keys": ["x"]}, INVALID),
        *(({"on_conflict": bad}, INVALID) for bad in ("", "Skip", "ignore", 1, True, [], {})),
    ],
    "defaults": [
        *((bad, INVALID) for bad in ([], 1, "x", True, {"handler": "a:b"}, {"delay": 1})),
        ({"max_attempts": 0}, RANGE),
        ({"queue": ""}, NULL),
    ],
}


def bad_documents() -> Iterator[Any]:
    """Yield jobs with one bad key each."""
    for key, values in BAD_KEYS.items():
        for bad, error in values:
            text = json.dumps(bad)
            name = f"{key}={text[:30]}" + ("" if len(text) <= 30 else f"...{len(text)}")
            yield pytest.param({"handler": "a:b", key: bad}, error, id=name)
    for document in (None, 5, "a:b", True, [], [{"handler": "a:b"}]):
        yield pytest.param(document, INVALID, id=f"document={json.dumps(document)}")
    yield pytest.param({}, NULL, id="document={}")
    yield pytest.param(
        {"handler": "a:b", "delay": 1, "scheduled_at": "2099-01-01T00:00:00Z"}, INVALID, id="both"
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


def refused(
    conn: psycopg.Connection, query: str, params: Any, error: type[psycopg.Error]
) -> psycopg.errors.Diagnostic:
    """Run a query that must be refused in the proper way; return what the server said."""
    before = contents(conn)
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(query, params)
    diag = caught.value.diag
    assert isinstance(caught.value, error), (caught.value.sqlstate, diag.message_primary)
    assert_well_said(caught.value)
    assert contents(conn) == before
    return diag


def assert_well_said(error: psycopg.Error) -> None:
    """Check an error's form: of the server's guide, and with a hint."""
    diag = error.diag
    message = diag.message_primary or ""
    assert not re.match(r"XX|P0", error.sqlstate or "XX"), (error.sqlstate, message)
    assert not re.match(r"[A-Z][a-z]", message), message
    assert not message.endswith("."), message
    assert (diag.message_hint or "").strip(), f"no hint: {message}"
    assert re.match(r"[A-Z0-9]", diag.message_hint or ""), diag.message_hint
    assert (diag.message_hint or "")[-1] in ".?", diag.message_hint


@pytest.fixture
def known(shared: psycopg.Connection) -> dict[str, int]:
    """A live worker, one that has stopped, and a job that runs, as %(names)s of a call."""
    live = start_worker(shared)
    stopped = start_worker(shared)
    shared.execute("select eram_stop_worker(%s)", [stopped])
    job = enqueue(shared)
    assert [claimed.id for claimed in fetch(shared, live)] == [job]
    return {"worker": live, "stopped": stopped, "job": job}


@pytest.mark.parametrize(("document", "error"), list(bad_documents()))
def test_a_bad_document_is_refused_by_every_way_in(shared, document, error):
    hint = refused(shared, "select eram_enqueue_job(%s)", [Jsonb(document)], error).message_hint
    if isinstance(document, dict):
        text = [json.dumps(document)]
        assert (
            refused(shared, "select eram_enqueue_job(%s::text)", text, error).message_hint == hint
        )
        batch = [Jsonb([{"handler": "a:b"}, document])]
        said = refused(shared, "select * from eram_enqueue_jobs(%s)", batch, error)
        assert said.message_hint == hint
        assert said.message_detail == "The mistake is in job 2 of 2."


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


@pytest.mark.parametrize("key", ["delay", "base"])
def test_a_number_too_small_for_an_interval_is_no_internal_matter(shared, key):
    """It is either nothing or refused in our own words."""
    wanted = (
        '"delay": 1e-400' if key == "delay" else '"backoff": {"strategy": "fixed", "base": 1e-400}'
    )
    try:
        shared.execute("select eram_enqueue_job(%s::text)", [f'{{"handler": "a:b", {wanted}}}'])
    except psycopg.Error as exc:
        assert_well_said(exc)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("handlr", "handler"),
        ("Handler", "handler"),
        ("arg", "args"),
        ("arguments", "args"),
        ("queu", "queue"),
        ("queue_name", "queue"),
        ("prio", "priority"),
        ("max_attempt", "max_attempts"),
        ("maxAttempts", "max_attempts"),
        ("schedule_at", "scheduled_at"),
        ("delays", "delay"),
        ("tag", "tags"),
        ("metadata", "meta"),
        ("back_off", "backoff"),
        ("time_out", "timeout"),
        ("uniq", "unique"),
        ("default", "defaults"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(shared, wrong, right):
    document = Jsonb({"handler": "a:b", wrong: 1})
    said = refused(shared, "select eram_enqueue_job(%s)", [document], INVALID)
    assert f'"{wrong}"' in str(said.message_primary)
    assert said.message_hint == f'Did you mean "{right}"?'


@pytest.mark.parametrize("key", ["", " ", "🦀", "null", "%s %I", "x" * 5000])
def test_an_odd_unknown_key_is_refused_like_any(shared, key):
    """And as fast: a long key must not keep the server busy for seconds."""
    shared.execute("set statement_timeout = '1s'")
    refused(shared, "select eram_enqueue_job(%s)", [Jsonb({"handler": "a:b", key: 1})], INVALID)


@pytest.fixture(autouse=True)
def _no_timeout(module_conn):
    yield
    module_conn.execute("reset statement_timeout")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}}",
        '{"handler": "a:b",}',
        "{'handler': 'a:b'}",
        '{"handler": "a:b"} trailing',
        '{"handler": NaN}',
        '{"handler": "a:b", "priority": Infinity}',
        r'{"handler": "a\u0000b"}',
        r'{"handler": "a:b", "args": {"x": "\u0000"}}',
        r'{"handler": "a:b", "args": {"x": "\ud800"}}',
        '{"handler": "a:b", "args": {"x": "\t"}}',
        '{"handler": "a:b", "delay": 1e1000000}',
        '{"handler": "a:b", "args": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:45],
)
def test_text_that_is_no_json_is_refused(shared, text):
    """A driver's untyped parameter; the server's own words are in the detail."""
    before = contents(shared)
    with pytest.raises(psycopg.Error) as caught:
        shared.execute("select eram_enqueue_job(%s::text)", [text])
    assert_well_said(caught.value)
    assert contents(shared) == before


@pytest.mark.parametrize(
    "call", ["eram_heartbeat(null)", "eram_heartbeat(0)", "eram_heartbeat(%(stopped)s)"]
)
def test_a_heartbeat_of_no_live_worker_is_no_error(shared, known, call):
    """A worker that was declared dead finds out by it: that is no mistake of the caller."""
    before = contents(shared)
    alive = shared.execute(f"select * from {call}", known).fetchone()
    assert alive == (False, [])
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


@pytest.mark.parametrize("delay", ["-12 months +360 days", "-1 day +25 hours"])
def test_an_interval_with_a_part_below_zero_is_refused(shared, delay):
    """By comparison it may be zero or more, and yet lead into the past."""
    with pytest.raises(psycopg.errors.NumericValueOutOfRange) as caught:
        shared.execute("select eram_enqueue_job('a:b', delay => %s::text::interval)", [delay])
    assert_well_said(caught.value)
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        shared.execute(
            "select eram_enqueue_job('a:b', backoff =>"
            " jsonb_build_object('strategy', 'fixed', 'base', %s::text))",
            [delay],
        )


def test_no_setting_changes_what_a_document_means(shared):
    """Regular expressions and intervals read the same under the caller's settings."""
    document = '{"handler": "a:b", "scheduled_at": "2020-01-31T08:00:00+01:00", "delay": null}'
    wanted = "select eram_enqueue_job(%s::jsonb)"
    try:
        shared.execute("set standard_conforming_strings = off")
        shared.execute("set intervalstyle = sql_standard")
        assert value(shared, wanted, document)
        mixed = document.replace("null", '"-1 hour 2 days"').replace("scheduled_at", "meta", 1)
        with pytest.raises(psycopg.Error):
            shared.execute(wanted, [mixed])
    finally:
        shared.execute("reset standard_conforming_strings")
        shared.execute("reset intervalstyle")


def test_a_document_behind_a_byte_order_mark_is_no_handler(shared):
    with pytest.raises(psycopg.errors.InvalidName) as caught:
        shared.execute("select eram_enqueue_job(%s::text)", ['\ufeff{"handler": "a:b"}'])
    assert_well_said(caught.value)
