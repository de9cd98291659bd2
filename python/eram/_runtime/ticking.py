"""Ticking: having the server do what is due, and running what only a client can run."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import psycopg

from eram._base import statements
from eram._base.connection import Session, is_warning, set_maintenance_limits
from eram._base.outage import Outage
from eram._runtime.commands import Command, CommandRunner

logger = logging.getLogger(__name__)

SHORTEST_PAUSE_SECONDS = 0.1
# A command is cancelled so long before the end that this can be reported.
REPORT_SECONDS = 1.0


class Ticker:
    """Ticks on a session that its caller keeps, and runs one command at a time meanwhile.

    Args:
        dsn: where the database is, for the sessions of commands.
        outage: what the parts of the process share.
        on_command_ended: called when the next tick may bring another command.
    """

    def __init__(self, dsn: str, *, outage: Outage, on_command_ended: Callable[[], None]) -> None:
        self._runner = CommandRunner(dsn, outage=outage, on_ended=on_command_ended)
        self._session: Session | None = None
        self._is_stopping = False
        self._gives_up_at = float("inf")
        self._timer: threading.Timer | None = None
        self._warning_count = 0
        # Whether there was, or may be, something due after the last tick.
        self.has_more = True

    @property
    def run_count(self) -> int:
        """How many commands were run."""
        return self._runner.run_count

    @property
    def failure_count(self) -> int:
        """How many commands, and how much else, failed."""
        return self._runner.failure_count + self._warning_count

    @property
    def is_busy(self) -> bool:
        """Whether there is a command to wait for."""
        return self._runner.command is not None and time.monotonic() < self._gives_up_at

    def tick(self, session: Session, *, pause: float) -> float:
        """Do what is due, and say after how many seconds to come again, `pause` at most."""
        if session is not self._session:
            self._session = session
            session.conn.add_notice_handler(self._count_warning)
        warning_count = self._warning_count
        max_commands = 0 if self._is_stopping or self._runner.command is not None else 1
        due_in, command = _tick(session, max_commands)
        if command is not None:
            self._runner.start(command)
        self.has_more = max_commands == 0 or command is not None or due_in <= 0
        if self._warning_count > warning_count:
            # What has failed may be due still.
            return pause
        return min(pause, max(due_in, SHORTEST_PAUSE_SECONDS))

    def stop(self, grace_period: float) -> None:
        """Take no more commands; cancel the one in hand in time to report it within the period."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._gives_up_at = time.monotonic() + grace_period
        seconds = max(0.0, grace_period - REPORT_SECONDS)
        command = self._runner.command
        if command is not None:
            logger.info(
                'the command of schedule "%s" has %.1f seconds to end', command.schedule, seconds
            )
        # Whether or not there is one: a tick under way may bring it.
        self._timer = threading.Timer(seconds, self._runner.cancel)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """End without waiting for a command that is still in hand; it is cancelled all the same."""
        if self._timer is not None and self._runner.command is None:
            self._timer.cancel()

    def _count_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        self._warning_count += is_warning(notice)


def _tick(session: Session, max_commands: int) -> tuple[float, Command | None]:
    """Call eram_tick(), which hands out no more than one command here."""
    conn = session.conn
    with contextlib.ExitStack() as stack:
        if not session.is_direct:
            stack.enter_context(conn.transaction())
            set_maintenance_limits(conn, is_local=True)
        row = conn.execute(statements.TICK, (max_commands,)).fetchone()
    if row is None:
        raise psycopg.InternalError("eram_tick() returned nothing")
    due_in, run_id, text, schedule, timeout = row
    if run_id is None:
        return due_in, None
    return due_in, Command(
        run_id=run_id, text=text, schedule=schedule, timeout_milliseconds=timeout
    )
