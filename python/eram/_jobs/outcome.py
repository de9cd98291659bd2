"""How a run of a job ends.

A handler returns the first four itself; the others are what the worker makes of its run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeAlias

from eram._jobs.job import Job


@dataclass(frozen=True, slots=True, init=False)
class Snooze:
    """Return it to run the job again later, without using up an attempt.

    Args:
        delay: how long to wait, as a timedelta or in seconds.
    """

    delay: timedelta

    def __init__(self, delay: float | timedelta) -> None:
        object.__setattr__(self, "delay", as_delay(delay))


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """Return it to fail the attempt without an error to raise, and to choose when the next one is.

    The attempt counts: the job is discarded when it was the last one.

    Args:
        after: how long to wait instead of the job's backoff, as a timedelta or in seconds.
        reason: what is recorded as the error of this attempt.
    """

    after: timedelta
    reason: str | None

    def __init__(self, after: float | timedelta, reason: str | None = None) -> None:
        object.__setattr__(self, "after", as_delay(after, "the delay of a retry"))
        object.__setattr__(self, "reason", reason)


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
    """The handler raised, asked for a retry, could not be run at all, or took too long."""

    job: Job
    error: str
    detail: dict[str, str]
    # Instead of the job's backoff.
    delay: timedelta | None = None
    # Whether the run may have been completed all the same: what the server says then counts.
    is_in_doubt: bool = False


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
    result: str | None


Outcome: TypeAlias = Completed | Failed | Snoozed | Cancelled | Discarded | Released | Settled


def as_delay(delay: float | timedelta, what: str = "a delay") -> timedelta:
    """Read a duration given as a timedelta or in seconds; errors call it `what`.

    Raises:
        TypeError: it is neither.
        ValueError: it is negative, infinite or not a number.
    """
    if isinstance(delay, timedelta):
        seconds = delay.total_seconds()
    elif isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"{what} is a timedelta or a number of seconds, got {delay!r}")
    else:
        seconds = delay
    try:
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"{what} must be finite and not negative, got {delay!r}")
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{what} of {delay!r} seconds is too long") from error
