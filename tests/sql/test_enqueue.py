"""Enqueueing: both forms, every option, the defaults, and transactions."""

from __future__ import annotations

import datetime as dt
import json

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, enqueue, fetch, fetch_late, row, rows, start_worker, value

JOB = "select * from eram_jobs where id = %s"


def test_only_the_handler_is_required(conn):
    job = row(conn, JOB, value(conn, "select eram_enqueue_job('app:run')"))
    assert (job.handler, job.queue, job.args, job.meta, job.tags) == (
        *("app:run", "default", {}, None, []),
    )
    assert (job.state, job.priority, job.attempt, job.max_attempts) == ("available", 0, 0, 20)
    assert (job.errors, job.attempted_by, job.attempted_at) == (None, None, None)
    assert (job.finalized_at, job.result) == (None, None)
    assert job.scheduled_at == job.inserted_at


def test_options_by_name(conn):
    job_id = value(
        conn,
        """
        select eram_enqueue_job(
            'app:run', args => '{"a": [1, null]}', queue => 'mail', priority => 9,
            max_attempts => 1, scheduled_at => '2099-01-31 08:00+01', tags => '{one,two}',
            meta => '{"m": 1}',
            backoff => '{"strategy": "fixed", "base": "1 second"}')
        """,
    )
    job = row(conn, JOB, job_id)
    assert (job.queue, job.args, job.meta, job.tags) == (
        *("mail", {"a": [1, None]}, {"m": 1}, ["one", "two"]),
    )
    assert (job.state, job.priority, job.max_attempts) == ("scheduled", 9, 1)
    assert job.scheduled_at == dt.datetime(2099, 1, 31, 7, tzinfo=dt.UTC)
    assert value(conn, "select backoff from eram_job_specs") == {
        "strategy": "fixed",
        "base": "1 second",
    }


def test_options_of_a_document(conn):
    document = {
        "handler": "app:run",
        "args": {"a": 1},
        "queue": "mail",
        "priority": 3,
        "max_attempts": 5,
        "scheduled_at": "2099-01-31T08:00:00.25+01:00",
        "tags": ["one", "two, three", '"four"'],
        "meta": {"m": {}},
        "backoff": {"strategy": "fixed", "base": 2.5},
    }
    job = row(conn, JOB, value(conn, "select eram_enqueue_job(%s)", Jsonb(document)))
    for key in ("handler", "args", "queue", "priority", "max_attempts", "tags", "meta"):
        assert getattr(job, key) == document[key], key
    assert job.scheduled_at == dt.datetime(2099, 1, 31, 7, 0, 0, 250000, tzinfo=dt.UTC)
    assert value(conn, "select backoff from eram_job_specs") == document["backoff"]


def test_null_in_a_document_means_the_default(conn):
    keys = (
        *("args", "queue", "priority", "max_attempts", "scheduled_at", "delay"),
        *("tags", "meta", "backoff", "timeout", "unique"),
    )
    job = row(conn, JOB, enqueue(conn, **dict.fromkeys(keys)))
    assert (job.args, job.queue, job.priority, job.max_attempts) == ({}, "default", 0, 20)
    assert (job.tags, job.meta, job.state) == ([], None, "available")


@pytest.mark.parametrize("delay", [90, 90.0, "90 seconds", "00:01:30", "1.5 min"])
def test_delay_in_a_document_is_seconds_or_an_interval(conn, delay):
    job = row(conn, JOB, enqueue(conn, delay=delay))
    assert job.state == "scheduled"
    waits = job.scheduled_at - job.inserted_at
    assert dt.timedelta(seconds=89) < waits <= dt.timedelta(seconds=90)


def test_a_delay_of_nothing_is_available_at_once(conn):
    assert row(conn, JOB, enqueue(conn, delay=0)).state == "available"


@pytest.mark.parametrize(
    "at", ["2001-02-03T04:05:06Z", "2001-02-03 04:05:06+00", "2001-02-03T04:05+0000"]
)
def test_a_time_in_the_past_means_at_once(conn, at):
    """Nothing enters a lane in the past: claims have gone on from there."""
    job = row(conn, JOB, enqueue(conn, scheduled_at=at))
    assert job.scheduled_at == job.inserted_at


