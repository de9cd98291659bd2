"""Defaults of handlers' jobs: whose word counts, value by value, and that both are shown."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import at_once, column, contents, enqueue, row, rows, value
from .unique_helpers import HOUR, key_of, put

LEVELS = ("job", "override", "defaults", "declared", "queue", "eram")
# A value for each level, from the job's own to eram's; null where a level has none.
VALUES: dict[str, tuple[Any, ...]] = {
    "queue": ("q1", "q2", "q3", "q4", None, "default"),
    "priority": (1, 2, 3, 4, 5, 0),
    "max_attempts": (11, 12, 13, 14, 15, 20),
    "tags": (["t1"], ["t2"], ["t3"], ["t4"], None, []),
    "meta": ({"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}, None, None),
    "backoff": (*({"strategy": "fixed", "base": n} for n in range(1, 6)), None),
    "timeout": (10, 20, "30 seconds", 40, None, None),
    "unique": ({"period": 100}, {"period": 200}, {"period": 300}, {"period": 400}, None, None),
}
JOB = "select * from eram_job_specs where job_id = %s"
HANDLER = "select * from eram_handlers where name = %s"
TYPES = {"tags": "::text[]", "timeout": "::interval"}


def register(conn: psycopg.Connection, handler: str = "app:run", /, **options: Any) -> None:
    """Declare a handler, as its worker does."""
    arguments, params = ["%s"], [handler]
    for name, given in options.items():
        arguments.append(f"{'unique_by' if name == 'unique' else name} => %s{TYPES.get(name, '')}")
        if isinstance(given, (dict, bool)):
            given = Jsonb(given)  # noqa: PLW2901
        elif name == "timeout" and given is not None:
            given = f"{given} seconds" if isinstance(given, int) else given  # noqa: PLW2901
        params.append(given)
    conn.execute(f"select eram_register_handler({', '.join(arguments)})", params)


def override(conn: psycopg.Connection, handler: str = "app:run", /, **options: Any) -> None:
    """Override a handler's defaults, as an administrator does."""
    conn.execute("select eram_set_handler(%s, %s)", [handler, Jsonb(options)])


def found(conn: psycopg.Connection, job_id: int, name: str) -> Any:
    """Return what the job has, in the form of VALUES."""
    spec = row(conn, JOB, job_id)
    if name == "unique":
        if spec.unique_key is None:
            return None
        if spec.unique_until is None:
            return True
        return {"period": round((spec.unique_until - spec.inserted_at).total_seconds())}
    if name == "timeout":
        return spec.timeout and spec.timeout.total_seconds()
    return getattr(spec, name)


def say(conn: psycopg.Connection, name: str, levels: set[str]) -> dict[str, Any]:
    """Say the value at these levels; return what of it belongs into a job's document."""
    by_level = dict(zip(LEVELS, VALUES[name], strict=True))
    document: dict[str, Any] = {}
    if "job" in levels:
        document[name] = by_level["job"]
    if "override" in levels:
        override(conn, **{name: by_level["override"]})
    if "defaults" in levels:
        document["defaults"] = {name: by_level["defaults"]}
    if "declared" in levels:
        register(conn, **{name: by_level["declared"]})
    if "queue" in levels and by_level["queue"] is not None:
        given = by_level["queue"]
        conn.execute(
            f"select eram_set_queue('default', {name} => %s)",
            [Jsonb(given) if isinstance(given, dict) else given],
        )
    return document


def expected(name: str, levels: set[str]) -> Any:
    """Return the value of the first of these levels that has one."""
    for level, one in zip(LEVELS, VALUES[name], strict=True):
        if level in levels and (one is not None or level != "queue"):
            return 30 if one == "30 seconds" else one
    return VALUES[name][-1]


@pytest.mark.parametrize("name", VALUES)
def test_precedence(conn, name):
    """Every set of levels: the first of them wins, for this value alone."""
    for bits in range(2 ** (len(LEVELS) - 1)):
        levels = {level for n, level in enumerate(LEVELS[:-1]) if bits >> n & 1}
        conn.execute("delete from eram_handlers; delete from eram_queues")
        conn.execute("delete from eram_unique_keys")
        job_id = enqueue(conn, **say(conn, name, levels))
        assert found(conn, job_id, name) == expected(name, levels), levels
        # Nothing else has changed.
        plain = enqueue(conn, "app:plain")
        for other in VALUES:
            if other != name:
                assert found(conn, job_id, other) == found(conn, plain, other), (levels, other)
    conn.execute("select eram_cancel_job(id) from eram_jobs")


@pytest.mark.parametrize("name", VALUES)
def test_null_is_not_given(conn, name):
    """Of the job, of the document's defaults, of the override, of what is declared."""
    register(conn, **{name: VALUES[name][3]})
    override(conn, **{name: None})
    job_id = enqueue(conn, **{name: None, "defaults": {name: None}})
    assert found(conn, job_id, name) == expected(name, {"declared"})
    register(conn, **{name: None})
    conn.execute("delete from eram_unique_keys")
    assert found(conn, enqueue(conn, defaults=None), name) == VALUES[name][-1]
    conn.execute("select eram_cancel_job(id) from eram_jobs")


