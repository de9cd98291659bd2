"""A job is the same by whichever way it comes: plain, as a document, alone or in a batch."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, contents, row, value

HANDLERS: dict[str, dict[str, Any]] = {
    "none": {},
    "some": {"priority": 4, "meta": {"by": "handler"}, "tags": ["h"]},
    "all": {
        "queue": "slow",
        "priority": 2,
        "max_attempts": 3,
        "meta": {},
        "tags": ["x", "y"],
        "backoff": {"strategy": "fixed", "base": 7},
        "timeout": 90,
    },
    "unique": {"unique": {"period": 3600}, "meta": {"u": 1}},
}
QUEUES: dict[str, str] = {
    "default": "max_attempts => 9",
    "slow": 'priority => 6, backoff => \'{"strategy": "fixed", "base": 1}\'',
}
ENVELOPES: tuple[dict[str, Any], ...] = (
    {},
    {"queue": "slow"},
    {"queue": "other", "priority": 9, "max_attempts": 1},
    {"tags": ["a", "b"], "timeout": 5},
    {"backoff": {"strategy": "fixed", "base": 2}, "priority": 0},
    {"meta": {}},
    {"meta": {"trace": "abc"}},
    {"meta": None, "queue": None},
    {"scheduled_at": "2100-01-31T08:00:00+00:00"},
    {"unique": True},
    {"defaults": {"queue": "slow", "meta": {"by": "client"}, "max_attempts": 8}},
)
# What may differ from one enqueue to the next.
VOLATILE = ("job_id", "inserted_at", "unique_until")
NOW = dt.timedelta(minutes=5)


@pytest.fixture
def settings(conn: psycopg.Connection) -> None:
    """Make handlers and queues with defaults of all kinds."""
    for name, options in HANDLERS.items():
        conn.execute("select eram_set_handler(%s, %s)", [f"app:{name}", Jsonb(options)])
    conn.execute("select eram_register_handler('app:some', aliases => '{app:old}')")
    for queue, arguments in QUEUES.items():
        conn.execute(f"select eram_set_queue('{queue}', {arguments})")


def stored(conn: psycopg.Connection, job_id: int) -> dict[str, Any]:
    """Return what a job is and where it waits, without what no two jobs share."""
    spec = row(conn, "select * from eram_job_specs where job_id = %s", job_id)._asdict()
    ticket = row(conn, "select * from eram_queued_jobs where job_id = %s", job_id)
    moment = spec.pop("scheduled_at")
    assert moment == ticket.scheduled_at
    is_now = abs(moment - spec["inserted_at"]) < NOW
    assert spec["meta"] != {}
    for name in VOLATILE:
        del spec[name]
    return spec | {
        "scheduled_at": "now" if is_now else moment,
        "ticket": (ticket.run, ticket.attempt, ticket.lane, ticket.queue, ticket.unique_key),
    }


def remove_jobs(conn: psycopg.Connection) -> None:
    """Make room for the same unique jobs again."""
    assert column(conn, "select * from eram_check()") == []
    conn.execute("truncate eram_job_specs, eram_queued_jobs, eram_unique_keys")


def document_of(handler: str, envelope: dict[str, Any], number: int) -> dict[str, Any]:
    return {"handler": f"app:{handler}", "args": {"n": number}, **envelope}


@pytest.mark.usefixtures("settings")
def test_a_job_is_the_same_in_a_batch_as_alone(conn: psycopg.Connection) -> None:
    documents = [
        document_of(handler, envelope, number)
        for number, (handler, envelope) in enumerate(
            itertools.product((*HANDLERS, "old", "unknown"), ENVELOPES)
        )
    ]
    alone = []
    for document in documents:
        job_id = value(conn, "select eram_enqueue_job(%s)", Jsonb(document))
        alone.append(stored(conn, job_id))
    remove_jobs(conn)

    ids = column(conn, "select id from eram_enqueue_jobs(%s)", Jsonb(documents))
    assert ids == sorted(ids)
    assert [stored(conn, job_id) for job_id in ids] == alone
    remove_jobs(conn)

    singles = [
        value(conn, "select id from eram_enqueue_jobs(%s)", Jsonb([document]))
        for document in documents
    ]
    assert [stored(conn, job_id) for job_id in singles] == alone
    assert column(conn, "select * from eram_check()") == []


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("handler", [*HANDLERS, "old", "unknown"])
@pytest.mark.parametrize("queue", [None, "default", "slow", "other"])
def test_a_plain_call_makes_what_a_document_makes(
    conn: psycopg.Connection, handler: str, queue: str | None
) -> None:
    name = f"app:{handler}"
    query = "select eram_enqueue_job(%s::text, %s::jsonb, %s::text)"
    plain = stored(conn, value(conn, query, name, '{"n": 1}', queue))
    remove_jobs(conn)
    document = {"handler": name, "args": {"n": 1}, "queue": queue}
    other = value(conn, "select eram_enqueue_job(%s)", Jsonb(document))

    assert plain == stored(conn, other)


@pytest.mark.usefixtures("settings")
def test_jobs_of_a_batch_keep_their_order_and_what_is_theirs(conn: psycopg.Connection) -> None:
    documents = [
        document_of("some", {"meta": {"n": n}} if n % 3 else {}, n)
        | ({"queue": "slow"} if n % 2 else {})
        for n in range(100)
    ]

    ids = column(conn, "select id from eram_enqueue_jobs(%s)", Jsonb(documents))

    jobs = [row(conn, "select * from eram_jobs where id = %s", job_id) for job_id in ids]
    assert [job.args["n"] for job in jobs] == list(range(100))
    assert [job.meta for job in jobs] == [
        {"n": n} if n % 3 else {"by": "handler"} for n in range(100)
    ]
    assert [job.queue for job in jobs] == ["slow" if n % 2 else "default" for n in range(100)]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"handler": "app:x", "args": [1]}, "args must be a JSON object"),
        ({"handler": "app:x", "args": "a"}, "args must be a JSON object"),
        ({"handler": "app:x", "meta": 5}, "meta must be a JSON object"),
        ({"handler": "app:x", "priority": 11}, "priority must be between"),
        ({"handler": "app:x", "argss": {}}, "unknown key"),
        ({"args": {}}, "handler must not be null"),
        ({}, "handler must not be null"),
        (5, "a job must be a JSON object"),
        ([], "a job must be a JSON object"),
        ("args", "a job must be a JSON object"),
        (None, "a job must be a JSON object"),
    ],
)
def test_the_first_mistake_of_a_batch_is_named(
    conn: psycopg.Connection, mistake: Any, words: str
) -> None:
    documents: list[Any] = [{"handler": "app:x", "args": {"n": n}} for n in range(20)]
    documents[12] = mistake
    documents[15] = {"handler": ""}

    before = contents(conn)
    with pytest.raises(psycopg.DataError, match=words) as caught:
        conn.execute("select eram_enqueue_jobs(%s)", [Jsonb(documents)])

    assert caught.value.diag.message_detail == "The mistake is in job 13 of 20."
    assert caught.value.diag.message_hint
    assert contents(conn) == before


def test_a_job_without_meta_costs_no_entry_in_its_index(conn: psycopg.Connection) -> None:
    conn.execute("select eram_enqueue_job('app:x', meta => '{}')")
    conn.execute("select eram_enqueue_job('app:x')")
    marked = value(conn, "select eram_enqueue_job('app:x', meta => '{\"trace\": \"abc\"}')")

    assert column(conn, "select meta from eram_jobs order by id") == [None, None, {"trace": "abc"}]
    conn.execute("set enable_seqscan to off")
    query = 'select job_id from eram_job_specs where meta @> \'{"trace": "abc"}\''
    plan = "\n".join(column(conn, f"explain {query}"))
    assert "eram_jobs_meta_index" in plan
    assert column(conn, query) == [marked]


def test_envelopes_that_differ_in_how_a_number_is_written_are_two(conn: psycopg.Connection) -> None:
    """To jsonb, 1 and 1.0 are equal."""
    documents = [
        {"handler": "app:x", "defaults": {"meta": {"rate": rate}}} for rate in (1, 1.0, 2, 2.0) * 2
    ]

    ids = column(conn, "select id from eram_enqueue_jobs(%s)", Jsonb(documents))

    query = "select meta ->> 'rate' from eram_jobs where id = any (%s) order by id"
    assert column(conn, query, ids) == ["1", "1.0", "2", "2.0"] * 2


def test_tags_are_counted_from_one(conn: psycopg.Connection) -> None:
    job_id = value(conn, "select eram_enqueue_job('app:x', tags => '[2:3]={a,b}'::text[])")
    assert value(conn, "select tags = '{a,b}' from eram_jobs where id = %s", job_id)

    conn.execute("select eram_update_job(%s, tags => '[0:0]={c}'::text[])", [job_id])
    assert value(conn, "select tags = '{c}' from eram_jobs where id = %s", job_id)


def test_no_jobs_take_no_transaction_id(conn: psycopg.Connection) -> None:
    with conn.transaction():
        assert column(conn, "select id from eram_enqueue_jobs('[]')") == []
        assert value(conn, "select pg_current_xact_id_if_assigned()") is None


@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
def test_a_batch_of_duplicates_is_read_once_for_each(
    conn: psycopg.Connection, on_conflict: str
) -> None:
    """Each job counts once, and what the last one says where it replaces."""
    count = 3_000
    documents = [
        {
            "handler": "app:x",
            "args": {"n": n},
            "unique": {"fields": ["handler"], "on_conflict": on_conflict},
        }
        for n in range(count)
    ]

    found = conn.execute("select * from eram_enqueue_jobs(%s)", [Jsonb(documents)]).fetchall()

    first = found[0][0]
    assert found == [(first, False), *[(first, True)] * (count - 1)]
    job = row(conn, "select * from eram_jobs")
    assert (job.id, job.args["n"]) == (first, 0 if on_conflict == "skip" else count - 1)
