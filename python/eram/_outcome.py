"""How a run of a job ends.

A handler returns the first three itself; the others are what the worker makes of its run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeAlias

from eram._job import Job


@dataclass(frozen=True, slots=True, init=False)
class Snooze:
    """Return it to run the job again later, without using up an attempt.

    Args:
        delay: how long to wait, as a timedelta or in seconds.
    """

    delay: timedelta

    def __init__(self, delay: float | timedelta) -> None:
        object.__setattr__(self, "delay", as_delay(delay))


@dataclass(frozen=True, slots=True)
class Cancel:
    """Return it to end the job as cancelled: it was not to be done after all."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """Return it to end the job as discarded: it failed, and trying again would not help."""

    reason: str


class Completed(NamedTuple):
    """The handler returned: `result` is JSON, or None when there is nothing to keep."""

    job: Job
    result: str | None


class Failed(NamedTuple):
    """The handler raised, or could not be run at all."""

    job: Job
    error: str
    detail: dict[str, str]


class Snoozed(NamedTuple):
    """The handler asked to be run again later."""

    job: Job
    delay: timedelta


class Cancelled(NamedTuple):
    """The handler called its job off."""

    job: Job
    reason: str | None


class Discarded(NamedTuple):
    """The handler gave its job up."""

    job: Job
    reason: str


class Released(NamedTuple):
    """The handler was not started: the job goes back as if it had not been fetched."""

    job: Job


class Settled(NamedTuple):
    """The job was completed by the transaction that its handler ran in."""

    job: Job


Outcome: TypeAlias = Completed | Failed | Snoozed | Cancelled | Discarded | Released | Settled


def as_delay(delay: float | timedelta) -> timedelta:
    """Read a duration given as a timedelta or in seconds.

    Raises:
        TypeError: it is neither.
        ValueError: it is negative, infinite or not a number.
    """
    if isinstance(delay, timedelta):
        seconds = delay.total_seconds()
    elif isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"a delay is a timedelta or a number of seconds, got {delay!r}")
    else:
        seconds = delay
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"a delay must be finite and not negative, got {delay!r}")
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"a delay of {delay!r} seconds is too long") from error
