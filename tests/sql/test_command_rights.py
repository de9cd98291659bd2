"""Whose rights commands run with, and who is given them: real roles on real connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql

from .command_helpers import Open, set_role
from .helpers import column, contents, enqueue, fetch, start_worker, value
from .schedule_helpers import (
    MAINTENANCE,
    Home,
    call,
    entry,
    handed_out,
    has_in_hand,
    make_due,
    schedule,
    schedule_sql,
    tick,
    tick_and_run,
)

WHO = "select who from done order by at"
MARK = "insert into done values ('x')"


@pytest.fixture
def admin(home: Home, open_as: Open) -> psycopg.Connection:
    return open_as(home.admin)


@pytest.fixture
def worker(home: Home, open_as: Open) -> psycopg.Connection:
    """A role that may do what a worker must, and no more."""
    return open_as(home.worker)


def run_handed_out(conn: psycopg.Connection, count: int = 10) -> None:
    """Tick as a client that runs what it is given."""
    for given in handed_out(conn, count):
        conn.execute(given.command)


# Who runs what, and as whom.


@pytest.mark.parametrize("run", [tick_and_run, run_handed_out], ids=["tick", "client"])
@pytest.mark.parametrize("who", ["owner", "admin", "member"])
def test_sql_runs_with_the_rights_of_the_owner(home, open_as, owner, run, who):
    ticker = open_as(getattr(home, who))
    user = value(ticker, "select current_user")
    schedule_sql(owner, "mark", MARK)
    schedule_sql(owner, "session", "insert into done values ('s', session_user)")
    make_due(owner, "mark", "session")
    run(ticker)
    assert column(owner, WHO) == [home.owner_role, user]
    assert value(ticker, "select current_user") == user
    assert entry(owner, "mark").last_error is None


def test_a_superusers_tick_twice(home, owner, admin):
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    admin.execute("select eram_tick()")
    assert column(owner, WHO) == []
    admin.execute("select eram_tick()")
    assert column(owner, WHO) == [home.owner_role]


def test_the_owner_may_do_only_what_the_owner_may(home, owner, admin):
    admin.execute("create schema secret; create table secret.things ()")
    try:
        commands = {
            "role": sql.SQL("set role {}").format(sql.Identifier(admin.info.user)),
            "user": sql.SQL("set session authorization {}").format(sql.Identifier(admin.info.user)),
            "reset": sql.SQL("reset role; select * from secret.things"),
            "read": sql.SQL("select * from secret.things"),
            "alter": sql.SQL("alter role {} superuser").format(sql.Identifier(home.owner_role)),
            "file": sql.SQL("select pg_read_file('PG_VERSION')"),
        }
        for name, command in commands.items():
            schedule_sql(owner, name, command.as_string(owner))
        make_due(owner, *commands)
        tick_and_run(admin)
        for name in commands:
            assert entry(owner, name).last_error, name
        assert value(admin, "select current_user") == value(admin, "select session_user")
    finally:
        admin.execute("drop schema secret cascade")


# What is left for the end of the transaction, or for the session's next statement.

TRAPS = {
    "a cursor": "declare trap cursor with hold for select trap()",
    "a deferred trigger": "insert into traps values (1)",
    "a path": "set search_path = traps, pg_catalog",
    "a path by a function": "select set_config('search_path', 'traps, pg_catalog', false)",
    "a temporary table": "create temp table pg_class as select trap() as relname",
}


@pytest.fixture
def traps(home: Home, owner: psycopg.Connection, admin: psycopg.Connection) -> Iterator[None]:
    """What a command could leave lying for a superuser to tread on.

    This is about mistakes. A hostile owner owns eram's functions too, and is trusted by whoever
    ticks for him.
    """
    owner.execute(
        """
        create function trap() returns int language plpgsql as
        $$ begin insert into public.done values ('trap'); return 1; end $$;
        create table traps (n int);
        create function spring() returns trigger language plpgsql as $$
        begin
            perform trap();
            return null;
        end $$;
        create constraint trigger spring after insert on traps
            deferrable initially deferred for each row execute function spring();
        create schema traps;
        create function traps.now() returns timestamptz language plpgsql as
        $$ begin perform public.trap(); return clock_timestamp(); end $$;
        create function traps.upper(text) returns text language plpgsql as
        $$ begin perform public.trap(); return ''; end $$;
        """
    )
    yield
    admin.execute(
        "drop table traps; drop function spring(), trap() cascade; drop schema traps cascade"
    )


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("command", TRAPS.values(), ids=TRAPS.keys())
@pytest.mark.parametrize("run", [tick_and_run, run_handed_out], ids=["tick", "client"])
def test_nothing_of_the_owners_runs_as_the_superuser_who_ticks(home, owner, admin, command, run):
    schedule_sql(owner, "trap", command)
    make_due(owner, "trap")
    run(admin)
    admin.execute("select now(), upper('x')")
    admin.execute("select relname from pg_class limit 1")
    with contextlib.suppress(errors.InvalidCursorName):
        admin.execute("fetch all from trap")
    assert set(column(owner, WHO)) <= {home.owner_role}
    # The next tick is as good as any.
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    run(admin)
    assert home.owner_role in column(owner, WHO)


# A role that has been granted a worker's functions.


def test_a_worker_role_does_what_needs_no_owner(home, owner, worker):
    schedule(owner, "mail")
    for name in MAINTENANCE:
        call(owner, "eram_schedule_maintenance", task=name[5:])
    old, lost = enqueue(owner), enqueue(owner)
    fetch(owner, start_worker(owner))
    call(owner, "eram_cancel_job", id=old)
    owner.execute("update eram_finished_jobs set finalized_at = now() - interval '2 days'")
    owner.execute("delete from eram_workers")
    make_due(owner, "mail", *MAINTENANCE)
    (given,) = tick(worker)
    assert given[:3] == (None, None, None)
    assert column(owner, "select id from eram_jobs order by id") == [lost, lost + 1]
    assert value(owner, "select state from eram_jobs order by id limit 1") == "available"
    done = "select name from eram_schedules where run_count = 1 order by name"
    assert column(owner, done) == ["eram:lifeline", "eram:prune", "eram:recorder", "mail"]


@pytest.mark.parametrize("arguments", [(), (10,), (10, True), (None, True)])
def test_a_worker_role_leaves_commands_to_others(home, owner, worker, arguments):
    for name, is_top_level in (("sql", False), ("due sql", False), ("top", True), ("due", True)):
        schedule_sql(owner, name, MARK, is_top_level=is_top_level)
    call(owner, "eram_schedule_maintenance", task="reindexer")
    for name in ("due sql", "due"):
        call(owner, "eram_run_schedule", name=name)
    make_due(owner, "sql", "top", "eram:reindexer")
    before = contents(owner)
    for _ in range(2):
        (given,) = tick(worker, *arguments)
        assert (given.run_id, given.command, given.timeout, given.schedule) == (None,) * 4
        # There is nothing for it to hurry for.
        assert given.next_tick_at > value(owner, "select clock_timestamp()")
    assert contents(owner) == before
    tick_and_run(owner)
    assert column(owner, WHO) == [home.owner_role] * 2
    assert value(owner, "select count(*) from eram_schedule_runs where is_top_level") > 2


def test_a_worker_role_can_do_nothing_else(owner, worker):
    schedule_sql(owner, "mark", MARK)
    call(owner, "eram_run_schedule", name="mark")
    for statement in (
        "select eram_run_command(1)",
        "select eram_finish_command(1)",
        "call eram_run()",
        "select eram_schedule_sql('mine', '1 hour', 'select 1')",
        "select eram_schedule('mine', '1 hour', 'app:run')",
        "select eram_unschedule('mark')",
        "select eram_run_schedule('mark')",
        "select * from eram_schedules",
        "select * from eram_schedule_runs",
        "insert into eram_schedule_runs default values",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(statement)


@pytest.fixture
def granted_worker(
    home: Home, owner: psycopg.Connection, worker: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A worker's role with more granted than it should be."""
    role = sql.Identifier(home.worker_role)
    functions = sql.SQL("eram_run_command, eram_finish_command, eram_run")
    owner.execute(sql.SQL("grant execute on routine {} to {}").format(functions, role))
    yield worker
    owner.execute(sql.SQL("revoke execute on routine {} from {}").format(functions, role))


