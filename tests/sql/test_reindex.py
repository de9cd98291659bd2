"""Rebuilding indexes: what is planned, what is dropped first, and what is left alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql

from .helpers import Threads, column, rows, value, wait_until
from .reindex_helpers import ARGS, INVALID, META, REINDEX, file_of, lock_held

PLAN = "select * from eram_reindex_plan(%s::text[])"
DROP = "DROP INDEX CONCURRENTLY IF EXISTS public."


def plan(conn: psycopg.Connection, *indexes: str) -> list[tuple[str, str | None, str | None]]:
    """Plan for these indexes, or for the configured ones."""
    return [tuple(planned) for planned in rows(conn, PLAN, list(indexes) or None)]


def carry_out(conn: psycopg.Connection, *indexes: str) -> None:
    """Run a plan as its reader would: at top level, one command after the other."""
    for planned in rows(conn, PLAN, list(indexes) or None):
        assert planned.problem is None
        conn.execute(planned.command)


@contextlib.contextmanager
def snapshot_held(conn: psycopg.Connection, table: str = "eram_job_specs") -> Iterator[None]:
    """Keep a concurrent build from getting on: it waits for those who may read what is old."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        conn.execute(f"select count(*) from {table}")
        yield


def cut_off(conn: psycopg.Connection, command: str) -> str:
    """Let a command that waits for someone time out, and return the invalid index it leaves."""
    before = column(conn, INVALID)
    for milliseconds in (100, 400, 1600, 6400):
        conn.execute(f"set statement_timeout = {milliseconds}")
        with pytest.raises(errors.QueryCanceled):
            conn.execute(command)
        conn.execute("reset statement_timeout")
        left = [name for name in column(conn, INVALID) if name not in before]
        if left:
            return left[-1]
    return pytest.fail(f"{command} left nothing behind")


@contextlib.contextmanager
def at_work(dsn: str, *commands: str, index: str) -> Iterator[None]:
    """Have a superuser's session in the middle of a build whose new index is already there."""
    threads = Threads()

    def build() -> None:
        with psycopg.connect(dsn, autocommit=True) as builder:
            for command in commands:
                builder.execute(command)

    with psycopg.connect(dsn, autocommit=True) as holder, psycopg.connect(dsn) as observer:
        observer.autocommit = True
        with snapshot_held(holder, "jobs.eram_job_specs"):
            threads.start(build)
            wait_until(lambda: index in column(observer, INVALID), f"{index} is being built")
            yield
    threads.join()


