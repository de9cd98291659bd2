"""The guard guards: whatever someone might add is above a limit."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest

from eram._base import sessions, statements
from eram._jobs.outcome import Outcome
from eram._runtime.reporter import Reporter

from . import cpu, limits, moves, worker
from .judging import above, too_dear

# What is to be done at each insertion, deletion or update, as a trigger.
TRIGGER = """
    create function harm() returns trigger language plpgsql as $$
    begin
        {body}
        return null;
    end;
    $$;
    create trigger harm after {event} execute function harm()
"""

# And what at the beginning of a function.
AT_FIRST = """
    do $harm$
    begin
        execute regexp_replace(
            pg_get_functiondef('{function}'::regproc), '\nbegin\n', E'\nbegin {body}\n');
    end;
    $harm$
"""
TOO_MUCH_ROOM = "this costs less than limits.py says: bring it up to date"


@dataclass(frozen=True, slots=True)
class Harm:
    """Something that costs more, and where that must be seen."""

    script: str
    group: str
    seen: tuple[str, ...]


def trigger(event: str, body: str) -> str:
    return TRIGGER.format(event=event, body=body)


def at_first(function: str, body: str) -> str:
    return AT_FIRST.format(function=function, body=body)


HARMS = {
    "an index on tickets": Harm(
        "create index on eram_queued_jobs (attempt)",
        "enqueueing",
        (
            "enqueue one: wal_bytes",
            "enqueue one: wal_records",
            "enqueue one: buffers",
            "enqueue a hundred: wal_bytes",
            "enqueue a hundred: wal_records",
            "enqueue a hundred: buffers",
        ),
    ),
    "an index on specs": Harm(
        "create index on eram_job_specs (handler)",
        "enqueueing",
        ("enqueue one: wal_bytes", "enqueue one: wal_records", "enqueue a hundred: buffers"),
    ),
    "an index on running jobs": Harm(
        "create index on eram_running_jobs (worker)",
        "claiming",
        (
            "fetch a hundred of 1,000: wal_bytes",
            "fetch a hundred of 1,000: wal_records",
            "fetch a hundred of 1,000: buffers",
        ),
    ),
    "an index on finished jobs": Harm(
        "create index on eram_finished_jobs (finalized_at)",
        "finishing",
        ("complete one: wal_records", "complete a hundred: wal_bytes"),
    ),
    "a foreign key": Harm(
        "alter table eram_queued_jobs add foreign key (job_id) references eram_job_specs",
        "enqueueing",
        ("enqueue one: wal_records", "enqueue one: locks", "enqueue a hundred: buffers"),
    ),
    "a column": Harm(
        "alter table eram_queued_jobs add column note text not null default repeat('x', 80)",
        "enqueueing",
        ("enqueue one: wal_bytes", "enqueue a hundred: wal_bytes"),
    ),
    "a column with a number": Harm(
        "alter table eram_queued_jobs add column place bigint not null default 1",
        "enqueueing",
        ("enqueue one: wal_bytes", "enqueue a hundred: wal_bytes"),
    ),
    "a look in every call that enqueues": Harm(
        at_first("eram_enqueue_jobs", "perform from eram_job_specs where job_id = 1;"),
        "enqueueing",
        ("enqueue one by a document: buffers", "enqueue ten, all of them: buffers"),
    ),
    "a counter that every enqueue raises": Harm(
        "create table counters (jobs bigint); insert into counters values (0);"
        + trigger("insert on eram_job_specs", "update counters set jobs = jobs + 1;"),
        "enqueueing",
        ("enqueue one: rows_written", "enqueue one: wal_records"),
    ),
    "a table that every enqueue locks": Harm(
        trigger("insert on eram_job_specs", "lock table eram_queues in row share mode;"),
        "enqueueing",
        ("enqueue one: locks", "enqueue a hundred: locks"),
    ),
    "an advisory lock in every fetch": Harm(
        at_first("eram_fetch", "perform pg_advisory_xact_lock(1);"),
        "claiming",
        ("fetch one of 1,000: locks", "fetch a hundred of 1,000: locks"),
    ),
    "a notification with every enqueue": Harm(
        trigger("insert on eram_job_specs", "perform pg_notify('jobs', '');"),
        "enqueueing",
        ("enqueue one: notifications", "enqueue a hundred: notifications"),
    ),
    "a notification with every completion": Harm(
        trigger("insert on eram_finished_jobs", "perform pg_notify('jobs', '');"),
        "finishing",
        ("complete one: notifications", "complete a hundred: notifications"),
    ),
    "a look at all that waits": Harm(
        at_first("eram_fetch", "perform count(*) from eram_queued_jobs;"),
        "claiming",
        ("fetch one of 1,000: buffers",),
    ),
    "a transaction id for every look": Harm(
        at_first("eram_fetch", "perform pg_current_xact_id();"),
        "idling",
        ("fetch, nothing waits: transaction_ids",),
    ),
    "a row for every look": Harm(
        "create table looks (at timestamptz);"
        + at_first("eram_fetch", "insert into looks values (now());"),
        "idling",
        ("fetch, nothing waits: rows_written", "fetch, nothing waits: wal_bytes"),
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_a_harm_is_seen(scratch, name):
    harm = HARMS[name]
    scratch.execute(harm.script)
    found = too_dear(moves.GROUPS[harm.group](scratch))
    assert set(harm.seen) - set(found) == set(), TOO_MUCH_ROOM


def test_an_index_is_seen_in_the_wal_of_a_whole_life(scratch):
    scratch.execute("create index on eram_finished_jobs (finalized_at)")
    assert moves.life(scratch) > limits.LIFE_WAL_BYTES, TOO_MUCH_ROOM


def test_what_is_hung_on_a_table_is_counted(scratch):
    scratch.execute("create index on eram_job_specs (handler)")
    scratch.execute("alter table eram_job_specs add check (max_attempts > 0)")
    scratch.execute(trigger("insert on eram_job_specs", "null;"))
    found = moves.hanging_on(scratch, "eram_job_specs")
    assert above(found, limits.TABLES["eram_job_specs"]).keys() == found.keys()


@pytest.mark.parametrize("function", ["eram_fetch", "eram_complete_jobs", "eram_enqueue_jobs"])
def test_a_lock_that_is_given_back_at_once_is_seen(scratch, function):
    body = "perform pg_advisory_lock(1), pg_advisory_unlock(1);"
    scratch.execute(at_first(function, body))
    assert moves.locking(scratch)[function] > limits.LOCKS.get(function, 0)


@pytest.mark.skipif(not cpu.can_tell(), reason="this system does not tell what CPU is used")
def test_work_for_each_row_is_seen_in_the_cpu(scratch):
    """In a hundred rows at once: what a single call costs is blurred where many others run."""
    body = "perform count(*) from generate_series(1, 10000);"
    scratch.execute(trigger("insert on eram_job_specs for each row", body))
    found = cpu.ratios(scratch, limits.CPU, rounds=5)
    assert "enqueue a hundred" in above(found, limits.CPU)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of a queue has one more question, in each of its turns."""
    send = Reporter.send

    def send_and_ask(self: Reporter, conn: psycopg.Connection) -> object:
        conn.execute("select 'anything else?'")
        return send(self, conn)

    monkeypatch.setattr(Reporter, "send", send_and_ask)


