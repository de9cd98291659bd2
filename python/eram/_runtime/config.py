"""What a worker is made of, and what is wrong with it otherwise."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from eram._base.checks import check, check_name, check_number, is_list
from eram.errors import ConfigError

DEFAULT_QUEUES: Mapping[str, int] = MappingProxyType({"default": 10})
DEFAULT_POLL_INTERVAL = 1.0
DEFAULT_GRACE_PERIOD = 15.0
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
# As the server has it.
MAX_QUEUE_CHARACTERS = 128
MAX_NAME_CHARACTERS = 255
MAX_QUEUE_LIMIT = 1_000
MAX_PROCESSES = 256
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
    listen_dsn: str = ""
    poll_interval: float = DEFAULT_POLL_INTERVAL
    grace_period: float = DEFAULT_GRACE_PERIOD
    maintenance: bool = True
    name: str = ""
    log_level: str = "info"
    log_format: str = "text"
    processes: int = 1

    def __post_init__(self) -> None:
        # A file or a caller may have put anything here, whatever the annotations say.
        options: dict[str, Any] = {name: getattr(self, name) for name in OPTIONS}
        check_dsn(options["dsn"])
        check_dsn(options["listen_dsn"], "listen_dsn")
        _check_queues(options["queues"])
        _check_allow(options["allow"])
        check_seconds("poll_interval", options["poll_interval"], POLL_INTERVAL_RANGE)
        check_seconds("grace_period", options["grace_period"], GRACE_PERIOD_RANGE)
        check(
            isinstance(options["maintenance"], bool),
            "maintenance must be true or false",
            options["maintenance"],
        )
        check(isinstance(options["name"], str), "name must be a string", self.name)
        if self.name:
            check_name("the worker", self.name, MAX_NAME_CHARACTERS)
        check(
            self.log_level in LOG_LEVELS, f"log_level must be one of {LOG_LEVELS}", self.log_level
        )
        check(
            self.log_format in LOG_FORMATS,
            f"log_format must be one of {LOG_FORMATS}",
            self.log_format,
        )
        check(
            type(options["processes"]) is int and 1 <= options["processes"] <= MAX_PROCESSES,
            f"processes must be a number from 1 to {MAX_PROCESSES}",
            options["processes"],
        )


OPTIONS = tuple(each.name for each in dataclasses.fields(WorkerConfig))


def check_dsn(dsn: Any, name: str = "dsn") -> None:
    """Refuse what libpq cannot read."""
    check(isinstance(dsn, str), f"{name} must be a string", dsn)
    try:
        conninfo_to_dict(dsn)
    # UnicodeError: it is not in UTF-8.
    except (psycopg.ProgrammingError, UnicodeError) as error:
        raise ConfigError(f"{name} cannot be read: {str(error).strip()}") from error


def _check_queues(queues: Any) -> None:
    check(isinstance(queues, Mapping) and queues, "queues must have names and limits", queues)
    for queue, limit in queues.items():
        check_name("a queue", queue, MAX_QUEUE_CHARACTERS)
        check(
            type(limit) is int and 1 <= limit <= MAX_QUEUE_LIMIT,
            f'the limit of queue "{queue}" must be a number from 1 to {MAX_QUEUE_LIMIT}',
            limit,
        )


def _check_allow(allow: Any) -> None:
    check(is_list(allow), "allow must be a list of modules", allow)
    for module in allow:
        is_module = isinstance(module, str) and _MODULE.fullmatch(module)
        check(is_module, "allow must name modules, such as myapp.jobs", module)


def check_any_allowed(allow: Any) -> None:
    """Refuse to allow no module at all, where handlers are found in no other way."""
    if is_list(allow) and not allow:
        raise ConfigError(
            "no module is allowed, so no handler could be run;"
            ' name the modules of your handlers: allow=["myapp.jobs"], or --allow myapp.jobs'
        )


def check_seconds(name: str, value: Any, limits: tuple[float, float]) -> None:
    """Refuse what is not a number of seconds within the limits."""
    check_number(name, value, "seconds", limits)
