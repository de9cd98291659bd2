"""A worker: one thread per queue, its executors, and one thread for maintenance."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from eram._base.outage import Outage
from eram._engine.local_handlers import LocalHandlers
from eram._engine.main_loop import MainLoop
from eram._jobs.finding import Handlers
from eram._jobs.job import Job
from eram._jobs.middleware import Middleware, load_middleware
from eram._runtime.config import (
    DEFAULT_GRACE_PERIOD,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_QUEUES,
    WorkerConfig,
    check_any_allowed,
)
from eram._runtime.declarations import Declarations
from eram._runtime.listening import Listening, can_listen
from eram._runtime.maintenance import Maintenance
from eram._runtime.notifier import Notifier
from eram._runtime.queue import QueueRunner
from eram._transactions.driver import Drivers
from eram._transactions.driver_probe import probe

logger = logging.getLogger(__name__)


class Worker:
    """Runs the jobs of some queues in this process.

    It ends in this order: the queues fetch no more and give back what is not started; what runs is
    finished and reported; then the worker says goodbye to the server. A command of a schedule that
    runs still is cancelled when the grace period is about to end. A job that outlives the grace
    period keeps its threads, and its claim to be alive, until it or the process ends; in the latter
    case other workers rescue it.

    Args:
        dsn: where the database is; empty for the `PG*` variables.
        queues: how many jobs of each queue run at a time.
        allow: the modules, with all modules below them, whose handlers may be run. They are
            imported at the start, and what their handlers declare is made known to the server.
        listen_dsn: a direct way to the same database, where `dsn` leads through a pooler: for one
            connection that hears of jobs, so that queues need not poll to find them at once.
        poll_interval: how many seconds a queue sleeps at most before it looks for jobs.
        grace_period: how many seconds running jobs have to end when a `with` block is left.
        maintenance: whether to tick as well, so that schedules are carried out, jobs rescued and
            finished ones pruned. Any number of workers may: what is due is done once.
        name: what administrators see; host and process by default.
        middleware: what is entered around every handler, outermost first: functions of the job that
            return a context manager, or their paths `module:function`.
        driver: in whose transactions handlers run: `type` ("sqlalchemy", "django", "psycopg" or
            "custom"), `path` of a custom one, and its `config`. Where there is no dsn, it also says
            where the database is.
        local: what an `Engine` knows of handlers besides those of its modules.
        main_loop: where an `Engine` runs those of its main thread.

    Raises:
        ConfigError: a worker cannot be made of this.
    """

    def __init__(
        self,
        dsn: str = "",
        *,
        queues: Mapping[str, int] = DEFAULT_QUEUES,
        allow: Sequence[str] = (),
        listen_dsn: str = "",
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        grace_period: float = DEFAULT_GRACE_PERIOD,
        maintenance: bool = True,
        name: str | None = None,
        middleware: Iterable[Middleware | str] = (),
        driver: Mapping[str, Any] | Drivers | None = None,
        local: LocalHandlers | None = None,
        main_loop: MainLoop | None = None,
    ) -> None:
        if not local:
            check_any_allowed(allow)
        if driver is not None and not isinstance(driver, Drivers):
            driver = Drivers(driver, dsn)
        self._drivers = driver
        self._config = WorkerConfig(
            dsn=dsn or (self._drivers.postgresql_url if self._drivers else ""),
            queues=queues,
            allow=allow,
            listen_dsn=listen_dsn,
            poll_interval=poll_interval,
            grace_period=grace_period,
            maintenance=maintenance,
            name=name or f"{socket.gethostname()}:{os.getpid()}",
        )
        outermost = self._drivers.middleware if self._drivers else ()
        self._middleware = load_middleware(outermost) + load_middleware(middleware)
        self._handlers = Handlers(self._config.allow, local)
        self._main_loop = main_loop
        self._notifier = Notifier()
        self._outage = Outage()
        self._maintenance = Maintenance(
            self._config.dsn,
            name=self._config.name,
            queues=list(self._config.queues),
            ticks=self._config.maintenance,
            declarations=Declarations(self._handlers),
            outage=self._outage,
            on_cancelled=self._cancel,
            on_renewed=self._look,
        )
        self._runners: list[QueueRunner] = []
        self._listening: Listening | None = None
        self._can_listen = False
        self._is_prepared = False

    def __repr__(self) -> str:
        return f"<Worker {self._config.name} with {self._runners}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self.stop()
        self.join(self._config.grace_period)

    @property
    def id(self) -> int:
        """The worker's id with the server, 0 before the start."""
        return self._maintenance.worker_id

    def holds(self, job: Job) -> bool:
        """Say whether the worker holds this job."""
        return any(job in runner.unfinished for runner in self._runners)

    @property
    def unfinished(self) -> int:
        """How many jobs the worker holds."""
        return sum(len(runner.unfinished) for runner in self._runners)

    @property
    def overrun(self) -> int:
        """How many of these go on in vain: they have timed out, or were cancelled."""
        return sum(job.cancelled for runner in self._runners for job in runner.unfinished)

    @property
    def unreported(self) -> list[int]:
        """The ids of the jobs that have ended, which the server does not know yet."""
        return sorted(job.id for runner in self._runners for job in runner.unreported)

    @property
    def untold(self) -> int:
        """How many jobs have ended of which listeners are yet to hear."""
        return self._notifier.pending

    def prepare(self) -> None:
        """Do what `start` does before it is a worker: try the driver, and import the handlers.

        Raises:
            ConfigError: the driver has no transactions of the database, or cannot be built; or
                listen_dsn leads to another database.
            psycopg.Error: there is no such database, or it refuses.
        """
        if self._is_prepared:
            return
        # The driver comes first: a library may have to be set up before modules that use it can be
        # imported.
        if self._drivers is not None:
            probe(self._drivers, self._config.dsn)
        self._handlers.load()
        listen_dsn, dsn = self._config.listen_dsn, self._config.dsn
        self._can_listen = bool(listen_dsn) and can_listen(listen_dsn, dsn)
        self._is_prepared = True

    def start(self, on_registered: Callable[[], None] | None = None) -> None:
        """Import the handlers, register with the server and start to run jobs.

        Args:
            on_registered: called before the first job is fetched; if it raises, the worker ends.

        Raises:
            RuntimeError: it was started before, or there are not enough threads to be had.
            ConfigError: the database has no eram, the driver has no transactions of it, or
                listen_dsn leads to another one.
            psycopg.Error: there is no such database, or it refuses.
        """
        if self._runners:
            raise RuntimeError("a worker can be started once; make another one")
        # Before it is a worker, for as long as that takes.
        self.prepare()
        self._maintenance.start(on_registered)
        config = self._config
        if self._can_listen:
            self._listening = Listening(config.listen_dsn, config.dsn, config.queues)
        self._runners = [
            QueueRunner(
                queue,
                limit=limit,
                dsn=config.dsn,
                handlers=self._handlers,
                middleware=self._middleware,
                registration=self._maintenance,
                notifier=self._notifier,
                outage=self._outage,
                poll_interval=config.poll_interval,
                on_ended=self._leave_when_all_ended,
                main_loop=self._main_loop,
                drivers=self._drivers,
                line=self._listening.lines[queue] if self._listening else None,
            )
            for queue, limit in config.queues.items()
        ]
        try:
            if self._listening is not None:
                self._listening.start()
            for runner in self._runners:
                runner.start()
        # The machine has no more threads, say.
        except BaseException:
            if self._listening is not None:
                self._listening.stop()
            for runner in self._runners:
                runner.stop()
            self._maintenance.leave()
            raise

    def stop(self) -> None:
        """Begin to end; `join` waits for it."""
        if self._runners:
            self._maintenance.stop(self._config.grace_period)
        if self._listening is not None:
            self._listening.stop()
        for runner in self._runners:
            runner.stop()

    def join(self, timeout: float) -> bool:
        """Wait until all that runs has ended and is reported, also to listeners.

        Returns:
            Whether that came about.

        Raises:
            RuntimeError: it was not started.
        """
        if not self._runners:
            raise RuntimeError("the worker was not started, so there is nothing to wait for")
        deadline = time.monotonic() + timeout
        has_ended = self._maintenance.join(timeout)
        # The one is not to be waited for longer because of the other.
        return has_ended and self._notifier.join(max(0.0, deadline - time.monotonic()))

    def _leave_when_all_ended(self) -> None:
        if all(runner.has_ended for runner in self._runners):
            self._notifier.close()
            self._maintenance.leave()

    def _cancel(self, runs: list[tuple[int, int]]) -> None:
        for runner in self._runners:
            runner.cancel(runs)

    def _look(self) -> None:
        for runner in self._runners:
            runner.look()