def test_a_call_more_for_each_job_is_seen(quiet_server, scratch, asking):
    with worker.watch(quiet_server, scratch) as watched:
        found = {**worker.draining(watched), **worker.one_by_one(watched)}
    seen = {"drain: other statements", "one by one: statements a job"}
    assert seen - set(above(found, limits.WORKER)) == set()


def test_a_call_of_another_session_for_each_job_is_seen(
    quiet_server, scratch, scratch_dsn, monkeypatch
):
    add = Reporter.add

    def add_and_tell(self: Reporter, outcome: Outcome) -> None:
        add(self, outcome)
        aside.execute("select 'one more'")

    options = "-c log_statement=all"
    with (
        psycopg.connect(scratch_dsn, autocommit=True, options=options) as aside,
        worker.watch(quiet_server, scratch) as watched,
    ):
        monkeypatch.setattr(Reporter, "add", add_and_tell)
        found = worker.one_by_one(watched)
    assert "one by one: of other sessions" in above(found, limits.WORKER)


def test_a_statement_more_in_each_transaction_is_seen(quiet_server, scratch, monkeypatch):
    execute = sessions.execute

    def ask_and_execute(session: psycopg.Connection, query: str, params: object) -> object:
        if query == statements.COMPLETE_JOB:
            session.execute("select 'anything else?'")
        return execute(session, query, params)

    monkeypatch.setattr(sessions, "execute", ask_and_execute)
    with worker.watch(quiet_server, scratch) as watched:
        found = worker.one_by_one(watched)
    assert "one by one: of its transaction" in above(found, limits.WORKER)


def test_a_statement_more_of_a_producer_is_seen(quiet_server, scratch_dsn, monkeypatch):
    execute = sessions.execute

    def ask_and_execute(session: psycopg.Connection, query: str, params: object) -> object:
        session.execute("select 'anything else?'")
        return execute(session, query, params)

    monkeypatch.setattr(sessions, "execute", ask_and_execute)
    found = worker.producing(scratch_dsn, quiet_server.log)
    assert above(found, limits.PRODUCER).keys() == found.keys()


def test_small_batches_are_seen(quiet_server, scratch):
    scratch.execute("select eram_set_queue('default', global_limit => 8)")
    with worker.watch(quiet_server, scratch) as watched:
        found = worker.draining(watched)
    assert "drain: statements a job" in above(found, limits.WORKER)


def test_an_idle_worker_that_does_something_is_seen(quiet_server, scratch, asking):
    """It looks often, says something else, and takes transaction ids."""
    scratch.execute(at_first("eram_fetch", "perform pg_current_xact_id();"))
    with worker.watch(quiet_server, scratch, poll_interval=0.1) as watched:
        found = worker.idling(watched)
    assert above(found, limits.WORKER).keys() == found.keys()
