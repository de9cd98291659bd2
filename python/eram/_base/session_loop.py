"""A thread with a session on which something is done again and again, whatever happens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from eram._base.connection import Session, jittered
from eram._base.outage import Outage

logger = logging.getLogger(__name__)

# A session that proves life must come back within the grace that the server grants (3 s). It is
# the scout of the other parts, too, which try less often and follow when this one is back.
LONGEST_BACKOFF_SECONDS = 1.0


class SessionLoop:
    """Keeps a session, and does one thing with it until that is over.

    A session is given up for nothing but its loss, and replaced as soon as the server lets us in.

    Args:
        what: what the log calls it.
        pause: how many seconds there are between two acts when one has failed.
        connect: opens a session.
        act: what is done; returns after how many seconds it is to be done again, or None at the
            end of all.
        outage: what the parts of the process share.
        is_over: whether a lost session need not be replaced any more.
        on_ended: called at the end of all.
    """

    def __init__(
        self,
        what: str,
        *,
        pause: float,
        connect: Callable[[], Session],
        act: Callable[[Session], float | None],
        outage: Outage,
        is_over: Callable[[], bool],
        on_ended: Callable[[], None],
    ) -> None:
        self._what = what
        self._pause = pause
        self._connect = connect
        self._act = act
        self._is_over = is_over
        self._on_ended = on_ended
        self._part = outage.part(what, longest_seconds=LONGEST_BACKOFF_SECONDS)
        self._session: Session | None = None
        self._alarm = threading.Event()
        self._has_ended = threading.Event()
        # A daemon: whoever ends it decides how long to wait.
        self._thread = threading.Thread(target=self._run, name=f"eram-{what}", daemon=True)

    def start(self, session: Session) -> None:
        """Start the thread with a session that is open."""
        self._session = session
        self._thread.start()

    def ring(self) -> None:
        """Have the next act begin now."""
        self._alarm.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, and say whether it has come."""
        # A join() that a signal handler interrupts would have the thread pass for ended.
        if not self._has_ended.wait(timeout):
            return False
        self._thread.join()
        return True

    def _run(self) -> None:
        try:
            self._act_until_the_end()
        finally:
            self._has_ended.set()

    def _act_until_the_end(self) -> None:
        while True:
            seconds: float | None = jittered(self._pause)
            try:
                self._session = self._session or self._connect()
                seconds = self._act(self._session)
                self._part.back()
            except psycopg.Error as error:
                if self._session is None or self._session.conn.closed:
                    self._session = None
                    self._part.lost(error)
                    seconds = None if self._is_over() else self._part.pause()
                else:
                    self._part.failed(error)
            # Nobody would do it any more: it must survive anything.
            except Exception:
                logger.exception("%s stumbled over an error", self._what)
            if seconds is None:
                break
            self._alarm.wait(seconds)
            self._alarm.clear()
        if self._session is not None:
            self._session.conn.close()
        self._part.leave()
        self._on_ended()
