"""Handlers by other names, and what their registration refuses."""

from __future__ import annotations

import itertools
import random
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .helpers import at_once, column, contents, enqueue, fetch, row, rows, value

INVALID = errors.InvalidParameterValue
RANGE = errors.NumericValueOutOfRange
FORMAT = errors.InvalidDatetimeFormat
NULL = errors.NullValueNotAllowed
NAME = errors.InvalidName
LONG = errors.NameTooLong
ARRAY = errors.ArraySubscriptError

JOB = "select * from eram_job_specs where job_id = %s"
ROOTS = "select name, alias_of from eram_handlers order by name"


def register(conn: psycopg.Connection, handler: str, *aliases: str, priority: Any = None) -> None:
    conn.execute(
        "select eram_register_handler(%s, aliases => %s, priority => %s)",
        [handler, list(aliases) or None, priority],
    )


def stored(conn: psycopg.Connection, handler: str) -> str:
    """Return the name under which a job of such a handler is stored."""
    with conn.transaction(force_rollback=True):
        return row(conn, JOB, enqueue(conn, handler)).handler


def test_an_alias_is_resolved_when_a_job_is_enqueued(conn):
    register(conn, "app:new", "app:old", "app:older", priority=3)
    for name in ("app:old", "app:older", "app:new"):
        spec = row(conn, JOB, enqueue(conn, name))
        assert (spec.handler, spec.priority) == ("app:new", 3)
    assert stored(conn, "app:other") == "app:other"
    assert conn.execute(ROOTS).fetchall() == [
        ("app:new", None),
        ("app:old", "app:new"),
        ("app:older", "app:new"),
    ]


def test_an_alias_is_resolved_when_a_job_is_fetched(conn, worker):
    """It was enqueued before anyone knew of the new name."""
    ids = [enqueue(conn, name) for name in ("app:old", "app:new", "app:other")]
    register(conn, "app:new", "app:old", priority=9)
    jobs = fetch(conn, worker)
    assert [(job.id, job.handler) for job in jobs] == [
        *zip(ids, ("app:new", "app:new", "app:other"), strict=True)
    ]
    assert {job.priority for job in jobs} == {0}


def test_the_key_of_an_alias_is_that_of_its_handler(conn):
    register(conn, "app:new", "app:old")
    first = enqueue(conn, "app:old", unique=True)
    assert enqueue(conn, "app:new", unique=True) == first
    register(conn, "app:newer", "app:new")
    assert enqueue(conn, "app:new", unique=True) != first


@pytest.mark.parametrize("keeps", [True, False])
def test_a_handler_that_was_renamed_twice(conn, worker, keeps):
    """With all former names given, or only the last."""
    enqueue(conn, "app:a")
    register(conn, "app:b", "app:a")
    enqueue(conn, "app:b")
    register(conn, "app:c", *(["app:a", "app:b"] if keeps else ["app:b"]), priority=4)
    for name in ("app:a", "app:b", "app:c"):
        assert stored(conn, name) == "app:c"
        assert row(conn, JOB, enqueue(conn, name)).priority == 4
    assert {job.handler for job in fetch(conn, worker)} == {"app:c"}


def test_a_long_chain(conn, worker):
    names = [f"app:h{n}" for n in range(30)]
    for name in names:
        enqueue(conn, name)
    for old, new in itertools.pairwise(names):
        register(conn, new, old)
    assert {stored(conn, name) for name in names} == {names[-1]}
    assert {job.handler for job in fetch(conn, worker)} == {names[-1]}


def test_a_handler_that_becomes_an_alias_is_one_no_more(conn):
    register(conn, "app:old", priority=5)
    register(conn, "app:new", "app:old", priority=3)
    assert stored(conn, "app:old") == "app:new"
    assert row(conn, JOB, enqueue(conn, "app:old")).priority == 3
    assert row(conn, "select * from eram_handlers where name = 'app:old'").declared == {}


def test_an_override_goes_with_the_handler_to_its_new_name(conn):
    conn.execute("""select eram_set_handler('app:old', '{"priority": 7}')""")
    register(conn, "app:new", "app:old", priority=3)
    assert row(conn, JOB, enqueue(conn, "app:old")).priority == 7
    assert row(conn, JOB, enqueue(conn, "app:new")).priority == 7
    conn.execute("""select eram_set_handler('app:old', '{"priority": 8}')""")
    assert row(conn, JOB, enqueue(conn, "app:new")).priority == 8
    assert stored(conn, "app:old") == "app:new"


def test_an_override_comes_back_when_a_deployment_is_rolled_back(conn):
    conn.execute("select eram_set_handler('app:old', '{\"max_attempts\": 3}')")
    register(conn, "app:new", "app:old")
    conn.execute('select eram_set_handler(\'app:new\', \'{"max_attempts": 3, "queue": "slow"}\')')
    register(conn, "app:old")
    overrides = "select overrides from eram_handlers where name = 'app:old'"
    assert value(conn, overrides) == {"max_attempts": 3, "queue": "slow"}


