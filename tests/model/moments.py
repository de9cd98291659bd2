"""Moments as far as they are known: the clock was read before a call and after it."""

from __future__ import annotations

import dataclasses

SECOND = 1_000_000  # times are whole microseconds since 1970, as the server keeps them


class UnsettledError(AssertionError):
    """It cannot be said whether a moment has come: the machine should have waited."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """Something happened not before `earliest` and not after `latest`."""

    earliest: int
    latest: int

    def __add__(self, seconds: float) -> Moment:
        """Return the moment that much later."""
        return self.plus(seconds, seconds)

    def plus(self, shortest: float, longest: float) -> Moment:
        """Return a moment that is later by something between the two."""
        return Moment(
            self.earliest + round(shortest * SECOND), self.latest + round(longest * SECOND)
        )

    def but_not_before(self, other: Moment) -> Moment:
        """Return the later one of two moments."""
        return Moment(max(self.earliest, other.earliest), max(self.latest, other.latest))

    def has_come(self, at: Moment) -> bool:
        """Say whether this moment is past at the time of a call."""
        if self.latest <= at.earliest:
            return True
        if self.earliest > at.latest:
            return False
        raise UnsettledError(f"{self} is too close to {at}")

    def fits(self, at: int | None) -> bool:
        """Say whether it may have been at that time, but for a clock's rounding."""
        slack = SECOND // 1000
        return at is not None and self.earliest - slack <= at <= self.latest + slack


def exactly(at: int) -> Moment:
    """Return the moment that is known to the microsecond."""
    return Moment(at, at)
