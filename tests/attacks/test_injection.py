"""SQL in every text argument of every public function stays text, also where it is used later."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from sql.helpers import clear, value
from sql.role_helpers import Place

from .fuzz_values import literal
from .fuzzer import DOCUMENTED, FUNCTIONS
from .places import WHATS, make_place

PAYLOADS = (
    "'; delete from canary; --",
    "\\'; delete from canary; --",
    "$$; delete from canary; $$",
    "$body$; delete from canary; $body$",
    '"; delete from canary; --',
    "') ; delete from canary; --",
    "'||nextval('hits')||'",
    "{(select nextval('hits'))}",
    "%s%I%L%1$s%%%",
    "<path>$1 %(x)s {0} :x \\",
    "a:b'); delete from canary; select ('",
)
# A call of each function that would be accepted, but for the payload in one of its arguments.
VALID: dict[str, dict[str, str]] = {
    "eram_backoff": {"attempt": "1", "backoff": "'\"none\"'"},
    "eram_cancel_job": {"id": ":job", "reason": "'x'"},
    "eram_cancel_jobs": {"filter": "'{\"all\": true}'", "reason": "'x'"},
    "eram_complete_jobs": {"ids": "'{1}'", "runs": "'{1}'", "results": "'{1}'"},
    "eram_count_minutes": {"of_queue": "'x'"},
    "eram_delete_handler": {"handler": "'a:b'"},
    "eram_delete_jobs": {"filter": "'{\"ids\": [1]}'"},
    "eram_discard_job": {"id": "1", "run": "1", "reason": "'x'"},
    "eram_enqueue_job": {
        "handler": "'a:b'",
        "args": "'{}'",
        "queue": "'default'",
        "tags": "'{x}'",
        "meta": "'{}'",
        "backoff": "'\"none\"'",
        "unique_by": "'true'",
    },
    "eram_enqueue_jobs": {"jobs": "'[]'"},
    "eram_fail_job": {"id": "1", "run": "1", "error": "'x'", "detail": "'{}'"},
    "eram_fetch": {"queue": "'default'", "demand": "1", "worker": ":worker"},
    "eram_finish_command": {"run_id": "1", "error": "'x'"},
    "eram_grant": {"role": ":role", "what": "'enqueue'", "queues": "'{x}'"},
    "eram_find_jobs": {"filter": "'{\"all\": true}'"},
    "eram_measure_latency": {"of_queue": "'x'"},
    "eram_move_jobs": {"filter": "'{\"ids\": [1]}'", "queue": "'x'"},
    "eram_next_run": {"schedule": "'@daily'", "timezone": "'UTC'"},
    "eram_pause_queue": {"queue": "'x'"},
    "eram_pause_schedule": {"name": "'x'"},
    "eram_register_handler": {
        "handler": "'a:b'",
        "queue": "'x'",
        "tags": "'{x}'",
        "unique_by": "'true'",
        "backoff": "'\"none\"'",
        "meta": "'{}'",
        "aliases": "'{old:b}'",
    },
    "eram_register_schedules": {"application": "'x'", "schedules": "'[]'"},
    "eram_reindex_plan": {"indexes": "'{x}'"},
    "eram_release_other_jobs": {"worker": ":worker", "queue": "'x'", "ids": "'{}'", "runs": "'{}'"},
    "eram_resume_queue": {"queue": "'x'"},
    "eram_resume_schedule": {"name": "'x'"},
    "eram_retention": {"queue": "'x'"},
    "eram_retry_jobs": {"filter": "'{\"ids\": [1]}'"},
    "eram_revoke": {"role": ":role", "what": "'read'"},
    "eram_run_schedule": {"name": "'x'"},
    "eram_schedule": {
        "name": "'x'",
        "schedule": "'1 hour'",
        "handler": "'a:b'",
        "args": "'{}'",
        "timezone": "'UTC'",
        "missed": "'all'",
        "options": "'{}'",
    },
    "eram_schedule_maintenance": {
        "task": "'prune'",
        "schedule": "'1 hour'",
        "options": "'{}'",
        "timezone": "'UTC'",
    },
    # Its command is SQL by contract; only the owner may call it.
    "eram_schedule_sql": {
        "name": "'x'",
        "schedule": "'1 hour'",
        "command": "'select 1'",
        "timezone": "'UTC'",
        "missed": "'all'",
    },
    "eram_set_handler": {"handler": "'a:b'", "overrides": "'{}'"},
    "eram_set_queue": {"queue": "'x'", "backoff": "'\"none\"'", "max_age": "'{}'"},
    "eram_start_waiting": {"queue": "'x'"},
    "eram_start_worker": {"name": "'x'", "queues": "'{x}'"},
    "eram_stop_waiting": {"queue": "'x'"},
    "eram_unschedule": {"name": "'x'"},
    "eram_update_job": {
        "id": ":job",
        "backoff": "'\"none\"'",
        "tags": "'{x}'",
        "meta": "'{}'",
        "args": "'{}'",
    },
}
# Where documents hold texts: a payload is put into each of these places.
DOCUMENTS = (
    '"@"',
    '{"@": 1}',
    '["@"]',
    '{"handler": "@", "queue": "@", "args": {"@": "@"}, "meta": {"@": "@"}, "tags": ["@"]}',
    '[{"handler": "@", "queue": "@", "unique": {"fields": ["handler"], "keys": null}}]',
    '[{"handler": "@", "unique": {"keys": ["@"]}, "args": {"@": 1}}]',
    '[{"name": "@", "schedule": "1 hour", "handler": "@", "queue": "@", "args": {"@": "@"}}]',
    '{"queue": "@", "state": "@"}',
    '{"queue": "@", "tags": ["@"], "args": {"@": "@"}, "handler": "@"}',
    '{"strategy": "@", "base": "@"}',
    '{"completed": "@"}',
    '{"queue": "@", "tags": ["@"], "meta": {"@": "@"}}',
    '{"type": "@", "traceback": "@", "@": ["@"]}',
    '{"indexes": ["@"]}',
)
# What uses later what was stored.
LATER = (
    *("select * from eram_tick()", "call eram_run('0')", "select eram_why(id) from eram_jobs"),
    *("select * from eram_jobs", "select * from eram_latest_jobs", "select * from eram_errors"),
    *("select * from eram_queue_stats", "select eram_run_schedule(name) from eram_schedules"),
    *("select eram_start_waiting(queue) from eram_jobs", "select * from eram_outcome(1)"),
    "select eram_fetch(queue, 10, (select max(id) from eram_workers)) from eram_queue_stats",
    "select eram_fail_job(job_id, run, '@', '{\"@\": \"@\"}') from eram_running_jobs",
    "select eram_set_queue(queue, is_announcing => true) from eram_queue_stats",
    "select eram_fetch(queue, 10, (select max(id) from eram_workers)) from eram_queue_stats",
    "select eram_complete_jobs(array[job_id], array[run]) from eram_running_jobs",
    *(
        "select eram_retention(queue) from eram_queue_stats",
        "select eram_retry_jobs('{\"all\": true}')",
    ),
    *("select * from eram_reindex_plan()", "select eram_prune_jobs('0')"),
    "select eram_stop_waiting(queue) from eram_jobs",
    "select eram_release_other_jobs(worker, queue, '{}', '{}') from eram_running_jobs",
    "select eram_unschedule(name) from eram_schedules",
)
TEXTS = {"text", "text[]", "jsonb", "jsonb[]"}


@pytest.fixture(scope="module")
def module_place(server) -> Iterator[Place]:
    with make_place(server, "script") as place:
        place.owner.execute(
            "create table canary (what text); insert into canary values ('alive');"
            " create sequence hits; grant all on canary, hits to public"
        )
        yield place


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    clear(module_place.owner)
    yield module_place
    owner = module_place.owner
    assert owner.execute("select what from canary").fetchall() == [("alive",)]
    assert owner.execute("select is_called from hits").fetchall() == [(False,)]
    assert owner.execute("select * from eram_check()").fetchall() == []


def payloads(kind: str) -> Iterator[str]:
    """Write each payload as an argument of this type, in every place where a text can be."""
    # Of documents there are many, so each is spoilt by every second payload.
    for payload in PAYLOADS if kind.startswith("text") else PAYLOADS[::2]:
        if kind == "text":
            yield literal(payload)
        elif kind == "text[]":
            yield f"array[{literal(payload)}]"
        else:
            inside = json.dumps(payload)[1:-1]
            for document in DOCUMENTS:
                written = literal(document.replace("@", inside))
                yield written if kind == "jsonb" else f"array[{written}]::jsonb[]"


def functions(conn: psycopg.Connection) -> dict[str, list[tuple[str, str]]]:
    """Return the text arguments of each public function, and their types.

    Of the two eram_enqueue_job() that with arguments; eram_enqueue_jobs() takes documents.
    """
    query = FUNCTIONS.replace("'public'::regnamespace", "quote_ident(_eram_schema())::regnamespace")
    found: dict[str, list[tuple[str, str]]] = {}
    for name, _, _, described in conn.execute(query).fetchall():
        arguments = [each.split(" ", 1) for each in described]
        texts = [(argument, kind) for argument, kind in arguments if kind in TEXTS]
        if len(texts) > len(found.get(name, [])):
            found[name] = texts
    return found


def test_every_function_that_takes_a_text_is_attacked(place):
    found = functions(place.owner)
    assert len(found) > 30
    assert set(found) == set(VALID)
    for name, texts in found.items():
        assert {argument for argument, _ in texts} <= set(VALID[name]), name


@pytest.mark.parametrize("function", VALID)
def test_a_payload_stays_a_text(place, function):
    owner = place.owner
    start = "select eram_start_worker('w', '{default}', pg_backend_pid())"
    known = {
        ":worker": value(owner, start),
        ":job": value(owner, "select eram_enqueue_job('a:b', unique_by => 'true')"),
        ":role": literal(place.make_role()),
    }
    owner.execute("select eram_schedule('x', '1 hour', 'a:b')")
    valid = {name: str(known.get(said, said)) for name, said in VALID[function].items()}
    with owner.transaction(force_rollback=True):
        owner.execute(call(function, valid).encode())
    for argument, kind in functions(owner)[function]:
        if argument != "command":
            for payload in payloads(kind):
                attack(owner, call(function, valid | {argument: payload}))
    for statement in LATER:
        for payload in PAYLOADS[:1] if "@" not in statement else PAYLOADS:
            inside = json.dumps(payload)[1:-1].replace("'", "''")
            attack(owner, statement.replace("@", inside))


def call(function: str, arguments: dict[str, str]) -> str:
    given = ", ".join(f"{name} => {said}" for name, said in arguments.items())
    return f"select * from {function}({given})"


def attack(conn: psycopg.Connection, statement: str) -> None:
    """Run a statement, which may be refused in a documented way and no other."""
    try:
        conn.execute(statement.encode())
    except psycopg.Error as error:
        said = f"{error.sqlstate} {error}\n{statement}"
        is_fine = error.sqlstate in DOCUMENTED and "format()" not in str(error)
        if not is_fine:
            raise AssertionError(said) from error


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_role_with_such_a_name(place, payload):
    role = sql.Identifier(payload)
    place.admin.execute(sql.SQL("create role {}").format(role))
    try:
        for what in WHATS:
            place.grant(payload, what)
        place.owner.execute("select eram_grant(%s, 'enqueue', %s)", [payload, [payload]])
        assert place.rights(payload)
        for what in WHATS:
            place.revoke(payload, what)
        assert place.rights(payload) == set()
    finally:
        place.admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))