@pytest.mark.parametrize("way", ["arguments", "document", "text", "batch"])
def test_every_way_of_enqueueing_gets_the_defaults(conn, way):
    values = {name: given[3] for name, given in VALUES.items()}
    register(conn, **values)
    query = {
        "arguments": "select eram_enqueue_job('app:run')",
        "document": """select eram_enqueue_job('{"handler": "app:run"}'::jsonb)""",
        "text": """select eram_enqueue_job('{"handler": "app:run"}')""",
        "batch": """select id from eram_enqueue_jobs('[{"handler": "app:run"}]')""",
    }[way]
    job_id = value(conn, query)
    for name in VALUES:
        assert found(conn, job_id, name) == expected(name, {"declared"}), name
    assert value(conn, query) == job_id


def test_the_arguments_of_the_call_go_before_an_override(conn):
    override(conn, priority=3, queue="set", timeout=5, unique=True)
    job_id = value(
        conn,
        """
        select eram_enqueue_job(
            'app:run', queue => 'q', priority => 1, timeout => '7 seconds', unique_by => 'false')
        """,
    )
    spec = row(conn, JOB, job_id)
    assert (spec.queue, spec.priority, spec.timeout.seconds, spec.unique_key) == ("q", 1, 7, None)


def test_false_takes_uniqueness_away_at_each_level(conn):
    register(conn, unique=True)
    assert key_of(conn, enqueue(conn)) is not None
    assert key_of(conn, enqueue(conn, unique=False)) is None
    assert key_of(conn, enqueue(conn, defaults={"unique": False})) is None
    override(conn, unique=False)
    assert key_of(conn, enqueue(conn)) is None
    assert key_of(conn, enqueue(conn, defaults={"unique": HOUR})) is None
    assert key_of(conn, enqueue(conn, unique={"keys": ["a"]})) is not None


def test_a_uniqueness_is_one_value(conn):
    """Its parts are not mixed from several levels."""
    register(conn, unique={"period": 100, "keys": ["a"], "on_conflict": "raise"})
    first = put(conn, args={"a": 1, "b": 1}, unique={})
    assert put(conn, args={"a": 1, "b": 2}, unique={}).is_duplicate is False
    assert put(conn, args={"a": 1, "b": 1}, unique={}) == (first.id, True)


def test_the_queue_that_a_handler_names_brings_its_own_defaults(conn):
    conn.execute("select eram_set_queue('mail', priority => 6)")
    register(conn, queue="mail")
    assert row(conn, JOB, enqueue(conn)).priority == 6
    assert row(conn, JOB, enqueue(conn, queue="other")).priority == 0
    register(conn, queue="mail", priority=2)
    assert row(conn, JOB, enqueue(conn)).priority == 2


def test_both_are_shown(conn):
    register(conn, queue="mail", priority=3, tags=["a"], unique=HOUR, timeout=60)
    override(conn, priority=1, max_attempts=2)
    shown = row(conn, HANDLER, "app:run")
    assert (shown.queue, shown.priority, shown.max_attempts, shown.tags) == ("mail", 1, 2, ["a"])
    assert shown.timeout == dt.timedelta(seconds=60)
    assert (shown.unique_by, shown.meta, shown.backoff, shown.alias_of) == (HOUR, None, None, None)
    assert (shown.declared["priority"], shown.declared["queue"]) == (3, "mail")
    assert {"max_attempts", "meta"}.isdisjoint(
        name for name, given in shown.declared.items() if given is not None
    )
    assert shown.overrides == {"priority": 1, "max_attempts": 2}
    assert shown.registered_at is not None


def test_a_registration_replaces_what_was_declared_and_keeps_the_override(conn):
    register(conn, priority=3, tags=["a"], max_attempts=5)
    override(conn, priority=1)
    register(conn, priority=4, queue="mail")
    shown = row(conn, HANDLER, "app:run")
    assert (shown.queue, shown.priority, shown.max_attempts, shown.tags) == ("mail", 1, None, None)
    assert shown.overrides == {"priority": 1}
    override(conn)
    shown = row(conn, HANDLER, "app:run")
    assert (shown.queue, shown.priority, shown.overrides) == ("mail", 4, {})
    register(conn)
    shown = row(conn, HANDLER, "app:run")
    assert (shown.queue, shown.priority) == (None, None)


def test_an_override_replaces_the_one_before(conn):
    override(conn, priority=1, queue="a")
    override(conn, max_attempts=3)
    shown = row(conn, HANDLER, "app:run")
    assert (shown.priority, shown.queue, shown.max_attempts) == (None, None, 3)
    assert shown.registered_at is None
    register(conn, priority=5)
    shown = row(conn, HANDLER, "app:run")
    assert (shown.priority, shown.max_attempts) == (5, 3)
    assert shown.registered_at is not None


