"""The job as its handler sees it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

# As fetched in binary form: jsonb as bytes behind a version byte, times as microseconds since 2000,
# the timeout in seconds. Most handlers look at few of these, so each is decoded only when it is
# asked for.
JobRow: TypeAlias = tuple[
    int, int, str, bytes, bytes, list[str], str, int, int, int, int, int, int, float | None
]

NEVER = float("inf")

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Job:
    """One run of a job, as given to its handler. Nothing in it can be assigned to."""

    __slots__ = ("_args", "_deadline", "_is_over", "_is_timed_out", "_late_at", "_meta", "_row")

    def __init__(self, row: JobRow) -> None:
        self._row = row
        self._args: dict[str, Any] | None = None
        self._meta: dict[str, Any] | None = None
        self._deadline: datetime | None = None
        self._late_at = NEVER
        self._is_over = False
        self._is_timed_out = False

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.handler} run {self.run}>"

    @property
    def id(self) -> int:
        """Identifies the job for good, over all its runs."""
        return self._row[0]

    @property
    def run(self) -> int:
        """Numbers the runs of the job; only the latest one can report how the job ended."""
        return self._row[1]

    @property
    def handler(self) -> str:
        """The path of the handler, `module:function`."""
        return self._row[2]

    @property
    def args(self) -> dict[str, Any]:
        """The arguments that the job was enqueued with.

        What a handler changes in them stays with this run, and out of its parameters.
        """
        if self._args is None:
            self._args = _decode_jsonb(self._row[3])
        return self._args

    @property
    def meta(self) -> dict[str, Any]:
        """What the producer noted about the job, not meant as arguments."""
        if self._meta is None:
            self._meta = _decode_jsonb(self._row[4])
        return self._meta

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find the job by."""
        return tuple(self._row[5])

    @property
    def queue(self) -> str:
        """The queue that the job was fetched from."""
        return self._row[6]

    @property
    def priority(self) -> int:
        """From 0, which goes first, to 9."""
        return self._row[7]

    @property
    def attempt(self) -> int:
        """Counts from 1; a snooze or a release gives the attempt back."""
        return self._row[8]

    @property
    def max_attempts(self) -> int:
        """The job is discarded when this attempt fails."""
        return self._row[9]

    @property
    def inserted_at(self) -> datetime:
        """When the job was enqueued, in UTC like all times here."""
        return _decode_time(self._row[10])

    @property
    def scheduled_at(self) -> datetime:
        """When this run was due."""
        return _decode_time(self._row[11])

    @property
    def attempted_at(self) -> datetime:
        """When this run was fetched."""
        return _decode_time(self._row[12])

    @property
    def timeout(self) -> timedelta | None:
        """How long this attempt may take; None is for ever."""
        seconds = self._row[13]
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out, by this machine's clock; None is never.

        It is counted from when the handler begins, and None before that.
        """
        return self._deadline

    @property
    def cancelled(self) -> bool:
        """Whether this run is over, whatever the handler does: a long handler asks now and then.

        Someone has cancelled the job, or the attempt has timed out. What the handler returns
        afterwards is not stored.
        """
        return self._is_over

    @property
    def timed_out(self) -> bool:
        """Whether the attempt has timed out; `cancelled` is true then as well."""
        return self._is_timed_out

    @property
    def timeout_seconds(self) -> float | None:
        """The timeout as it was fetched."""
        return self._row[13]

    @property
    def late_at(self) -> float:
        """When this attempt times out, as time.monotonic() counts."""
        return self._late_at

    def args_to_give(self) -> dict[str, Any]:
        """Decode the args for whoever may change them."""
        return _decode_jsonb(self._row[3])

    def forget_changes(self) -> None:
        """Let what was fetched be seen anew, whatever someone has done to `args` and `meta`."""
        self._args = self._meta = None

    def mark_begun(self) -> None:
        """Note that the handler begins now; the worker does this where there is a timeout."""
        if (timeout := self.timeout) is not None:
            self._deadline = datetime.now(UTC) + timeout
            self._late_at = time.monotonic() + timeout.total_seconds()

    def mark_found_as(self, path: str) -> None:
        """Note the path of the handler that knows the job's handler for an alias of its own."""
        self._row = (*self._row[:2], path, *self._row[3:])

    def mark_cancelled(self) -> None:
        """Note that the job was cancelled; the worker does this."""
        self._is_over = True

    def mark_timed_out(self) -> None:
        """Note that the attempt has timed out; the worker does this."""
        self._is_timed_out = True
        self._is_over = True


def _decode_jsonb(value: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(value[1:].decode())
    return decoded


def _decode_time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
