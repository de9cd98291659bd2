"""Which runs of a schedule were missed: the latest of them, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from .helpers import value


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
