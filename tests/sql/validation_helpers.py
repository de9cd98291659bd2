"""What the tests of refusals share: bad values, their errors, and the form of an error."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from psycopg import errors

from .helpers import contents

NULL = errors.NullValueNotAllowed
INVALID = errors.InvalidParameterValue
RANGE = errors.NumericValueOutOfRange
ARRAY = errors.ArraySubscriptError
NAME = errors.InvalidName
LONG = errors.NameTooLong
FORMAT = errors.InvalidDatetimeFormat
OVERFLOW = errors.DatetimeFieldOverflow
UNDEFINED = errors.UndefinedObject
STATE = errors.ObjectNotInPrerequisiteState

# A name that no name may be, and why.
BAD_NAMES: list[tuple[Any, type[psycopg.Error]]] = [
    ("", NULL),
    (" ", NAME),
    (" a", NAME),
    ("a ", NAME),
    ("a\nb", NAME),
    ("a\tb", NAME),
    ("a\x7fb", NAME),
    ("a\x1fb", NAME),
]
# A value and what is wrong with it, for each key of a job document.
BAD_KEYS: dict[str, list[tuple[Any, type[psycopg.Error]]]] = {
    "handler": [
        *BAD_NAMES,
        (None, NULL),
        ("h" * 513, LONG),
        ("h" * 100_000, LONG),
        (5, INVALID),
        ([], INVALID),
        ({}, INVALID),
        (True, INVALID),
    ],
    "queue": [*BAD_NAMES, ("q" * 129, LONG), (5, INVALID), ([], INVALID), ({}, INVALID)],
    "args": [([], INVALID), ([{}], INVALID), ("text", INVALID), (5, INVALID), (False, INVALID)],
    "meta": [([], INVALID), ("{}", INVALID), (0, INVALID), (True, INVALID)],
    "priority": [
        *((bad, RANGE) for bad in (-1, 10, 2147483647, -2147483648 + 1)),
        *((bad, INVALID) for bad in (1.5, "1", "", True, [], {}, 2**31, -(2**63), 10**400)),
    ],
    "max_attempts": [
        *((bad, RANGE) for bad in (0, -1, 1_000_001, 2147483647)),
        *((bad, INVALID) for bad in (2**31, 1.5, "20", False, [1], {}, 10**400)),
    ],
    "scheduled_at": [
        *(
            (bad, FORMAT)
            for bad in (
                *("2099-01-31T08:00:00", "2099-01-31 08:00", "2099-01-31", "08:00Z", "now", ""),
                *("infinity", "-infinity", "epoch", "tomorrow", "2099-1-31T08:00:00Z"),
                *(
                    "2099-01-31T08:00:00 Europe/Berlin",
                    "2099-01-31T08:00:00Zulu",
                    "20990131T080000Z",
                ),
                *("2099-01-31T08:00:00Z\n", " 2099-01-31T08:00:00Z", "2099-01-31T08:00:00Z BC"),
                *("10000-01-31T08:00:00Z", 4085640000, 0, True, [], {}),
            )
        ),
        *(
            (bad, OVERFLOW)
            for bad in (
                *("2099-02-30T08:00:00Z", "2099-02-29T08:00:00Z", "2099-13-01T08:00:00Z"),
                *("2099-00-01T08:00:00Z", "2099-01-32T08:00:00Z", "2099-01-31T25:00:00Z"),
                *("2099-01-31T08:60:00Z", "2099-01-31T08:00:61Z", "0000-01-01T00:00:00Z"),
                *("9999-12-31T00:00:01Z", "0001-01-01T00:00:00Z"),
            )
        ),
        ("2099-01-31T08:00:00+99:00", errors.InvalidTimeZoneDisplacementValue),
    ],
    "delay": [
        *((bad, RANGE) for bad in (-1, -0.5, 3155760001, 1e300, 10**400, -(10**400))),
        *(
            (bad, RANGE)
            for bad in ("-1 second", "101 years", "1 month -40 days", "177000000 years")
        ),
        *((bad, FORMAT) for bad in ("soon", "", "1 fortnight", "NaN", "1 minute\x01")),
        *((bad, INVALID) for bad in (True, [], {}, [60])),
    ],
    "tags": [
        *((bad, INVALID) for bad in ("one", 1, {}, True, [1], [None], [["one"]], ["one", {}])),
        ([""], NULL),
        ([" "], NAME),
        (["a", "b\n"], NAME),
        (["t" * 256], LONG),
    ],
    "backoff": [
        *((bad, INVALID) for bad in ("", "Exp", "1 minute", 5, True, [])),
        *((bad, INVALID) for bad in ([1] * 101, [True], [[1]], [{"base": 1}])),
        *((bad, NULL) for bad in ([None], [1, None])),
        *((bad, RANGE) for bad in ([-1], [1e300], [1, "-1 day"], ["200 years"])),
        *((bad, FORMAT) for bad in (["soon"], ["exp"], ["NaN"])),
        *(
            ({"strategy": bad}, INVALID)
            for bad in (1, True, [], {}, "", "Fixed", "quadratic", "x" * 20_000)
        ),
        *(
            ({"strategy": "fixed", name: bad}, INVALID)
            for name in ("base", "cap", "jitter")
            for bad in ([], {}, True)
        ),
        *(
            ({"strategy": "linear", name: bad}, RANGE)
            for name in ("base", "cap")
            for bad in (-1, 1e300, 10**400, "-1 day", "200 years", "1 month -40 days")
        ),
        *(({"base": bad}, FORMAT) for bad in ("soon", "", "NaN", "1e6")),
        ({"base": " " * 20_000 + "1 second"}, INVALID),
        *(({"jitter": bad}, RANGE) for bad in (-0.1, 1.01, 10**400, -(10**400))),
        *(({"jitter": bad}, INVALID) for bad in ("0.5", "NaN")),
        *(({"delays": bad}, INVALID) for bad in ([], 5, "exp", {}, False, [1] * 10_000)),
        *(({"delays": [1], name: 1}, INVALID) for name in ("base", "bse", "max_attempts")),
        ({"delays": [1], "strategy": "fixed"}, INVALID),
        ({"delays": [1, -1]}, RANGE),
    ],
    "timeout": [
        *((bad, RANGE) for bad in (0, -1, 0.0001, 1e300, "-1 s", "25 days")),
        *((bad, FORMAT) for bad in ("soon", "")),
        *((bad, INVALID) for bad in (True, [], {})),
    ],
    "unique": [
        *((bad, INVALID) for bad in ([], 30, "30", "true", {"perod": 30}, {"": 1})),
        *(({"period": bad}, RANGE) for bad in (0, -1, 1e300, "-1 s", "200 years")),
        *(({"period": bad}, FORMAT) for bad in ("soon", "")),
        *(({"period": bad}, INVALID) for bad in (True, [], {})),
        *(
            ({name: bad}, INVALID)
            for name in ("fields", "keys")
            for bad in ([], {}, "args", 1, True, [1], [None], ["x"] * 101)
        ),
        ({"fields": ["handler", "arg"]}, INVALID),
        ({"fields": ["handler"], "keys": ["x"]}, INVALID),
        *(({"on_conflict": bad}, INVALID) for bad in ("", "Skip", "ignore", 1, True, [], {})),
    ],
    "defaults": [
        *((bad, INVALID) for bad in ([], 1, "x", True, {"handler": "a:b"}, {"delay": 1})),
        ({"max_attempts": 0}, RANGE),
        ({"queue": ""}, NULL),
    ],
}


def refused(
    conn: psycopg.Connection, query: str, params: Any, error: type[psycopg.Error]
) -> psycopg.errors.Diagnostic:
    """Run a query that must be refused in the proper way; return what the server said."""
    before = contents(conn)
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(query, params)
    diag = caught.value.diag
    assert isinstance(caught.value, error), (caught.value.sqlstate, diag.message_primary)
    assert_well_said(caught.value)
    assert contents(conn) == before
    return diag


def assert_well_said(error: psycopg.Error) -> None:
    """Check an error's form: of the server's guide, and with a hint."""
    diag = error.diag
    message = diag.message_primary or ""
    assert not re.match(r"XX|P0", error.sqlstate or "XX"), (error.sqlstate, message)
    assert not re.match(r"[A-Z][a-z]", message), message
    assert not message.endswith("."), message
    assert (diag.message_hint or "").strip(), f"no hint: {message}"
    assert re.match(r"[A-Z0-9]", diag.message_hint or ""), diag.message_hint
    assert (diag.message_hint or "")[-1] in ".?", diag.message_hint
