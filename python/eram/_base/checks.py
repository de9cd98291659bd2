"""Checking what a configuration says: messages name the key, the unit and what would be right."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from eram._base.suggest import nearest
from eram.errors import ConfigError

# What people write who come from elsewhere, and what it is called here.
_ELSEWHERE = {
    "db": "dsn",
    "filename": "path",
    "pollTimeoutMs": "poll_interval",
    "maxAge": "max_age",
    "rescueAfter": "rescue_after",
    "timeZone": "timezone",
    "cron_jobs": "cron",
    "crontab": "cron",
    "schedules": "cron",
}


def check(is_valid: object, message: str, value: object) -> None:
    """Refuse a value unless it is valid."""
    if not is_valid:
        raise ConfigError(f"{message}, got {value!r}")


def check_keys(
    what: str, given: Any, known: Sequence[str], places: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Refuse what is not a mapping, or has keys that do not exist, by the nearest ones that do.

    Args:
        what: what the messages call it; empty for all of the configuration.
        given: what is to be checked.
        known: the keys that exist.
        places: keys that exist elsewhere, by where that is.
    """
    named = ", ".join(f'"{key}"' for key in known)
    check(
        isinstance(given, Mapping), f"{what or 'a configuration'} must have keys ({named})", given
    )
    for key in given:
        if key in known:
            continue
        check(isinstance(key, str), f"the keys of {what or 'a configuration'} are strings", key)
        place = next((name for name, keys in (places or {}).items() if key in keys), None)
        if place is not None:
            meant = f'it belongs to "{place}"'
        elif (own := _ELSEWHERE.get(key)) in known:
            meant = f'it is called "{own}" here'
        else:
            meant = nearest(key, known)
        where = f'{what} has no option "{key}"' if what else f'there is no option "{key}"'
        raise ConfigError(f"{where}; {meant}")


def check_number(
    name: str, value: Any, unit: str, limits: tuple[float, float], *, hint: str = ""
) -> None:
    """Refuse what is not a number of this unit within the limits."""
    least, most = limits
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # What is not a number, as floats put it, is not between any two.
    is_valid = is_number and least <= value <= most
    said = f" ({hint})" if hint else ""
    check(is_valid, f"{name} must be {unit}, from {least} to {most}{said}", value)


def check_whole(
    name: str, value: Any, unit: str, limits: tuple[float, float], *, hint: str = ""
) -> None:
    """Refuse what is not a whole number of this unit within the limits."""
    check_number(name, value, unit, limits, hint=hint)
    check(math.floor(value) == value, f"{name} must be whole {unit}", value)


def check_text(name: str, value: Any, what: str) -> None:
    """Refuse what is not a string, or an empty one."""
    check(isinstance(value, str) and value.strip(), f"{name} must be {what}", value)


def check_name(what: str, value: Any, longest: int) -> None:
    """Refuse what the server would not take for a name; what it takes is for the server to say."""
    check(isinstance(value, str) and value, f"{what} must have a name", value)
    if len(value) > longest:
        raise ConfigError(
            f"{what} has a name of {len(value)} characters, and {longest} are allowed:"
            f" {value[:40]!r}..."
        )
    is_plain = value.strip(" ") == value and not any(map(_is_control, value))
    check(
        is_plain,
        f"the name of {what} must have no control characters, and no blanks at its ends",
        value,
    )


def _is_control(character: str) -> bool:
    # Halves of surrogate pairs cannot be sent either.
    return unicodedata.category(character) in {"Cc", "Cs"}


def is_list(value: Any) -> bool:
    """Say whether a value is a list; a string is one of letters, and not meant."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
