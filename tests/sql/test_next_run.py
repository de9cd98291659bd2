"""When a schedule runs next: cases that someone has worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .helpers import column, row, value
from .test_validation import assert_well_said

FIRST = "0001-01-02 00:00:00+00"
LAST = "9999-12-31 00:00:00+00"


def next_run(conn: psycopg.Connection, schedule: str, zone: str, after: str) -> Any:
    """Return the next run as text in UTC, for there are years that Python does not know."""
    return value(
        conn,
        """
        select to_char(
            _eram_next_run(
                _eram_check_schedule(%s), _eram_check_timezone(%s), %s::timestamptz)
                at time zone 'UTC',
            'YYYY-MM-DD HH24:MI:SS')
        """,
        schedule,
        zone,
        after,
    )


def runs(conn: psycopg.Connection, schedule: str, zone: str, after: str, until: str) -> list[str]:
    """Return all runs in (after, until] as day and time of UTC."""
    return column(
        conn,
        """
        select to_char(run at time zone 'UTC', 'MM-DD HH24:MI')
        from unnest(_eram_cron_occurrences(%s, %s, %s, %s, 1000)) as run
        order by run
        """,
        schedule,
        zone,
        after,
        until,
    )


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


# Berlin: on 29 March 2026 02:00 is followed by 03:00 (01:00 UTC), on 25 October 02:00 to 03:00
# comes twice (00:00 and 01:00 UTC).
SPRING = ("2026-03-28 12:00+00", "2026-03-30 12:00+00")
AUTUMN = ("2026-10-24 12:00+00", "2026-10-26 12:00+00")


@pytest.mark.parametrize(
    ("schedule", "spring", "autumn"),
    [
        (
            "30 2 * * *",
            ["03-29 01:00", "03-30 00:30"],
            ["10-25 00:30", "10-26 01:30"],
        ),
        (
            "0 2 * * *",
            ["03-29 01:00", "03-30 00:00"],
            ["10-25 00:00", "10-26 01:00"],
        ),
        # Several in the gap, and one at its end, are one run.
        (
            "0,20,40 2,3 * * *",
            [
                *("03-29 01:00", "03-29 01:20", "03-29 01:40"),
                *("03-30 00:00", "03-30 00:20", "03-30 00:40"),
                *("03-30 01:00", "03-30 01:20", "03-30 01:40"),
            ],
            [
                *("10-25 00:00", "10-25 00:20", "10-25 00:40"),
                *("10-25 02:00", "10-25 02:20", "10-25 02:40"),
                *("10-26 01:00", "10-26 01:20", "10-26 01:40"),
                *("10-26 02:00", "10-26 02:20", "10-26 02:40"),
            ],
        ),
        (
            "30 1 * * *",
            ["03-29 00:30", "03-29 23:30"],
            ["10-24 23:30", "10-26 00:30"],
        ),
        (
            "30 3 * * *",
            ["03-29 01:30", "03-30 01:30"],
            ["10-25 02:30", "10-26 02:30"],
        ),
        # By number and by weekday, when those do not begin with *.
        ("30 2 29 3 *", ["03-29 01:00"], []),
        ("30 2 * * sun", ["03-29 01:00"], ["10-25 00:30"]),
        # As time passes.
        ("*/30 2 * * *", ["03-30 00:00", "03-30 00:30"], None),
        (
            "*/30 2 25 10 *",
            [],
            ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"],
        ),
        ("30 */2 29 3 *", None, []),
    ],
)
def test_the_days_on_which_clocks_are_set(module_conn, schedule, spring, autumn):
    if spring is not None:
        assert runs(module_conn, schedule, "Europe/Berlin", *SPRING) == spring
    if autumn is not None:
        assert runs(module_conn, schedule, "Europe/Berlin", *AUTUMN) == autumn


def test_what_follows_time_runs_as_often_as_time_passes(module_conn):
    for window, hours in (SPRING, 48), (AUTUMN, 48):
        assert len(runs(module_conn, "*/5 * * * *", "Europe/Berlin", *window)) == hours * 12
        assert len(runs(module_conn, "30 * * * *", "Europe/Berlin", *window)) == hours
    # Every second hour by the clock: three hours of time, or one, where it is set.
    spring = runs(module_conn, "0 */2 * * *", "Europe/Berlin", *SPRING)
    assert spring[4:9] == [
        "03-28 21:00",
        "03-28 23:00",
        "03-29 02:00",
        "03-29 04:00",
        "03-29 06:00",
    ]
    autumn = runs(module_conn, "0 */2 * * *", "Europe/Berlin", *AUTUMN)
    assert autumn[4:9] == [
        "10-24 22:00",
        "10-25 00:00",
        "10-25 01:00",
        "10-25 03:00",
        "10-25 05:00",
    ]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_within_the_repeated_hour_nothing_fixed_runs_again(module_conn, minute):
    after = f"2026-10-25 01:{minute:02}+00"
    assert next_run(module_conn, "0,30 2 * * *", "Europe/Berlin", after) == "2026-10-26 01:00:00"
    assert next_run(module_conn, "*/30 2 * * *", "Europe/Berlin", after) == (
        "2026-10-25 01:30:00" if minute < 30 else "2026-10-26 01:00:00"
    )


@pytest.mark.parametrize(
    ("zone", "schedule", "after", "expected"),
    [
        # Half an hour: 02:00 to 02:30 on 6 October 2024 does not exist; 01:30 to 02:00 comes twice
        # on 7 April.
        ("Australia/Lord_Howe", "15 2 * * *", "2024-10-05 00:00", "2024-10-05 15:30:00"),
        ("Australia/Lord_Howe", "45 2 * * *", "2024-10-05 00:00", "2024-10-05 15:45:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-06 00:00", "2024-04-06 14:45:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-06 14:45", "2024-04-07 15:15:00"),
        ("Australia/Lord_Howe", "*/15 1 * * *", "2024-04-06 14:45", "2024-04-06 15:00:00"),
        # Midnight itself does not exist.
        ("America/Sao_Paulo", "@daily", "2017-10-14 12:00", "2017-10-15 03:00:00"),
        ("America/Sao_Paulo", "0 0 15 10 *", "2017-10-01 12:00", "2017-10-15 03:00:00"),
        ("America/Sao_Paulo", "* * 15 10 *", "2017-10-01 12:00", "2017-10-15 03:00:00"),
        ("Asia/Beirut", "30 0 * * *", "2022-03-26 12:00", "2022-03-26 22:00:00"),
        ("America/Havana", "@midnight", "2026-03-07 12:00", "2026-03-08 05:00:00"),
        # Midnight comes twice, or the day before does.
        ("America/Havana", "@midnight", "2025-11-01 12:00", "2025-11-02 04:00:00"),
        ("America/Havana", "@midnight", "2025-11-02 04:00", "2025-11-03 05:00:00"),
        ("America/Sao_Paulo", "30 23 * * *", "2018-02-17 12:00", "2018-02-18 01:30:00"),
        ("America/Sao_Paulo", "30 23 * * *", "2018-02-18 01:30", "2018-02-19 02:30:00"),
        ("America/Sao_Paulo", "@daily", "2018-02-17 12:00", "2018-02-18 03:00:00"),
        # A day that there was not: 30 December 2011.
        ("Pacific/Apia", "0 12 * * *", "2011-12-29 23:00", "2011-12-30 10:00:00"),
        ("Pacific/Apia", "0 12 * * *", "2011-12-30 10:00", "2011-12-30 22:00:00"),
        ("Pacific/Apia", "0 12 30 12 *", "2011-06-01 00:00", "2011-12-30 10:00:00"),
        ("Pacific/Apia", "* * 30 12 *", "2011-06-01 00:00", "2012-12-29 10:00:00"),
        ("Pacific/Apia", "0 * * * *", "2011-12-30 09:30", "2011-12-30 10:00:00"),
        # A day that nearly came twice: the clock was set back by 23 hours.
        ("Pacific/Kwajalein", "0 12 * * *", "1969-09-30 00:00", "1969-09-30 01:00:00"),
        ("Pacific/Kwajalein", "0 12 * * *", "1969-09-30 01:00", "1969-10-02 00:00:00"),
        ("Pacific/Kwajalein", "0 12 * * *", "1969-09-30 20:00", "1969-10-02 00:00:00"),
        ("Pacific/Kwajalein", "*/30 12 * * *", "1969-09-30 20:00", "1969-10-01 00:00:00"),
        # Winter time as the exception.
        ("Europe/Dublin", "30 1 * * *", "2026-10-24 12:00", "2026-10-25 00:30:00"),
        ("Europe/Dublin", "30 1 * * *", "2026-10-25 00:30", "2026-10-26 01:30:00"),
        ("Africa/Casablanca", "30 2 * * *", "2022-03-26 12:00", "2022-03-27 01:30:00"),
        ("Africa/Casablanca", "30 2 * * *", "2022-05-07 12:00", "2022-05-08 02:00:00"),
        # Another standard time: half an hour back and forth.
        ("Asia/Pyongyang", "45 23 * * *", "2018-05-04 00:00", "2018-05-04 15:00:00"),
        ("America/Caracas", "45 2 * * *", "2016-05-01 00:00", "2016-05-01 07:00:00"),
        ("America/Caracas", "45 2 * * *", "2007-12-09 00:00", "2007-12-09 06:45:00"),
        ("America/Caracas", "45 2 * * *", "2007-12-09 06:45", "2007-12-10 07:15:00"),
        # Two hours.
        ("Antarctica/Troll", "30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00:00"),
        ("Antarctica/Troll", "30 1,2 * * *", "2026-10-24 23:00", "2026-10-24 23:30:00"),
        ("Antarctica/Troll", "30 1,2 * * *", "2026-10-24 23:30", "2026-10-25 00:30:00"),
        ("Antarctica/Troll", "30 1,2 * * *", "2026-10-25 00:30", "2026-10-26 01:30:00"),
        # Offsets of seconds, before there were time zones.
        ("Europe/Amsterdam", "0 12 * * *", "1850-06-01 00:00", "1850-06-01 11:42:30"),
        # A name that PostgreSQL reads as an abbreviation without daylight saving.
        ("CET", "0 12 * * *", "2026-07-01 00:00", "2026-07-01 10:00:00"),
    ],
)
def test_clocks_of_many_kinds(module_conn, zone, schedule, after, expected):
    found = next_run(module_conn, schedule, zone, after + "+00")
    if zone == "Europe/Amsterdam":  # which some builds of the database take for Brussels
        assert found in {expected, "1850-06-01 11:40:28"}
    else:
        assert found == expected


@pytest.mark.parametrize("schedule", ["1 day", "24 hours", "86400 seconds", "1d"])
def test_an_interval_is_a_length_of_time_and_no_matter_of_clocks(module_conn, schedule):
    for zone in ("UTC", "Europe/Berlin"):
        module_conn.execute(f"set timezone = '{zone}'")
        after = "2026-03-28 12:00+00"
        assert next_run(module_conn, schedule, "Europe/Berlin", after) == "2026-03-29 12:00:00"
    module_conn.execute("reset timezone")


def test_an_interval_keeps_its_phase(module_conn):
    found = value(
        module_conn,
        """
        select _eram_missed_runs(
            '2.5 s', 'UTC', '2026-03-28 12:00:00.123456+00', '2026-04-28 12:00:00+00', 3)
        """,
    )
    end = datetime(2026, 4, 28, 11, 59, 57, 623456, tzinfo=UTC)
    step = timedelta(seconds=2.5)
    assert found == [end - step - step, end - step, end]


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


MISSED = "select _eram_missed_runs(%s, %s, %s, %s, %s)"


@pytest.mark.parametrize(
    ("schedule", "first", "until", "most", "expected"),
    [
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 12:30", 10, ["10:00", "11:00", "12:00"]),
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 12:30", 2, ["11:00", "12:00"]),
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 12:00", 1, ["12:00"]),
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 10:00", 5, ["10:00"]),
        ("* * * * *", "1971-01-01 00:00", "2026-06-01 10:02", 3, ["10:00", "10:01", "10:02"]),
        # A day of a year, far behind.
        ("*/20 23 1 1 *", "1971-01-01 23:00", "2026-12-31 23:02", 2, ["23:20", "23:40"]),
        (
            "*/20 23 1 1 *",
            "1971-01-01 23:00",
            "2026-12-31 23:02",
            4,
            ["23:40", "23:00", "23:20", "23:40"],
        ),
        ("* * * 1 *", "1971-01-01 00:00", "2026-12-31 23:02", 1, ["23:59"]),
        ("0 5 29 2 *", "1972-02-29 05:00", "2027-01-01 00:00", 2, ["05:00", "05:00"]),
        ("7 minutes", "2026-06-01 10:00", "2026-06-01 10:20", 9, ["10:00", "10:07", "10:14"]),
        ("7 minutes", "2026-06-01 10:00", "2026-06-01 10:21", 2, ["10:14", "10:21"]),
        ("1 day", "1971-01-01 10:00", "2026-06-01 10:20", 1, ["10:00"]),
        ("1 s", "0001-01-02 00:00", "9999-12-30 00:00", 2, ["23:59", "00:00"]),
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 12:00", 0, []),
        ("7 minutes", "2026-06-01 10:00", "2026-06-01 10:20", 0, []),
        ("0 * * * *", "2026-06-01 10:00", "2026-06-01 09:00", 5, []),
        ("7 minutes", "2026-06-01 10:00", "2026-06-01 09:00", 5, []),
    ],
)
def test_missed_runs_are_the_latest(module_conn, schedule, first, until, most, expected):
    found = value(module_conn, MISSED, schedule, "UTC", f"{first}+00", f"{until}+00", most)
    assert [run.astimezone(UTC).strftime("%H:%M") for run in found] == expected
    assert found == sorted(found)


def test_very_many_missed_runs(module_conn):
    found = value(
        module_conn,
        MISSED,
        "* * * * *",
        "Europe/Berlin",
        "2026-01-01 00:00+00",
        "2026-06-01 10:00+00",
        100_000,
    )
    assert len(found) == 100_000
    assert found[-1] - found[0] == timedelta(minutes=99_999)


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
