"""What others put in the way of a call is not called: overloads, operators, temporary objects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors, sql

from eram.install import install
from sql.helpers import clear, value
from sql.role_helpers import FUNCTIONS, Place

from .places import WAYS, WHATS, Caller, make_place
from .traps import in_the_path, is_hit, plant, with_shadows


@pytest.fixture(scope="module", params=WAYS)
def module_place(server, request) -> Iterator[Place]:
    with make_place(server, request.param) as place:
        plant(place)
        yield place
        place.admin.execute("drop schema evil cascade")


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    clear(module_place.owner)
    yield module_place
    assert module_place.owner.execute("select * from eram_check()").fetchall() == []
    assert not is_hit(module_place), "code of the attacker's was called"


@pytest.fixture
def roles(place: Place) -> dict[str, psycopg.Connection]:
    return {what: place.connect(place.make_role(what)) for what in WHATS}


def both(conn: psycopg.Connection) -> None:
    with_shadows(conn)
    in_the_path(conn)


ATTACKS: dict[str, Callable[[psycopg.Connection], None]] = {
    "overloads": in_the_path,
    "temporary objects": with_shadows,
    "both": both,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_everybody_gets_what_he_asked_for(place, roles, attack):
    for conn in roles.values():
        ATTACKS[attack](conn)
    producer, worker, reader, admin = (Caller(conn, place.schema) for conn in roles.values())

    first = producer.value(
        "eram_enqueue_job('app:run', '{\"a\": [1]}', 'default', 3, tags => '{x}')"
    )
    unique = '{"handler": "app:run", "unique": {"period": 60}, "delay": "0.5", "backoff": "none"}'
    second = producer.value(f"eram_enqueue_job('{unique}')")
    assert producer.value(f"eram_enqueue_job('{unique}')") == second
    ids = [row[0] for row in producer.rows(f"eram_enqueue_jobs('[{unique}, {unique}]')")]
    assert ids == [second, second]
    third = producer.value("eram_enqueue_job('app:run', scheduled_at => '2000-01-01 00:00Z')")
    assert third > second > first

    worker_id = worker.value("eram_start_worker('w', '{default}')")
    worker.rows("eram_register_handler('app:run', max_attempts => 7, aliases => '{old:run}')")
    worker.rows("eram_start_waiting('default')")
    worker.rows("eram_stop_waiting('default')")
    claimed = {row[0]: row for row in worker.rows(f"eram_fetch('default', 10, {worker_id})")}
    assert {first, third} <= set(claimed)
    assert claimed[first][2:4] == ("app:run", {"a": [1]})
    assert (
        worker.value(f"eram_fail_job({first}, 1, 'no luck', '{{\"type\": \"T\"}}')") == "retryable"
    )
    assert worker.value(f"eram_complete_jobs('{{{third}}}', '{{1}}', '{{5}}')") == third
    assert worker.value(f"eram_heartbeat({worker_id})") is True
    worker.rows("eram_rescue_jobs()")
    worker.rows("eram_tick()")
    worker.call("eram_run('0')")

    assert reader.value(f"eram_outcome({third})") == "completed"
    assert "no luck" in reader.value(f"eram_why({first})")
    assert reader.rows("eram_check()") == []
    assert reader.value("eram_next_run('0 7 * * mon-fri', 'Europe/Berlin')")
    assert {row[1] for row in reader.rows("eram_jobs")} >= {"retryable", "completed"}
    assert len(reader.rows("eram_latest_jobs")) == 3
    assert [row[7] for row in reader.rows("eram_errors")] == ["no luck"]
    assert reader.rows("eram_queue_stats")

    declared = '[{"schedule": "@daily", "handler": "a:b", "name": "n"}]'
    assert admin.value(f"eram_register_schedules('app', '{declared}')") == "n"
    assert admin.value(f"eram_retry_job({first})") is True
    assert admin.value(f"eram_update_job({first}, priority => 1, args => '{{}}')") is True
    assert admin.value("eram_move_jobs('{\"queue\": \"default\"}', 'other')") >= 1
    assert admin.value("eram_cancel_jobs('{\"tags\": [\"x\"]}', 'enough')") == 1
    assert admin.value("eram_schedule('hourly', '1 hour', 'app:run')")
    assert admin.value("eram_run_schedule('hourly')")
    admin.rows("eram_set_queue('default', max_age => '{\"completed\": 0}', global_limit => 5)")
    admin.rows("eram_prune_jobs('0')")
    assert admin.value("eram_delete_jobs('{\"all\": true}')") >= 1
    assert worker.value(f"eram_stop_worker({worker_id})") is not None


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_owner_in_a_hostile_path(place, attack):
    """He has most to lose: his calls are SQL of schedules, grants, and everything else."""
    owner = place.connect(place.owner_role)
    role = place.make_role()
    ATTACKS[attack](owner)
    caller = Caller(owner, place.schema)
    caller.rows("eram_schedule_sql('vacuum', '1 hour', 'select 1')")
    caller.rows("eram_run_schedule('vacuum')")
    caller.call("eram_run('0')")
    quoted = role.replace("'", "''")
    caller.rows(f"eram_grant('{quoted}', 'enqueue', '{{mail}}')")
    caller.rows(f"eram_revoke('{quoted}', 'enqueue')")
    caller.rows("eram_reindex_plan()")
    seen = "select run_count, last_error from eram_schedules where name = 'vacuum'"
    assert place.owner.execute(seen).fetchone()[1] is None
    for function in place.owner.execute(FUNCTIONS).fetchall():
        # With nulls: mostly refused, by eram and not by the attacker.
        with contextlib.suppress(psycopg.Error):
            owner.execute(function[1])


def test_there_are_traps(place):
    home = "from {} where {} = 'evil'::regnamespace"
    assert value(place.admin, "select count(*) " + home.format("pg_proc", "pronamespace")) > 300
    assert value(place.admin, "select count(*) " + home.format("pg_operator", "oprnamespace")) > 90


def test_the_attack_would_work(place):
    """On a function that does not pin its path; in a transaction that is rolled back."""
    name = sql.Identifier(place.schema, "_eram_check_name")
    admin = place.connect()
    with pytest.raises(errors.RaiseException, match="hijacked"), admin.transaction():
        admin.execute(sql.SQL("alter function {} reset search_path").format(name))
        admin.execute(
            sql.SQL("alter function {} reset search_path").format(
                sql.Identifier(place.schema, "eram_pause_queue")
            )
        )
        in_the_path(admin)
        Caller(admin, place.schema).rows("eram_pause_queue('x')")
    assert is_hit(place)
    place.admin.execute("select setval('evil.hits', 1, false)")


# Where others may create objects.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "creators", [[], ["public"], ["eram_creator"], ["public", "eram_creator"]], ids=str
)
def test_a_schema_where_others_may_create_is_warned_of(bare_dsn, way, creators):
    """PostgreSQL 14's `public` is like that; whoever creates there could plant overloads."""
    notices: list[tuple[str, str, str]] = []
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute('create schema "My jobs"; set search_path = "My jobs"')
        if "eram_creator" in creators:
            conn.execute("create role eram_creator")
        for creator in creators:
            conn.execute(f'grant create on schema "My jobs" to {creator}')
        conn.add_notice_handler(
            lambda said: notices.append(
                (said.severity_nonlocalized, said.message_primary, said.message_hint)
            )
        )
        conn.execute("create extension eram") if way == "extension" else install(conn)
        warnings = [notice for notice in notices if notice[0] == "WARNING"]
        assert bool(warnings) is bool(creators)
        for _, message, hint in warnings:
            assert '"My jobs"' in message
            assert ("everyone" in message) is ("public" in creators)
            assert ('"eram_creator"' in message) is ("eram_creator" in creators)
            # What the hint says helps.
            conn.execute(hint.partition(", or")[0])
        for creator in creators:
            right = f"select has_schema_privilege('{creator}', 'My jobs', 'create')"
            assert value(conn, right) is False
        conn.execute("drop role if exists eram_creator")


def test_public_of_14_is_warned_of(bare_dsn):
    notices: list[str] = []
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.add_notice_handler(lambda said: notices.append(str(said.message_primary)))
        conn.execute("create extension eram")
        is_open = conn.info.server_version < 150000
    assert any("everyone may create" in notice for notice in notices) is is_open