def test_delete(conn):
    assert value(conn, "select eram_delete_handler('app:run')") is False
    register(conn, priority=3, aliases=["app:old", "app:older"])
    override(conn, priority=1)
    register(conn, "app:other", aliases=["app:else"])
    assert value(conn, "select eram_delete_handler('app:run')") is True
    assert column(conn, "select name from eram_handlers order by 1") == ["app:else", "app:other"]
    assert row(conn, JOB, enqueue(conn)).priority == 0
    assert row(conn, JOB, enqueue(conn, "app:old")).handler == "app:old"
    assert value(conn, "select eram_delete_handler('app:run')") is False


def test_defaults_do_not_change_jobs_that_are_there(conn):
    job_id = enqueue(conn)
    before = row(conn, JOB, job_id)
    register(conn, priority=3, queue="mail", unique=True)
    override(conn, max_attempts=1)
    assert row(conn, JOB, job_id) == before


def test_an_alias_in_the_batch_gets_the_defaults_of_its_handler(conn):
    register(conn, priority=3, unique=True, aliases=["app:old"])
    jobs = [{"handler": name} for name in ("app:old", "app:run", "app:old", "app:else")]
    answers = rows(conn, "select * from eram_enqueue_jobs(%s)", Jsonb(jobs))
    assert [one.is_duplicate for one in answers] == [False, True, True, False]
    handlers = column(conn, "select handler from eram_job_specs order by job_id")
    assert handlers == ["app:run", "app:else"]
    assert column(conn, "select priority from eram_job_specs order by job_id") == [3, 0]


def test_many_workers_register_the_same_handlers_at_once(conn, connect):
    """Each in an order of its own, some by all names in one transaction's order."""
    handlers = [f"app:h{n}" for n in range(12)]

    def start(number: int) -> None:
        session, mine = connect(), handlers.copy()
        for _ in range(4):
            random.Random(number).shuffle(mine)
            for name in mine:
                register(session, name, priority=3, aliases=[f"{name} old", f"{name} older"])

    at_once(*[lambda n=n: start(n) for n in range(12)])
    shown = rows(conn, "select * from eram_handlers where alias_of is null order by name")
    assert [one.name for one in shown] == sorted(handlers)
    assert {one.priority for one in shown} == {3}
    pairs = rows(conn, "select name, alias_of from eram_handlers where alias_of is not null")
    assert {(one.name, one.alias_of) for one in pairs} == {
        (f"{name} {word}", name) for name in handlers for word in ("old", "older")
    }


def test_a_registration_in_an_open_transaction_delays_no_enqueue(conn, connect):
    register(conn, priority=1, aliases=["app:old"])
    opened = connect()
    opened.execute("begin")
    register(opened, priority=2, unique=True, aliases=["app:old", "app:older"])
    override(opened, max_attempts=3)
    opened.execute("select eram_delete_handler('app:else')")
    producer = connect()
    producer.execute("set statement_timeout = '5s'")
    for name in ("app:run", "app:old", "app:older", "app:else"):
        spec = row(producer, JOB, enqueue(producer, name))
        assert spec.priority == (1 if name in ("app:run", "app:old") else 0)
    opened.execute("commit")
    assert row(producer, JOB, enqueue(producer, "app:older")).priority == 2


def test_a_registration_waits_for_no_enqueue(conn, connect):
    """An open transaction of a producer does not hold up a deployment."""
    register(conn, priority=1)
    opened = connect()
    opened.execute("begin isolation level serializable")
    job_id = enqueue(opened)
    conn.execute("set statement_timeout = '5s'")
    register(conn, priority=2)
    override(conn, priority=3)
    assert value(conn, "select eram_delete_handler('app:run')") is True
    assert row(opened, JOB, job_id).priority == 1
    opened.execute("rollback")


def test_a_registration_that_changes_nothing_waits_for_nobody(conn, connect):
    """As nearly all do, when workers start."""
    for handler in ("app:run", "app:other"):
        register(conn, handler, priority=1, timeout=60, tags=["a"], unique=HOUR)
    before = contents(conn)
    opened = connect()
    opened.execute("begin")
    register(opened, "app:run", priority=2)
    override(opened, "app:third", priority=2)
    conn.execute("set statement_timeout = '5s'")
    for handler in ("app:run", "app:other"):
        register(conn, handler, priority=1, timeout=60, tags=["a"], unique=HOUR)
    opened.execute("rollback")
    assert contents(conn) == before


def test_schedules_get_the_defaults_too(conn):
    register(conn, priority=3, unique=True, aliases=["app:old"])
    conn.execute("select eram_schedule('hourly', '1 hour', 'app:old')")
    ids = {value(conn, "select eram_run_schedule('hourly')") for _ in range(3)}
    (job_id,) = ids
    spec = row(conn, JOB, job_id)
    assert (spec.handler, spec.priority) == ("app:run", 3)
