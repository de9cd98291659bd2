"""Outages of the database: what the log says of them, and how long each part waits.

Every thread that needs the database is a part. The first one that loses it says so, for all of
them; the last one that has it back says how long it took. What comes and goes is said rarely.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

import psycopg

from eram._base.connection import Backoff, brief

logger = logging.getLogger(__name__)

# With jitter, so long after the server is there the last part has it back.
LONGEST_BACKOFF_SECONDS = 4.0
# When one part has the database back the others try at once, but not all of them together.
SPREAD_SECONDS = 0.2
REMINDER_SECONDS = 60.0
# So soon after an outage another one is a part of it, unless it lasts for longer than a moment.
RELAPSE_SECONDS = 60.0
SHORT_RELAPSE_SECONDS = 5.0

# Errors about the state that the server is in, as opposed to what was sent: no connection, no
# resources (a full disk among them), shutting down or starting, trouble with its files; and the
# database is gone, or a standby.
_CLASSES = ("08", "53", "57", "58")
_STATES = ("3D000", "25006")
# What someone or a timeout has cancelled is about the one statement.
_NOT_STATES = (psycopg.errors.QueryCanceled, psycopg.errors.ConfigurationLimitExceeded)


def is_outage(error: BaseException) -> bool:
    """Say whether an error is about the connection or the server, and so passes by itself."""
    if not isinstance(error, psycopg.Error) or isinstance(error, _NOT_STATES):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_CLASSES) or error.sqlstate in _STATES


class Outage:
    """What the parts of one process know of an outage, which is over when all are back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lost: dict[Part, str] = {}
        self._come_backs = 0
        self._come_backs_before = 0
        self._since = 0.0
        self._ended_at = float("-inf")
        self._tell_at = 0.0
        self._is_told = False

    def __bool__(self) -> bool:
        return bool(self._lost)

    def part(self, name: str, *, longest_seconds: float = LONGEST_BACKOFF_SECONDS) -> Part:
        """Make a part.

        Args:
            name: what the log calls it.
            longest_seconds: how long it waits between two tries, at most; a quarter more by jitter.
        """
        return Part(self, name, Backoff(longest_seconds=longest_seconds))

    def wake(self) -> None:
        """Have every part that waits look whether there is still something to wait for."""
        with self._changed:
            self._changed.notify_all()

    def note_lost(self, part: Part, reason: str) -> None:
        """Note that a part has tried in vain."""
        with self._changed:
            now = time.monotonic()
            if not self._lost:
                is_relapse = now - self._ended_at < RELAPSE_SECONDS
                self._since = now
                self._come_backs_before = self._come_backs
                self._tell_at = now + SHORT_RELAPSE_SECONDS if is_relapse else now
            self._lost[part] = reason
            if now < self._tell_at:
                logger.debug("%s waits for its database: %s", part.name, reason)
                return
            self._tell_at = now + REMINDER_SECONDS
            if self._is_told:
                logger.warning(
                    "the database has been missed for %.0f s, by %s: %s",
                    now - self._since,
                    ", ".join(sorted({each.name for each in self._lost})),
                    reason,
                )
            else:
                self._is_told = True
                logger.warning("%s waits for its database: %s", part.name, reason)

    def note_back(self, part: Part, *, is_served: bool) -> None:
        """Note that a part waits no longer, because it is served or needs nothing any more."""
        with self._changed:
            if self._lost.pop(part, None) is None:
                return
            if is_served:
                self._come_backs += 1
                self._changed.notify_all()
            if self._lost:
                return
            self._ended_at = time.monotonic()
            is_told, self._is_told = self._is_told, False
            # Who stops during an outage has not seen its end.
            if is_told and self._come_backs != self._come_backs_before:
                seconds = self._ended_at - self._since
                logger.info("the database is back after %.1f s", seconds)

    def wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Wait for so long, or until another part is back, or there is nothing to wait for."""
        with self._changed:
            before = self._come_backs
            self._changed.wait_for(lambda: is_over() or self._come_backs != before, seconds)
            if not is_over() and self._come_backs != before:
                spread = random.uniform(0, SPREAD_SECONDS)  # noqa: S311 - not a secret
                self._changed.wait_for(is_over, min(seconds, spread))


class Part:
    """One thread's part in an outage: it tries, says what came of it, and waits in between."""

    def __init__(self, outage: Outage, name: str, backoff: Backoff) -> None:
        self.name = name
        self._outage = outage
        self._backoff = backoff
        self._complaint = Complaint(f"{name} waits for its database")
        self._is_lost = False

    def lost(self, error: psycopg.Error) -> None:
        """Note that the database is out of reach."""
        self._is_lost = True
        self._outage.note_lost(self, brief(error))

    def failed(self, error: psycopg.Error) -> None:
        """Note an error, which may be an outage, or the matter of one statement."""
        if is_outage(error):
            self.lost(error)
        else:
            self._complaint.say(error)

    def back(self) -> None:
        """Note that the database serves this part; that costs nothing if it did before."""
        self._backoff.reset()
        if self._is_lost:
            self._is_lost = False
            self._outage.note_back(self, is_served=True)

    def leave(self) -> None:
        """Note that this part needs no database any more, or not now."""
        if self._is_lost:
            self._is_lost = False
            self._outage.note_back(self, is_served=False)

    def pause(self) -> float:
        """Say after how many seconds to try again."""
        return self._backoff.next_seconds()

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait before the next try: a while, or until other parts are served or it is over.

        Whoever makes it over says so with the outage's `wake()`.
        """
        self._outage.wait(self.pause(), is_over)


class Complaint:
    """What is wrong with one statement again and again, logged once a minute or when it is news."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._text = ""
        self._again_at = 0.0

    def say(self, error: psycopg.Error) -> None:
        """Log it, unless that was done lately."""
        now, text = time.monotonic(), brief(error)
        if text != self._text or now >= self._again_at:
            self._text, self._again_at = text, now + REMINDER_SECONDS
            logger.warning("%s: %s", self._what, text)
