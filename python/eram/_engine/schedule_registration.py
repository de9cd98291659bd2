"""Telling the server which schedules an application declares."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import psycopg

from eram._base import statements
from eram._base.connection import brief, open_maintenance_session, set_maintenance_limits
from eram.errors import ConfigError

logger = logging.getLogger(__name__)

# Until the next try, when someone has locked what is to be changed.
RETRY_SECONDS = 5.0


class ScheduleRegistration:
    """Declares the schedules of an application once; in its own time where they are locked.

    Args:
        dsn: where the database is.
        application: whose schedules they are.
        schedules: all that it has; none is a declaration, too, and removes what it had before.
    """

    def __init__(self, dsn: str, application: str, schedules: Sequence[Mapping[str, Any]]) -> None:
        self._dsn = dsn
        self._application = application
        self._schedules = schedules
        self._stopping = threading.Event()

    def start(self) -> None:
        """Declare them. If someone has locked them, a thread does it as soon as that is possible.

        Raises:
            ConfigError: the server refuses one of them, or has no eram; nothing is changed then.
            psycopg.Error: there is no such database, or it refuses.
        """
        try:
            self._register()
        except psycopg.errors.LockNotAvailable as error:
            logger.warning("schedules cannot be declared now: %s", brief(error))
            # A daemon: nobody waits for it.
            threading.Thread(target=self._retry, name="eram-schedules", daemon=True).start()

    def stop(self) -> None:
        """Try no more."""
        self._stopping.set()

    def _retry(self) -> None:
        while not self._stopping.wait(RETRY_SECONDS):
            try:
                self._register()
            except (ConfigError, psycopg.Error) as error:
                logger.debug("schedules cannot be declared now: %s", error)
            else:
                return

    def _register(self) -> None:
        session = open_maintenance_session(self._dsn, "eram schedules")
        with closing(session.conn) as conn, ExitStack() as stack:
            if not session.is_direct:
                stack.enter_context(conn.transaction())
                set_maintenance_limits(conn, is_local=True)
            try:
                rows = conn.execute(
                    statements.REGISTER_SCHEDULES, (self._application, json.dumps(self._schedules))
                ).fetchall()
            except psycopg.errors.UndefinedFunction as error:
                if not self._schedules:
                    return
                raise ConfigError(
                    "eram is not installed in this database, is older than this package, or its"
                    f" schema is not in the search_path: {error.diag.message_primary}"
                ) from error
            except (
                psycopg.DataError,
                psycopg.ProgrammingError,
                psycopg.NotSupportedError,
            ) as error:
                raise ConfigError(
                    f"the schedules are refused by the server: {_all(error)}"
                ) from error
        for name, change, declared_by in rows:
            self._say(name, change, declared_by)

    def _say(self, name: str, change: str, declared_by: str | None) -> None:
        if change == "removed" and not self._schedules:
            # Perhaps another process of the application declares it, and this one knows of none.
            logger.warning(
                'schedule "%s" is removed, because this configuration has none; if another one of'
                ' "%s" declares it, give this one an application of its own',
                name,
                self._application,
            )
        elif change == "changed" and declared_by is not None:
            logger.warning(
                'schedule "%s" is changed, which the application "%s" declares otherwise',
                name,
                declared_by,
            )
        elif change != "refused":
            logger.info('schedule "%s" is %s', name, change)
        elif declared_by is None:
            logger.warning(
                'schedule "%s" is left as it is: an administrator has changed or removed it', name
            )
        else:
            logger.warning(
                'schedule "%s" is left as it is: it belongs to the application "%s", not to "%s"',
                name,
                declared_by,
                self._application,
            )


def _all(error: psycopg.Error) -> str:
    """Say what is wrong, where, and what would be right."""
    said = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    # A part of the client may have refused it.
    return "; ".join(part.rstrip(".") for part in said if part) or str(error)
