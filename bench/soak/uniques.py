"""Whether unique keys held: what producers were told, against when jobs ran and ended.

All times are nanoseconds of one machine's clock. A call takes a while, so what is sure about the
moment when a job was stored is only that it lies between the call and its return; whatever could
still be right counts as right.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class Holder:
    """A job that was stored with a key."""

    job_id: int
    called_at: int
    returned_at: int
    refused_at: int = 0  # the last call that was told to be a duplicate of it
    told_at: int | None = None  # when its end was known to be stored


class Uniques:
    """Watches the keys of one way of being unique.

    Args:
        window: how long a key holds, in nanoseconds; None is until its job ends.
    """

    def __init__(self, window: int | None = None) -> None:
        self._window = window
        self._holders: defaultdict[str, list[Holder]] = defaultdict(list)  # the latest last
        self._keys: dict[int, str] = {}
        self.stored = 0
        self.refused = 0
        self.faults: list[str] = []

    def told(
        self, key: str, job_id: int, *, is_duplicate: bool, called_at: int, returned_at: int
    ) -> None:
        """Note what a producer was told."""
        if is_duplicate:
            self._refuse(key, job_id, called_at)
        else:
            self._store(key, Holder(job_id, called_at, returned_at))

    def ran(self, job_id: int, ended_at: int) -> None:
        """Note when the handler of a job was over; its key holds at least until then."""
        key = self._keys.get(job_id, "")
        holder = self._find(key, job_id)
        if holder is None or self._window is not None:
            return
        for other in self._holders[key]:
            if other.called_at >= holder.returned_at and other.returned_at <= ended_at:
                self.faults.append(
                    f"job {other.job_id} was stored while job {job_id} had key {key!r}"
                )

    def ended(self, job_id: int, told_at: int) -> None:
        """Note when it was known that the end of a job was stored; its key is free since then."""
        holder = self._find(self._keys.get(job_id, ""), job_id)
        if holder is not None:
            holder.told_at = told_at
            self._check_refused(holder)

    def _store(self, key: str, holder: Holder) -> None:
        self.stored += 1
        holders = self._holders[key]
        if holders and self._window is not None:
            last = holders[-1]
            apart = max(last.returned_at, holder.returned_at) - min(
                last.called_at, holder.called_at
            )
            if apart < self._window:
                self.faults.append(
                    f"jobs {last.job_id} and {holder.job_id} have key {key!r} in one window"
                )
        holders.append(holder)
        self._keys[holder.job_id] = key
        # What a producer has noted late may be about the one before the last, not about others.
        for forgotten in holders[:-3]:
            del self._keys[forgotten.job_id]
        del holders[:-3]

    def _refuse(self, key: str, job_id: int, called_at: int) -> None:
        self.refused += 1
        holder = self._find(key, job_id)
        if holder is not None:  # else another producer is about to note it
            holder.refused_at = max(holder.refused_at, called_at)
            self._check_refused(holder)

    def _check_refused(self, holder: Holder) -> None:
        free_at = holder.told_at if self._window is None else holder.returned_at + self._window
        if free_at is not None and holder.refused_at > free_at:
            self.faults.append(
                f"a duplicate of job {holder.job_id} was refused though its key was free"
            )
            holder.refused_at = 0

    def _find(self, key: str, job_id: int) -> Holder | None:
        holders = self._holders.get(key, ())
        return next((holder for holder in holders if holder.job_id == job_id), None)