@pytest.mark.parametrize("offset", ["Z", "+00", "+00:00", "-0000", " +00"])
def test_offsets_of_a_time(conn, offset):
    job = row(conn, JOB, enqueue(conn, scheduled_at=f"2099-12-31T23:59:59{offset}"))
    assert job.scheduled_at == dt.datetime(2099, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "settings",
    ["set timezone = 'Asia/Tokyo'", "set datestyle = 'sql, dmy'", "set intervalstyle = 'iso_8601'"],
)
def test_what_a_document_means_does_not_depend_on_the_session(conn, settings):
    conn.execute(settings)
    value(
        conn,
        "select eram_enqueue_job(%s)",
        Jsonb({"handler": "a:b", "scheduled_at": "2099-03-04T05:06:07Z"}),
    )
    at = value(
        conn, "select scheduled_at = make_timestamptz(2099, 3, 4, 5, 6, 7, 'UTC') from eram_jobs"
    )
    assert at is True


@pytest.mark.parametrize("name", ["null", "O'Brien \"the\" 'quoted'", "🦀 färm", "$1 %s []", "\\x"])
def test_odd_names_are_names(conn, name):
    job = row(conn, JOB, enqueue(conn, f"app:{name}", queue=name, tags=[name], args={name: name}))
    assert (job.handler, job.queue, job.tags, job.args) == (
        *(f"app:{name}", name, [name], {name: name}),
    )
    worker = start_worker(conn, name)
    assert [claimed.id for claimed in fetch(conn, worker, queue=name)] == [job.id]


def test_longest_names(conn):
    job = row(conn, JOB, enqueue(conn, "h" * 512, queue="q" * 128, tags=["t" * 255]))
    assert (len(job.handler), len(job.queue), len(job.tags[0])) == (512, 128, 255)


@pytest.mark.parametrize(
    "text", ['{"handler": "a:b"}', '  {"handler": "a:b"}', '\n\t\r {"handler":"a:b"}\n']
)
def test_text_that_begins_with_a_brace_is_a_document(conn, text):
    job_id = value(conn, "select eram_enqueue_job(%s::text)", text)
    assert row(conn, JOB, job_id).handler == "a:b"


def test_a_document_as_a_bare_literal(conn):
    job_id = value(conn, """select eram_enqueue_job('{"handler": "a:b", "args": {"x": 1}}')""")
    assert row(conn, JOB, job_id).args == {"x": 1}


def test_a_document_in_text_takes_no_further_arguments(conn):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no further arguments"):
        conn.execute("""select eram_enqueue_job('{"handler": "a:b"}', queue => 'mail')""")
    assert value(conn, "select count(*) from eram_job_specs") == 0


def test_defaults_of_the_queue(conn):
    conn.execute(
        """
        select eram_set_queue(
            'mail', priority => 4, max_attempts => 3,
            backoff => '{"strategy": "fixed", "base": "7 seconds"}')
        """
    )
    plain, chosen, other = (
        enqueue(conn, queue="mail"),
        enqueue(conn, queue="mail", priority=0, max_attempts=9),
        enqueue(conn),
    )
    found = rows(
        conn,
        """
        select job_id, priority, max_attempts, backoff ->> 'base' as base
        from eram_job_specs
        order by job_id
        """,
    )
    assert [tuple(spec) for spec in found] == [
        (plain, 4, 3, "7 seconds"),
        (chosen, 0, 9, "7 seconds"),
        (other, 0, 20, None),
    ]


def test_ids_come_back_in_the_order_of_the_array(conn):
    jobs = [{"handler": f"app:h{n}", "priority": n % 10, "queue": f"q{n % 3}"} for n in range(300)]
    found = rows(conn, "select * from eram_enqueue_jobs(%s)", Jsonb(jobs))
    assert [job.is_duplicate for job in found] == [False] * 300
    assert [job.id for job in found] == sorted(job.id for job in found)
    handlers = column(
        conn,
        """
        select specs.handler
        from unnest(%s::bigint[]) with ordinality as ids (id, place)
        join eram_job_specs as specs on specs.job_id = ids.id
        order by ids.place
        """,
        [job.id for job in found],
    )
    assert handlers == [job["handler"] for job in jobs]


def test_an_empty_array_enqueues_nothing(conn):
    assert rows(conn, "select * from eram_enqueue_jobs('[]')") == []


