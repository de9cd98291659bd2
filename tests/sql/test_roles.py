"""What roles are granted: real roles, each trying everything that there is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql

import eram
from databases import fresh_database
from eram.install import install

from .helpers import at_once, clear, column, enqueue, fetch, rows, start_worker, value, wait_until
from .role_helpers import FUNCTIONS, RELATIONS, Place

WHATS = ("enqueue", "work", "read", "admin")
OWNERS = {
    # What writes or runs SQL, and what gives rights.
    *("eram_schedule_sql", "eram_begin_command", "eram_run_command", "eram_finish_command"),
    *("eram_grant", "eram_revoke"),
}
PRODUCERS = {"eram_enqueue_job", "eram_enqueue_jobs", "eram_version"}
LOOKED_AT = {
    *("eram_jobs", "eram_latest_jobs", "eram_errors"),
    *("eram_queues", "eram_handlers", "eram_workers", "eram_schedules", "eram_metrics"),
    *("eram_queue_stats", "eram_handler_stats", "eram_worker_stats"),
    *("eram_throughput", "eram_latency", "eram_totals"),
}
ODD = 'Jobs of "us"'


@pytest.fixture(scope="module", params=["extension", "script"])
def module_place(server, request) -> Iterator[Place]:
    """The extension in public, or the plain script in a schema with an odd name."""
    with fresh_database(server, "template1") as dsn:
        place = Place(dsn, "public" if request.param == "extension" else ODD)
        try:
            if request.param == "extension":
                place.owner.execute("create extension eram")
            else:
                install(place.owner)
            yield place
        finally:
            place.close()


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    """The same, which must be healthy when the test ends."""
    clear(module_place.owner)
    yield module_place
    assert rows(module_place.owner, "select * from eram_check()") == []


@pytest.fixture
def granted(place: Place) -> dict[str, set[str]]:
    """What each kind of grant covers, by the list of eram itself."""
    listed = rows(place.owner, "select names, whats from _eram_rights()")
    covered = {
        what: {name for row in listed if what in row.whats for name in row.names} for what in WHATS
    }
    covered["admin"] = {name for row in listed for name in row.names}
    return covered


def test_every_public_function_is_in_one_place_of_the_list(place, granted):
    """A new function cannot be forgotten: it is granted for something, or it is the owner's."""
    names = column(place.owner, "select unnest(names) from _eram_rights()")
    assert len(names) == len(set(names))
    functions = {row.name for row in rows(place.owner, FUNCTIONS)}
    assert functions | LOOKED_AT == set(names) | OWNERS
    assert not set(names) & OWNERS
    assert granted["enqueue"] == PRODUCERS
    assert granted["read"] >= LOOKED_AT
    assert (LOOKED_AT & granted["work"], LOOKED_AT & granted["enqueue"]) == (set(), set())


def test_what_views_there_are_can_be_read_by_those_who_look(place):
    assert {row.name for row in rows(place.owner, f"{RELATIONS} and relkind = 'v'")} <= LOOKED_AT


def test_a_worker_may_call_all_that_the_python_worker_calls(granted):
    source = (Path(eram.__file__).parent / "_base/statements.py").read_text(encoding="utf-8")
    called = set(re.findall(r"\beram_\w+(?=\()", source))
    assert len(called) > 15
    # Who is no owner is handed no command, and who enqueues or waits is granted that.
    others = OWNERS | granted["enqueue"] | {"eram_outcome"}
    assert called - others <= granted["work"]


@pytest.mark.parametrize("what", [*WHATS, None])
def test_a_role_may_do_what_it_was_granted_and_nothing_else(place, granted, what):
    """Everything is tried. What is refused for its arguments was let in."""
    conn = place.connect(place.make_role(*([what] if what else [])))
    for function in rows(place.owner, FUNCTIONS):
        refusal = _try(conn, function.call)
        if what and function.name in granted[what]:
            assert "permission denied" not in refusal, function.call
        else:
            assert re.match("permission denied for (function|procedure|schema)", refusal), (
                function.call,
                refusal,
            )
    for relation in rows(place.owner, RELATIONS):
        for statement in ("select * from {}", "delete from {}", "select count(*) from {}"):
            may = statement.startswith("select") and what and relation.name in granted[what]
            refusal = _try(conn, statement.format(relation.call))
            assert bool(refusal) is not bool(may), (statement, relation.call, refusal)


def _try(conn: psycopg.Connection, statement: str) -> str:
    """Return the message of an error, or nothing."""
    try:
        conn.execute(statement)
    except psycopg.Error as error:
        return str(error)
    return ""


def test_internals_are_for_nobody(place):
    for what in WHATS:
        role = place.make_role(what)
        callable_by_it = column(
            place.owner,
            """
            select proname
            from pg_proc
            where proname ~ '^_eram_' and has_function_privilege(%s, oid, 'execute')
            order by proname
            """,
            role,
        )
        marks = {f"_eram_granted_{what}", "_eram_granted_usage"}
        assert set(callable_by_it) - marks == set()


