"""The worker's registration: a thread whose session proves that the worker lives.

About once a second it says so, hears of cancelled jobs, and ticks, so that whatever is due is done:
the jobs of workers that died are rescued, schedules carried out, finished jobs pruned. Its session
is given up for nothing but its loss: without the lock that it holds, others take the worker for
dead within seconds. So nothing that may take long is done on it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence

import psycopg

from eram._base import statements
from eram._base.connection import (
    Session,
    brief,
    call_seconds,
    jittered,
    open_maintenance_session,
    tick_seconds,
)
from eram._base.outage import Outage
from eram._base.session_loop import SessionLoop
from eram._runtime.declarations import Declarations
from eram._runtime.server_check import check_server
from eram._runtime.ticking import Ticker
from eram.errors import ConfigError

logger = logging.getLogger(__name__)

# About once a second; with the tick that makes less than two statements a second. So an absent lock
# is noticed, waited out (3 s) and acted upon within 5 s, jitter included: while it is absent, the
# server asks for a tick each half a second.
BEAT_SECONDS = 1.1


class Maintenance:
    """Registers the worker, and keeps it registered until it is told to say goodbye.

    Args:
        dsn: where the database is.
        name: what administrators see.
        queues: the queues of the worker.
        ticks: whether to tick as well.
        declarations: what handlers declare.
        outage: what the parts of the worker share.
        on_cancelled: called with the runs of jobs that were cancelled, as (id, run).
        on_renewed: called when the worker was registered anew.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        queues: Sequence[str],
        ticks: bool,
        declarations: Declarations,
        outage: Outage,
        on_cancelled: Callable[[list[tuple[int, int]]], None],
        on_renewed: Callable[[], None],
    ) -> None:
        self._name = name
        self._queues = list(queues)
        self._declarations = declarations
        self._outage = outage
        self._on_cancelled = on_cancelled
        self._on_renewed = on_renewed
        self._worker_id = 0
        self._is_dead = False
        self._is_leaving = False
        self._is_ticking = False
        self._connect = functools.partial(
            open_maintenance_session, dsn, "eram maintenance", patience=self._patience
        )
        self._loop = SessionLoop(
            "maintenance",
            pause=BEAT_SECONDS,
            connect=self._connect,
            act=self._beat,
            outage=outage,
            # With all jobs reported, a goodbye is not worth waiting for.
            is_over=lambda: self._is_leaving and not self._is_busy,
            on_ended=self._close,
        )
        self._ticker = (
            Ticker(dsn, outage=outage, on_command_ended=self._loop.ring) if ticks else None
        )

    @property
    def worker_id(self) -> int:
        """The id that jobs are fetched under."""
        return self._worker_id

    def start(self, on_registered: Callable[[], None] | None = None) -> None:
        """Register, and start the thread.

        Args:
            on_registered: called in between; if it raises, the worker says goodbye.

        Raises:
            ConfigError: the database has no eram.
            psycopg.Error: there is no such database, or it refuses.
        """
        session = self._connect()
        try:
            check_server(session.conn)
            self._register(session)
            self._declare(session)
            self._say_what_is_kept(session)
            if on_registered is not None:
                on_registered()
        except psycopg.errors.UndefinedFunction as error:
            session.conn.close()
            raise ConfigError(
                "eram is not installed in this database, or its schema is not in the search_path:"
                f" {error.diag.message_primary}"
            ) from error
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                if self._worker_id:
                    session.conn.execute(statements.STOP_WORKER, (self._worker_id,))
            session.conn.close()
            raise
        if self._ticker is None:
            logger.info("schedules and maintenance are left to others")
        self._loop.start(session)

    def renew(self, worker_id: int) -> None:
        """Register anew, because the server takes the worker of this id for dead."""
        if worker_id == self._worker_id:
            self._is_dead = True
            self._loop.ring()

    def stop(self, grace_period: float) -> None:
        """Begin nothing that may take long, and end what does within the grace period."""
        if self._ticker is not None:
            self._ticker.stop(grace_period)

    def leave(self) -> None:
        """Say goodbye to the server and end, once no command is in hand."""
        self._is_leaving = True
        self._loop.ring()

    def join(self, timeout: float) -> bool:
        """Wait for the end, and say whether it has come."""
        return self._loop.join(timeout)

    def _close(self) -> None:
        if self._ticker is not None:
            self._ticker.close()

    @property
    def _is_busy(self) -> bool:
        return self._ticker is not None and self._ticker.is_busy

    def _beat(self, session: Session) -> float | None:
        """Do what is due once a second; say after how long again, None after the goodbye."""
        conn = session.conn
        if self._is_leaving and not self._is_busy:
            conn.execute(statements.STOP_WORKER, (self._worker_id,))
            return None
        row = conn.execute(statements.HEARTBEAT, (self._worker_id,)).fetchone()
        is_alive, cancelled_ids, cancelled_runs = row or (False, [], [])
        if self._is_dead or not is_alive:
            logger.warning("worker %s was taken for dead and registers anew", self._worker_id)
            self._register(session)
            self._is_dead = False
            self._on_renewed()
        if cancelled_ids:
            self._on_cancelled(list(zip(cancelled_ids, cancelled_runs, strict=True)))
        pause = jittered(BEAT_SECONDS)
        if self._ticker is not None:
            self._is_ticking = True
            try:
                pause = self._ticker.tick(session, pause=pause)
            finally:
                self._is_ticking = False
        # Last, because nothing else depends on it.
        self._declarations.send(conn)
        return pause

    def _patience(self) -> float:
        """Say how long a call may take: a tick as long as the server lets it.

        Unless others have lost the server, or it takes this worker for dead: a tick that there is
        no answer to has probably gone astray then.
        """
        is_lost = self._is_dead or self._outage
        return tick_seconds() if self._is_ticking and not is_lost else call_seconds()

    def _register(self, session: Session) -> None:
        row = session.conn.execute(
            statements.START_WORKER, (self._name, self._queues, session.conn.info.backend_pid)
        ).fetchone()
        if row is None:
            raise psycopg.InternalError("eram_start_worker() returned nothing")
        self._worker_id = row[0]
        logger.info("worker %s registered as %s", self._name, self._worker_id)

    def _declare(self, session: Session) -> None:
        try:
            self._declarations.send(session.conn)
        # The next beat tries again.
        except psycopg.OperationalError as error:
            logger.warning("what handlers declare cannot be said now: %s", brief(error))

    def _say_what_is_kept(self, session: Session) -> None:
        try:
            in_general = _retention(session, None)
            by_queue = {queue: _retention(session, queue) for queue in self._queues}
        except psycopg.Error as error:
            logger.warning("how long finished jobs are kept is not known: %s", brief(error))
            return
        logger.info("finished jobs are kept: %s", in_general)
        for queue, in_queue in by_queue.items():
            if in_queue != in_general:
                logger.info('finished jobs of queue "%s" are kept: %s', queue, in_queue)


def _retention(session: Session, queue: str | None) -> str:
    """Say how long jobs are kept in a queue, or in general."""
    rows = session.conn.execute(statements.RETENTION, (queue,)).fetchall()
    return ", ".join(
        f"{state} {'for ever' if max_age == 'infinity' else max_age}" for state, max_age in rows
    )
