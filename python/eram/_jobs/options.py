"""What can be said of a job, and how it is said in JSON.

Defaults, ranges and names are the extension's to check. What is of a type that has no meaning is
refused here, before anything is sent, and alike wherever it is said.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from eram._base.suggest import nearest
from eram._jobs.outcome import as_delay


class UniqueOptions(TypedDict, total=False):
    """What makes two jobs the same, for how long, and what becomes of the second one."""

    period: float | timedelta | str | None
    fields: Sequence[Literal["handler", "queue", "args", "meta"]]
    keys: Sequence[str]
    on_conflict: Literal["skip", "replace", "raise"]


class HandlerOptions(TypedDict, total=False):
    """What can be said of all jobs of a handler; what is left out has the extension's default."""

    queue: str
    priority: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    backoff: str | Sequence[float | timedelta | str] | Mapping[str, Any]
    timeout: float | timedelta
    unique: bool | UniqueOptions


class JobOptions(HandlerOptions, total=False):
    """What can be said of one job."""

    delay: float | timedelta
    scheduled_at: datetime


def check_options(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse an option that does not exist, by the name of the nearest one that does."""
    known = sorted(known)
    for name in options:
        if name not in known:
            raise TypeError(f'there is no option "{name}"; {nearest(name, known)}')


def encode_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Make JSON of options; None is one that was not given.

    Raises:
        TypeError: an option is of a type that has no meaning.
        ValueError: a duration or a time makes no sense.
    """
    return {name: _ENCODERS[name](value) for name, value in options.items() if value is not None}


def add_options(encoded: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Add options to others that are JSON already; what is given again is replaced."""
    added = encode_options(options)
    # Each of the two says when, so either replaces both.
    replaced = _TIMES if _TIMES & added.keys() else frozenset()
    return {**{name: each for name, each in encoded.items() if name not in replaced}, **added}


def strings(name: str, value: Any) -> list[str]:
    """Read a list of strings."""
    # A string is a sequence as well, of its letters, and a mapping is one of its keys.
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    found = list(value) if is_list else []
    if not is_list or not all(isinstance(each, str) for each in found):
        raise TypeError(f"{name} must be a list of strings, got {value!r}")
    return found


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    return value


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return value


def _encode_meta(meta: Any) -> dict[str, Any]:
    if not isinstance(meta, Mapping):
        raise TypeError(f"meta must be a mapping, got {meta!r}")
    if not all(isinstance(name, str) for name in meta):
        raise TypeError(f"the names of meta must be strings, got {list(meta)!r}")
    return dict(meta)


def _encode_time(time: Any) -> str:
    if not isinstance(time, datetime):
        raise TypeError(f"scheduled_at must be a datetime, got {time!r}")
    if time.utcoffset() is None:
        raise ValueError(f"scheduled_at must have a time zone, got {time!r}")
    try:
        return time.astimezone(UTC).isoformat()
    except OverflowError as error:
        raise ValueError(f"scheduled_at is out of range in UTC: {time!r}") from error


def _encode_backoff(backoff: Any) -> Any:
    if isinstance(backoff, str):
        return backoff
    if isinstance(backoff, Mapping):
        return {name: _seconds(value) for name, value in backoff.items()}
    if isinstance(backoff, Sequence) and not isinstance(backoff, bytes | bytearray):
        return _seconds(backoff)
    raise TypeError(
        f"backoff must be the name of a strategy, a list of delays or a mapping, got {backoff!r}"
    )


def _encode_unique(unique: Any) -> Any:
    if isinstance(unique, bool):
        return unique
    if isinstance(unique, Mapping):
        return {
            name: strings(f"unique: {name}", value)
            if name in {"fields", "keys"}
            else _seconds(value)
            for name, value in unique.items()
            if value is not None
        }
    raise TypeError(f"unique must be True, False or a mapping, got {unique!r}")


def _seconds(value: Any) -> Any:
    """Say durations in seconds, also those of a list."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return [_seconds(each) for each in value] if isinstance(value, list | tuple) else value


_TIMES = frozenset({"delay", "scheduled_at"})

_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "queue": functools.partial(_string, "queue"),
    "priority": functools.partial(_integer, "priority"),
    "max_attempts": functools.partial(_integer, "max_attempts"),
    "delay": lambda delay: as_delay(delay).total_seconds(),
    "timeout": lambda timeout: as_delay(timeout, "a timeout").total_seconds(),
    "scheduled_at": _encode_time,
    "tags": functools.partial(strings, "tags"),
    "meta": _encode_meta,
    "backoff": _encode_backoff,
    "unique": _encode_unique,
}
