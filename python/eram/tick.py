"""Ticking as a program, for databases without a worker: `python -m eram tick`.

It has the server do whatever is due, again and again until SIGTERM or SIGINT, and runs the commands
of schedules; with `--once`, for a crontab, until nothing more is due. It exits with 0, or with
`--once` and something that failed with 1. A command that runs when a signal comes is given the
grace period; a second signal ends the process at once, with 1.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import psycopg

from eram import logs
from eram._base.connection import Session, brief, jittered, open_maintenance_session
from eram._base.outage import Outage
from eram._base.session_loop import SessionLoop
from eram._programs.command_line import FAILED, FINE, MISUSED, CommandParser
from eram._programs.program import Signals, end_process, explain, open_streams
from eram._runtime.config import (
    DEFAULT_GRACE_PERIOD,
    GRACE_PERIOD_RANGE,
    LOG_FORMATS,
    LOG_LEVELS,
    POLL_INTERVAL_RANGE,
    check_dsn,
    check_seconds,
)
from eram._runtime.ticking import Ticker
from eram.errors import ConfigError

# Not __name__, which is __main__ here.
logger = logging.getLogger("eram.tick")

DEFAULT_INTERVAL = 1.0
# What is due again and again ends some time, so that a crontab's calls do not pile up.
LONGEST_ONCE_SECONDS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TickConfig:
    """The options of the program, all of them valid."""

    dsn: str = ""
    once: bool = False
    interval: float = DEFAULT_INTERVAL
    grace_period: float = DEFAULT_GRACE_PERIOD
    log_level: str = "info"
    log_format: str = "text"

    def __post_init__(self) -> None:
        check_dsn(self.dsn)
        check_seconds("interval", self.interval, POLL_INTERVAL_RANGE)
        check_seconds("grace_period", self.grace_period, GRACE_PERIOD_RANGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tick, once or until a signal; return the exit code."""
    open_streams()
    try:
        config = _read_config(arguments, os.environ)
        logs.configure(config.log_level, config.log_format)
        _TickProgram(config).run()
    except (ConfigError, psycopg.Error) as error:
        code, text = explain(error, "ticker")
        print(f"eram.tick: {text}", file=sys.stderr)
        return code


def _read_config(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> TickConfig:
    # Only what is given appears in the result: the defaults are TickConfig's.
    parser = CommandParser(
        "tick",
        "Do what is due, once or again and again until SIGTERM or SIGINT: carry out schedules,"
        " rescue jobs, prune. Several may run at once, beside any number of workers, which tick as"
        " well.",
        examples=("", "--once --log-level warning"),
        exit_codes={
            FINE: "it was told to end, and has; with --once: nothing more is due",
            FAILED: "it could not start; with --once: something failed; or a second signal ended"
            " it at once",
            MISUSED: "wrong options, or a database without eram",
        },
        argument_default=SUPPRESS,
    )
    parser.add_dsn()
    add = parser.add_argument
    add("--once", action="store_true", help="end when nothing more is due")
    add(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="how long to sleep between two ticks, at most (default: 1)",
    )
    add(
        "--grace-period",
        type=float,
        metavar="SECONDS",
        help="how long a command has to end after a signal (default: 15)",
    )
    add("--log-level", choices=LOG_LEVELS, help="default: info")
    add("--log-format", choices=LOG_FORMATS, help="json: one object a line (default: text)")
    given = vars(parser.parse_args(arguments))
    return TickConfig(**{"dsn": environ.get("DATABASE_URL", ""), **given})


class _TickProgram:
    """One run of the program."""

    def __init__(self, config: TickConfig) -> None:
        self._config = config
        # Whoever waits for the end is not kept waiting for longer.
        self._pause = min(config.interval, DEFAULT_INTERVAL) if config.once else config.interval
        self._is_stopping = False
        self._has_failed = False
        self._once_ends_at = time.monotonic() + LONGEST_ONCE_SECONDS
        self._signals = Signals()
        self._connect = functools.partial(open_maintenance_session, config.dsn, "eram tick")
        outage = Outage()
        self._loop = SessionLoop(
            "tick",
            pause=self._pause,
            connect=self._connect,
            act=self._act,
            outage=outage,
            is_over=self._is_over,
            on_ended=self._signals.ring,
        )
        self._ticker = Ticker(config.dsn, outage=outage, on_command_ended=self._loop.ring)

    def run(self) -> NoReturn:
        """Tick until it is over, and end the process."""
        self._start()
        self._signals.wait()
        self._is_stopping = True
        self._ticker.stop(self._config.grace_period)
        self._loop.ring()
        if not self._loop.join(self._config.grace_period):
            logger.warning("stopped, but the server may not know what became of a command")
        failure_count = self._ticker.failure_count + self._has_failed
        logger.info(
            "stopped: %s commands were run; failures: %s", self._ticker.run_count, failure_count
        )
        end_process(1 if self._config.once and failure_count else 0)

    def _start(self) -> None:
        """Tick for the first time, so that what cannot go well is told at once."""
        session = self._connect()
        try:
            self._ticker.tick(session, pause=self._pause)
        except psycopg.errors.UndefinedFunction as error:
            raise ConfigError(
                "eram is not installed in this database, or its schema is not in the search_path:"
                f" {error.diag.message_primary}"
            ) from error
        self._loop.start(session)

    def _is_over(self) -> bool:
        return self._is_stopping and not self._ticker.is_busy

    def _act(self, session: Session) -> float | None:
        pause = jittered(self._pause)
        if not self._is_stopping:
            try:
                pause = self._ticker.tick(session, pause=pause)
            except psycopg.Error as error:
                if not self._config.once:
                    raise
                logger.error("the tick failed: %s", brief(error))  # noqa: TRY400 - as elsewhere
                self._has_failed = self._is_stopping = True
            if self._config.once and (
                not self._ticker.has_more or time.monotonic() > self._once_ends_at
            ):
                self._is_stopping = True
        return None if self._is_over() else pause


if __name__ == "__main__":
    sys.exit(main())
