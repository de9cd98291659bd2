"""What an engine is made of: a mapping from Python, or a TOML file; the keys are EramJS's."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypedDict

from eram._base.checks import check, check_keys, check_name, check_text, is_list
from eram._engine.schedule_config import (
    SECTIONS,
    cron_schedules,
    lifeline_schedule,
    prune_schedule,
    reindexer_schedule,
)
from eram._jobs.handlers import Handler
from eram._jobs.middleware import check_is_middleware
from eram._runtime.config import MAX_NAME_CHARACTERS, WorkerConfig
from eram._transactions.driver import Drivers
from eram.errors import ConfigError


class EngineOptions(TypedDict, total=False):
    """The keys of a configuration, apart from `handler` and `middleware`; see `Engine`."""

    dsn: str
    queues: Mapping[str, int | Mapping[str, int]]
    allow: Sequence[str]
    listen_dsn: str
    driver: Mapping[str, Any]
    prune: Mapping[str, Any]
    lifeline: Mapping[str, float]
    reindexer: Mapping[str, Any]
    cron: Sequence[Sequence[Any] | Mapping[str, Any]]
    poll_interval: float
    grace_period: float
    maintenance: bool
    name: str
    application: str
    log_level: str
    log_format: str
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(WorkerConfig):
    """The options of an engine, all of them valid.

    Args:
        declares: whether the engine says of its schedules that there are no others; an engine
            that is not configured, but given a few options, has no say in that.
    """

    driver: Mapping[str, Any] | None = None
    application: str = ""
    handler: Callable[..., Any] | str | None = None
    middleware: Any = ()
    prune: Mapping[str, Any] | None = None
    lifeline: Mapping[str, Any] | None = None
    reindexer: Mapping[str, Any] | None = None
    cron: Any = ()
    declares: bool = True
    schedules: list[dict[str, Any]] = field(init=False, default_factory=list)
    given: list[Handler[..., Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        WorkerConfig.__post_init__(self)
        check(is_list(self.middleware), "middleware must be a list", self.middleware)
        for each in self.middleware:
            check_is_middleware(each)
        if self.driver is not None:
            Drivers(self.driver, self.dsn)
        handler: Any = self.handler
        is_fitting = handler is None or callable(handler) or (isinstance(handler, str) and handler)
        check(is_fitting, "handler must be a function of the job, or its path", handler)
        if self.application != "":
            check_text("application", self.application, "the name of an application")
        check_name("the application", self.declared_by, MAX_NAME_CHARACTERS)
        readers: Mapping[str, Callable[[Any], dict[str, Any]]] = {
            "prune": prune_schedule,
            "lifeline": lifeline_schedule,
            "reindexer": reindexer_schedule,
        }
        for name, read in readers.items():
            if (section := getattr(self, name)) is not None:
                self.schedules.append(read(section))
        entries, given = cron_schedules(self.cron)
        self.schedules.extend(entries)
        self.given.extend(given)

    @property
    def declared_by(self) -> str:
        """Whose schedules these are: the application, or else the packages of its handlers."""
        return self.application or ",".join(_packages(self.allow)) or "default"


KEYS: Final = tuple(
    each.name for each in dataclasses.fields(EngineConfig) if each.init and each.name != "declares"
)


def read_engine_config(
    given: Mapping[str, Any] | str | os.PathLike[str] | None, options: Mapping[str, Any]
) -> EngineConfig:
    """Read a mapping, or the TOML file of this path; further options win.

    Raises:
        ConfigError: a key or a value is wrong; the message names it.
    """
    if given is None:
        from_given: Mapping[str, Any] = {}
    elif isinstance(given, str) and "://" in given:
        raise ConfigError("an engine takes the path of a TOML file, or dsn=...; this is a dsn")
    elif isinstance(given, str | os.PathLike):
        from_given = read_file(Path(given))
    else:
        from_given = read_options(given)
    return make_config({**from_given, **read_options(options)})


def make_config(
    options: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    *,
    declares: bool = True,
) -> EngineConfig:
    """Make a configuration of options whose names are right.

    Raises:
        ConfigError: a value is wrong; the message names it.
    """
    # A driver says itself where its database is.
    default = "" if options.get("driver") else environ.get("DATABASE_URL", "")
    return EngineConfig(**{"dsn": default, **options}, declares=declares)


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read, or a key or a value is wrong.
    """
    try:
        with path.open("rb") as file:
            options = tomllib.load(file)
    # Not UTF-8, not TOML, or a number of more digits than Python reads.
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        options = read_options(options)
        make_config(options, {})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return options


def read_options(given: Any) -> dict[str, Any]:
    """Check the names of options, and simplify the queues.

    Raises:
        ConfigError: there is no such option.
    """
    check_keys("", given, KEYS, SECTIONS)
    options = dict(given)
    if isinstance(options.get("queues"), Mapping):
        options["queues"] = {
            queue: _read_limit(queue, value) for queue, value in options["queues"].items()
        }
    return options


def _read_limit(queue: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    check_keys(f'queue "{queue}"', value, ("limit",))
    return value.get("limit")


def _packages(allow: Any) -> list[str]:
    return sorted({module.partition(".")[0] for module in allow})