def test_a_grant_alone_does_not_give_commands(owner, granted_worker):
    """They run with the owner's rights, which the owner can grant by membership."""
    schedule_sql(owner, "mark", MARK)
    schedule_sql(owner, "top", MARK, is_top_level=True)
    call(owner, "eram_run_schedule", name="mark")
    call(owner, "eram_run_schedule", name="top")
    taken = [given.run_id for given in handed_out(owner, 10)]
    assert len(taken) == 2
    before = contents(owner)
    for function in ("eram_run_command", "eram_finish_command"):
        for run_id in taken:
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                call(granted_worker, function, run_id=run_id)
            assert caught.value.diag.message_hint
    granted_worker.execute("call eram_run()")
    assert contents(owner) == before


def test_a_worker_role_cannot_meddle_with_what_others_run(owner, worker):
    """Not by pretending to have it in hand."""
    schedule_sql(owner, "mark", MARK)
    schedule_sql(owner, "top", MARK, is_top_level=True)
    call(owner, "eram_run_schedule", name="mark")
    call(owner, "eram_run_schedule", name="top")
    taken = [given.run_id for given in handed_out(owner, 10)]
    before = contents(owner)
    oid = value(owner, "select 'eram_schedule_runs'::regclass::oid::integer")
    for run_id in taken:
        worker.execute("select set_config('eram.command', %s, false)", [str(run_id)])
        worker.execute("select pg_advisory_lock(%s, %s::integer)", [oid, run_id])
        for _ in range(2):
            assert handed_out(worker) == []
    assert contents(owner) == before