@pytest.fixture
def owned(bare_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection of an ordinary role that has installed eram, to be left by `reset role`."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        role = f"owner_{conn.info.dbname}"
        conn.execute(f"create role {role}")
        conn.execute(f"grant create on database {conn.info.dbname} to {role}")
        conn.execute(f"create schema jobs authorization {role}")
        conn.execute(f"set role {role}")
        conn.execute("set search_path = jobs")
        conn.execute("create extension eram schema jobs")
        yield conn
        conn.execute("reset role")
        conn.execute("drop extension eram")
        conn.execute(f"drop owned by {role}")
        conn.execute(f"drop role {role}")


def test_the_plan_is_one_command_for_each_configured_index(conn):
    assert plan(conn) == [(ARGS, REINDEX + ARGS, None), (META, REINDEX + META, None)]


def test_the_schedule_says_which_indexes(conn):
    conn.execute("select eram_tick(0)")
    conn.execute(
        """select eram_schedule_maintenance('reindexer', options => '{"indexes": ["b", "a"]}')"""
    )
    assert [planned[0] for planned in plan(conn)] == ["b", "a"]
    conn.execute("""select eram_schedule_maintenance('reindexer', options => '{"indexes": []}')""")
    assert plan(conn) == []
    conn.execute("select eram_unschedule('eram:reindexer')")
    assert [planned[0] for planned in plan(conn)] == [ARGS, META]


def test_the_commands_rebuild_the_indexes(conn):
    before = [file_of(conn, ARGS), file_of(conn, META)]
    carry_out(conn)
    assert not {*before} & {file_of(conn, ARGS), file_of(conn, META)}
    assert column(conn, INVALID) == []


def test_what_a_cut_off_reindex_left_is_dropped_first(conn, connect):
    """The leftovers are real: a statement_timeout while another transaction holds a snapshot."""
    holder = connect()
    with snapshot_held(holder):
        assert cut_off(conn, f"reindex index concurrently {ARGS}") == f"{ARGS}_ccnew"
        assert cut_off(conn, f"reindex index concurrently {ARGS}") == f"{ARGS}_ccnew1"
    with lock_held(holder):
        assert cut_off(conn, f"reindex index concurrently {META}") == f"{META}_ccold"
    left = [f"{ARGS}_ccnew", f"{ARGS}_ccnew1", f"{META}_ccold"]
    assert column(conn, INVALID) == left

    assert plan(conn, META) == [
        *((name, DROP + name, None) for name in left),
        (META, REINDEX + META, None),
    ]
    carry_out(conn)
    assert column(conn, INVALID) == []


def test_leftovers_of_other_indexes_of_our_tables_are_dropped_too(conn, connect):
    longest = "an_index_of_" + "x" * 51  # of the server's 63: its leftovers' names are cut
    conn.execute(f"create index {longest} on eram_job_specs (handler)")
    for table, index in (("eram_queues", "eram_queues_pkey"), ("eram_job_specs", longest)):
        with snapshot_held(connect(), table):
            left = cut_off(conn, f"reindex index concurrently {index}")
        assert [planned[0] for planned in plan(conn, index)] == [left, index]
        carry_out(conn, index)
        assert column(conn, INVALID) == []
    conn.execute(f"drop index {longest}")


def test_an_index_that_only_lacks_validity_is_left_alone(conn):
    """A CREATE INDEX CONCURRENTLY that failed is for who began it to judge."""
    conn.execute("insert into eram_unscheduled values ('a'), ('b')")
    with pytest.raises(errors.UniqueViolation):
        conn.execute("create unique index concurrently mine on eram_unscheduled ((length(name)))")
    assert column(conn, INVALID) == ["mine"]
    assert [planned[0] for planned in plan(conn)] == [ARGS, META]
    # Whoever names it wants it rebuilt, which may also make it valid.
    conn.execute("delete from eram_unscheduled")
    carry_out(conn, "mine")
    assert column(conn, INVALID) == []
    conn.execute("drop index mine")


def test_a_valid_index_of_such_a_name_is_left_alone(conn):
    conn.execute("create index mine_ccnew on eram_job_specs (handler)")
    assert [planned[0] for planned in plan(conn)] == [ARGS, META]
    conn.execute("drop index mine_ccnew")


def test_other_tables_are_left_alone(conn, connect):
    conn.execute("create table eram_orders (id int); create index orders_idx on eram_orders (id)")
    with snapshot_held(connect(), "eram_orders"):
        left = cut_off(conn, "reindex index concurrently orders_idx")
    assert [planned[0] for planned in plan(conn)] == [ARGS, META]
    refusal = 'index "{}" is not on a table of eram'
    assert plan(conn, "orders_idx", left) == [
        ("orders_idx", None, refusal.format("orders_idx")),
        (left, None, refusal.format(left)),
    ]
    conn.execute("drop table eram_orders")


def test_eram_in_another_schema_is_left_alone(bare_dsn):
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("create schema one; create extension eram schema one")
        conn.execute("create schema two; create table two.eram_job_specs (args jsonb)")
        conn.execute(f"create index {ARGS}_more on two.eram_job_specs (args)")
        conn.execute(
            "create unlogged table two.mine (id int); insert into two.mine values (1), (1)"
        )
        with pytest.raises(errors.UniqueViolation):
            conn.execute(f"create unique index concurrently {ARGS}_ccnew on two.mine (id)")
        problem = f'index "{ARGS}_more" does not exist in schema "one"'
        assert rows(conn, "select * from one.eram_reindex_plan(%s)", [f"{ARGS}_more"]) == [
            (f"{ARGS}_more", None, problem)
        ]


def test_an_index_that_does_not_exist_is_a_problem_of_its_own(conn):
    assert plan(conn, "nowhere", ARGS, "eram_jobs", "eram_job_specs", "public." + META) == [
        ("nowhere", None, 'index "nowhere" does not exist in schema "public"'),
        (ARGS, REINDEX + ARGS, None),
        ("eram_jobs", None, '"eram_jobs" is not an index'),
        ("eram_job_specs", None, '"eram_job_specs" is not an index'),
        ("public." + META, None, f'index "public.{META}" does not exist in schema "public"'),
    ]


def test_an_index_of_a_partitioned_table_is_refused(conn):
    conn.execute("create table eram_parts (id int) partition by range (id)")
    conn.execute("create index parts_idx on eram_parts (id)")
    assert plan(conn, "parts_idx") == [
        ("parts_idx", None, 'index "parts_idx" is not on a table of eram')
    ]
    conn.execute("drop table eram_parts")


def test_an_index_that_is_named_twice_is_rebuilt_once(conn):
    assert plan(conn, META, ARGS, META) == [
        (META, REINDEX + META, None),
        (ARGS, REINDEX + ARGS, None),
    ]


def test_a_leftover_that_is_named_is_only_dropped(conn, connect):
    with snapshot_held(connect()):
        left = cut_off(conn, f"reindex index concurrently {ARGS}")
    dropped, refused = plan(conn, left)
    assert dropped == (left, DROP + left, None)
    assert refused == (left, None, f'index "{left}" is a leftover, and is dropped')
    carry_out(conn)


@pytest.mark.parametrize(
    ("indexes", "error", "message"),
    [
        ([ARGS, None], errors.NullValueNotAllowed, "must not contain null"),
        ([[ARGS], [META]], errors.ArraySubscriptError, "must be a list"),
    ],
)
def test_a_list_that_makes_no_sense_is_an_error(shared, indexes, error, message):
    with pytest.raises(error, match=message):
        shared.execute(PLAN, [indexes])


def test_names_are_qualified_and_quoted(bare_dsn):
    schema = sql.Identifier("""Jobs "%s" of o'clock""")
    index = sql.Identifier("""An "index" that's 100% odd""")
    left = sql.Identifier("""An "index" that's 100% odd_ccnew""")
    with (
        psycopg.connect(bare_dsn, autocommit=True) as conn,
        psycopg.connect(bare_dsn, autocommit=True) as holder,
    ):
        for session in (conn, holder):
            session.execute(sql.SQL("set search_path = {}").format(schema))
        conn.execute(sql.SQL("create schema {}").format(schema))
        conn.execute(sql.SQL("create extension eram schema {}").format(schema))
        conn.execute(sql.SQL("create index {} on eram_job_specs (queue)").format(index))
        with snapshot_held(holder):
            cut_off(conn, sql.SQL("reindex index concurrently {}").format(index).as_string())

        names = (name.as_string() for name in (schema, left, schema, index))
        drop, rebuild = (
            planned[1] or "" for planned in plan(conn, """An "index" that's 100% odd""")
        )
        assert drop == "DROP INDEX CONCURRENTLY IF EXISTS {}.{}".format(*itertools.islice(names, 2))
        assert rebuild == "REINDEX INDEX CONCURRENTLY {}.{}".format(*names)
        conn.execute("set search_path = pg_catalog")
        conn.execute(drop)
        conn.execute(rebuild)
        assert column(conn, INVALID) == []


@pytest.mark.parametrize(
    ("commands", "index"),
    [
        ([f"reindex index concurrently jobs.{ARGS}"], f"{ARGS}_ccnew"),
        (
            # Then nobody is shown any progress.
            ["set track_activities = off", f"reindex index concurrently jobs.{ARGS}"],
            f"{ARGS}_ccnew",
        ),
        (["create index concurrently mine_ccnew on jobs.eram_job_specs (queue)"], "mine_ccnew"),
    ],
    ids=["reindex", "untracked", "create"],
)
def test_what_another_session_is_building_is_left_alone(owned, bare_dsn, commands, index):
    """The owner is an ordinary role, and is shown next to nothing of a superuser's session."""
    shown = "select count(*) from pg_stat_progress_create_index where relid is not null"
    with at_work(bare_dsn, *commands, index=index):
        assert value(owned, shown) == 0
        busy = 'another session is at work on an index of table "eram_job_specs"'
        assert plan(owned, ARGS, META, "eram_queues_pkey") == [
            (ARGS, None, busy),
            (META, None, busy),
            ("eram_queues_pkey", "REINDEX INDEX CONCURRENTLY jobs.eram_queues_pkey", None),
        ]
    assert column(owned, INVALID) == []
    assert [planned[1] is not None for planned in plan(owned)] == [True, True]


def test_the_owner_needs_no_more_than_to_be_the_owner(owned, bare_dsn):
    with (
        psycopg.connect(bare_dsn, autocommit=True) as holder,
        snapshot_held(holder, "jobs.eram_job_specs"),
    ):
        assert cut_off(owned, f"reindex index concurrently {ARGS}") == f"{ARGS}_ccnew"
    carry_out(owned)
    assert column(owned, INVALID) == []


def test_a_vacuum_is_not_mistaken_for_a_build(conn, connect):
    """It locks the table in the same way, and goes on for long."""
    with connect().transaction() as vacuum:
        vacuum.connection.execute("lock table eram_job_specs in share update exclusive mode")
        assert [planned[1] is not None for planned in plan(conn)] == [True, True]


def test_our_tables_are_all_that_the_extension_has(conn):
    members = """
        select relations.relname
        from pg_depend as membership
        join pg_class as relations on relations.oid = membership.objid
        join pg_extension as extensions on extensions.oid = membership.refobjid
        where
            membership.classid = 'pg_class'::regclass
            and membership.deptype = 'e'
            and extensions.extname = 'eram'
            and relations.relkind = 'r'
        order by relations.relname
    """
    ours = "select unnest(_eram_tables())::text order by 1"
    assert column(conn, ours) == column(conn, members) != []
