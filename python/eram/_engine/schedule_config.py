"""What a configuration says of recurring work, as `eram_register_schedules()` takes it.

The keys and their units are those of EramJS: intervals and `rescue_after` in milliseconds,
`max_age` and `timeout` in seconds. What a schedule may look like, and the names of time zones, are
the server's to check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eram._base import json_text
from eram._base.checks import check, check_keys, check_number, check_text, check_whole, is_list
from eram._base.suggest import nearest
from eram._jobs.handlers import PATH, ConfiguredHandler, Handler
from eram._jobs.options import HandlerOptions, encode_options
from eram.errors import ArgumentsError, ConfigError, EramError

PRUNE_KEYS = ("interval", "limit", "max_age")
LIFELINE_KEYS = ("interval", "rescue_after")
REINDEXER_KEYS = ("schedule", "indexes", "timeout", "timezone")
CRON_KEYS = (
    "schedule",
    "handler",
    "args",
    "name",
    "timezone",
    "missed",
    "overlap",
    "delay",
    *HandlerOptions.__annotations__,
)
SECTIONS: Mapping[str, Sequence[str]] = {
    "prune": PRUNE_KEYS,
    "lifeline": LIFELINE_KEYS,
    "reindexer": REINDEXER_KEYS,
}

YEAR_SECONDS = 365 * 86_400
INTERVAL_RANGE = (1_000, 1_000 * YEAR_SECONDS)
RESCUE_AFTER_RANGE = (1, 1_000 * YEAR_SECONDS)
LIMIT_RANGE = (1, 2_147_483_647)
MAX_AGE_RANGE = (0, 100 * YEAR_SECONDS)
TIMEOUT_RANGE = (0.001, 86_400)
MAX_AGE_STATES = ("completed", "cancelled", "discarded")
MISSED = ("skip", "once", "all")

_SECOND = "1000 is a second"


def prune_schedule(prune: Any) -> dict[str, Any]:
    """Read `prune`: interval in milliseconds, limit in jobs, max_age in seconds.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    check_keys("prune", prune, PRUNE_KEYS)
    options: dict[str, Any] = {}
    if "limit" in prune:
        check_whole("prune.limit", prune["limit"], "jobs at a time", LIMIT_RANGE)
        options["limit"] = int(prune["limit"])
    if "max_age" in prune:
        options["max_age"] = _max_age(prune["max_age"])
    return {"maintenance": "prune", **_every("prune", prune), "options": options}


def lifeline_schedule(lifeline: Any) -> dict[str, Any]:
    """Read `lifeline`: interval and rescue_after in milliseconds.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    check_keys("lifeline", lifeline, LIFELINE_KEYS)
    options: dict[str, Any] = {}
    if "rescue_after" in lifeline:
        after = lifeline["rescue_after"]
        check_whole(
            "lifeline.rescue_after", after, "milliseconds", RESCUE_AFTER_RANGE, hint=_SECOND
        )
        options["rescue_after"] = after / 1_000
    return {"maintenance": "lifeline", **_every("lifeline", lifeline), "options": options}


def reindexer_schedule(reindexer: Any) -> dict[str, Any]:
    """Read `reindexer`: a schedule, names of indexes, timeout in seconds, a time zone.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    check_keys("reindexer", reindexer, REINDEXER_KEYS)
    entry: dict[str, Any] = {"maintenance": "reindexer"}
    options: dict[str, Any] = {}
    if "schedule" in reindexer:
        check_text("reindexer.schedule", reindexer["schedule"], 'a schedule, such as "@midnight"')
        entry["schedule"] = reindexer["schedule"].strip()
    if "timezone" in reindexer:
        check_text("reindexer.timezone", reindexer["timezone"], 'a time zone, such as "Etc/UTC"')
        entry["timezone"] = reindexer["timezone"]
    if "indexes" in reindexer:
        indexes = reindexer["indexes"]
        are_names = is_list(indexes) and all(isinstance(each, str) and each for each in indexes)
        check(are_names, "reindexer.indexes must be a list of names of indexes", indexes)
        options["indexes"] = list(indexes)
    if "timeout" in reindexer:
        timeout = reindexer["timeout"]
        check_number("reindexer.timeout", timeout, "seconds for each index", TIMEOUT_RANGE)
        options["timeout"] = timeout
    return {**entry, "options": options}