def test_overrides_of_both_names_are_joined(conn):
    conn.execute('select eram_set_handler(\'app:old\', \'{"max_attempts": 3, "queue": "old"}\')')
    conn.execute("select eram_set_handler('app:new', '{\"queue\": \"new\"}')")
    register(conn, "app:new", "app:old")
    overrides = "select overrides from eram_handlers where name = 'app:new'"
    assert value(conn, overrides) == {"max_attempts": 3, "queue": "new"}


def test_an_alias_that_is_registered_itself_is_a_handler_again(conn):
    """As in a deployment that is taken back."""
    register(conn, "app:new", "app:old", priority=3)
    register(conn, "app:old", priority=1)
    assert (stored(conn, "app:old"), stored(conn, "app:new")) == ("app:old", "app:new")
    assert row(conn, JOB, enqueue(conn, "app:old")).priority == 1
    register(conn, "app:new", "app:old", priority=3)
    assert stored(conn, "app:old") == "app:new"


def test_an_alias_of_two_handlers_is_the_last_ones(conn):
    register(conn, "app:a", "app:old")
    register(conn, "app:b", "app:old")
    assert stored(conn, "app:old") == "app:b"
    register(conn, "app:a", "app:old")
    assert stored(conn, "app:old") == "app:a"


def test_two_that_call_each_other_aliases(conn, worker):
    """There are no rings: the last one that was registered is a handler."""
    for _ in range(2):
        register(conn, "app:a", "app:b")
        assert (stored(conn, "app:a"), stored(conn, "app:b")) == ("app:a", "app:a")
        register(conn, "app:b", "app:a")
        assert (stored(conn, "app:a"), stored(conn, "app:b")) == ("app:b", "app:b")
    enqueue(conn, "app:a")
    assert [job.handler for job in fetch(conn, worker)] == ["app:b"]


def test_an_alias_that_is_no_longer_declared_stays(conn):
    """Jobs may still have it."""
    register(conn, "app:new", "app:old", "app:older")
    register(conn, "app:new", "app:old")
    assert (stored(conn, "app:older"), stored(conn, "app:old")) == ("app:new", "app:new")
    register(conn, "app:new")
    assert stored(conn, "app:old") == "app:new"
    register(conn, "app:old")
    assert (stored(conn, "app:older"), stored(conn, "app:old")) == ("app:new", "app:old")


def test_no_alias_is_left_behind_of_a_handler_that_was_deleted(conn):
    register(conn, "app:b", "app:a")
    register(conn, "app:c", "app:b")
    assert value(conn, "select eram_delete_handler('app:c')") is True
    for name in ("app:a", "app:b", "app:c"):
        assert stored(conn, name) == name
    assert conn.execute(ROOTS).fetchall() == []


@pytest.mark.parametrize("seed", range(5))
def test_random_registrations_never_make_a_ring(conn, seed):
    generator = random.Random(seed)
    names = [f"app:{letter}" for letter in "abcde"]
    for _ in range(40):
        name, *aliases = generator.sample(names, generator.choice((1, 2, 2, 3)))
        if generator.random() < 0.1:
            conn.execute("select eram_delete_handler(%s)", [name])
            continue
        register(conn, name, *aliases)
        roots = column(conn, "select name from eram_handlers where alias_of is null")
        assert {stored(conn, one) for one in (name, *aliases)} == {name}
        for one in column(conn, "select name from eram_handlers"):
            assert stored(conn, one) in roots


def test_two_versions_of_a_program_register_at_once(conn, connect):
    """In a rolling deployment their handlers' aliases differ, and so do their names."""
    versions: list[list[tuple[str, ...]]] = [
        [("m:one", "a:one"), ("m:two", "z:two"), ("b:four",)],
        [("m:one", "b:one"), ("m:two", "b:four", "y:two")],
        [("m:two", "m:one", "a:one", "b:four")],
    ]
    sessions = [connect() for _ in range(9)]

    def start(number: int) -> None:
        generator = random.Random(number)
        for _ in range(25):
            mine = versions[number % 3].copy()
            generator.shuffle(mine)
            for one in mine:
                register(sessions[number], *one)

    at_once(*[lambda n=n: start(n) for n in range(9)])
    for one in rows(conn, "select * from eram_handlers"):
        assert stored(conn, one.name)


def test_registrations_race_with_enqueues_deletions_and_overrides(conn, connect):
    sessions = [connect() for _ in range(8)]

    def run(number: int) -> None:
        session, generator = sessions[number], random.Random(number)
        for _ in range(40):
            names = generator.sample([f"app:{n}" for n in range(6)], 3)
            match generator.randrange(5):
                case 0:
                    session.execute("select eram_delete_handler(%s)", names[:1])
                case 1:
                    query = "select eram_set_handler(%s, %s)"
                    session.execute(query, [names[0], Jsonb({"priority": number})])
                case 2:
                    enqueue(session, names[0], unique=True)
                case _:
                    register(session, *names)

    at_once(*[lambda n=n: run(n) for n in range(8)])
    roots = column(conn, "select name from eram_handlers where alias_of is null")
    for one in column(conn, "select name from eram_handlers"):
        assert stored(conn, one) in roots


