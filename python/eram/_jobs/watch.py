"""What someone who waits for a job knows of it, and what is to be done next.

Nothing here sends anything: that is the same for connections of both kinds.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple

from psycopg import sql
from psycopg.pq import PipelineStatus, TransactionStatus

from eram._base import statements
from eram._base.connection import jittered
from eram._jobs.ear import AnyConnection, Ear
from eram.errors import WaitError, WaitTimeoutError

SHORTEST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 1.0
# A net under what is announced: the job may be moved to a queue that announces elsewhere.
NET_SECONDS = 4.0
# What begins at the end of the timeout may take so long.
LAST_LOOK_SECONDS = 0.2
MAX_MILLISECONDS = 2**31 - 1
NEVER = float("inf")
# Longer is for ever, and more than some clocks can count.
LONGEST_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job has ended.

    Attributes:
        state: `completed`, `discarded` or `cancelled`; None when nothing is left of the job, so
            that it cannot be told any more.
        result: what the handler of a completed job returned.
        error: why the job was discarded or cancelled, if that was said.
    """

    state: str | None
    result: Any = None
    error: str | None = None


class _Row(NamedTuple):
    """What the statement OUTCOME returns."""

    state: str | None
    result: str | None
    error: str | None
    is_final: bool
    channel: str | None
    is_heard: bool
    backend_pid: int
    is_in_recovery: bool
    isolation: str


class Watch:
    """What is known of the job, and what to do next."""

    def __init__(self, conn: AnyConnection, job_id: int, timeout: float | timedelta | None) -> None:
        if isinstance(job_id, bool) or not isinstance(job_id, int):
            raise TypeError(f"job_id must be the id of a job, got {job_id!r}")
        self.ear = Ear(conn, job_id)
        self._conn = conn
        self._job_id = job_id
        self._timeout = _seconds(timeout)
        self._deadline = time.monotonic() + self._timeout
        self._poll = SHORTEST_POLL_SECONDS
        self._row: _Row | None = None
        self.look_at_connection()

    def look_at_connection(self) -> None:
        """See whether it is in a transaction, which cannot be told while it is at a statement."""
        self._is_idle = self._has_no_transaction()
        # Each statement has a transaction of its own then, so that none is left open.
        self.is_transactional = self._is_idle and not self._conn.autocommit

    def _has_no_transaction(self) -> bool:
        return self._conn.info.transaction_status == TransactionStatus.IDLE

    def question(self) -> tuple[LiteralString, str | None, int]:
        """Return the statement that looks, and its parameters."""
        # Before it: what is heard together with the answer may have happened after the look.
        self.ear.has_news = False
        milliseconds = None
        # What is said in someone else's transaction would hold for the rest of it.
        if self.is_limited and self._has_no_transaction() and not self._conn.lock.locked():
            seconds = max(self._deadline - time.monotonic(), LAST_LOOK_SECONDS)
            milliseconds = str(min(math.ceil(1000 * seconds), MAX_MILLISECONDS))
        return statements.OUTCOME, milliseconds, self._job_id

    @property
    def is_limited(self) -> bool:
        """Whether a look may be cut off: not in a transaction, which would be lost by it."""
        return self._is_idle and self._timeout < LONGEST_SECONDS

    def seconds_for_all(self) -> float | None:
        """Say for how long everything together may take, None for ever."""
        return self._timeout + LAST_LOOK_SECONDS if self._timeout < LONGEST_SECONDS else None

    def read(self, values: tuple[Any, ...] | None) -> Outcome | None:
        """Take in what a look has found, if anything; return how the job ended if it has."""
        if values is None:
            return None
        row = self._row = _Row(*values)
        if not self._is_idle and row.isolation not in {"read committed", "read uncommitted"}:
            raise WaitError(
                f"a transaction in {row.isolation.upper()} never sees the end of a job that has not"
                " ended before it began; wait outside of it, or in READ COMMITTED"
            )
        if not row.is_final:
            return None
        result = None if row.result is None else json.loads(row.result)
        # A job that was removed as it was completed leaves nothing but its announcement.
        return Outcome(row.state or self.ear.announced, result, row.error)

    def pause(self) -> float:
        """Say how long to wait before the next look.

        Raises:
            WaitTimeoutError: there is no time left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.is_late()
        if self._row is not None and self.ear.channel == self._row.channel is not None:
            return min(left, jittered(NET_SECONDS))
        seconds = jittered(self._poll)
        self._poll = min(2 * self._poll, LONGEST_POLL_SECONDS)
        return min(left, seconds)

    def is_late(self) -> WaitTimeoutError:
        """Make the error that says so."""
        state = self._row.state if self._row else None
        return WaitTimeoutError(self._job_id, state, self._timeout)

    def tune(self) -> sql.Composed | None:
        """Return the statement by which to hear of the job's end, if there is any to be sent."""
        row = self._row
        if row is None or row.channel is None or not self._can_listen(row):
            return None
        return self.ear.tune(row.channel, is_shared=row.is_heard)

    def _can_listen(self, row: _Row) -> bool:
        return (
            self._is_idle
            and not row.is_in_recovery
            # A pooler hands out a server process other than the one that the client began with.
            and row.backend_pid == self._conn.info.backend_pid
            and self._conn.pgconn.pipeline_status == PipelineStatus.OFF
        )


def _seconds(timeout: float | timedelta | None) -> float:
    if timeout is None:
        return NEVER
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a timeout is a timedelta or a number of seconds, got {timeout!r}")
    if seconds > LONGEST_SECONDS:
        return NEVER
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"a timeout must not be negative, got {timeout!r}")
    return seconds
