"""When a schedule runs around the days on which clocks are set, worked out by hand."""

from __future__ import annotations

import psycopg
import pytest

from .helpers import column
from .schedule_helpers import next_run


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