def test_one_object_is_a_batch_of_one(conn):
    found = row(conn, """select * from eram_enqueue_jobs('{"handler": "a:b"}')""")
    assert row(conn, JOB, found.id).handler == "a:b"


def test_ten_thousand_in_one_call(conn):
    jobs = [{"handler": "app:run", "args": {"n": n}} for n in range(10_000)]
    ids = column(conn, "select id from eram_enqueue_jobs(%s)", Jsonb(jobs))
    assert len(set(ids)) == 10_000
    in_order = column(conn, "select (args ->> 'n')::int from eram_jobs order by id")
    assert in_order == list(range(10_000))


@pytest.mark.parametrize("bad", [{"handler": ""}, {"handler": "a:b", "unique": []}, 5, None])
def test_one_bad_job_refuses_the_whole_array_and_is_named(conn, bad):
    jobs = [{"handler": "a:b"}, {"handler": "a:c"}, bad, {"handler": "a:d"}]
    with pytest.raises(psycopg.Error) as caught:
        conn.execute("select * from eram_enqueue_jobs(%s)", [Jsonb(jobs)])
    assert caught.value.diag.message_detail == "The mistake is in job 3 of 4."
    assert caught.value.diag.message_hint
    assert value(conn, "select count(*) from eram_job_specs") == 0


def test_a_job_is_seen_by_others_only_after_the_commit(conn, connect, worker):
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    assert fetch(conn, worker) == []
    assert rows(conn, JOB, job_id) == []
    producer.commit()
    assert [job.id for job in fetch_late(conn, worker)] == [job_id]


def test_a_rollback_takes_the_job_back(conn, connect, worker):
    producer = connect(autocommit=False)
    enqueue(producer)
    producer.rollback()
    assert fetch(conn, worker) == []
    assert value(conn, "select count(*) from eram_job_specs") == 0


def test_a_rollback_to_a_savepoint_takes_back_what_came_after_it(conn, connect, worker):
    producer = connect(autocommit=False)
    kept = enqueue(producer)
    producer.execute("savepoint s")
    enqueue(producer)
    producer.execute("rollback to savepoint s")
    later = enqueue(producer)
    producer.commit()
    assert [job.id for job in fetch(conn, worker)] == [kept, later]


def test_an_error_does_not_cost_the_work_before_a_savepoint(connect):
    producer = connect(autocommit=False)
    job_id = enqueue(producer)
    with pytest.raises(psycopg.Error), producer.transaction():
        enqueue(producer, "")
    producer.commit()
    assert row(producer, JOB, job_id).state == "available"


def test_enqueue_from_a_trigger(conn):
    conn.execute(
        """
        create table orders (id bigint);
        create function enqueue_order() returns trigger language plpgsql as $$
        begin
            perform eram_enqueue_job('app:ship', jsonb_build_object('order', new.id));
            return new;
        end;
        $$;
        create trigger orders_enqueue after insert on orders
            for each row execute function enqueue_order();
        insert into orders select generate_series(1, 3);
        """
    )
    assert column(conn, "select args ->> 'order' from eram_jobs order by id") == ["1", "2", "3"]


def test_enqueue_from_a_do_block_and_a_sql_function(conn):
    conn.execute("do $$ begin perform eram_enqueue_job('app:one'); end $$")
    conn.execute(
        """
        create function ship(n int) returns bigint language sql as
            $$ select eram_enqueue_job('app:two', jsonb_build_object('n', n)) $$;
        """
    )
    conn.execute("select ship(n) from generate_series(1, 2) as n")
    assert column(conn, "select handler from eram_jobs order by id") == [
        "app:one",
        "app:two",
        "app:two",
    ]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_enqueue_at_every_isolation_level(conn, level):
    with conn.transaction():
        conn.execute(f"set transaction isolation level {level}")
        job_id = enqueue(conn)
    assert row(conn, JOB, job_id).state == "available"


def test_a_large_document(conn):
    text = "ä" * 1_000_000
    job_id = enqueue(conn, args={"text": text})
    assert row(conn, JOB, job_id).args == {"text": text}


def test_the_json_array_can_be_text_cast_by_the_server(conn):
    """What a client does that sends everything as text."""
    text = json.dumps([{"handler": "a:b"}, {"handler": "a:c"}])
    assert len(rows(conn, "select * from eram_enqueue_jobs(%s::jsonb)", text)) == 2
