"""Commands that a tick has handed out: each is run in a session of its own, and reported.

A command may run for an hour, end its session, or leave it in any state. So its session is used for
nothing else, and what became of it is reported over another one, until the server has heard it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from eram._base import statements, wording
from eram._base.connection import (
    Session,
    brief,
    call_seconds,
    is_warning,
    open_maintenance_session,
    open_session,
    set_command_limits,
)
from eram._base.outage import Complaint, Outage, Part, is_outage

logger = logging.getLogger(__name__)

# A minute after it was handed out, the server takes a command for lost.
LONGEST_CONNECTING_SECONDS = 30.0
CANCEL_SECONDS = 2.0
CANCEL_AGAIN_SECONDS = 0.2
# How long the server may be late with a timeout before the client acts.
SERVER_FIRST_SECONDS = 1.0

_STOPPED = "its ticker was stopped"
_NOT_CANCELLED = "a command could not be cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a tick has handed out."""

    run_id: int
    text: str
    schedule: str
    timeout_milliseconds: int


class CommandRunner:
    """Runs one command at a time, in a thread that lives as long as it.

    Args:
        dsn: where the database is.
        outage: what the parts of the process share.
        on_ended: called when another command can be run.
    """

    def __init__(self, dsn: str, *, outage: Outage, on_ended: Callable[[], None]) -> None:
        self._dsn = dsn
        self._outage = outage
        self._on_ended = on_ended
        self._command: Command | None = None
        self._conn: psycopg.Connection[Any] | None = None
        self._is_cancelled = threading.Event()
        self.run_count = 0
        self.failure_count = 0

    @property
    def command(self) -> Command | None:
        """The command in hand, from when it is begun until it is reported."""
        return self._command

    def start(self, command: Command) -> None:
        """Begin a command; there must be none in hand."""
        # A daemon: the process must be able to end before a command does.
        thread = threading.Thread(
            target=self._run, args=(command,), name="eram-command", daemon=True
        )
        self._command = command
        try:
            thread.start()
        except BaseException:
            self._command = None
            raise

    def cancel(self) -> None:
        """Cut off the command in hand; its end is reported at once or not at all."""
        self._is_cancelled.set()
        self._outage.wake()
        deadline = time.monotonic() + CANCEL_SECONDS
        # Again and again, for one that is about to begin would not notice.
        complaint = Complaint(_NOT_CANCELLED)
        while (conn := self._conn) is not None and time.monotonic() < deadline:
            _cancel(conn, complaint)
            threading.Event().wait(CANCEL_AGAIN_SECONDS)

    def _run(self, command: Command) -> None:
        part = self._outage.part(f'the command of schedule "{command.schedule}"')
        try:
            # Its session is closed after the report: a lock of it tells the server that it is run.
            with contextlib.ExitStack() as sessions:
                start = time.monotonic()
                error = self._execute(command, part, sessions)
                seconds = time.monotonic() - start
                self.run_count += 1
                self.failure_count += error is not None
                self._report(command, part, error)
            if error is None:
                logger.info('ran the command of schedule "%s" in %.1f s', command.schedule, seconds)
        # The server will take it for lost.
        except psycopg.Error as problem:
            logger.error(  # noqa: TRY400 - a traceback says nothing of the database
                'the command of schedule "%s" could not be reported: %s',
                command.schedule,
                brief(problem),
            )
        # The next command is not to suffer from it.
        except Exception:
            logger.exception('the command of schedule "%s" was not reported', command.schedule)
        finally:
            part.leave()
            self._command = None
            self._on_ended()

    def _execute(self, command: Command, part: Part, sessions: contextlib.ExitStack) -> str | None:
        """Run a command, and say what went wrong."""
        try:
            session = self._connect(part)
        except psycopg.Error as error:
            return f"there was no connection to run the command: {brief(error)}"
        self._conn = sessions.enter_context(contextlib.closing(session.conn))
        try:
            return self._execute_in(session, command)
        except psycopg.errors.QueryCanceled as error:
            why = f" ({_STOPPED})" if self._is_cancelled.is_set() else ""
            return brief(error) + why
        except psycopg.Error as error:
            return brief(error)
        # What psycopg cannot read, for example.
        except Exception as error:
            return wording.in_words(error)
        finally:
            if session.conn.info.transaction_status != TransactionStatus.IDLE:
                # What it has locked may be what the report needs.
                session.conn.close()
            self._conn = None

    def _connect(self, part: Part) -> Session:
        deadline = time.monotonic() + LONGEST_CONNECTING_SECONDS
        while True:
            try:
                session = open_session(self._dsn, "eram command", patience=call_seconds)
            except psycopg.OperationalError as error:
                part.lost(error)
                part.wait(self._is_cancelled.is_set)
                if time.monotonic() > deadline or self._is_cancelled.is_set():
                    raise
            else:
                part.back()
                return session

    def _execute_in(self, session: Session, command: Command) -> str | None:
        conn = session.conn
        conn.add_notice_handler(lambda notice: _log_warning(command, notice))
        seconds = command.timeout_milliseconds / 1000
        if session.is_direct:
            set_command_limits(conn, timeout_milliseconds=command.timeout_milliseconds)
            # The server keeps the time of each statement, and a command may be several.
            seconds += SERVER_FIRST_SECONDS
            row = conn.execute(statements.BEGIN_COMMAND, (command.run_id,)).fetchone()
            if not row or not row[0]:
                return "the command was not begun: the server had given it up"
        if self._is_cancelled.is_set():
            return f"the command was not begun: {_STOPPED}"
        # A command that the server has ended, and whose end is not heard, is given up.
        session.conn.patience = lambda: seconds + call_seconds()
        with _time_limit(conn, seconds):
            # Not prepared, because it may be several statements.
            cursor = conn.execute(command.text.encode(), prepare=False)
        if conn.info.transaction_status != TransactionStatus.IDLE:
            return "the command left a transaction open, which was rolled back"
        return "the server has recorded why" if _has_failed(cursor) else None

    def _report(self, command: Command, part: Part, error: str | None) -> None:
        complaint = Complaint(f"{part.name} waits to be reported")
        while True:
            try:
                with contextlib.closing(
                    open_maintenance_session(self._dsn, "eram command", patience=call_seconds).conn
                ) as conn:
                    conn.execute(statements.FINISH_COMMAND, (command.run_id, error))
                    return
            except psycopg.Error as problem:
                if is_outage(problem):
                    part.lost(problem)
                # The session that ran the command is lost, and yet goes on.
                elif isinstance(problem, psycopg.OperationalError):
                    complaint.say(problem)
                else:
                    raise
                part.wait(self._is_cancelled.is_set)
                if self._is_cancelled.is_set():
                    raise


