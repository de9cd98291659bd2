"""What can be said of a job, and how it is said in JSON.

Defaults and checks are the extension's. Only what could not be said in JSON at all is refused here,
before anything is sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

from eram._outcome import as_delay
from eram._suggest import nearest


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
    return {name: _encode(name, value) for name, value in options.items() if value is not None}


def strings(name: str, value: Any) -> list[str]:
    """Read a list of strings."""
    # A string is a sequence as well, of its letters.
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of strings, got {value!r}")
    return list(value)


def _encode(name: str, value: Any) -> Any:
    encode = _ENCODERS.get(name)
    return value if encode is None else encode(value)


def _encode_time(time: Any) -> str:
    if not isinstance(time, datetime):
        raise TypeError(f"scheduled_at must be a datetime, got {time!r}")
    if time.utcoffset() is None:
        raise ValueError(f"scheduled_at must have a time zone, got {time!r}")
    return time.astimezone(UTC).isoformat()


def _encode_backoff(backoff: Any) -> Any:
    if isinstance(backoff, str):
        return backoff
    if isinstance(backoff, Mapping):
        return {name: _seconds(value) for name, value in backoff.items()}
    if isinstance(backoff, Sequence):
        return [_seconds(value) for value in backoff]
    raise TypeError(
        f"backoff must be the name of a strategy, a list of delays or a mapping, got {backoff!r}"
    )


def _encode_unique(unique: Any) -> Any:
    if isinstance(unique, bool):
        return unique
    if isinstance(unique, Mapping):
        return {
            name: strings(name, value) if name in {"fields", "keys"} else _seconds(value)
            for name, value in unique.items()
            if value is not None
        }
    raise TypeError(f"unique must be True, False or a mapping, got {unique!r}")


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "delay": lambda delay: as_delay(delay).total_seconds(),
    "timeout": lambda timeout: as_delay(timeout, "a timeout").total_seconds(),
    "scheduled_at": _encode_time,
    "tags": functools.partial(strings, "tags"),
    "meta": dict,
    "backoff": _encode_backoff,
    "unique": _encode_unique,
}
