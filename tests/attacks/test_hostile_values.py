"""Values made to hurt: refused with a documented error, or accepted at a cost that is bounded."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from sql.helpers import (
    complete,
    contents,
    enqueue,
    enqueue_many,
    fetch,
    value,
    wait_until,
)
from sql.schedule_helpers import make_due, schedule

from .fuzzer import DOCUMENTED

MEGABYTES_10 = 10_000_000
MEGABYTE = 1_000_000


def still_works(conn: psycopg.Connection, worker: int) -> None:
    """Other jobs go on as ever."""
    job_id = enqueue(conn, queue="default")
    found = fetch(conn, worker, 1000)
    assert job_id in [job.id for job in found]
    assert len(complete(conn, found)) == len(found)


def refused(conn: psycopg.Connection, query: str, *states: str) -> None:
    """Expect one of these errors, in few words, and that nothing is written."""
    before = contents(conn)
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(query)
    assert caught.value.sqlstate in states, str(caught.value)[:500]
    assert len(str(caught.value)) < 5000
    assert contents(conn) == before


# JSON.


def nested(depth: int, kind: str) -> str:
    if kind == "array":
        return '{"a": ' + "[" * depth + "]" * depth + "}"
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("kind", ["array", "object"])
@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deeply_nested_json(conn, worker, kind, depth):
    """What the server's parser takes is a job like any other; the rest is refused by it."""
    text = nested(depth, kind)
    for call in (
        "select eram_enqueue_job('a:b', args => %s, meta => %s, unique_by => 'true')",
        "select eram_enqueue_job('a:b', meta => %s, args => %s)",
    ):
        before = contents(conn)
        try:
            job_id = value(conn, call, text, text)
        except errors.StatementTooComplex:
            assert depth > 1000
            assert contents(conn) == before
            continue
        assert depth == 1000
        stored = value(conn, "select args::text from eram_jobs where id = %s", job_id)
        assert stored.count("a") == text.count("a")
        # As text, because Python's own parser of JSON gives up long before the server's.
        claimed = "select args::text from eram_fetch('default', 1, %s)"
        assert value(conn, claimed, worker) == stored
        fail = "select eram_fail_job(%s, 1, 'x', %s)"
        assert value(conn, fail, job_id, text) == "retryable"
    still_works(conn, worker)


@pytest.mark.parametrize(
    "call",
    [
        "eram_enqueue_job('{}')",
        "eram_enqueue_jobs('{}')",
        "eram_cancel_jobs('{}')",
        "eram_set_queue('q', backoff => '{}')",
        "eram_set_queue('q', max_age => '{}')",
        "eram_set_handler('a:b', '{}')",
        "eram_register_schedules('app', '{}')",
        "eram_schedule('x', '1 hour', 'a:b', options => '{}')",
        "eram_schedule_maintenance('prune', options => '{}')",
        "eram_backoff(1, '{}')",
    ],
)
@pytest.mark.parametrize(
    "document",
    [
        nested(5000, "object"),
        nested(5000, "array"),
        json.dumps({f"key{n}": n for n in range(20_000)}),
        json.dumps([[n] for n in range(20_000)]),
        json.dumps({"x" * MEGABYTE: "y"}),
        json.dumps({"handler": {"a": "x" * MEGABYTE}}),
        '"' + "x" * MEGABYTE + '"',
        "1" * 100_000,
    ],
    ids=["objects", "arrays", "keys", "items", "key", "value", "text", "number"],
)
def test_giant_documents_where_small_ones_belong(conn, call, document):
    refused(conn, f"select {call.format(document)}", *DOCUMENTED)


def test_giant_arguments_are_a_job(conn, worker):
    """Ten megabytes are no mistake, only much."""
    text = "x" * MEGABYTES_10
    job_id = enqueue(conn, args={"text": text}, meta={"text": text})
    (job,) = fetch(conn, worker)
    assert (job.id, job.args, job.meta) == (job_id, {"text": text}, {"text": text})
    assert complete(conn, [job]) == [job_id]
    still_works(conn, worker)


@pytest.mark.parametrize("text", [r'"\u0000"', r'{"a": "\u0000"}', r'{"\u0000": 1}', r'["\ud800"]'])
def test_json_that_no_text_can_hold(conn, worker, text):
    for call in (
        f"eram_enqueue_job('a:b', args => '{text}')",
        f'eram_enqueue_job(\'{{"handler": "a:b", "args": {text}}}\')',
        f"eram_fail_job(1, 1, 'x', '{text}')",
        f"eram_complete_jobs('{{1}}', '{{1}}', array['{text}']::jsonb[])",
    ):
        refused(conn, f"select {call}", "22P05", "22P02", "22023")
    still_works(conn, worker)