def test_a_producer_enqueues_and_a_worker_works(place):
    producer, worker, reader, admin = (place.connect(place.make_role(what)) for what in WHATS)
    one = enqueue(producer, delay=0, queue="default")
    assert rows(producer, "select * from eram_enqueue_jobs(%s)", '[{"handler": "app:run"}]')
    with pytest.raises(errors.InsufficientPrivilege):
        producer.execute("select * from eram_jobs")

    worker_id = start_worker(worker)
    first, second = fetch(worker, worker_id)
    assert first.id == one
    assert value(worker, "select eram_fail_job(%s, %s, 'no luck')", one, first.run) == "retryable"
    assert value(worker, "select eram_cancel_job(%s, run => %s)", second.id, second.run)
    assert value(worker, "select is_alive from eram_heartbeat(%s)", worker_id)
    worker.execute("select * from eram_tick()")
    worker.execute("call eram_run('0')")
    worker.execute("select eram_stop_worker(%s)", [worker_id])

    assert column(reader, "select state from eram_jobs order by id") == ["retryable", "cancelled"]
    assert column(reader, "select id from eram_latest_jobs order by id desc") == [second.id, one]
    assert column(reader, "select error from eram_errors") == ["no luck"]
    assert value(reader, "select count(*) from eram_queue_stats") == 1
    assert value(reader, "select eram_why(%s)", one)
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute("select eram_retry_job(%s)", [one])

    assert value(admin, "select eram_retry_job(%s)", one)
    assert value(admin, "select eram_delete_job(%s)", second.id)
    admin.execute("select eram_schedule('hourly', '1 hour', 'app:run')")
    with pytest.raises(errors.InsufficientPrivilege):
        admin.execute("select eram_schedule_sql('hourly', '1 hour', 'select 1')")


HANDLERS = """
import eram

@eram.job(max_attempts=3)
def greet(job, name):
    return f"Hello, {name}!"

@eram.job(transaction=True)
def look(job, conn):
    return conn.execute("select current_user").fetchone()[0]
"""


def test_the_python_worker_needs_no_more(place, tmp_path):
    """From its start, with what it registers and ticks, to its end."""
    role = place.make_role("work")
    (tmp_path / "greetings.py").write_text(HANDLERS, encoding="utf-8")
    greet = enqueue(place.owner, "greetings:greet", args={"name": "Ada"})
    look = enqueue(place.owner, "greetings:look")
    worker = subprocess.Popen(
        [sys.executable, "-m", "eram.worker", "--queue", "default=2", "--allow", "greetings"],
        env={**os.environ, "DATABASE_URL": place.dsn(role), "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        unfinished = "select count(*) = 0 from eram_jobs where state <> 'completed'"
        wait_until(lambda: value(place.owner, unfinished), "the jobs are done")
        declared = "select declared from eram_handlers where name = 'greetings:greet'"
        assert value(place.owner, declared) == {"max_attempts": 3}
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=20)
    finally:
        worker.kill()
        worker.wait()
    assert (worker.returncode, "permission denied" in log) == (0, False), log
    results = "select result from eram_jobs where id = %s"
    assert value(place.owner, results, greet) == "Hello, Ada!"
    assert value(place.owner, results, look) == role
    assert column(place.owner, "select end_reason from eram_workers") == ["stopped"]


# What is taken back.


@pytest.mark.parametrize("what", WHATS)
def test_a_revoke_takes_back_all_of_it(place, what):
    role = place.make_role()
    place.grant(role, what)
    assert place.rights(role)
    place.revoke(role, what)
    assert place.rights(role) == set()


@pytest.mark.parametrize("kept", WHATS)
@pytest.mark.parametrize("taken", WHATS)
def test_a_revoke_keeps_what_another_grant_needs(place, kept, taken):
    """In whichever order they were granted, and however far they overlap."""
    if kept == taken:
        return
    expected = place.rights(place.make_role(kept))
    for whats in ((kept, taken), (taken, kept)):
        role = place.make_role(*whats)
        place.revoke(role, taken)
        assert place.rights(role) == expected
        place.revoke(role, taken)
        assert place.rights(role) == expected


def test_a_grant_is_as_good_twice_as_once(place):
    role = place.make_role("work")
    once = place.rights(role)
    place.grant(role, "work")
    assert place.rights(role) == once


@pytest.mark.parametrize("granted", [[], ["work"]])
def test_a_right_that_was_given_by_hand_stays_when_nothing_was_granted(place, granted):
    """What was granted besides is no reason to take anything else."""
    role = place.make_role(*granted)
    for right in ("execute on function eram_why", "select on eram_queues"):
        place.owner.execute(sql.SQL("grant {} to {}").format(sql.SQL(right), sql.Identifier(role)))
    before = place.rights(role)
    for what in set(WHATS) - set(granted):
        place.revoke(role, what)
    assert place.rights(role) == before
    # What was given both ways is one right, which goes with the grant.
    place.grant(role, "read")
    place.revoke(role, "read")
    assert place.rights(role) == place.rights(place.make_role(*granted))


def test_what_is_not_erams_stays(place):
    """The application's own right to the schema, above all."""
    role = place.make_role()
    quoted = {"role": sql.Identifier(role)}
    place.owner.execute("create table mine ()")
    try:
        place.owner.execute(sql.SQL("grant select on mine to {role}").format(**quoted))
        if place.schema != "public":
            schema = sql.Identifier(place.schema)
            place.owner.execute(
                sql.SQL("grant usage on schema {} to {role}").format(schema, **quoted)
            )
        before = place.rights(role)
        assert before
        for what in WHATS:
            place.grant(role, what)
        for what in WHATS:
            place.revoke(role, what)
        assert place.rights(role) == before
    finally:
        place.owner.execute("drop table mine")


def test_rights_are_inherited_and_not_revoked_from_members(place):
    group = place.make_role("enqueue")
    member = place.make_role()
    place.admin.execute(
        sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(member))
    )
    conn = place.connect(member)
    assert enqueue(conn)
    place.revoke(member, "enqueue")
    assert enqueue(conn)
    place.revoke(group, "enqueue")
    # Without the right to its schema nobody finds a function at all.
    with pytest.raises((errors.InsufficientPrivilege, errors.UndefinedFunction)):
        enqueue(conn)


