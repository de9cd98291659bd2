"""The engine: a worker in this process, with its schedules, driver and main thread."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, Self, Unpack, overload

from eram._engine.config import EngineConfig, EngineOptions, read_engine_config
from eram._engine.local_handlers import LocalHandler, LocalHandlers
from eram._engine.main_loop import runs_event_loop
from eram._engine.producer import Producer
from eram._engine.run import EngineRun
from eram._engine.stop_signals import StopSignals
from eram._jobs import enqueueing
from eram._jobs.enqueueing import Enqueueable, Enqueued
from eram._jobs.handlers import Parameters, Result
from eram._jobs.job import Job
from eram._jobs.options import HandlerOptions, JobOptions, check_options
from eram._runtime.config import MAX_QUEUE_LIMIT, check_any_allowed, check_seconds
from eram._runtime.worker import Worker
from eram._transactions.driver import Drivers

logger = logging.getLogger(__name__)

TIMEOUT_RANGE = (0, 86_400)


class Engine:
    """Runs jobs in this process, and declares what recurs: `eram.Engine(config).start()`.

    Args:
        config: a mapping with the keys below, or the path of a TOML file with them.
        handler: runs every job whose handler is no path `module:function`, or lies in no allowed
            module: a function of the job, in whose `handler` the name is that it was enqueued by.
        middleware: what is entered around every handler; see `Worker`.
        options: any key of the configuration; these win. `dsn`, `queues`, `allow`, `listen_dsn`,
            `poll_interval` (seconds), `grace_period` (seconds), `maintenance` and `name` are those
            of `Worker`; `driver` is that of the transactions in which jobs run; `prune` has
            `interval` (milliseconds), `limit` (jobs) and `max_age` (seconds); `lifeline` has
            `interval` and `rescue_after` (milliseconds); `reindexer` has `schedule`, `indexes`,
            `timeout` (seconds) and `timezone`; `cron` is a list of `[schedule, handler, args]`;
            `application` is whose schedules these are. `log_level`, `log_format` and `processes`
            are those of the program.

    Raises:
        ConfigError: a key or a value is wrong; the message names it, and the nearest right one.
    """

    # What was started last.
    _running: EngineRun | None
    # Those of earlier starts whose handlers go on.
    _left: list[EngineRun]

    def __init__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | EngineConfig | None = None,
        *,
        handler: Callable[..., Any] | str | None = None,
        middleware: Sequence[Any] = (),
        **options: Unpack[EngineOptions],
    ) -> None:
        if not isinstance(config, EngineConfig):
            given: dict[str, Any] = dict(options)
            if handler is not None:
                given["handler"] = handler
            if middleware:
                given["middleware"] = middleware
            config = read_engine_config(config, given)
        self._config = config
        self._local = LocalHandlers(config.handler)
        for each in config.given:
            self._local.give(each)
        self._begin_anew()
        _engines.add(self)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<Engine {self._config.name or 'without a name'}, {state}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def config(self) -> EngineConfig:
        """What the engine is made of."""
        return self._config

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        running = self._running
        return running is not None and not running.is_stopping

    @property
    def worker(self) -> Worker | None:
        """The worker of the last start."""
        return None if self._running is None else self._running.worker

    def start(self, concurrency: int | None = None) -> Self:
        """Declare the schedules, register a worker and run jobs, in threads; do nothing if it does.

        After `stop` it starts anew. In a process that was forked it has not been started.

        Args:
            concurrency: how many jobs of each queue run at a time, instead of the configured
                limits.

        Returns:
            The engine.

        Raises:
            ConfigError: no handler could be run, the database has no eram, the driver cannot be
                built, or the server refuses a schedule.
            psycopg.Error: there is no such database, or it refuses. In both cases nothing runs
                afterwards, and it may be called again.
        """
        queues = self._queues(concurrency)
        self._is_wanted = True
        with self._lock:
            if not self.is_running:
                last, self._running = self._running, self._start(queues)
                earlier = self._left if last is None else [*self._left, last]
                self._left = [each for each in earlier if not each.join(0)]
                self._running.watch()
        # Someone has stopped it meanwhile, a signal handler maybe.
        if not self._is_wanted:
            self.stop()
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Claim nothing more, give back what is not started, and wait for what runs.

        It may be called from any thread, and again. A handler of the engine that calls it is not
        waited for, nor is anything if it is called in the thread that is in `run`.

        Args:
            timeout: how many seconds to wait; the grace period if it is None.

        Returns:
            Whether everything has ended. What has not goes on.
        """
        grace_period = self._config.grace_period
        if timeout is not None:
            check_seconds("timeout", timeout, TIMEOUT_RANGE)
            grace_period = timeout
        self._is_wanted = False
        with self._lock:
            running = self._running
            is_first = running is not None and running.begin_to_stop(grace_period)
        self._producer.close()
        if running is None:
            return True
        until = time.monotonic() + grace_period
        has_ended = True
        for each in (running, *self._left):
            has_ended &= each.join(max(0.0, until - time.monotonic()))
        if has_ended and is_first:
            logger.info("stopped")
        return has_ended

    def run(self) -> None:
        """Start if need be, and run the handlers of the main thread until `stop`, or a signal.

        SIGTERM and SIGINT are signals to stop if this is the main thread. Then what runs has the
        grace period to end. A second signal is what it would be without the engine.

        Raises:
            ConfigError, psycopg.Error: it cannot start.
            RuntimeError: it is under way in some thread already, or this one runs an event loop.
        """
        if runs_event_loop():
            raise RuntimeError(
                "run() would hold up the event loop that runs in this thread; call start() alone,"
                " or run() in another thread: await asyncio.to_thread(engine.run)"
            )
        with StopSignals(self._on_signal) as signals:
            self.start()
            running = self._running
            if running is None:
                return
            if running.main_loop.is_running:
                raise RuntimeError("run() is under way already")
            try:
                running.run(signals)
            finally:
                self._producer.close()

    @overload
    def job(
        self, function: Callable[Concatenate[Job, Parameters], Result], /
    ) -> LocalHandler[Parameters, Result]: ...

    @overload
    def job(
        self,
        /,
        *,
        name: str | None = None,
        transaction: bool | None = None,
        aliases: Sequence[str] = (),
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Callable[..., Result]], LocalHandler[..., Result]]: ...

    def job(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        transaction: bool | None = None,
        aliases: Sequence[str] = (),
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function a handler that runs in the thread that is in `run`.

        It needs no path to be imported by, so it may be any function: a closure, a method, one of
        the program itself. Plain functions run one after the other, async ones side by side.

        Args:
            function: the function, when the decorator is used without parentheses.
            name: what its jobs are enqueued by, the function's own name by default.
            transaction: as in `eram.job`; async functions can have none.
            aliases: the names that it had before.
            options: as in `eram.job`.

        Raises:
            HandlerDefinitionError: the function cannot be a handler, or its name is taken.
        """
        known = {"name", "transaction", "aliases", *HandlerOptions.__annotations__}
        check_options(options, known)

        def decorate(function: Callable[..., Any]) -> LocalHandler[..., Any]:
            handler: LocalHandler[..., Any] = LocalHandler(
                function, options, name=name, transaction=transaction, aliases=aliases
            )
            self._local.add(handler)
            if self._running is not None:
                self._running.watch()
            return handler

        return decorate if function is None else decorate(function)

    def enqueue(
        self,
        handler: str | Enqueueable,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        session: Any = None,
        **options: Unpack[JobOptions],
    ) -> Enqueued:
        """Enqueue a job; the engine need not have been started.

        Args:
            handler: a decorated handler, or the name or path of one.
            args: the handler's arguments by name.
            session: enqueue in its transaction; by default the job is there at once.
            options: as in `eram.enqueue`.

        Raises:
            TypeError, ValueError: an option is wrong.
            Exception: the server refuses, or there is none, as the library of the session says it.
        """
        if isinstance(handler, str):
            # The server may not know yet what it declares.
            handler = self._local.find(handler) or handler
        document = enqueueing.encode_job(handler, args, options)
        return self._producer.enqueue(session, document)

    def _queues(self, concurrency: int | None) -> Mapping[str, int]:
        if concurrency is None:
            return self._config.queues
        if type(concurrency) is not int or not 1 <= concurrency <= MAX_QUEUE_LIMIT:
            raise ValueError(
                f"concurrency must be a number of jobs, from 1 to {MAX_QUEUE_LIMIT},"
                f" got {concurrency!r}"
            )
        return dict.fromkeys(self._config.queues, concurrency)

    def _start(self, queues: Mapping[str, int]) -> EngineRun:
        if not self._local:
            check_any_allowed(self._config.allow)
        running = EngineRun(self._config, queues=queues, drivers=self._drivers, local=self._local)
        running.start()
        return running

    def _on_signal(self) -> None:
        # In between two instructions of this very thread: no more than this.
        self._is_wanted = False
        if (running := self._running) is not None:
            running.main_loop.ring()

    def _begin_anew(self) -> None:
        """Be as new; in a forked process nothing of the parent's runs, and nothing may be used."""
        # Kept: to be forgotten is to be closed, which the parent would notice.
        self._inherited = dict(vars(self))
        self._running = None
        self._left = []
        config = self._config
        self._drivers = Drivers(config.driver, config.dsn) if config.driver else None
        self._producer = Producer(config.dsn, self._drivers)
        # Reentrant, because a signal handler may stop an engine at any moment.
        self._lock = threading.RLock()
        self._is_wanted = False


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for engine in list(_engines):
        engine._begin_anew()  # noqa: SLF001 - ours


os.register_at_fork(after_in_child=_begin_all_anew)
