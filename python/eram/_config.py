"""What a worker is made of, out of a TOML file, the command line and the environment."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from eram._suggest import nearest
from eram.errors import ConfigError

DEFAULT_QUEUES: Mapping[str, int] = MappingProxyType({"default": 10})
DEFAULT_POLL_INTERVAL = 1.0
DEFAULT_GRACE_PERIOD = 15.0
LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_QUEUE_LIMIT = 1_000
# Less would be a busy loop; more is a mistake, such as milliseconds.
POLL_INTERVAL_RANGE = (0.01, 3_600)
GRACE_PERIOD_RANGE = (0, 86_400)

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The options of a worker, all of them valid."""

    dsn: str = ""
    queues: Mapping[str, int] = field(default_factory=lambda: DEFAULT_QUEUES)
    allow: Sequence[str] = ()
    poll_interval: float = DEFAULT_POLL_INTERVAL
    grace_period: float = DEFAULT_GRACE_PERIOD
    maintenance: bool = True
    name: str = ""
    log_level: str = "info"

    def __post_init__(self) -> None:
        # A file or a caller may have put anything here, whatever the annotations say.
        options: dict[str, Any] = {name: getattr(self, name) for name in OPTIONS}
        check_dsn(options["dsn"])
        _check_queues(options["queues"])
        _check_allow(options["allow"])
        check_seconds("poll_interval", options["poll_interval"], POLL_INTERVAL_RANGE)
        check_seconds("grace_period", options["grace_period"], GRACE_PERIOD_RANGE)
        _check(
            isinstance(options["maintenance"], bool),
            "maintenance must be true or false",
            options["maintenance"],
        )
        _check(isinstance(options["name"], str), "name must be a string", self.name)
        _check(
            self.log_level in LOG_LEVELS, f"log_level must be one of {LOG_LEVELS}", self.log_level
        )


OPTIONS = tuple(each.name for each in dataclasses.fields(WorkerConfig))


def read_config(
    arguments: Sequence[str] | None, environ: Mapping[str, str] = os.environ
) -> WorkerConfig:
    """Read a worker's options: the command line wins over the file, the file over the environment.

    Raises:
        ConfigError: an option is unknown or wrong; the message names it.
        SystemExit: the command line cannot be read, or asks for help.
    """
    given = vars(_parser().parse_args(arguments))
    path = given.pop("config", None)
    from_file = _read_file(Path(path)) if path is not None else {}
    options = {"dsn": environ.get("DATABASE_URL", ""), **from_file, **given}
    if "queues" in given:
        options["queues"] = _read_queues(given["queues"])
    return WorkerConfig(**options)


def _parser() -> argparse.ArgumentParser:
    # Only what is given appears in the result: the defaults are WorkerConfig's.
    parser = argparse.ArgumentParser(
        prog="python -m eram.worker",
        description="Run the jobs of some queues until SIGTERM or SIGINT.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dsn", help="where the database is (default: DATABASE_URL, else the PG* variables)")
    add("--config", metavar="FILE", help="a TOML file with these options, names with underscores")
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
    add("--name", help="what administrators see (default: host and process)")
    add("--log-level", choices=LOG_LEVELS, help="default: info")
    return parser


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            options = tomllib.load(file)
    # Not UTF-8, not TOML, or a number of more digits than Python reads.
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    for option in options:
        if option not in OPTIONS:
            raise ConfigError(f'{path}: there is no option "{option}"; {nearest(option, OPTIONS)}')
    if isinstance(options.get("queues"), dict):
        options["queues"] = {
            queue: _read_limit(path, queue, value) for queue, value in options["queues"].items()
        }
    return options


def _read_limit(path: Path, queue: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    for option in value:
        if option != "limit":
            raise ConfigError(
                f'{path}: queue "{queue}" has no option "{option}"; did you mean "limit"?'
            )
    return value.get("limit")


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


def check_dsn(dsn: Any) -> None:
    """Refuse what libpq cannot read."""
    _check(isinstance(dsn, str), "dsn must be a string", dsn)
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"dsn cannot be read: {str(error).strip()}") from error


def _check_queues(queues: Any) -> None:
    _check(isinstance(queues, Mapping) and queues, "queues must have names and limits", queues)
    for queue, limit in queues.items():
        _check(isinstance(queue, str) and queue, "a queue must have a name", queue)
        _check(
            type(limit) is int and 1 <= limit <= MAX_QUEUE_LIMIT,
            f'the limit of queue "{queue}" must be a number from 1 to {MAX_QUEUE_LIMIT}',
            limit,
        )


def _check_allow(allow: Any) -> None:
    is_list = isinstance(allow, Sequence) and not isinstance(allow, str)
    _check(is_list, "allow must be a list of modules", allow)
    if not allow:
        raise ConfigError(
            "no module is allowed, so no handler could be run;"
            " name the modules of your handlers with --allow, such as --allow myapp.jobs"
        )
    for module in allow:
        is_module = isinstance(module, str) and _MODULE.fullmatch(module)
        _check(is_module, "allow must name modules, such as myapp.jobs", module)


def check_seconds(name: str, value: Any, limits: tuple[float, float]) -> None:
    """Refuse what is not a number of seconds within the limits."""
    least, most = limits
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # What is not a number, as floats put it, is not between any two.
    is_valid = is_number and least <= value <= most
    _check(is_valid, f"{name} must be seconds, from {least} to {most}", value)


def _check(is_valid: object, message: str, value: object) -> None:
    if not is_valid:
        raise ConfigError(f"{message}, got {value!r}")