# Who may grant, and what is refused.


def test_only_the_owner_his_members_and_superusers_grant(place):
    role = place.make_role()
    for conn in (place.connect(place.member_role), place.connect()):
        conn.execute("select eram_grant(%s, 'read')", [role])
        assert place.rights(role)
        conn.execute("select eram_revoke(%s, 'read')", [role])
        assert place.rights(role) == set()
    conn = place.connect(place.make_role("admin"))
    for call in ("select eram_grant(%s, 'read')", "select eram_revoke(%s, 'read')"):
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute(call, [role])


REFUSED = {
    "no role": ((None, "read"), errors.NullValueNotAllowed, "enqueue, work, read or admin"),
    "not for anything": (("role", None), errors.NullValueNotAllowed, "enqueue, work"),
    "misspelt": (("role", "enqeue"), errors.InvalidParameterValue, '"enqueue"'),
    "in capitals": (("role", "READ"), errors.InvalidParameterValue, '"read"'),
    "empty": (("role", ""), errors.InvalidParameterValue, "Did you mean"),
    "no such role": (("nobody at all", "read"), errors.UndefinedObject, "CREATE ROLE"),
    "quoted": (('"role"', "read"), errors.UndefinedObject, "CREATE ROLE"),
    # It would be everybody, even in quotes.
    "public": (("public", "read"), errors.UndefinedObject, "CREATE ROLE"),
    "the owner": (("owner", "read"), errors.InvalidGrantOperation, "owner"),
}


@pytest.mark.parametrize("function", ["eram_grant", "eram_revoke"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_an_error_and_changes_nothing(place, function, case):
    (role, what), error, hint = REFUSED[case]
    name = place.make_role("enqueue")
    role = {"role": name, "owner": place.owner_role}.get(role, role)
    before = (place.rights(name), place.rights(place.owner_role))
    with pytest.raises(error) as caught:
        place.owner.execute(f"select {function}(%s, %s)", [role, what])
    assert hint in (caught.value.diag.message_hint or "")
    assert (place.rights(name), place.rights(place.owner_role)) == before


def test_the_schema_of_someone_else(place):
    """Who owns eram but not its schema cannot let anybody into it."""
    if place.schema == "public":
        return
    role = place.make_role()
    schema = sql.Identifier(place.schema)
    owner = sql.Identifier(place.owner_role)
    place.admin.execute(sql.SQL("alter schema {} owner to current_user").format(schema))
    place.admin.execute(sql.SQL("grant usage on schema {} to {}").format(schema, owner))
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        place.grant(role, "enqueue")
    assert place.rights(role) == set()
    # What the hint says helps.
    statement = re.search(r"GRANT .*(?=\.$)", caught.value.diag.message_hint)
    place.admin.execute(statement[0])
    place.grant(role, "enqueue")
    assert enqueue(place.connect(role))
    place.revoke(role, "enqueue")
    assert place.rights(role) == {f"{place.schema} USAGE"}
    place.admin.execute(sql.SQL("alter schema {} owner to {}").format(schema, owner))


def test_grants_at_the_same_time(place):
    """The server alone would let one of them fail."""
    role, other = place.make_role(), place.make_role()
    expected = place.rights(place.make_role("work", "admin"))

    def grant(conn: psycopg.Connection, name: str, what: str) -> Callable[[], object]:
        return lambda: [conn.execute("select eram_grant(%s, %s)", [name, what]) for _ in range(5)]

    at_once(
        *(
            grant(place.connect(place.owner_role), name, what)
            for name in (role, other)
            for what in ("work", "admin")
        )
    )
    assert place.rights(role) == place.rights(other) == expected
