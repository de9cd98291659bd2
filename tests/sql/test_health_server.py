"""Invalid indexes, a queue of notifications that fills, sequences that near their end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from .health_helpers import act, check, level, limits, wait_for_level
from .helpers import Threads, enqueue, value, wait_until

TABLE = "eram_job_specs"


@contextlib.contextmanager
def writing(conn: psycopg.Connection) -> Iterator[None]:
    """Hold up whoever builds an index concurrently: it waits for those who write the table."""
    with conn.transaction():
        conn.execute(f"lock table {TABLE} in row exclusive mode")
        yield


def cut_off(conn: psycopg.Connection, writer: psycopg.Connection, command: str) -> None:
    """Begin to build an index, and be cut off."""
    with writing(writer):
        conn.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute(command)
    conn.execute("reset statement_timeout")


@pytest.mark.parametrize(
    ("command", "name", "expected", "cure"),
    [
        ("create index concurrently shop_idx on {} (handler)", "shop_idx", "warn", "drop index"),
        (
            "create unique index concurrently eram_job_specs_key_idx on {} (unique_key)",
            "eram_job_specs_key_idx",
            "critical",
            "reindex index",
        ),
        (
            "reindex index concurrently eram_job_specs_pkey; -- {}",
            "eram_job_specs_pkey_ccnew",
            "warn",
            "drop index",
        ),
    ],
)
def test_an_invalid_index(conn, connect, command, name, expected, cure):
    assert check(conn, "indexes").finding == "all indexes are valid"
    cut_off(conn, connect(), command.format(TABLE))
    try:
        found = check(conn, "indexes")
        assert (found.level, found.finding) == (expected, f'index "{name}" is invalid')
        assert found.action == f"{cure} concurrently public.{name};"
        assert found.value == 1
        act(conn, found)
        found = check(conn, "indexes")
        assert (found.level, found.value) == ("ok", 0)
    finally:
        conn.execute(f"drop index if exists {name}")


def test_an_index_that_is_being_built_is_well(conn, connect):
    builder, threads = connect(), Threads()
    invalid = (
        f"select count(*) from pg_index where not indisvalid and indrelid = '{TABLE}'::regclass"
    )
    with writing(connect()):
        build = f"create index concurrently shop_idx on {TABLE} (handler)"
        threads.start(builder.execute, build)
        wait_until(lambda: value(conn, invalid) == 1, "the index is begun")
        assert level(conn, "indexes") == "ok"
    threads.join()
    assert level(conn, "indexes") == "ok"
    conn.execute("drop index shop_idx")


# Notifications.

# Of one page each.
FILL = (
    "select pg_notify('crowd', rpad(number::text, 7900, '.')) from generate_series(1, %s) as number"
)


@contextlib.contextmanager
def not_listening(conn: psycopg.Connection) -> Iterator[None]:
    """Listen, and stay in a transaction: nothing can be removed from the queue meanwhile."""
    conn.execute("listen nothing")
    with conn.transaction():
        conn.execute("select 1")
        yield
    conn.execute("unlisten *")


def test_the_queue_of_notifications_fills(conn, connect):
    """Of eight gigabytes a hundredth, because more would take its time."""
    assert check(conn, "notifications").level == "ok"
    with limits(conn, notification_queue=(0.002, 0.01)):
        with not_listening(connect()):
            conn.execute(FILL, [2600])
            found = check(conn, "notifications")
            assert found.level == "warn"
            assert found.finding == "the queue of notifications is filled to 0.2%"
            assert 0.002 <= found.value < 0.003
            act(conn, found)
            with limits(conn, notification_queue=(0.001, 0.002)):
                assert level(conn, "notifications") == "critical"
        # The next who notifies or listens clears it.
        wait_for_level(conn, "notifications", "ok")


def test_the_queue_of_notifications_by_its_own_thresholds(crash_server, server_bin_dir):
    """Where it can be made small, until nobody can notify any more."""
    server = crash_server()
    if server.major < 17:
        pytest.skip("the queue's size is a setting since PostgreSQL 17")
    server.stop("fast")
    path = server.data / "postgresql.auto.conf"
    path.write_text(path.read_text() + "max_notify_queue_pages = 64\n")
    server.start()
    with (
        psycopg.connect(server.dsn, autocommit=True) as conn,
        psycopg.connect(server.dsn, autocommit=True) as listener,
    ):
        assert level(conn, "notifications") == "ok"
        with not_listening(listener):
            conn.execute(FILL, [5])
            assert level(conn, "notifications") == "warn"
            conn.execute(FILL, [15])
            assert level(conn, "notifications") == "critical"
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                for _ in range(64):
                    conn.execute(FILL, [1])
        wait_for_level(conn, "notifications", "ok")


# Sequences.


@pytest.fixture
def sequence(conn: psycopg.Connection) -> str:
    """The sequence that gives jobs their ids, as it was when the test is over."""
    name = "eram_job_specs_job_id_seq"
    yield name
    conn.execute(f"alter sequence {name} no maxvalue")
    conn.execute("select setval(%s, (select max(job_id) from eram_job_specs))", [name])


@pytest.mark.parametrize(("part", "expected"), [("0.6", "warn"), ("0.95", "critical")])
def test_a_sequence_that_was_set_too_high(conn, sequence, part, expected):
    job = enqueue(conn)
    assert level(conn, "sequences") == "ok"
    conn.execute("select setval(%s, (%s * 9223372036854775807::numeric)::bigint)", [sequence, part])
    found = check(conn, "sequences")
    assert found.level == expected
    assert found.finding.startswith(f'sequence "{sequence}" has used {float(part):.0%}'[:-1])
    act(conn, found)
    assert level(conn, "sequences") == "ok"
    assert enqueue(conn) == job + 1


def test_a_sequence_of_an_empty_table(conn, sequence):
    conn.execute("select setval(%s, 9223372036854775800)", [sequence])
    found = check(conn, "sequences")
    assert found.level == "critical"
    act(conn, found)
    assert level(conn, "sequences") == "ok"
    assert enqueue(conn) == 2


def test_a_sequence_that_was_given_an_end(conn, sequence):
    enqueue(conn)
    conn.execute(f"alter sequence {sequence} maxvalue 3")
    assert level(conn, "sequences") == "ok"
    enqueue(conn)
    assert level(conn, "sequences") == "warn"
    enqueue(conn)
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        enqueue(conn)
    found = check(conn, "sequences")
    assert (found.level, found.value) == ("critical", 1)
    act(conn, found)
    assert level(conn, "sequences") == "ok"
    assert enqueue(conn)
