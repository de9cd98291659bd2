"""The schedule that rebuilds indexes: its options, and what stops none of its commands."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from .helpers import column, rows, value
from .reindex_helpers import ARGS, INVALID, META, REINDEX, file_of, lock_held


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"indexes": [], "timeout": 15},
        {"indexes": [ARGS, META], "timeout": "1 minute"},
        {"indexes": None, "timeout": None},
    ],
)
def test_options_that_are_right(shared, options):
    shared.execute("select _eram_check_reindexer_options(%s)", [Jsonb(options)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options must be a JSON object"),
        ({"index": ["a"]}, 'unknown key "index" in options\nHINT:  Did you mean "indexes"?'),
        ({"timeuot": 1}, 'unknown key "timeuot" in options\nHINT:  Did you mean "timeout"?'),
        ({"indexes": ARGS}, f"indexes must be an array of names, got {ARGS}"),
        ({"indexes": {"a": 1}}, "indexes must be an array of names"),
        ({"indexes": [1]}, "indexes must be an array of names"),
        ({"indexes": [[ARGS]]}, "indexes must be an array of names"),
        ({"indexes": [ARGS, ""]}, "indexes must be an array of names"),
        ({"indexes": [None]}, "indexes must be an array of names"),
        ({"timeout": 0}, "timeout must be between"),
        ({"timeout": -1}, "timeout must be between"),
        ({"timeout": "soon"}, 'invalid timeout: "soon"'),
        ({"timeout": [1]}, "timeout must be a number or a string"),
        ({"timeout": "1 year"}, "timeout must be between"),
        ({"timeout": 1e300}, "timeout must be between"),
    ],
)
def test_options_that_are_wrong(shared, options, message):
    with pytest.raises(psycopg.Error) as caught:
        shared.execute("select _eram_check_reindexer_options(%s)", [Jsonb(options)])
    assert message in str(caught.value)


def tick(conn: psycopg.Connection) -> list[Any]:
    """Tick, and return the commands that are handed out."""
    return [handed for handed in rows(conn, "select * from eram_tick()") if handed.run_id]


def run_schedule(conn: psycopg.Connection, *indexes: str, **options: Any) -> list[str]:
    """Have the schedule do its work, as a worker does it; return the errors of its commands."""
    conn.execute(
        "select eram_schedule_maintenance('reindexer', options => %s)",
        [Jsonb({"indexes": indexes, **options})],
    )
    conn.execute("select eram_run_schedule('eram:reindexer')")
    problems = []
    while handed := tick(conn):
        for one in handed:
            problem = None
            conn.execute(f"set statement_timeout = {one.timeout // timedelta(milliseconds=1)}")
            try:
                conn.execute(one.command)
            except psycopg.Error as exc:
                problem = str(exc).splitlines()[0]
                problems.append(problem)
            conn.execute("reset statement_timeout")
            assert value(conn, "select eram_finish_command(%s, %s)", one.run_id, problem)
    return problems


def last_error(conn: psycopg.Connection) -> str | None:
    return value(conn, "select last_error from eram_schedules where action = 'reindexer'")


def test_the_schedule_rebuilds_what_is_configured(conn):
    before = [file_of(conn, ARGS), file_of(conn, META)]
    assert run_schedule(conn, ARGS, META) == []
    assert not {*before} & {file_of(conn, ARGS), file_of(conn, META)}
    assert last_error(conn) is None


def test_what_does_not_exist_stops_nothing(conn):
    before = file_of(conn, META)
    assert run_schedule(conn, "nowhere", META) == []
    assert file_of(conn, META) != before
    assert last_error(conn) == 'index "nowhere" does not exist in schema "public"'
    # It is over with the next time.
    assert run_schedule(conn, META) == []
    assert last_error(conn) is None


def test_a_cancelled_statement_stops_nothing_and_is_made_up_for(conn, connect):
    queues = "eram_queues_pkey"
    before = file_of(conn, queues)
    with lock_held(connect()):
        problems = run_schedule(conn, ARGS, META, queues, timeout=0.5)
    assert problems == ["canceling statement due to statement timeout"] * 2
    assert last_error(conn) == "\n".join(problems)
    assert column(conn, INVALID) == [f"{ARGS}_ccold", f"{META}_ccold"]
    assert file_of(conn, queues) != before

    assert run_schedule(conn, ARGS, timeout=60) == []
    assert column(conn, INVALID) == []
    assert last_error(conn) is None


def test_a_lock_timeout_stops_nothing(conn, connect):
    queues = "eram_queues_pkey"
    before = [file_of(conn, ARGS), file_of(conn, queues)]
    conn.execute("set lock_timeout = '100 ms'")
    other = connect()
    with other.transaction():
        other.execute("lock table eram_job_specs in share update exclusive mode")
        problems = run_schedule(conn, ARGS, queues)
    assert problems == ["canceling statement due to lock timeout"] == [last_error(conn)]
    assert file_of(conn, ARGS) == before[0]
    assert file_of(conn, queues) != before[1]


def test_no_two_commands_are_under_way_at_once(conn, connect):
    """On one table they would end in a deadlock, so that one of them leaves a leftover."""
    conn.execute("select eram_tick(0)")
    conn.execute("select eram_run_schedule('eram:reindexer')")
    other = connect()
    with conn.transaction():
        (first,) = tick(conn)
        assert tick(other) == []
    assert tick(other) == tick(conn) == []
    conn.execute(first.command)
    conn.execute("select eram_finish_command(%s)", [first.run_id])
    (second,) = tick(other)
    assert (first.command, second.command) == (REINDEX + ARGS, REINDEX + META)
    assert tick(conn) == []
