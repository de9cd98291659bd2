"""Listening for a worker behind a pooler: a thread with a direct connection, for nothing else.

Its session declares waiting those queues that have nothing to do, hears of what is enqueued for
them, and wakes them; they fetch through the pooler. While there is no such session they poll.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import psycopg

from eram._base import statements
from eram._base.connection import (
    Session,
    call_seconds,
    open_maintenance_session,
    open_session,
)
from eram._base.outage import Outage
from eram._base.sleep import Sleeper
from eram._runtime.waking import Answer, Declaration
from eram.errors import ConfigError

logger = logging.getLogger(__name__)

# A connection that a firewall has dropped says nothing: after so long it is asked.
CHECK_SECONDS = 30.0
# That of another server has another time.
_DATABASE = "select current_database(), pg_postmaster_start_time()::text"


class _OtherDatabaseError(psycopg.ProgrammingError):
    """What is heard there is not what the worker waits for."""


class _UselessError(Exception):
    """There is nothing to listen for, or nothing could be heard."""

    def __init__(self, text: str, level: int) -> None:
        super().__init__(text)
        self.level = level

    def say(self) -> None:
        logger.log(self.level, "%s", self)


class Line:
    """What a queue's thread asks of the thread that listens, and what it hears.

    What is asked has a number: an answer counts only if nothing was asked since.
    """

    def __init__(self, queue: str, ring: Callable[[], None]) -> None:
        self.queue = queue
        self.wish = (0, False)
        self._ring = ring
        self._wake: Callable[[], None] = lambda: None
        self._answers: deque[tuple[int, Answer]] = deque(maxlen=1)
        self._is_notified = False

    def begin(self, wake: Callable[[], None]) -> None:
        """Have this called when there is news."""
        self._wake = wake

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self._answers) or self._is_notified

    def ask(self) -> None:
        """Wish to be woken; the answer comes later, and again whenever the session is a new one."""
        self._wish(is_wanted=True)

    def stop(self) -> None:
        """Wish to be left alone."""
        if self.wish[1]:
            self._wish(is_wanted=False)

    def take(self) -> tuple[bool, Answer | None]:
        """Return whether there was a notification, and the last answer."""
        was_notified, self._is_notified = self._is_notified, False
        number, answer = self._answers.pop() if self._answers else (0, None)
        return was_notified, answer if number == self.wish[0] else None

    def answer(self, number: int, answer: Answer) -> None:
        """Answer the wish of this number."""
        self._answers.append((number, answer))
        self._wake()

    def notify(self) -> None:
        """Tell that something was enqueued, if that is wanted still."""
        if self.wish[1]:
            self._is_notified = True
            self._wake()

    def _wish(self, *, is_wanted: bool) -> None:
        self.wish = (self.wish[0] + 1, is_wanted)
        self._ring()


class _Ear(Sleeper):
    """A sleeper that says which queues it was notified of."""

    def hear(
        self, conn: psycopg.Connection[Any], seconds: float, has_work: Callable[[], object]
    ) -> list[str]:
        """Sleep unless there is work, and return what has come in.

        Raises:
            psycopg.OperationalError: the connection is lost.
        """
        self._is_asleep = True
        try:
            # Notifications can have come in together with the last answer.
            queues = self._take(conn)
            if not queues and not has_work():
                self._select(conn, seconds)
        finally:
            self._is_asleep = False
        conn.pgconn.consume_input()
        return queues + self._take(conn)

    def _take(self, conn: psycopg.Connection[Any]) -> list[str]:
        return [each.extra.decode() for each in iter(conn.pgconn.notifies, None)]


class Listening:
    """Listens for some queues, in a thread.

    Args:
        listen_dsn: a direct way to the database.
        dsn: where the worker connects, through a pooler.
        queues: for which there are to be lines.
    """

    def __init__(self, listen_dsn: str, dsn: str, queues: Iterable[str]) -> None:
        self._listen_dsn = listen_dsn
        self._dsn = dsn
        self._ear = _Ear()
        self.lines = {queue: Line(queue, self._ear.ring) for queue in queues}
        # Of its own: the other parts lack nothing without this session.
        self._outage = Outage()
        self._part = self._outage.part("listening")
        self._is_stopping = False
        # A daemon: nothing depends on its end.
        self._thread = threading.Thread(target=self._run, name="eram-listening", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        try:
            self._thread.start()
        except BaseException:
            self._ear.close()
            raise

    def stop(self) -> None:
        """End, in a moment."""
        self._is_stopping = True
        self._ear.ring()
        self._outage.wake()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                with closing(_connect(self._listen_dsn, self._dsn)) as conn:
                    self._serve(conn)
            except psycopg.Error as error:
                self._part.failed(error)
            except _UselessError as error:
                error.say()
                break
            # Nobody would listen any more: it must survive anything.
            except Exception:
                logger.exception("listening stumbled over an error")
            self._part.wait(lambda: self._is_stopping)
        self._part.leave()
        self._ear.close()

    def _serve(self, conn: psycopg.Connection[Any]) -> None:
        declarations = {line: Declaration(conn, line.queue) for line in self.lines.values()}
        granted = dict.fromkeys(declarations, 0)
        conn.add_notify_handler(lambda notify: self._notify(notify.payload))

        def has_work() -> bool:
            is_wished = any(line.wish[0] != number for line, number in granted.items())
            return is_wished or self._is_stopping

        while not self._is_stopping:
            for line, declaration in declarations.items():
                number, is_wanted = line.wish
                if number == granted[line]:
                    continue
                granted[line] = number
                if is_wanted:
                    line.answer(number, declaration.ask())
                else:
                    declaration.stop()
            self._part.back()
            checks_at = time.monotonic() + CHECK_SECONDS
            for queue in self._ear.hear(conn, CHECK_SECONDS, has_work):
                self._notify(queue)
            if time.monotonic() >= checks_at:
                conn.execute(statements.BACKEND_PID)

    def _notify(self, queue: str) -> None:
        if (line := self.lines.get(queue)) is not None:
            line.notify()


def can_listen(listen_dsn: str, dsn: str) -> bool:
    """Say whether it is of use to listen there, as far as is known; if not, the log says why.

    Raises:
        ConfigError: it is another database.
    """
    try:
        _connect(listen_dsn, dsn).close()
    except _OtherDatabaseError as error:
        raise ConfigError(str(error)) from error
    except _UselessError as error:
        error.say()
        return False
    # It may come yet, and the queues poll until then.
    except psycopg.Error:
        return True
    return True


def _connect(listen_dsn: str, dsn: str) -> psycopg.Connection[Any]:
    """Connect, and see that it is a direct session of the database that the worker works in."""
    ours = open_session(dsn, "eram probe", patience=call_seconds)
    with closing(ours.conn):
        if ours.is_direct:
            raise _UselessError(
                "listen_dsn is not needed: dsn leads to the server directly, and the queues listen"
                " there",
                logging.INFO,
            )
        expected = ours.conn.execute(_DATABASE).fetchone()
    session = open_maintenance_session(listen_dsn, "eram listening", patience=call_seconds)
    try:
        _check(session, expected)
    except BaseException:
        session.conn.close()
        raise
    return session.conn


def _check(session: Session, expected: Any) -> None:
    if not session.is_direct:
        raise _UselessError(
            "listen_dsn leads to a pooler, where no session can listen; the queues poll",
            logging.WARNING,
        )
    found: Any = session.conn.execute(_DATABASE).fetchone()
    if found != expected:
        server = "" if found[0] != expected[0] else " of another server"
        raise _OtherDatabaseError(
            f'listen_dsn leads to the database "{found[0]}"{server}, but dsn to "{expected[0]}"'
        )
