"""What is refused in a job's document, by every way in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import contents, value
from .validation_helpers import BAD_KEYS, INVALID, NULL, assert_well_said, refused


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