def _has_failed(cursor: psycopg.Cursor[Any]) -> bool:
    """Say whether this was an SQL command, which the server runs and records, and has failed."""
    columns = cursor.description
    if columns is None or [column.name for column in columns] != ["eram_run_command"]:
        return False
    return cursor.fetchone() == (False,)


@contextlib.contextmanager
def _time_limit(conn: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cancel what a connection does when it takes too long."""
    is_late, is_over = threading.Event(), threading.Event()

    def watch() -> None:
        if not is_over.wait(seconds):
            is_late.set()
        # Again and again, for a cancel between two statements is lost.
        complaint = Complaint(_NOT_CANCELLED)
        while not is_over.is_set():
            _cancel(conn, complaint)
            is_over.wait(CANCEL_AGAIN_SECONDS)

    watcher = threading.Thread(target=watch, name="eram-command-limit", daemon=True)
    watcher.start()
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        if is_late.is_set():
            raise psycopg.errors.QueryCanceled("canceling statement due to its timeout") from error
        raise
    finally:
        is_over.set()
        # A cancel on its way must not meet what comes next.
        watcher.join()


def _cancel(conn: psycopg.Connection[Any], complaint: Complaint) -> None:
    try:
        conn.cancel_safe(timeout=CANCEL_SECONDS)
    except psycopg.Error as error:
        complaint.say(error)


def _log_warning(command: Command, notice: psycopg.errors.Diagnostic) -> None:
    text = notice.message_primary or ""
    if not is_warning(notice):
        return
    if command.schedule in text:
        logger.warning("%s", text)
    else:
        logger.warning('the command of schedule "%s" warns: %s', command.schedule, text)
