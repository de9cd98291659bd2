"""The worker's options from the command line, a TOML file and the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from eram._engine.config import EngineConfig, make_config, read_file
from eram._programs.command_line import FAILED, FINE, MISUSED, CommandParser
from eram._runtime.config import LOG_FORMATS, LOG_LEVELS, check_any_allowed
from eram.errors import ConfigError


def read_config(
    arguments: Sequence[str] | None, environ: Mapping[str, str] = os.environ
) -> EngineConfig:
    """Read a worker's options: the command line wins over the file, the file over the environment.

    Without a file it declares no schedules: the command line can name none, and what others have
    declared is not to be removed for that.

    Raises:
        ConfigError: an option is unknown or wrong; the message names it.
        SystemExit: the command line cannot be read, or asks for help.
    """
    given = vars(_parser().parse_args(arguments))
    path = given.pop("config", None)
    from_file = read_file(Path(path)) if path is not None else {}
    options = {**from_file, **given}
    if "queues" in given:
        options["queues"] = _read_queues(given["queues"])
    config = make_config(options, environ, declares=path is not None)
    if config.handler is None:
        check_any_allowed(config.allow)
    return config


def _parser() -> argparse.ArgumentParser:
    # Only what is given appears in the result: the defaults are EngineConfig's.
    parser = CommandParser(
        "worker",
        "Run the jobs of some queues until SIGTERM or SIGINT.",
        examples=(
            "--allow myapp.jobs",
            "--allow myapp.jobs --queue default=10 --queue mail=2 --processes 4",
            "--config worker.toml --log-format json",
        ),
        exit_codes={
            FINE: "it was told to end, and has: also if a job outlived the grace period, which is"
            " left to other workers",
            FAILED: "it could not start, such as without a database; or a second signal ended it at"
            " once",
            MISUSED: "wrong options, or a database without eram",
        },
        argument_default=argparse.SUPPRESS,
    )
    parser.add_dsn()
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help="a TOML file with these options, names with underscores, and with schedules",
    )
    add(
        "--queue",
        dest="queues",
        metavar="NAME=LIMIT",
        action="append",
        help="run up to LIMIT jobs of a queue at a time; repeat it for more queues"
        " (default: default=10)",
    )
    add(
        "--allow",
        metavar="MODULE",
        action="append",
        help="run handlers of this module and of those below it; required, can be repeated",
    )
    add(
        "--listen-dsn",
        metavar="DSN",
        help="a direct way to the same database, where --dsn leads through a pooler: for one"
        " connection that hears of jobs",
    )
    add(
        "--poll-interval",
        type=float,
        metavar="SECONDS",
        help="how long to sleep at most (default: 1)",
    )
    add(
        "--grace-period",
        type=float,
        metavar="SECONDS",
        help="how long running jobs have to end after a signal (default: 15)",
    )
    add(
        "--maintenance",
        action=argparse.BooleanOptionalAction,
        help="tick: carry out schedules, rescue jobs, prune (default: yes)",
    )
    add(
        "--middleware",
        metavar="MODULE:FUNCTION",
        action="append",
        help="a function of the job; what it returns is entered around every handler; can be"
        " repeated, the first is the outermost",
    )
    add("--name", help="what administrators see (default: host and process)")
    add(
        "--processes",
        type=int,
        metavar="N",
        help="so many worker processes, each with all of the queues; one that dies is replaced"
        " (default: 1)",
    )
    add("--log-level", choices=LOG_LEVELS, help="default: info")
    add("--log-format", choices=LOG_FORMATS, help="json: one object a line (default: text)")
    return parser


def _read_queues(texts: Sequence[str]) -> dict[str, int]:
    queues: dict[str, int] = {}
    for queue, limit in map(_read_queue, texts):
        if queue in queues:
            raise ConfigError(f'--queue names "{queue}" twice')
        queues[queue] = limit
    return queues


def _read_queue(text: str) -> tuple[str, int]:
    name, equals, limit = text.rpartition("=")
    if not equals or not limit.isdecimal():
        raise ConfigError(f"--queue must be NAME=LIMIT, such as default=10, got {text!r}")
    return name, int(limit)