# The wire.


@pytest.mark.parametrize(
    "garbage", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0"]
)
@pytest.mark.parametrize(
    ("function", "before", "after"),
    [
        (b"eram_enqueue_job($1)", b"a:", b""),
        (b"eram_enqueue_job('a:b', args => $1)", b'{"a": "', b'"}'),
        (b"eram_enqueue_job($1::jsonb)", b'{"handler": "', b'"}'),
        (b"eram_fail_job(1, 1, $1)", b"", b""),
        (b"eram_pause_queue($1)", b"q", b""),
    ],
)
def test_bytes_that_are_no_utf8(conn, worker, function, before, after, garbage):
    """As a parameter in binary form, which libpq hands on as it is; jsonb has a version first."""
    digests = contents(conn)
    version = b"\x01" if b"{" in before else b""
    given = version + before + garbage + after
    query = b"select " + function
    result = conn.pgconn.exec_params(query, [given], [0], [1])
    state = result.error_field(DiagnosticField.SQLSTATE)
    assert state in {b"22021", b"22P02"}, result.error_message
    assert contents(conn) == digests
    still_works(conn, worker)


# Errors, names, numbers.


def test_an_error_of_ten_megabytes_is_kept_in_part(conn, worker):
    """The failure counts; what is kept of it is bounded, however many attempts there are."""
    job_id = enqueue(conn, max_attempts=3, backoff="none")
    for _ in range(3):
        job = wait_until(lambda: fetch(conn, worker), "the job is claimed again")[0]
        text = "é" * (MEGABYTES_10 // 2)
        conn.execute("select eram_fail_job(%s, %s, %s)", [job.id, job.run, text])
    sizes = value(
        conn,
        "select sum(octet_length(error) + pg_column_size(detail)) from eram_job_errors"
        " where job_id = %s",
        job_id,
    )
    assert sizes < 200_000
    for call in ("eram_cancel_job", "eram_discard_job"):
        other = enqueue(conn)
        (job,) = fetch(conn, worker)
        given = "%s, repeat('x', 10000000)" if "cancel" in call else "%s, 1, repeat('x', 10000000)"
        conn.execute(f"select {call}({given})", [other])
        kept = value(conn, "select max(length(error)) from eram_errors where job_id = %s", other)
        assert kept <= 10_000
    still_works(conn, worker)


LONG = f"repeat('x', {MEGABYTES_10})"


@pytest.mark.parametrize(
    "call",
    [
        f"eram_enqueue_job({LONG})",
        f"eram_enqueue_job('a:b', queue => {LONG})",
        f"eram_enqueue_job('a:b', tags => array[{LONG}])",
        f'eram_enqueue_job((\'{{"handler": "a:b", "queue": "\' || {LONG} || \'"}}\')::jsonb)',
        f"eram_fetch({LONG}, 1, 1)",
        f"eram_start_worker({LONG}, '{{default}}')",
        f"eram_start_worker('w', array[{LONG}])",
        f"eram_start_waiting({LONG})",
        f"eram_stop_waiting({LONG})",
        f"eram_pause_queue({LONG})",
        f"eram_set_queue({LONG})",
        f"eram_register_handler({LONG})",
        f"eram_register_handler('a:b', aliases => array[{LONG}])",
        f"eram_set_handler({LONG}, '{{}}')",
        f"eram_schedule({LONG}, '1 hour', 'a:b')",
        f"eram_schedule('x', {LONG}, 'a:b')",
        f"eram_schedule('x', '* * * * *', 'a:b', timezone => {LONG})",
        f"eram_schedule('x', '1 hour', 'a:b', missed => {LONG})",
        f"eram_schedule_maintenance({LONG})",
        f"eram_register_schedules({LONG}, '[]')",
        f"eram_next_run({LONG})",
        f"eram_grant(session_user, {LONG})",
        f"eram_move_jobs('{{\"all\": true}}', {LONG})",
    ],
)
def test_names_of_ten_megabytes(conn, call):
    refused(conn, f"select {call}", *DOCUMENTED)


# A regular expression that took exponential time would not come back from these.
DEATH = (
    *("a" * 100_000 + "!", " " * 1_000_000 + "x", "0-" * 100_000, "*/" * 100_000, "1," * 100_000),
    *("1 " * 100_000, "9" * 100_000 + "T", "2030-01-31T08:00:00." + "9" * 100_000 + "!"),
    *(
        "{" * 100_000,
        "@" * 100_000,
        "((((((a+)+)+)+)+)+)+$" + "a" * 50_000,
        "eram:" + "x" * 100_000,
    ),
)


@pytest.mark.parametrize("text", DEATH, ids=lambda text: text[:8].strip())
def test_texts_that_patterns_choke_on(conn, text):
    """Eram takes no patterns from callers, but reads names, times and cron fields by its own."""
    conn.execute("set statement_timeout = '20s'")
    time = json.dumps({"handler": "a:b", "scheduled_at": text, "delay": text})
    calls = {
        "eram_next_run(%s)": text,
        "eram_next_run('0 0 ' || %s || ' * *')": text,
        "eram_enqueue_job(%s::jsonb)": time,
        "eram_cancel_jobs(%s)": json.dumps({"before": text}),
        "eram_enqueue_job(%s::text)": text,
        "eram_backoff(1, %s)": json.dumps(text),
        "eram_set_queue('q', max_age => %s)": json.dumps({"completed": text}),
        "eram_pause_queue(%s)": text,
    }
    for call, given in calls.items():
        before = contents(conn)
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(f"select {call}", [given])
        assert caught.value.sqlstate in DOCUMENTED, (call, str(caught.value)[:500])
        assert contents(conn) == before


# What would come too often.


OFTEN = ("22023", "22003", "22007")


@pytest.mark.parametrize(
    "every", ["0.000001 seconds", "1 microsecond", "0", "0.5 seconds", "-1 second", "1e-6 s"]
)
def test_a_schedule_that_would_run_all_the_time(conn, every):
    refused(conn, f"select eram_schedule('x', '{every}', 'a:b')", *OFTEN)
    refused(
        conn, f"select eram_schedule_sql('x', '{every}', 'select 1')", "22023", "22003", "22007"
    )
    refused(
        conn, f"select eram_schedule_maintenance('prune', '{every}')", "22023", "22003", "22007"
    )


def test_the_fastest_schedule_that_was_missed_for_years(conn, worker):
    """All of its occurrences are asked for: the latest hundred are made, and the tick ends."""
    conn.execute("set statement_timeout = '60s'")
    schedule(conn, "fast", "1 second", missed="all")
    make_due(conn, "fast", ago="100 years")
    conn.execute("select * from eram_tick()")
    assert value(conn, "select count(*) from eram_jobs") <= 100
    still_works(conn, worker)


# Notifications.


def usage(conn: psycopg.Connection) -> float:
    return value(conn, "select pg_notification_queue_usage()")


def test_a_listener_that_never_reads_does_not_fill_the_queue(conn, connect, worker):
    """Nothing is sent when nobody waits; whoever only listens, and hangs, holds up nothing."""
    queues = [f"q{n}" for n in range(20)]
    evil = connect(autocommit=False)
    for queue in queues:
        channel = value(conn, "select _eram_channel(%s)", queue)
        evil.execute(f'listen "{channel}"')
    evil.commit()
    evil.execute("select 1")  # a transaction that stays open
    before = usage(conn)
    for queue in queues:
        enqueue_many(conn, 200, queue=queue)
        for _ in range(20):
            enqueue(conn, queue=queue)
    assert usage(conn) == before
    assert list(evil.notifies(timeout=0)) == []
    still_works(conn, worker)


def test_a_flood_of_foreign_notifications_harms_nobody(conn, connect, worker):
    """Everybody may notify on eram's channels: the worst is a fetch in vain."""
    channel = value(conn, "select _eram_channel('default')")
    waiter, evil = connect(), connect()
    waiter.execute("select eram_start_waiting('default')")
    for payload in ("", "x" * 7000, "default", "{}", '{"state": "completed", "ids": [1]}'):
        for _ in range(20):
            evil.execute("select pg_notify(%s, %s)", [channel, payload])
    still_works(conn, worker)
    assert list(waiter.notifies(timeout=20, stop_after=5))


def test_a_waiter_that_hangs_is_notified_once_a_transaction(conn, connect):
    """With a waiter in a transaction that stays open, each commit adds one short message."""
    evil = connect()
    evil.execute("select eram_start_waiting('default')")
    evil.execute("begin; select 1")
    before = usage(conn)
    for _ in range(100):
        enqueue_many(conn, 100, queue="default")
    # A message takes some dozens of bytes, and the queue has gigabytes.
    assert usage(conn) - before < 0.001
    evil.execute("rollback")
    assert len(list(evil.notifies(timeout=20, stop_after=100))) == 100
    assert list(evil.notifies(timeout=0.1)) == []