def cron_schedules(cron: Any) -> tuple[list[dict[str, Any]], list[Handler[..., Any]]]:
    """Read `cron`: a list of entries, and the handlers that were given themselves.

    An entry is `[schedule, handler]` or `[schedule, handler, args]`, or a mapping with the keys
    `schedule`, `handler`, `args`, `name`, `timezone`, `missed`, `overlap`, and options of the job.

    Raises:
        ConfigError: an entry is wrong.
    """
    check(is_list(cron), "cron must be a list of entries [schedule, handler, args]", cron)
    entries: list[dict[str, Any]] = []
    given: list[Handler[..., Any]] = []
    for number, entry in enumerate(cron):
        where = f"cron[{number}]"
        fields = _fields(where, entry)
        handler = fields["handler"]
        entries.append(_cron_entry(where, fields))
        if isinstance(handler, ConfiguredHandler):
            handler = handler.handler
        if isinstance(handler, Handler):
            given.append(handler)
    return entries, given


def _fields(where: str, entry: Any) -> dict[str, Any]:
    if is_list(entry):
        is_short = 2 <= len(entry) <= 3  # noqa: PLR2004 - with and without args
        check(is_short, f"{where} must be [schedule, handler] or [schedule, handler, args]", entry)
        return dict(zip(("schedule", "handler", "args"), entry, strict=False))
    check_keys(where, entry, CRON_KEYS)
    for key in ("schedule", "handler"):
        if key not in entry:
            raise ConfigError(f'{where} has no "{key}"')
    return dict(entry)


def _cron_entry(where: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    schedule, handler, args = fields["schedule"], fields["handler"], fields.get("args")
    check_text(f"{where}: schedule", schedule, 'a schedule, such as "0 * * * *" or "@daily"')
    args = {} if args is None else args
    is_mapping = isinstance(args, Mapping) and all(isinstance(name, str) for name in args)
    check(is_mapping, f"{where}: args must be a mapping of names to values", args)
    entry: dict[str, Any] = {"schedule": schedule.strip()}
    entry |= _handler_fields(where, handler, args)
    for key in ("name", "timezone"):
        if fields.get(key) is not None:
            check_text(f"{where}: {key}", fields[key], "a string")
            entry[key] = fields[key]
    missed, overlap = fields.get("missed"), fields.get("overlap")
    if missed is not None:
        if missed not in MISSED:
            raise ConfigError(f"{where}: missed is {missed!r}; {nearest(str(missed), MISSED)}")
        entry["missed"] = missed
    if overlap is not None:
        check(isinstance(overlap, bool), f"{where}: overlap must be true or false", overlap)
        entry["overlap"] = overlap
    options = {
        key: fields[key] for key in ("delay", *HandlerOptions.__annotations__) if key in fields
    }
    try:
        entry |= encode_options(options)
        json_text.encode(entry, "it")
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return entry


def _handler_fields(where: str, handler: Any, args: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(handler, str):
        is_path = PATH.fullmatch(handler) if ":" in handler else re.search(r"\S", handler)
        check(is_path, f'{where}: a handler must be a path "module:function" or a name', handler)
        return {"handler": handler, "args": dict(args)}
    if not isinstance(handler, Handler | ConfiguredHandler):
        raise ConfigError(
            f"{where}: a handler is a function decorated with @eram.job, or its path"
            f' "module:function", got {handler!r}'
        )
    try:
        handler.check_args(args)
        options = {
            name: each for name, each in handler.job_options.items() if name != "scheduled_at"
        }
        return {"handler": handler.path, "args": dict(args), **options}
    except ArgumentsError as error:
        raise ConfigError(f"{where}: {error}") from error
    except EramError as error:
        raise ConfigError(
            f"{where}: {error}; or have it run by the engine itself, under @engine.job"
        ) from error


def _every(what: str, section: Mapping[str, Any]) -> dict[str, str]:
    """Make a schedule of an interval in milliseconds."""
    if "interval" not in section:
        return {}
    interval = section["interval"]
    check_whole(f"{what}.interval", interval, "milliseconds", INTERVAL_RANGE, hint=_SECOND)
    seconds, milliseconds = divmod(int(interval), 1_000)
    text = f"{seconds}.{milliseconds:03}".rstrip("0").rstrip(".")
    return {"schedule": f"{text} second{'s' if interval != INTERVAL_RANGE[0] else ''}"}


def _max_age(max_age: Any) -> Any:
    if not isinstance(max_age, Mapping):
        check_number("prune.max_age", max_age, "seconds", MAX_AGE_RANGE)
        return max_age
    check_keys("prune.max_age", max_age, MAX_AGE_STATES)
    for state, age in max_age.items():
        check_number(f"prune.max_age.{state}", age, "seconds", MAX_AGE_RANGE)
    return dict(max_age)
