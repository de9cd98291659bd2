"""When a schedule runs next: cases that someone has worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .helpers import row, value
from .schedule_helpers import next_run
from .validation_helpers import assert_well_said

FIRST = "0001-01-02 00:00:00+00"
LAST = "9999-12-31 00:00:00+00"


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2026-06-01 10:07:00", "2026-06-01 10:08:00"),
        ("* * * * *", "2026-06-01 10:07:59.999999", "2026-06-01 10:08:00"),
        ("* * * * *", "2026-12-31 23:59:00", "2027-01-01 00:00:00"),
        ("0 * * * *", "2026-06-01 10:00:00", "2026-06-01 11:00:00"),
        ("0 * * * *", "2026-06-01 09:59:59.999999", "2026-06-01 10:00:00"),
        ("*/15 9-17 * * 1-5", "2026-06-05 17:45:00", "2026-06-08 09:00:00"),
        ("5/20 * * * *", "2026-06-01 10:06:00", "2026-06-01 10:25:00"),
        ("5/20 * * * *", "2026-06-01 10:45:00", "2026-06-01 11:05:00"),
        ("10-30/10,59 8 * * *", "2026-06-01 08:30:00", "2026-06-01 08:59:00"),
        ("0 0 31 * *", "2026-06-01 00:00:00", "2026-07-31 00:00:00"),
        ("0 0 29 2 *", "2026-06-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00:00", "2104-02-29 00:00:00"),
        ("0 0 * feb,DEC SUN", "2026-06-01 00:00:00", "2026-12-06 00:00:00"),
        ("0 0 * * 7", "2026-06-01 00:00:00", "2026-06-07 00:00:00"),
        ("0 0 * * 0", "2026-06-01 00:00:00", "2026-06-07 00:00:00"),
        ("0 0 * * 5-7", "2026-06-06 00:00:00", "2026-06-07 00:00:00"),
        ("0 0 * * sat-sun", "2026-06-06 00:00:00", "2026-06-07 00:00:00"),
        ("0 0 * * sat-sun", "2026-06-07 00:00:00", "2026-06-13 00:00:00"),
        ("0 0 * * sun-mon", "2026-06-01 00:00:00", "2026-06-07 00:00:00"),
        # The 13th or a Friday; a field that begins with * restricts as well, but by AND.
        ("0 0 13 * fri", "2026-06-06 00:00:00", "2026-06-12 00:00:00"),
        ("0 0 13 * fri", "2026-06-12 00:00:00", "2026-06-13 00:00:00"),
        ("0 0 */2 * fri", "2026-06-01 00:00:00", "2026-06-05 00:00:00"),
        ("0 0 */2 * fri", "2026-06-05 00:00:00", "2026-06-19 00:00:00"),
        ("0 0 13 * */5", "2026-06-01 00:00:00", "2026-09-13 00:00:00"),
        ("0 0 29 2 */7", "2072-02-29 00:00:00", "2088-02-29 00:00:00"),
        ("0 0 29 2 */7", "2088-02-29 00:00:00", "2128-02-29 00:00:00"),
        ("@hourly", "2026-06-01 10:07:00", "2026-06-01 11:00:00"),
        ("@daily", "2026-06-01 10:07:00", "2026-06-02 00:00:00"),
        ("@midnight", "2026-06-01 10:07:00", "2026-06-02 00:00:00"),
        ("@weekly", "2026-06-01 10:07:00", "2026-06-07 00:00:00"),
        ("@monthly", "2026-06-01 10:07:00", "2026-07-01 00:00:00"),
        ("@yearly", "2026-06-01 10:07:00", "2027-01-01 00:00:00"),
        ("@annually", "2026-06-01 10:07:00", "2027-01-01 00:00:00"),
        ("30 seconds", "2026-06-01 10:07:11", "2026-06-01 10:07:41"),
        ("1 hour 30 minutes", "2026-06-01 10:07:11", "2026-06-01 11:37:11"),
        ("00:00:30", "2026-06-01 10:07:11", "2026-06-01 10:07:41"),
        ("2 weeks", "2026-06-01 10:07:11", "2026-06-15 10:07:11"),
    ],
)
def test_next_run(module_conn, schedule, after, expected):
    assert next_run(module_conn, schedule, "UTC", after + "+00") == expected


@pytest.mark.parametrize("weekday", range(7))
def test_the_weekdays_have_their_numbers_and_names(module_conn, weekday):
    name = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")[weekday]
    for given in (weekday, name, name.upper()):
        found = next_run(module_conn, f"0 12 * * {given}", "UTC", "2026-06-01 13:00+00")
        assert datetime.fromisoformat(found).isoweekday() % 7 == weekday


@pytest.mark.parametrize("schedule", ["1 day", "24 hours", "86400 seconds", "1d"])
def test_an_interval_is_a_length_of_time_and_no_matter_of_clocks(module_conn, schedule):
    for zone in ("UTC", "Europe/Berlin"):
        module_conn.execute(f"set timezone = '{zone}'")
        after = "2026-03-28 12:00+00"
        assert next_run(module_conn, schedule, "Europe/Berlin", after) == "2026-03-29 12:00:00"
    module_conn.execute("reset timezone")


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "infinity", None),
        ("* * * * *", "-infinity", None),
        ("1 day", "infinity", None),
        ("1 day", "-infinity", None),
        ("* * * * *", None, None),
        ("1 day", None, None),
        ("* * * * *", "0001-01-01 23:59:59+00", None),
        ("* * * * *", "4000-01-01 00:00:00+00 BC", None),
        ("* * * * *", FIRST, "0001-01-02 00:01:00"),
        ("0 0 1 1 *", FIRST, "0002-01-01 00:00:00"),
        ("1 day", FIRST, "0001-01-03 00:00:00"),
        ("* * * * *", "9999-12-30 23:58:00+00", "9999-12-30 23:59:00"),
        ("* * * * *", "9999-12-30 23:59:00+00", None),
        ("1 minute", "9999-12-30 23:58:00+00", "9999-12-30 23:59:00"),
        ("1 minute", "9999-12-30 23:59:00+00", None),
        ("0 0 29 2 *", "9996-02-29 00:00:00+00", None),
        ("0 0 29 2 */7", "9995-01-01 00:00:00+00", None),
        ("* * * * *", LAST, None),
        ("* * * * *", "10000-01-01 00:00:00+00", None),
        ("1 day", "294276-12-31 00:00:00+00", None),
    ],
)
def test_the_ends_of_the_calendar(module_conn, schedule, after, expected):
    assert next_run(module_conn, schedule, "UTC", after) == expected
    # The clocks of other zones show the ends of the calendar at other times.
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"):
        found = next_run(module_conn, schedule, zone, after)
        assert found is None or found > (after or "")


SETTINGS = [
    "set timezone = 'America/New_York'",
    "set timezone = 'Asia/Kolkata'",
    "set timezone = 'Europe/Berlin'",
    "set timezone = 'FOO+3'",
    "set intervalstyle = 'sql_standard'",
    "set intervalstyle = 'iso_8601'",
    "set intervalstyle = 'postgres_verbose'",
    "set datestyle = 'German'",
    "set datestyle = 'SQL, DMY'",
    "set datestyle = 'Postgres, MDY'",
    "set standard_conforming_strings = off",
    "set backslash_quote = off",
    "set quote_all_identifiers = on",
    "set timezone_abbreviations = 'Australia'",
    "set timezone_abbreviations = 'India'",
    "set extra_float_digits = -15",
    "set transform_null_equals = on",
    "set array_nulls = off",
    "set search_path = pg_catalog",
    "set lc_time = 'C'",
    "set regex_flavor.x = 'basic'",
]


@pytest.fixture(scope="module")
def expected_by_default(module_dsn: str) -> list[Any]:
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        return answers(conn)


def answers(conn: psycopg.Connection) -> list[Any]:
    """Ask much of what depends on texts, times and intervals, by names that need no path."""
    schema = value(
        conn,
        "select extnamespace::regnamespace::text from pg_extension where extname = 'eram'",
    )
    return conn.execute(
        f"""
        with
            zones as materialized (
                select {schema}._eram_check_timezone(given) as zone
                from unnest(array['utc', 'EUROPE/BERLIN', 'America/New_York', 'est5edt']) as given
            ),
            schedules as materialized (
                select {schema}._eram_check_schedule(given) as schedule
                from unnest(array[
                    '30 2 * * *', '*/20 1-3 * * *', '@WEEKLY', '1 Day 02:00', '36 hours', '30 s',
                    '1 2 3 APR Mon']) as given
            )
        select
            schedule,
            zone,
            extract(epoch from {schema}._eram_next_run(schedule, zone, to_timestamp(moment))),
            array(
                select extract(epoch from run)
                from unnest({schema}._eram_missed_runs(
                    schedule, zone,
                    {schema}._eram_next_run(schedule, zone, to_timestamp(moment)),
                    to_timestamp(moment + 90000), 7)) as run
                order by run)
        from schedules
        cross join zones
        -- 28 March and 24 October 2026
        cross join unnest(array[1774692000.5, 1792836000]::double precision[]) as moment
        order by schedule collate "C", zone collate "C", moment
        """
    ).fetchall()


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_changes_a_result(module_dsn, expected_by_default, setting):
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        conn.execute(setting)
        assert answers(conn) == expected_by_default
    assert len(expected_by_default) == 56


def test_the_call_for_people_has_defaults(module_conn):
    before = datetime.now(UTC)
    found = row(
        module_conn,
        """
        select
            eram_next_run('* * * * * ') as minute,
            eram_next_run('0 12 * * *', after => '2026-06-01 00:00+00') as noon,
            eram_next_run(' 0 12 * * *', 'europe/berlin', '2026-06-01 00:00+00') as berlin,
            eram_next_run('1 hour', null, null) as later
        """,
    )
    assert before < found.minute <= before + timedelta(minutes=2)
    assert found.noon == datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert found.berlin == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert timedelta(0) <= found.later - before - timedelta(hours=1) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("eram_next_run(null)", errors.NullValueNotAllowed),
        ("eram_next_run('')", errors.NullValueNotAllowed),
        ("eram_next_run('soon')", errors.InvalidParameterValue),
        ("eram_next_run('@daily', 'Berlin')", errors.InvalidParameterValue),
        ("eram_next_run('@daily', '')", errors.NullValueNotAllowed),
        ("eram_next_run('@daily', 'UTC', 'infinity')", errors.DatetimeFieldOverflow),
        ("eram_next_run('@daily', 'UTC', '-infinity')", errors.DatetimeFieldOverflow),
        ("eram_next_run('@daily', 'UTC', '0001-01-01 00:00+00')", errors.DatetimeFieldOverflow),
        ("eram_next_run('@daily', 'UTC', '10000-01-01 00:00+00')", errors.DatetimeFieldOverflow),
    ],
)
def test_the_call_for_people_refuses(module_conn, call, error):
    with pytest.raises(error) as caught:
        module_conn.execute(f"select {call}")
    assert_well_said(caught.value)
