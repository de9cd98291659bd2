"""Unique jobs: each option by itself, what comes back, and what the key depends on."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

import eram

from .helpers import column, complete, contents, row, state_of, value
from .unique_helpers import (
    HOUR,
    KINDS,
    TAKEN,
    claim,
    document,
    key,
    key_of,
    pass_window,
    put,
)


def raw_key(conn: psycopg.Connection, args: str) -> bytes | None:
    """Return the key of a job with args as they are written."""
    with conn.transaction(force_rollback=True):
        query = "select eram_enqueue_job('app:run', %s::jsonb, unique_by => 'true')"
        return key_of(conn, value(conn, query, args))


@pytest.mark.parametrize("unique", [True, {}, {"period": None}, {"on_conflict": "skip"}])
def test_unique_until_the_job_ends(conn, unique):
    first = put(conn, args={"a": 1}, unique=unique)
    again = put(conn, args={"a": 1}, unique=unique)
    assert (first.is_duplicate, again) == (False, (first.id, True))
    assert put(conn, args={"a": 2}, unique=unique).is_duplicate is False
    spec = row(conn, "select * from eram_job_specs where job_id = %s", first.id)
    assert spec.unique_until is None
    assert value(conn, "select bool_and(expires_at is null) from eram_unique_keys") is True
    assert value(conn, TAKEN) == 2


@pytest.mark.parametrize("unique", [False, None])
def test_not_unique(conn, unique):
    ids = {put(conn, unique=unique).id for _ in range(3)}
    assert len(ids) == 3
    assert (value(conn, TAKEN), [key_of(conn, job) for job in ids]) == (0, [None] * 3)


def test_a_job_that_is_not_unique_passes_by_one_that_is(conn):
    first = put(conn)
    assert put(conn, unique=False).is_duplicate is False
    assert put(conn) == (first.id, True)


@pytest.mark.parametrize("period", [30, 30.0, "30 seconds", "00:00:30", "PT30S", 29.999999, 1e1])
def test_a_window_begins_with_the_insertion(conn, period):
    first = put(conn, unique={"period": period})
    spec = row(conn, "select * from eram_job_specs")
    held = row(conn, "select * from eram_unique_keys")
    seconds = period if isinstance(period, float) else 30
    length = (spec.unique_until - spec.inserted_at).total_seconds()
    assert length == pytest.approx(seconds, abs=1)
    assert (held.key, held.job_id, held.expires_at) == (
        *(spec.unique_key, first.id, spec.unique_until),
    )


def test_a_window_is_not_measured_from_when_the_job_is_due(conn):
    put(conn, unique=HOUR, delay=86400)
    length = value(conn, "select expires_at - clock_timestamp() from eram_unique_keys")
    assert dt.timedelta(minutes=50) < length <= dt.timedelta(hours=1)


def test_the_window_of_a_long_transaction_begins_with_the_insertion(conn):
    with conn.transaction():
        value(conn, "select now()")
        value(conn, "select pg_sleep(1.2)")
        first = put(conn, unique={"period": 1})
        assert put(conn, unique={"period": 1}) == (first.id, True)


def test_fields(conn):
    def both(unique, one, other):
        conn.execute("delete from eram_unique_keys")
        return put(conn, unique=unique, **one).id == put(conn, unique=unique, **other).id

    base = {"handler": "a:b", "queue": "q", "args": {"a": 1}, "meta": {"m": 1}}
    changes = {"handler": "a:c", "queue": "r", "args": {"a": 2}, "meta": {"m": 2}}
    for size in range(1, 16):
        fields = [name for n, name in enumerate(base) if size >> n & 1]
        same = {name: both({"fields": fields}, base, base | {name: changes[name]}) for name in base}
        assert same == {name: name not in fields for name in base}, fields
    assert both(True, base, base | {"meta": changes["meta"]})
    for name in ("handler", "queue", "args"):
        assert not both(True, base, base | {name: changes[name]}), name
    conn.execute("select eram_cancel_job(id) from eram_jobs")


def test_keys(conn):
    unique = {"keys": ["user", "kind"]}
    first = put(conn, args={"user": 1, "kind": "a", "at": 1}, unique=unique)
    assert put(conn, args={"at": 2, "kind": "a", "user": 1}, unique=unique) == (first.id, True)
    assert put(conn, args={"kind": "a", "user": 1}, unique=unique) == (first.id, True)
    for other in ({"user": 2, "kind": "a"}, {"user": 1}, {"kind": "a"}, {}):
        assert put(conn, args=other, unique=unique).is_duplicate is False, other
    assert (
        put(conn, "app:other", args={"user": 1, "kind": "a"}, unique=unique).is_duplicate is False
    )


def test_the_id_comes_back_whichever_way_was_asked(conn):
    first = value(conn, "select eram_enqueue_job('app:run', unique_by => 'true')")
    job = document()
    for query, params in (
        ("select eram_enqueue_job('app:run', unique_by => '{}')", []),
        ("select eram_enqueue_job(%s)", [Jsonb(job)]),
        ("select eram_enqueue_job(%s::text)", [json.dumps(job)]),
        ("select id from eram_enqueue_jobs(%s) where is_duplicate", [Jsonb(job)]),
        ("select id from eram_enqueue_jobs(%s) where is_duplicate", [Jsonb([job])]),
    ):
        assert value(conn, query, *params) == first, query
    assert eram.enqueue(conn, "app:run", unique=True) == (first, True)
    (many,) = eram.enqueue_many(conn, [{"handler": "app:run", "unique": {"period": 5}}])
    assert many == (first, True)
    assert value(conn, "select count(*) from eram_jobs") == 1


@pytest.mark.parametrize("unique", KINDS.values(), ids=KINDS)
def test_all_ways_agree_on_the_key(conn, unique):
    args = {"ü": [1, 2.5, None, {"b": "🦀", "a": "\\\"'"}], "x": 10**30}
    options = {"queue": "q", "meta": {"m": True}}
    unique = {**unique, "fields": ["meta", "args", "queue", "handler"]}
    keys = set()

    def note(job_id):
        keys.add(key_of(conn, job_id))
        conn.execute("select eram_cancel_job(%s)", [job_id])

    job = {"handler": "app:run", "args": args, "unique": unique, **options}
    note(
        value(
            conn,
            "select eram_enqueue_job('app:run', %s, 'q', meta => %s, unique_by => %s)",
            *(Jsonb(args), Jsonb(options["meta"]), Jsonb(unique)),
        )
    )
    note(value(conn, "select eram_enqueue_job(%s)", Jsonb(job)))
    note(value(conn, "select eram_enqueue_job(%s::text)", json.dumps(job)))
    note(value(conn, "select id from eram_enqueue_jobs(%s)", Jsonb([job])))
    note(value(conn, "select id from eram_enqueue_jobs(%s)", Jsonb(job)))
    note(eram.enqueue(conn, "app:run", args, unique=unique, **options).id)
    new: Any = job
    note(eram.enqueue_many(conn, [new])[0].id)
    assert len(keys) == 1
    assert None not in keys


def test_raise_names_the_job_and_changes_nothing(conn):
    first = put(conn, priority=3)
    before = contents(conn)
    unique = {"on_conflict": "raise"}
    others = [{"handler": "app:x"}, document("app:y"), document(unique=unique)]
    for jobs in (document(unique=unique, priority=1), others, others[::-1]):
        with pytest.raises(errors.UniqueViolation) as caught:
            value(conn, "select count(*) from eram_enqueue_jobs(%s)", Jsonb(jobs))
        diag = caught.value.diag
        assert str(first.id) in (diag.message_detail or "")
        assert diag.message_hint
        assert diag.sqlstate == "23505"
        assert contents(conn) == before
    with pytest.raises(errors.UniqueViolation, match=rf"\b{first.id}\b"):
        conn.execute(
            """select eram_enqueue_job('app:run', unique_by => '{"on_conflict": "raise"}')"""
        )
    conn.execute("select eram_cancel_job(%s)", [first.id])
    assert put(conn, unique=unique).is_duplicate is False


def test_raise_within_a_window_after_the_end(conn):
    first = put(conn, unique=HOUR)
    job = claim(conn, first.id)
    assert complete(conn, [job]) == [first.id]
    unique = {**HOUR, "on_conflict": "raise"}
    with pytest.raises(errors.UniqueViolation) as caught:
        put(conn, unique=unique)
    assert str(first.id) in (caught.value.diag.message_detail or "")
    pass_window(conn)
    assert put(conn, unique=unique).is_duplicate is False


def test_neither_period_nor_conflict_make_another_key(conn):
    plain = key(conn, args={"a": 1})
    for unique in (
        {},
        HOUR,
        {"period": "1 day"},
        {"on_conflict": "replace"},
        {"on_conflict": "raise", "period": 5},
        {"fields": ["args", "queue", "handler"]},
        {"fields": None, "keys": None, "on_conflict": None, "period": None},
    ):
        assert key(conn, args={"a": 1}, unique=unique) == plain, unique


def test_what_is_not_chosen_does_not_matter(conn):
    plain = key(conn)
    for option in (
        {"priority": 5},
        {"max_attempts": 3},
        {"tags": ["a"]},
        {"meta": {"a": 1}},
        {"delay": 60},
        {"scheduled_at": "2099-01-01T00:00:00Z"},
        {"backoff": {"strategy": "fixed", "base": 1}},
        {"timeout": 60},
        {"args": {}},
        {"args": None},
        {"queue": "default"},
    ):
        assert key(conn, **option) == plain, option


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": {"c": 2, "d": [1, 2]}}', '{"b":{"d":[1,2],"c":2},"a":1}'),
        ('{"bb": 1, "a": 2}', '{"a": 2, "bb": 1}'),
        ('{"a": "\\u00e9"}', '{"a": "é"}'),
        ('{"a": 1e2}', '{"a": 100}'),
        ('{"a": 0, "a": 1}', '{"a": 1}'),
        ('{"a": -0}', '{"a": 0}'),
    ],
)
def test_args_that_are_the_same_to_the_server_make_the_same_key(conn, one, other):
    assert raw_key(conn, one) == raw_key(conn, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": "\\u00e9"}', '{"a": "e\\u0301"}'),
        ('{"a": null}', "{}"),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": true}', '{"a": "true"}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": 1}', '{"a": [1]}'),
        ('{"a": 10000000000000000000001}', '{"a": 10000000000000000000002}'),
        ('{"a": "x"}', '{"a": "X"}'),
        ('{"a": "x"}', '{"a": "x "}'),
        ('{"a": {}}', '{"a": []}'),
    ],
)
def test_args_that_differ_make_other_keys(conn, one, other):
    assert raw_key(conn, one) != raw_key(conn, other)


def test_one_is_not_one_point_zero(conn):
    """The digest is of what the server writes, and it keeps the zeros of a number."""
    assert raw_key(conn, '{"a": 1}') != raw_key(conn, '{"a": 1.0}')
    assert raw_key(conn, '{"a": 1.0}') != raw_key(conn, '{"a": 1.00}')
    assert raw_key(conn, '{"a": 1.50}') == raw_key(conn, '{"a": 150e-2}')


def test_a_key_that_is_null_is_not_one_that_is_missing(conn):
    unique = {"keys": ["a"]}
    assert key(conn, args={"a": None}, unique=unique) != key(conn, args={}, unique=unique)
    assert key(conn, args={"a": None, "b": 1}, unique=unique) == key(
        conn, args={"a": None}, unique=unique
    )


def test_no_value_is_taken_for_another(conn):
    """What is digested says where one value ends and which it is."""
    found = [
        key(conn, "a", queue="b:c"),
        key(conn, "a:b", queue="c"),
        key(conn, "a b", queue="c"),
        key(conn, "a", queue="b c"),
        key(conn, 'a","b', queue="c"),
        key(conn, "a", queue='b","c'),
        key(conn, "a|b", queue="c"),
        key(conn, "a", queue="b|c"),
        key(conn, "x", unique={"fields": ["handler"]}),
        key(conn, queue="x", unique={"fields": ["queue"]}),
        key(conn, args={"m": 1}, unique={"fields": ["args"]}),
        key(conn, meta={"m": 1}, unique={"fields": ["meta"]}),
        key(conn, args={"m": 1}, meta={}, unique={"fields": ["args", "meta"]}),
        key(conn, args={}, meta={"m": 1}, unique={"fields": ["args", "meta"]}),
        key(conn, args={}, unique={"fields": ["args"]}),
        key(conn, meta={}, unique={"fields": ["meta"]}),
    ]
    assert len(set(found)) == len(found)


def test_the_order_of_fields_and_keys_does_not_matter(conn):
    args, generator = {"a": 1, "b": 2, "c": 3}, random.Random(1)
    fields, keys = ["handler", "queue", "args", "meta"], list(args)
    found = set()
    for _ in range(10):
        generator.shuffle(fields)
        generator.shuffle(keys)
        found.add(key(conn, args=args, unique={"fields": fields, "keys": keys}))
    assert len(found) == 1


@pytest.mark.parametrize(
    "settings",
    [
        "set timezone = 'Asia/Tokyo'; set datestyle = 'sql, dmy'; set intervalstyle = 'iso_8601'",
        "set bytea_output = 'escape'; set extra_float_digits = -15",
        "set client_encoding = 'latin1'; set lc_numeric = 'C'",
        "set standard_conforming_strings = off; set backslash_quote = on",
    ],
)
def test_the_key_does_not_depend_on_the_session(conn, settings):
    if "standard" in settings:
        conn.execute("set escape_string_warning = off")
    before = key(conn, args={"a": 0.1, "b": "é\\"}, unique={"period": "1 day"})
    try:
        conn.execute(settings)
    except errors.FeatureNotSupported:  # no longer a choice in PostgreSQL 19
        pytest.skip("this server has no such setting")
    assert key(conn, args={"a": 0.1, "b": "é\\"}, unique={"period": "1 day"}) == before


def test_a_rollback_gives_the_key_up(conn, connect):
    with conn.transaction(force_rollback=True):
        first = put(conn)
        with conn.transaction(force_rollback=True):
            assert put(conn) == (first.id, True)
        assert put(conn) == (first.id, True)
    with conn.transaction():
        with conn.transaction(force_rollback=True):
            assert put(conn).is_duplicate is False
        second = put(conn)
        assert second.is_duplicate is False
    assert put(connect()) == (second.id, True)
    assert state_of(conn, second.id) == "available"
    assert column(conn, "select id from eram_jobs") == [second.id]
