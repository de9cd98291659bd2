"""What a schedule and a time zone may be written as, and what is said of everything else."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .helpers import column, value
from .validation_helpers import assert_well_said

NULL = errors.NullValueNotAllowed
INVALID = errors.InvalidParameterValue

KEPT = {
    "* * * * * ": "* * * * *",  # as in EramJS's own example
    "0 * * * * ": "0 * * * *",
    "  0\t3 *   * *\r\n": "0 3 * * *",
    "0 0 * JAN-Mar Mon,WED": "0 0 * jan-mar mon,wed",
    "00 06 * * *": "00 06 * * *",
    "0 0 29 2 *": "0 0 29 2 *",
    "0 0 31 2 mon": "0 0 31 2 mon",  # or on Mondays
    "*/60 */24 */31 */12 */7": "*/60 */24 */31 */12 */7",
    "@Daily": "@daily",
    " @MIDNIGHT ": "@midnight",
    **{f"@{name}": f"@{name}" for name in ("hourly", "weekly", "monthly", "yearly", "annually")},
    "30 Seconds": "30 seconds",
    "1 hour  30 minutes": "1 hour 30 minutes",
    "1h30m": "1h30m",
    "00:00:30": "00:00:30",
    "1 day 02:00": "1 day 02:00",
    "1 day 2 hours 3m": "1 day 2 hours 3m",  # five words
    "1.5 hours": "1.5 hours",
    "1 s": "1 s",
    "1.005 s": "1.005 s",
    "365 days": "365 days",
    "52 weeks": "52 weeks",
}

# What is refused, and by which words.
BAD_FIELDS = {
    "60 * * * *": 'invalid minute "60" in schedule "60 * * * *"',
    "0 25 * * *": 'invalid hour "25" in schedule "0 25 * * *"',
    "0 24 * * *": 'invalid hour "24"',
    "0 0 0 * *": 'invalid day of month "0"',
    "0 0 32 * *": 'invalid day of month "32"',
    "0 0 * 0 *": 'invalid month "0"',
    "0 0 * 13 *": 'invalid month "13"',
    "0 0 * * 8": 'invalid day of week "8"',
    "1,2,99,3 * * * *": 'invalid minute "99" in',
    "99999999999999999999 * * * *": 'invalid minute "99999999999999999999"',
    "0 0 1-99999999999 * *": 'invalid day of month "1-99999999999"',
    "*/99999999999 * * * *": 'invalid minute "*/99999999999"',
    "5-3 * * * *": 'invalid minute "5-3"',
    "*/0 * * * *": 'invalid minute "*/0"',
    "*/61 * * * *": 'invalid minute "*/61"',
    "0 */25 * * *": 'invalid hour "*/25"',
    "0 0 * * */8": 'invalid day of week "*/8"',
    "1- * * * *": 'invalid minute "1-"',
    "-1 * * * *": 'invalid minute "-1"',
    ", * * * *": 'invalid minute ""',
    "1,,2 * * * *": 'invalid minute ""',
    "1, * * * *": 'invalid minute ""',
    "a-b * * * *": 'invalid minute "a-b"',
    "1-5-7 * * * *": 'invalid minute "1-5-7"',
    "1/2/3 * * * *": 'invalid minute "1/2/3"',
    "1//2 * * * *": 'invalid minute "1//2"',
    "/2 * * * *": 'invalid minute "/2"',
    "*-5 * * * *": 'invalid minute "*-5"',
    "** * * * *": 'invalid minute "**"',
    "0 mon * * *": 'invalid hour "mon"',
    "0 0 * mon *": 'invalid month "mon"',
    "0 0 * * jan": 'invalid day of week "jan"',
    "0 0 * january *": 'invalid month "january"',
    "0 0 * * fri-mon": 'invalid day of week "fri-mon"',
    "? * * * *": 'invalid minute "?"',
    "0 0 ? * mon": 'invalid day of month "?"',
    "0 0 L * *": 'invalid day of month "l"',
    "0 0 15W * *": 'invalid day of month "15w"',
    "0 0 * * 5#2": 'invalid day of week "5#2"',
    "0 0 * * 5L": 'invalid day of week "5l"',
    "H * * * *": 'invalid minute "h"',
    "1.5 * * * *": 'invalid minute "1.5"',
    "0x1 * * * *": 'invalid minute "0x1"',
    "1e1 * * * *": 'invalid minute "1e1"',
    "٣ * * * *": 'invalid minute "٣"',
    "\uff11 * * * *": 'invalid minute "\uff11"',
    "²,1 * * * *": 'invalid minute "²"',
    "0 0 * * FR\u0130": "invalid day of week ",
    "0 0 * * fr\u0131": "invalid day of week ",
    "\x01* * * * *": 'invalid minute "\\u0001*"',
    "*\x7f * * * *": "invalid minute ",
    "\u00a0* * * * *": "invalid minute ",
    "0 0 1 1 *;": 'invalid day of week "*;"',
    '" * * * *': 'invalid minute "\\""',
}
BAD_SCHEDULES = {
    "*": 'invalid schedule "*"',
    "* * * *": 'schedule has 4 fields, not five: "* * * *"',
    "* * * * * *": "schedule has 6 fields, not five",
    "0 0 0 * * ?": "schedule has 6 fields, not five",
    "0 0 1 1 * 2027": "schedule has 6 fields, not five",
    "5 5": "schedule has 2 fields, not five",
    "* * * * * job": "schedule has 6 fields, not five",
    "0 0 31 2 *": 'schedule "0 0 31 2 *" names no day that there is',
    "0 0 30 feb *": "names no day that there is",
    "0 0 31 4,6,9,nov *": "names no day that there is",
    "0 0 30-31 2 */7": "names no day that there is",
    "@reboot": 'unknown nickname "@reboot"',
    "@every 30s": 'unknown nickname "@every 30s"',
    "@dayly": 'unknown nickname "@dayly"',
    "@": 'unknown nickname "@"',
    "@daily @daily": "unknown nickname",
    "@ 30 seconds": "unknown nickname",
    "30": 'invalid schedule "30"',
    "30.5": 'invalid schedule "30.5"',
    "infinity": 'invalid schedule "infinity"',
    "-infinity": 'invalid schedule "-infinity"',
    "null": 'invalid schedule "null"',
    "PT30S": 'invalid schedule "PT30S"',
    "1 month": 'interval "1 month" has no fixed length',
    "1mon": "has no fixed length",
    "12 months": "has no fixed length",
    "1 year 2 days": "has no fixed length",
    "2 days 1 y": "has no fixed length",
    "0 seconds": 'interval "0 seconds" is not between 1 second and 365 days',
    "00:00:00": "is not between 1 second and 365 days",
    "0.999 seconds": "is not between 1 second and 365 days",
    "366 days": "is not between 1 second and 365 days",
    "8761 hours": "is not between 1 second and 365 days",
    "1.0001 seconds": "is finer than a millisecond",
    "-30 seconds": 'invalid interval "-30 seconds"',
    "+30 seconds": "invalid interval",
    "1 hour -5 minutes": "invalid interval",
    "1 hour ago": "invalid interval",
    "1 hour 1 hour": "invalid interval",
    "1 hour 5 minutes 3": "invalid interval",
    "1 hour, 5 minutes": "invalid interval",
    "1 fortnight": "invalid interval",
    "60000 ms": "invalid interval",
    "1:75": "invalid interval",
    "1:2:3": "invalid interval",
    "1e5 seconds": "invalid interval",
    "1.5.2 hours": "invalid interval",
    ".5 hours": "invalid interval",
    "9" * 40 + " seconds": "invalid interval",
    "9" * 200 + " hours": "invalid interval",
    "99999999999 hours": "invalid interval",
    "2147483648 days": "invalid interval",
    "8760:01": "is not between 1 second and 365 days",
    "9999999999999999999:00": "invalid interval",
    "x" * 257: "schedule of 257 characters is too long",
    "1," * 5_000_000: "schedule of 10000000 characters is too long",
    " " * 257: "schedule of 257 characters is too long",
}


def check(conn: psycopg.Connection, schedule: str | None) -> Any:
    return value(conn, "select _eram_check_schedule(%s)", schedule)


@pytest.mark.parametrize("schedule", KEPT)
def test_a_good_schedule_is_kept_in_one_form(module_conn, schedule):
    assert check(module_conn, schedule) == KEPT[schedule]
    assert check(module_conn, KEPT[schedule]) == KEPT[schedule]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        pytest.param(schedule, message, id=repr(schedule)[:30])
        for schedule, message in (BAD_FIELDS | BAD_SCHEDULES).items()
    ],
)
def test_a_bad_schedule_is_an_error_that_says_what_is_wrong(module_conn, schedule, message):
    with pytest.raises(psycopg.Error) as caught:
        check(module_conn, schedule)
    assert isinstance(caught.value, INVALID)
    assert_well_said(caught.value)
    assert message in (caught.value.diag.message_primary or "")
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("schedule", [None, "", " ", "\t \n"])
def test_no_schedule_is_an_error(module_conn, schedule):
    with pytest.raises(NULL) as caught:
        check(module_conn, schedule)
    assert_well_said(caught.value)


@pytest.mark.parametrize(
    ("schedule", "hint"),
    [
        ("60 * * * *", r"^Minute is 0 to 59, written as \*, "),
        ("0 25 * * *", "^Hour is 0 to 23, "),
        ("0 0 0 * *", "^Day of month is 1 to 31, "),
        ("0 0 * 13 *", "^Month is 1 to 12 or jan to dec, "),
        ("0 0 * * 8", r"^Day of week is 0 to 7 \(0 and 7 are Sunday\) or sun to sat, "),
        ("5-3 * * * *", "^A range goes from the lesser to the greater. Minute is"),
        ("*/90 * * * *", "^A step here is 1 to 60. Minute is"),
        ("0 */0 * * *", "^A step here is 1 to 24. Hour is"),
        ("0 0 L * *", "^There is no [?], L, W or #. Day of month is"),
        ("* * * * * *", "there is none for seconds or years"),
        ("0 0 31 2,4 *", "The longest of its months has 30 days"),
        ("@reboot", "no reboot"),
        ("@every 5m", "Write the interval alone"),
        ("@montly", "Did you mean @monthly"),
        ("30", "such as 30 seconds"),
        ("1 month", "@monthly"),
        ("soon", "five cron fields .*@daily.* 30 seconds"),
        ("1 fortnight", "weeks, days, hours, minutes and seconds"),
    ],
)
def test_the_hint_says_what_is_allowed(module_conn, schedule, hint):
    with pytest.raises(INVALID) as caught:
        check(module_conn, schedule)
    assert re.search(hint, caught.value.diag.message_hint or "")


def test_random_text_is_taken_or_refused_and_breaks_nothing(module_conn):
    """What is taken has a next run."""
    rnd = random.Random(20280229)
    pieces = [
        *("*", "*", "0", "5", "23", "31", "59", "1-5", "*/5", "mon", "DEC", ",", "-", "/", "7"),
        *("@", "@daily", "hour", "seconds", "30 s", ":", ".", "month", "L", "?", "#", "\t", "é"),
        *("99999999999999999999", "'", '"', "\\", "\x01", "\n", "{}", "1e9", "infinity", "ago"),
    ]
    taken = 0
    for _ in range(4000):
        separator = rnd.choice([" ", " ", " ", ""])
        schedule = separator.join(rnd.choices(pieces, k=rnd.choice([1, 2, 3, 5, 5, 5, 6])))
        try:
            kept = check(module_conn, schedule)
        except psycopg.Error as error:
            assert_well_said(error)
        else:
            taken += 1
            assert check(module_conn, kept) == kept
            assert value(module_conn, "select eram_next_run(%s)", kept) > datetime.now(UTC), kept
    assert taken > 20


ZONES = {
    "UTC": "UTC",
    "Etc/UTC": "Etc/UTC",
    "utc": "UTC",
    "Europe/Berlin": "Europe/Berlin",
    "europe/BERLIN": "Europe/Berlin",
    "America/Argentina/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "EST5EDT": "EST5EDT",
    "etc/gmt+5": "Etc/GMT+5",
    # Names that PostgreSQL would take for abbreviations, without daylight saving.
    "CET": "Europe/Brussels",
    "met": "Europe/Brussels",
    "EET": "Europe/Athens",
    "WET": "Europe/Lisbon",
    "EST": "America/Panama",
    "MST": "America/Phoenix",
    "HST": "Pacific/Honolulu",
}


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_zone_is_kept_as_the_server_spells_it(module_conn, zone):
    assert value(module_conn, "select _eram_check_timezone(%s)", zone) == ZONES[zone]


@pytest.mark.parametrize(
    "zone",
    [
        *("FOO+3", "EST5", "UTC+2", "<+03>-3", "CEST", "PST", "BST", "+02", "+02:00", "-3", "2"),
        *("Berlin", "Europe/Berln", "Europe", "Europe/", "/Berlin", "../UTC", "Europe\\Berlin"),
        *(" UTC", "UTC ", "UTC\n", "posixrules/x", "x" * 100_000, "%", "Europe/%", "'", "default"),
        *("local", "now", "infinity", "\uff25urope/Berlin"),
    ],
    ids=lambda zone: repr(zone)[:20],
)
def test_what_is_no_name_of_a_time_zone_is_refused(module_conn, zone):
    with pytest.raises(INVALID) as caught:
        value(module_conn, "select _eram_check_timezone(%s)", zone)
    assert_well_said(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("zone", [None, ""])
def test_no_time_zone_is_an_error(module_conn, zone):
    with pytest.raises(NULL) as caught:
        value(module_conn, "select _eram_check_timezone(%s)", zone)
    assert_well_said(caught.value)


def test_a_misspelt_time_zone_is_told_the_nearest(module_conn):
    for given, meant in (("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin")):
        with pytest.raises(INVALID, match=f'Did you mean "{meant}"'):
            value(module_conn, "select _eram_check_timezone(%s)", given)


def test_no_kept_name_is_an_abbreviation_with_another_meaning(module_conn):
    """Where a clock is read an abbreviation would win, and settings say what it means."""
    names = column(module_conn, "select name from pg_timezone_names")
    abbreviations: set[str] = set()
    for setting in ("Default", "Australia", "India"):
        module_conn.execute(f"set timezone_abbreviations = '{setting}'")
        abbreviations.update(column(module_conn, "select lower(abbrev) from pg_timezone_abbrevs"))
    module_conn.execute("reset timezone_abbreviations")
    doubtful = [name for name in names if name.lower() in abbreviations]
    kept = {value(module_conn, "select _eram_check_timezone(%s)", name) for name in doubtful}
    assert {name for name in kept if name.lower() in abbreviations} <= {"UTC", "UCT", "GMT", "Zulu"}
    assert len(kept) > 4