@pytest.mark.parametrize("setting", ["x", "-1", "9" * 18, "9" * 30, "1; select 1", "🦀"])
def test_a_setting_that_is_nonsense(home, owner, setting):
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    owner.execute("select set_config('eram.command', %s, false)", [setting])
    for _ in range(3):
        tick(owner)
    assert column(owner, WHO) == [home.owner_role]


# Sessions that are not what they seem.


def test_who_sets_another_role_ticks_with_its_rights(home, owner, open_as):
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    for dsn in (home.admin, home.member):
        ticker = open_as(dsn)
        set_role(ticker, home.worker_role)
        assert tick(ticker)[0].next_tick_at > value(owner, "select clock_timestamp()")
        assert handed_out(ticker, 10) == []
    assert column(owner, "select id from eram_schedule_runs") == []

    ticker = open_as(home.admin)
    set_role(ticker, home.owner_role)
    tick_and_run(ticker)
    assert column(owner, WHO) == [home.owner_role]


def test_a_command_in_hand_outlasts_another_role(home, owner, open_as):
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    ticker = open_as(home.member)
    tick(ticker)
    assert has_in_hand(ticker)
    set_role(ticker, home.worker_role)
    for _ in range(2):
        tick(ticker)
    assert column(owner, WHO) == []
    ticker.execute("reset role")
    tick_and_run(ticker)
    assert column(owner, WHO) == [home.owner_role]
    assert entry(owner, "mark").last_error is None


def test_a_function_of_a_superuser_lends_no_rights(owner, admin, worker):
    schedule_sql(owner, "mark", MARK)
    make_due(owner, "mark")
    admin.execute(
        "create function lend() returns setof bigint language sql security definer"
        " as 'select run_id from eram_tick(10)'"
    )
    try:
        assert column(worker, "select * from lend()") == [None]
    finally:
        admin.execute("drop function lend()")
