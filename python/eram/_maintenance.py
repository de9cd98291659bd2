"""The worker's registration: a thread whose session proves that the worker lives.

Once a second it says so, hears of cancelled jobs, and rescues the jobs of workers that died. Its
session is given up for nothing but its loss: without the lock that it holds, others take the worker
for dead within seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import psycopg

from eram import _sql
from eram._connection import Backoff, Session, brief, jittered, open_session
from eram.errors import ConfigError

logger = logging.getLogger(__name__)

# At least once a second, and so often that an absent lock is noticed, waited out (3 s) and acted
# upon within 5 s, jitter included.
BEAT_SECONDS = 0.7
LONGEST_BACKOFF_SECONDS = 1.0


class Maintenance:
    """Registers the worker, and keeps it registered until it is told to say goodbye."""

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        queues: Sequence[str],
        on_cancelled: Callable[[list[int]], None],
        on_renewed: Callable[[], None],
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._queues = list(queues)
        self._on_cancelled = on_cancelled
        self._on_renewed = on_renewed
        self._session: Session | None = None
        self._worker_id = 0
        self._is_dead = False
        self._is_leaving = False
        self._alarm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eram-maintenance", daemon=True)

    @property
    def worker_id(self) -> int:
        """The id that jobs are fetched under."""
        return self._worker_id

    def start(self) -> None:
        """Register, and start the thread.

        Raises:
            ConfigError: the database has no eram.
            psycopg.Error: there is no such database, or it refuses.
        """
        self._session = open_session(self._dsn, "eram maintenance")
        try:
            self._register(self._session)
        except psycopg.errors.UndefinedFunction as error:
            self._session.conn.close()
            raise ConfigError(
                "eram is not installed in this database, or its schema is not in the search_path:"
                f" {error.diag.message_primary}"
            ) from error
        except BaseException:
            self._session.conn.close()
            raise
        self._thread.start()

    def renew(self, worker_id: int) -> None:
        """Register anew, because the server takes the worker of this id for dead."""
        if worker_id == self._worker_id:
            self._is_dead = True
            self._alarm.set()

    def leave(self) -> None:
        """Say goodbye to the server and end."""
        self._is_leaving = True
        self._alarm.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end, and say whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        backoff = Backoff(longest_seconds=LONGEST_BACKOFF_SECONDS)
        is_over = False
        while not is_over:
            seconds = jittered(BEAT_SECONDS)
            try:
                is_over = self._beat()
                backoff.reset()
            except psycopg.Error as error:
                logger.warning("maintenance waits for its database: %s", brief(error))
                if self._session is None or self._session.conn.closed:
                    self._session = None
                    seconds = backoff.next_seconds()
                    # With all jobs reported, a goodbye is not worth waiting for.
                    is_over = self._is_leaving
            except Exception:
                logger.exception("maintenance stumbled over an error")
            if not is_over:
                self._alarm.wait(seconds)
                self._alarm.clear()

    def _beat(self) -> bool:
        """Do what is due once a second; say whether this was the goodbye."""
        self._session = self._session or open_session(self._dsn, "eram maintenance")
        conn = self._session.conn
        if self._is_leaving:
            conn.execute(_sql.STOP_WORKER, (self._worker_id,))
            conn.close()
            return True
        is_alive, cancelled_ids = conn.execute(_sql.HEARTBEAT, (self._worker_id,)).fetchone() or (
            False,
            [],
        )
        if self._is_dead or not is_alive:
            logger.warning("worker %s was taken for dead and registers anew", self._worker_id)
            self._register(self._session)
            self._is_dead = False
            self._on_renewed()
        if cancelled_ids:
            self._on_cancelled(cancelled_ids)
        rescued = conn.execute(_sql.RESCUE_JOBS).fetchone()
        if rescued and rescued[0]:
            logger.info("rescued %s jobs of workers that died", rescued[0])
        return False

    def _register(self, session: Session) -> None:
        row = session.conn.execute(
            _sql.START_WORKER, (self._name, self._queues, session.conn.info.backend_pid)
        ).fetchone()
        if row is None:
            raise psycopg.InternalError("eram_start_worker() returned nothing")
        self._worker_id = row[0]
        logger.info("worker %s registered as %s", self._name, self._worker_id)
