"""A thread that looks at a database again and again, through outages, and acts when it is told to.

Whoever draws is never kept waiting by the database.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

import psycopg

from eram._base.connection import Backoff, Session, brief, call_seconds, open_session
from eram._base.outage import is_outage
from eram._top.look import Looker, Pace
from eram._top.picture import News

NAME = "eram top"
# What takes longer would have to be called again and again in vain.
STATEMENT_SECONDS = 20
LONGEST_BACKOFF_SECONDS = 4.0
# What whoever quits may be kept waiting.
SHORT_SECONDS = 0.5

_WHERE = re.compile(r"^.*failed: (FATAL: +)?")

# Does something with the connection, and says what it was.
Act = Callable[[psycopg.Connection[tuple[object, ...]]], str]


def connect(dsn: str) -> Session:
    """Open a session that looks."""
    session = open_session(dsn, NAME, patience=call_seconds, only_reads=True)
    if session.is_direct:
        session.conn.execute(f"set statement_timeout = '{STATEMENT_SECONDS}s'")
    return session


class Watcher:
    """Looks at a database until the process ends.

    Args:
        dsn: where it is.
        session: an open session.
        interval: how many seconds there are from one look to the next, at least.
        on_news: called when there is something new to be shown.
    """

    def __init__(
        self, dsn: str, session: Session, *, interval: float, on_news: Callable[[], None]
    ) -> None:
        self._dsn = dsn
        self._session: Session | None = session
        self._pace = Pace(interval)
        self._on_news = on_news
        self._looker = Looker()
        self._acts: queue.SimpleQueue[Act | None] = queue.SimpleQueue()
        self._backoff = Backoff(longest_seconds=LONGEST_BACKOFF_SECONDS)
        self._lost_at: datetime | None = None
        # Nobody waits for it: a call may be in the hands of the network.
        self._thread = threading.Thread(target=self._run, name="eram-top", daemon=True)
        self._has_ended = False
        self.message = ""
        self.news = self._look(session)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        """Let the last look end; the server need not finish one that takes long."""
        self._has_ended = True
        self.act()
        self._thread.join(SHORT_SECONDS)
        session = self._session
        if self._thread.is_alive() and session is not None:
            with contextlib.suppress(psycopg.Error):
                session.conn.cancel_safe(timeout=SHORT_SECONDS)
            self._thread.join(SHORT_SECONDS)

    def act(self, act: Act | None = None) -> None:
        """Have something done, and a look right after it."""
        self._acts.put(act)

    def _run(self) -> None:
        seconds = self._pace.remaining()
        while True:
            try:
                act = self._acts.get(timeout=seconds)
            except queue.Empty:
                act = None
            if self._has_ended:
                break
            seconds = self._attempt(act)
            self._on_news()
        if self._session is not None:
            self._session.conn.close()

    def _attempt(self, act: Act | None) -> float:
        """Act, and look; return after how many seconds to look again."""
        try:
            self._session = self._session or connect(self._dsn)
            if act is not None:
                self._do(act, self._session)
            self.news = self._look(self._session)
        except psycopg.Error as error:
            return self._failed(error)
        self._lost_at = None
        self._backoff.reset()
        return self._pace.remaining()

    def _do(self, act: Act, session: Session) -> None:
        try:
            self.message = act(session.conn)
        except psycopg.Error as error:
            self.message = f"failed: {brief(error)}"
            if session.conn.closed:
                raise

    def _look(self, session: Session) -> News:
        since = time.monotonic()
        overview = self._looker.look(session.conn)
        self._pace.took(time.monotonic() - since)
        return News(overview=overview, pause=self._pace.seconds)

    def _failed(self, error: psycopg.Error) -> float:
        """Say what is in the way, and drop a session that is of no use any more."""
        self._lost_at = self._lost_at or datetime.now().astimezone()
        if self._session is not None and (self._session.conn.closed or is_outage(error)):
            self._session.conn.close()
            self._session = None
        what = "no connection" if self._session is None else "no answer"
        # Where it was to be found, everybody knows.
        reason = _WHERE.sub("", brief(error))
        note = f"{what} since {self._lost_at:%H:%M:%S}: {reason}"
        self.news = replace(self.news, note=note)
        return max(self._backoff.next_seconds(), 0.0 if self._session is None else 1.0)