BAD_NAMES: list[tuple[Any, type[psycopg.Error]]] = [
    (None, NULL),
    ("", NULL),
    (" a", NAME),
    ("a\nb", NAME),
    ('{"a": 1}', NAME),
    ("a}", NAME),
    ("h" * 513, LONG),
]
BAD_ARGUMENTS: list[tuple[str, Any, type[psycopg.Error]]] = [
    ("queue", "", NULL),
    ("queue", " ", NAME),
    ("queue", "q" * 129, LONG),
    ("max_attempts", 0, RANGE),
    ("max_attempts", 1_000_001, RANGE),
    ("priority", -1, RANGE),
    ("priority", 10, RANGE),
    ("tags", ["a", ""], NULL),
    ("tags", ["a", None], NULL),
    ("tags", ["t" * 256], LONG),
    ("tags", [["a"], ["b"]], ARRAY),
    ("meta", Jsonb([]), INVALID),
    ("meta", Jsonb("x"), INVALID),
    ("backoff", Jsonb({"strategy": "none such"}), INVALID),
    ("backoff", Jsonb(5), INVALID),
    ("timeout", "0 seconds", RANGE),
    ("timeout", "-1 second", RANGE),
    ("timeout", "101 years", RANGE),
    ("unique_by", Jsonb({"perod": 1}), INVALID),
    ("aliases", ["app:run"], INVALID),
    ("aliases", [["a:b"], ["c:d"]], ARRAY),
    *(("aliases", ["app:old", bad], error) for bad, error in BAD_NAMES),
]
BAD_OVERRIDES: list[tuple[Any, type[psycopg.Error]]] = [
    *((bad, INVALID) for bad in ([], "x", 5, True, [{}])),
    *(({bad: 1}, INVALID) for bad in ("prioritty", "handler", "args", "aliases", "unique_by", "")),
    *(({"priority": bad}, INVALID) for bad in ("1", 1.5, True, [], {})),
    *(({"priority": bad}, RANGE) for bad in (-1, 10)),
    *(({"max_attempts": bad}, RANGE) for bad in (0, 1_000_001)),
    *(({"queue": bad}, INVALID) for bad in (5, [], {}, True)),
    ({"queue": ""}, NULL),
    *(({"tags": bad}, INVALID) for bad in ("one", [1], {}, 5)),
    *(({"meta": bad}, INVALID) for bad in ([], "x", 5)),
    *(({"backoff": bad}, INVALID) for bad in (5, True)),
    *(({"timeout": bad}, RANGE) for bad in (0, -1, 1e300, "-1 second", "0")),
    *(({"timeout": bad}, INVALID) for bad in (True, [], {})),
    ({"timeout": "soon"}, FORMAT),
    *(({"unique": bad}, INVALID) for bad in (5, "true", [], {"x": 1})),
    ({"unique": {"period": -1}}, RANGE),
]


def refuses(
    conn: psycopg.Connection, query: str, params: list[Any], error: type[psycopg.Error]
) -> None:
    before = contents(conn)
    with pytest.raises(error) as caught:
        conn.execute(query, params)
    assert caught.value.diag.message_hint
    assert len(caught.value.diag.message_primary) < 300
    assert contents(conn) == before


@pytest.mark.parametrize(("bad", "error"), BAD_NAMES)
def test_names_that_are_none(shared, bad, error):
    refuses(shared, "select eram_register_handler(%s)", [bad], error)
    refuses(shared, "select eram_set_handler(%s, '{}')", [bad], error)
    refuses(shared, "select eram_delete_handler(%s)", [bad], error)


@pytest.mark.parametrize(("name", "bad", "error"), BAD_ARGUMENTS)
def test_bad_arguments_of_a_registration(shared, name, bad, error):
    cast = {"timeout": "::interval", "tags": "::text[]", "aliases": "::text[]"}.get(name, "")
    query = f"select eram_register_handler('app:run', {name} => %s{cast})"
    refuses(shared, query, [bad], error)


@pytest.mark.parametrize(("bad", "error"), BAD_OVERRIDES)
def test_bad_overrides(shared, bad, error):
    refuses(shared, "select eram_set_handler('app:run', %s)", [Jsonb(bad)], error)
    if isinstance(bad, dict):
        refuses(
            shared,
            "select eram_enqueue_job(%s)",
            [Jsonb({"handler": "app:run", "defaults": bad})],
            error,
        )


def test_no_overrides_at_all(shared):
    refuses(shared, "select eram_set_handler('app:run', null)", [], NULL)
    with pytest.raises(INVALID) as caught:
        shared.execute("""select eram_set_handler('app:run', '{"prioritty": 1}')""")
    assert "priority" in (caught.value.diag.message_hint or "")
