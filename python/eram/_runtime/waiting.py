"""When a queue's session fetches next, and whether enqueues are to notify it meanwhile.

A producer notifies only sessions that have declared themselves waiting. One that found none may
commit after the declaration, so the session polls briskly until every transaction of that time has
ended; from then on it can sleep until it is notified or a job is due. A slow poll is the backstop.

Where the queue has a global limit, a fetch may bring less than there is. So the session fetches
again whenever a job of its own has ended, which leaves room for the next. While the limit is
reached or the queue is paused the server takes no declaration, and the session polls.

The order matters: first ask whether all have ended, then fetch. What the fetch does not see then
is enqueued by someone who sees this session waiting. Nor is a job missed that becomes due in
between: the server says when the next one is due, and the fetch takes what is due by then.

A session that has settled does not ask for its slow polls as long as they find nothing: it would
have been notified. And where it is notified it fetches first, so that the job starts at once.

Behind a pooler another session can be declared instead of this one: see `listening`. It does not
fetch, so nobody can say whether it has settled. What was on its way when it was declared, and what
a fetch of a stale cursor has passed over, is found by polls: brisk at first, then rarer and rarer.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

from eram._base.connection import jittered
from eram._runtime.listening import Line
from eram._runtime.waking import NEVER, Answer, Declaration, Waker

BRISK_SECONDS = 0.02
# After a notification behind a pooler: the fetch may have passed over what it was of.
NOTIFIED_SECONDS = 0.02
LONGEST_BRISK_SECONDS = 0.2
# While a transaction stays open that was there before the declaration: a share of that time.
BRISK_SHARE = 0.1
# A session that has had no room for jobs for so long need not be notified of them.
BUSY_SECONDS = 0.02
# One full batch may be a coincidence, as it always is where one job fills the demand.
FULL_FETCHES = 2


class Waiting:
    """The waiting of one session for one queue.

    Args:
        conn: the session.
        queue: the queue.
        poll_interval: after how long to fetch at the latest.
        can_listen: whether the session can be notified.
        line: to where another session is, where this one cannot.
    """

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        queue: str,
        *,
        poll_interval: float,
        can_listen: bool,
        line: Line | None = None,
    ) -> None:
        self._poll_interval = poll_interval
        self._line = None if can_listen else line
        if self._line is not None:
            # An earlier session of this queue may have wished something.
            self._line.stop()
        self._waker: Waker | None = Declaration(conn, queue) if can_listen else self._line
        # Or about to be.
        self._is_declared = False
        self._is_settled = False
        # As far as is known: behind a pooler, the server may never be asked.
        self._is_limited = not can_listen
        self._brisk = BRISK_SECONDS
        self._declared_at = 0.0
        self._was_notified = False
        # Whether there were jobs since the server was asked: others may follow that are due later.
        self._has_news = False
        # When the next job is due, as the server said, and when to ask it again.
        self._due_at = NEVER
        self._ask_at = NEVER
        self._fetch_at = 0.0
        self._full_fetches = 0
        self._busy_since: float | None = None

    def seconds_left(self) -> float:
        """Say how long to sleep before the next fetch, if nothing happens meanwhile."""
        return max(0.0, self._fetch_at - time.monotonic())

    def notified(self) -> None:
        """Note that something has come in."""
        self._was_notified = self._has_news = True
        self._fetch_at = 0.0

    def hear(self) -> None:
        """Take what has come over the line."""
        if self._line is None:
            return
        was_notified, answer = self._line.take()
        if was_notified:
            self.notified()
        if answer is not None:
            self._take(answer)
            if answer.is_declared:
                # What became due before it was asked is not in the answer.
                self._fetch_at = 0.0

    def put_off(self) -> None:
        """Note that this session has just put off a job, of which nobody notifies it."""
        self._ask_again_in(BRISK_SECONDS)

    def freed(self) -> None:
        """Note that jobs of this session have ended, which may be all that a limit allowed."""
        if self._is_limited:
            self._fetch_at = 0.0
            # The answer that is on its way may be of the time before.
            self._has_news |= self._line is not None

    def before_fetch(self) -> None:
        """Learn what the server knows about our waiting, unless it could be nothing new."""
        self._busy_since = None
        if self._is_declared and not (self._is_settled and self._can_ask_later()):
            self._ask()

    def after_fetch(self, *, fetched: int, demand: int) -> None:
        """Decide when to fetch next, by what a fetch has returned."""
        was_notified, self._was_notified = self._was_notified, False
        self._has_news |= fetched > 0
        if fetched >= demand:
            self._full_fetches += 1
            self._fetch_at = 0.0
            if self._full_fetches >= FULL_FETCHES:
                self.stop()
            return
        self._full_fetches = 0
        if not self._is_declared and self._waker is not None and self._ask():
            return
        if was_notified and self._line is not None:
            self._brisk = NOTIFIED_SECONDS
        pause = self._pause()
        if was_notified:
            # It may have been of a job for later. While others come in there is no hurry to ask.
            self._ask_again_in(LONGEST_BRISK_SECONDS if fetched else 0.0)
        self._fetch_at = min(time.monotonic() + pause, self._due_at, self._ask_at)

    def busy(self) -> float:
        """Note that there is no room for jobs, and say after how long to do so again."""
        if not self._is_declared:
            return NEVER
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if now - self._busy_since < BUSY_SECONDS:
            return BUSY_SECONDS - (now - self._busy_since)
        self.stop()
        return NEVER

    def stop(self) -> None:
        """Stop being notified."""
        if self._waker is not None and self._is_declared:
            self._waker.stop()
        self._is_declared = self._is_settled = False
        self._due_at = self._ask_at = NEVER
        self._fetch_at = 0.0

    def _can_ask_later(self) -> bool:
        is_time = min(self._due_at, self._ask_at) <= time.monotonic()
        return self._was_notified or not (self._has_news or is_time)

    def _ask_again_in(self, seconds: float) -> None:
        if not self._is_declared:
            return
        self._ask_at = min(self._ask_at, time.monotonic() + seconds)
        self._fetch_at = min(self._fetch_at, self._ask_at)

    def _pause(self) -> float:
        pause = jittered(self._poll_interval)
        if not self._is_declared:
            return pause
        if not self._is_settled:
            passed = time.monotonic() - self._declared_at
            longest = max(LONGEST_BRISK_SECONDS, BRISK_SHARE * passed)
            pause, self._brisk = min(self._brisk, pause), min(2 * self._brisk, longest)
        elif self._line is not None:
            pause, self._brisk = min(self._brisk, pause), 2 * self._brisk
        return pause

    def _ask(self) -> bool:
        """Ask the server, and say whether this session has just been declared."""
        self._has_news = False
        answer = None if self._waker is None else self._waker.ask()
        if answer is not None:
            self._take(answer)
            return answer.is_new
        # It comes later. Meanwhile nothing is known.
        self._is_declared = self._is_settled = True
        self._due_at = self._ask_at = NEVER
        return False

    def _take(self, answer: Answer) -> None:
        self._is_declared = answer.is_declared
        self._is_settled = answer.is_declared and (answer.is_settled or self._line is not None)
        self._is_limited = answer.is_limited
        self._ask_at = NEVER
        self._due_at = answer.due_at
        if answer.is_new:
            self._brisk = BRISK_SECONDS
            self._declared_at = time.monotonic()
            self._fetch_at = 0.0
