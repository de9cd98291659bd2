"""What uniqueness refuses: with a named condition, a hint, and nothing written."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import contents

INVALID = errors.InvalidParameterValue
RANGE = errors.NumericValueOutOfRange
FORMAT = errors.InvalidDatetimeFormat

BAD: list[tuple[Any, tuple[type[psycopg.Error], ...]]] = [
    *((bad, (INVALID,)) for bad in ("true", "", "skip", 0, 1, 30, 1.5, [], [{}], ["args"])),
    *(({"period": bad}, (INVALID,)) for bad in (True, False, [], {}, [30])),
    *(({"period": bad}, (RANGE,)) for bad in (0, -1, -0.5, 1e300, 10**400, 3155760001)),
    *(({"period": bad}, (RANGE,)) for bad in ("0", "-1 second", "200 years", "1 month -40 days")),
    *(({"period": bad}, (FORMAT,)) for bad in ("soon", "", "30 secnds")),
    ({"period": "infinity"}, (FORMAT, RANGE)),
    *(({"fields": bad}, (INVALID,)) for bad in ("args", 1, True, {}, {"args": True}, [])),
    *(({"fields": [bad]}, (INVALID,)) for bad in (1, None, [], {}, "", "Args", "priority", "id")),
    *(({"fields": ["args", bad]}, (INVALID,)) for bad in (1, None, ["queue"], "agrs")),
    *(({"keys": bad}, (INVALID,)) for bad in ("id", 1, True, {}, {"id": 1}, [])),
    *(({"keys": ["id", bad]}, (INVALID,)) for bad in (1, None, [], {}, True)),
    *(({"keys": ["id"], "fields": ["handler", "meta"]}, (INVALID,)),),
    *(
        ({"on_conflict": bad}, (INVALID,))
        for bad in ("Skip", "ignore", "", 1, True, [], {}, ["skip"])
    ),
    *(({bad: None}, (INVALID,)) for bad in ("perod", "", "key", "Period", "states")),
    ({"period": 30, "fields": ["args"], "conflict": "skip"}, (INVALID,)),
]
named = pytest.mark.parametrize(
    ("bad", "kinds"), [pytest.param(*case, id=json.dumps(case[0])[:50]) for case in BAD]
)
WAYS = {
    "document": """
        select eram_enqueue_job(jsonb_build_object('handler', 'a:b', 'unique', %s::jsonb))
        """,
    "arguments": "select eram_enqueue_job('a:b', unique_by => %s)",
    "batch": """
        select count(*)
        from eram_enqueue_jobs(jsonb_build_array(
            '{"handler": "a:b"}'::jsonb,
            jsonb_build_object('handler', 'a:b', 'unique', %s::jsonb)))
        """,
    "register": "select eram_register_handler('a:b', unique_by => %s)",
    "set": "select eram_set_handler('a:b', jsonb_build_object('unique', %s::jsonb))",
    "defaults": """
        select eram_enqueue_job(jsonb_build_object(
            'handler', 'a:b', 'defaults', jsonb_build_object('unique', %s::jsonb)))
        """,
}


@named
@pytest.mark.parametrize("way", WAYS)
def test_what_uniqueness_refuses(shared, way, bad, kinds):
    before = contents(shared)
    with pytest.raises(psycopg.Error) as caught:
        shared.execute(WAYS[way], [Jsonb(bad)])
    assert isinstance(caught.value, kinds), repr(caught.value)
    diag = caught.value.diag
    assert diag.message_hint
    assert len(diag.message_primary) < 300
    if way == "batch":
        assert diag.message_detail == "The mistake is in job 2 of 2."
    assert contents(shared) == before


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        ({"perod": 30}, "period"),
        ({"field": ["args"]}, "fields"),
        ({"conflict": "skip"}, "on_conflict"),
        ({"fields": ["arg"]}, "args"),
        ({"fields": ["Queue"]}, "queue"),
        ({"on_conflict": "skipp"}, "skip"),
        ({"on_conflict": "Replace"}, "replace"),
        ({"on_conflict": "rise"}, "raise"),
    ],
)
def test_the_hint_names_the_right_word(shared, bad, hint):
    for query in (WAYS["document"], WAYS["register"]):
        with pytest.raises(INVALID) as caught:
            shared.execute(query, [Jsonb(bad)])
        assert hint in (caught.value.diag.message_hint or "")


def test_a_huge_word_is_cut_in_the_message(shared):
    for bad in ({"x" * 100_000: 1}, {"fields": ["x" * 100_000]}, {"on_conflict": "x" * 100_000}):
        with pytest.raises(INVALID) as caught:
            shared.execute(WAYS["document"], [Jsonb(bad)])
        assert len(str(caught.value)) < 1000


def test_lists_have_an_end(shared):
    for name, word in (("keys", "key {}"), ("fields", "args")):
        for size, fits in ((100, True), (101, False), (100_000, False)):
            unique = Jsonb({name: [word.format(n) for n in range(size)]})
            with contextlib.nullcontext() if fits else pytest.raises(INVALID, match=name):
                shared.execute(WAYS["document"], [unique])
    shared.execute("select eram_cancel_job(id) from eram_jobs")


@pytest.mark.parametrize("args", [[], "text", 5])
def test_bad_args_are_refused_before_a_key_is_made_of_them(shared, args):
    before = contents(shared)
    with pytest.raises(INVALID):
        shared.execute(
            "select eram_enqueue_job('a:b', %s, unique_by => '{\"keys\": [\"a\"]}')", [Jsonb(args)]
        )
    assert contents(shared) == before
