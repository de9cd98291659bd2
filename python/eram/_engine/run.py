"""What an engine has between a start and the end of a stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from eram._engine.config import EngineConfig
from eram._engine.local_handlers import LocalHandlers
from eram._engine.main_loop import MainLoop
from eram._engine.schedule_registration import ScheduleRegistration
from eram._engine.stop_signals import StopSignals
from eram._jobs.current import current_job
from eram._runtime.remains import say_what_is_left
from eram._runtime.worker import Worker
from eram._transactions.driver import Drivers

# Not __name__: whoever reads the log knows the engine.
logger = logging.getLogger("eram.engine")

# A handler that needs run() is complained about when nobody has called it for so long.
RUN_SECONDS = 2.0
# When the grace period is over, what has ended may still be reported for so long.
REPORT_SECONDS = 1.0


class EngineRun:
    """A worker, the loop for its handlers of the main thread, and the schedules it declares.

    Args:
        config: what the engine is made of.
        queues: how many jobs of each queue run at a time.
        drivers: in whose transactions they run.
        local: which handlers the engine knows besides those of its modules.

    Raises:
        ConfigError: a worker cannot be made of this.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        queues: Mapping[str, int],
        drivers: Drivers | None,
        local: LocalHandlers,
    ) -> None:
        self._grace_period = config.grace_period
        self._local = local
        dsn = config.dsn
        if drivers is not None:
            dsn = dsn or drivers.postgresql_url
        self.main_loop = MainLoop()
        self.worker = Worker(
            dsn,
            queues=queues,
            allow=config.allow,
            listen_dsn=config.listen_dsn,
            poll_interval=config.poll_interval,
            grace_period=config.grace_period,
            maintenance=config.maintenance,
            name=config.name or None,
            middleware=config.middleware,
            driver=drivers,
            local=local,
            main_loop=self.main_loop,
        )
        self._registration = (
            ScheduleRegistration(dsn, config.declared_by, config.schedules)
            if config.declares
            else None
        )
        self._stopping = threading.Lock()
        self._stopped_at: float | None = None
        self._has_complained = False

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped_at is not None

    def start(self) -> None:
        """Try the driver, register the worker, declare the schedules, and begin to fetch jobs.

        What an application declares changes only for a worker that the server has accepted.

        Raises:
            ConfigError, psycopg.Error: one of these cannot be done; nothing runs then.
        """
        registration = self._registration
        try:
            self.worker.start(None if registration is None else registration.start)
        except BaseException:
            if registration is not None:
                registration.stop()
            raise

    def begin_to_stop(self, grace_period: float) -> bool:
        """Let what runs end, and nothing begin; say whether that is news."""
        # A signal handler may ask while its own thread is in here: that is no news.
        if not self._stopping.acquire(blocking=False):
            return False
        self._stopped_at = time.monotonic()
        try:
            logger.info(
                "stopping: %s jobs have %s seconds to end", self.worker.unfinished, grace_period
            )
            self._end_all()
        # A signal handler has raised it in between: nobody would do the rest.
        except BaseException:
            self._end_all()
            raise
        return True

    def join(self, timeout: float) -> bool:
        """Wait until all has ended, unless that waits for the caller; say whether it has."""
        if self.main_loop.is_here or self._is_run_by_caller:
            return False
        return self.worker.join(timeout)

    def run(self, signals: StopSignals) -> None:
        """Run the handlers of the main thread until a stop, and wait for the end of all."""

        def is_over() -> bool:
            signals.raise_again()
            if signals.has_come:
                self.begin_to_stop(self._grace_period)
            return self.is_stopping

        try:
            self.main_loop.run(is_over, self._grace_period)
        finally:
            self.begin_to_stop(self._grace_period)
        signals.raise_again()
        left = (self._stopped_at or 0.0) + self._grace_period - time.monotonic()
        if self.worker.join(max(left, REPORT_SECONDS)):
            logger.info("stopped")
        else:
            say_what_is_left(self.worker, logger)

    def watch(self) -> None:
        """Complain in a moment if there are handlers for the main thread, and nobody runs them."""
        if self._local.names and not self.is_stopping:
            timer = threading.Timer(RUN_SECONDS, self._complain)
            timer.daemon = True
            timer.start()

    def _complain(self) -> None:
        is_idle = not self.main_loop.is_running and not self.is_stopping
        if is_idle and not self._has_complained:
            self._has_complained = True
            logger.warning(
                "nobody has called run() of this engine, on whose thread these handlers run, so"
                " their jobs wait: %s",
                ", ".join(self._local.names),
            )

    def _end_all(self) -> None:
        if self._registration is not None:
            self._registration.stop()
        self.worker.stop()
        self.main_loop.close()

    @property
    def _is_run_by_caller(self) -> bool:
        job = current_job()
        return job is not None and self.worker.holds(job)
