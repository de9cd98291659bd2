"""The SQL API under settings of the session and the role that hardly anybody has.

What is asked here is asked as text that means the same under all of them. Longer, by hand: the
tests of the SQL with ERAM_TEST_SETTINGS (tests/conftest.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sql.helpers import clear
from sql.role_helpers import Place

from .places import ODD, make_place

SETTINGS: dict[str, dict[str, str]] = {
    "strings": {
        "standard_conforming_strings": "off",
        "escape_string_warning": "off",
        "backslash_quote": "on",
    },
    "no path": {"search_path": "''"},
    "an odd path": {"search_path": '"$user", nowhere, pg_catalog, pg_temp'},
    "dates": {"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard"},
    "German dates": {"DateStyle": "German", "IntervalStyle": "iso_8601"},
    "old dates": {"DateStyle": "Postgres, YMD", "IntervalStyle": "postgres_verbose"},
    "Kathmandu": {"TimeZone": "Asia/Kathmandu"},
    "St John's": {"TimeZone": "America/St_Johns"},
    "a zone of its own": {"TimeZone": "<odd>-13:37", "timezone_abbreviations": "India"},
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "deferrable": {
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
    },
    "custom plans": {"plan_cache_mode": "force_custom_plan"},
    "generic plans": {"plan_cache_mode": "force_generic_plan"},
    "row security": {"row_security": "off"},
    "bytea": {"bytea_output": "escape", "xmlbinary": "hex"},
    "digits": {"extra_float_digits": "-15", "lc_numeric": "C"},
    "Latin 1": {"client_encoding": "LATIN1"},
    "equals null": {"transform_null_equals": "on", "array_nulls": "on"},
    "quotes": {"quote_all_identifiers": "on"},
    "little memory": {"work_mem": "64kB", "temp_buffers": "800kB"},
    "planner": {
        "enable_indexscan": "off",
        "enable_seqscan": "off",
        "enable_nestloop": "off",
        "enable_sort": "off",
        "enable_hashagg": "off",
        "from_collapse_limit": "1",
        "join_collapse_limit": "1",
        "geqo_threshold": "2",
        "jit": "off",
    },
    "scans": {"enable_indexscan": "off", "enable_bitmapscan": "off", "enable_indexonlyscan": "off"},
    "parallel": {
        "parallel_setup_cost": "0",
        "parallel_tuple_cost": "0",
        "min_parallel_table_scan_size": "0",
        "min_parallel_index_scan_size": "0",
    },
    "triggers": {"check_function_bodies": "off", "client_min_messages": "error"},
    "many things": {
        "standard_conforming_strings": "off",
        "escape_string_warning": "off",
        "search_path": "pg_catalog",
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "Asia/Kathmandu",
        "plan_cache_mode": "force_generic_plan",
        "default_transaction_isolation": "repeatable read",
        "row_security": "off",
        "bytea_output": "escape",
        "extra_float_digits": "-15",
        "client_encoding": "LATIN1",
        "transform_null_equals": "on",
        "quote_all_identifiers": "on",
    },
}

STORY = Path(__file__).with_name("odd_settings.sql")


@pytest.fixture(scope="module")
def module_place(server) -> Iterator[Place]:
    with make_place(server, "extension") as place:
        place.admin.execute(
            "create table public.marks (n int); grant all on public.marks to public"
        )
        yield place


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    owner = module_place.owner
    clear(owner)
    owner.execute("truncate eram_job_specs restart identity")
    module_place.admin.execute("truncate public.marks")
    yield module_place
    assert owner.execute("select * from eram_check()").fetchall() == []


def settled(conn: psycopg.Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        if name == "search_path":
            conn.execute(f"set search_path = {value}")
        else:
            conn.execute("select pg_catalog.set_config(%s, %s, false)", [name, value])


def tell(conn: psycopg.Connection) -> None:
    """Tell the story: each statement by the simple protocol, each answer as text."""
    schema = sql.Identifier(ODD).as_string(conn)
    told = re.findall(r"(?s:(.*?));\n-->(.*)", STORY.read_text(encoding="utf-8"))
    assert len(told) > 70
    for statement, expected in told:
        result = conn.pgconn.exec_(statement.replace("{schema}", schema).encode())
        said = result.error_message.decode()
        if expected.strip() == "error":
            assert said, statement
            continue
        assert not said, (statement, said)
        if expected.strip() != "*":
            answers = [result.get_value(row, 0) for row in range(result.ntuples)]
            found = " ".join(answer.decode() for answer in answers if answer is not None)
            assert found == expected.strip(), statement


@pytest.mark.parametrize("odd", SETTINGS)
def test_a_session(place, odd):
    conn = place.connect(place.owner_role)
    settled(conn, SETTINGS[odd])
    tell(conn)


@pytest.mark.parametrize("odd", ["dates", "strings", "no path", "many things"])
def test_a_role_and_its_commands(place, odd):
    """As the role has it from the start: then the session of a command goes back to it, too."""
    role = sql.Identifier(place.owner_role)
    try:
        for name, value in SETTINGS[odd].items():
            given = sql.SQL(value) if name == "search_path" else sql.Literal(value)
            place.admin.execute(
                sql.SQL("alter role {} set {} to {}").format(role, sql.Identifier(name), given)
            )
        tell(place.connect(place.owner_role))
    finally:
        place.admin.execute(sql.SQL("alter role {} reset all").format(role))


def test_the_story_is_told_as_usual(place):
    tell(place.connect(place.owner_role))
