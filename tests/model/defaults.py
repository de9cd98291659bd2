"""The model's settings: what queues and handlers say of jobs that do not say it themselves."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

DAY = 86_400
KEPT = {"completed": DAY, "cancelled": DAY, "discarded": 7 * DAY}
UNIQUE_FIELDS = ("handler", "queue", "args")
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": DAY}


class RefusedError(Exception):
    """A call that is a caller's mistake: it raises, and changes nothing."""

    def __init__(self, sqlstate: str, why: str) -> None:
        super().__init__(f"{sqlstate}: {why}")
        self.sqlstate = sqlstate


UNKNOWN = "42704"
WRONG_STATE = "55000"
TAKEN = "23505"
BAD_RANGE = "22003"


@dataclasses.dataclass
class Queue:
    """What an administrator has set for a queue."""

    is_paused: bool = False
    priority: int | None = None
    max_attempts: int | None = None
    backoff: Any = None
    max_age: dict[str, Any] = dataclasses.field(default_factory=dict)
    rescue_after: float | None = None
    global_limit: int | None = None

    def keeps_for(self, state: str, general: float | None = None) -> float:
        """Return how many seconds a job is kept after it ended so."""
        own = self.max_age.get(state)
        if own is None:
            own = KEPT[state] if general is None else general
        return seconds(own)


@dataclasses.dataclass
class Handler:
    """What the code declares of a handler, and what an administrator puts in its place."""

    declared: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    alias_of: str | None = None


def seconds(duration: Any) -> float:
    """Read a duration: a number is seconds, a string an interval such as "2 hours"."""
    if not isinstance(duration, str):
        return duration
    if duration == "infinity":
        return math.inf
    number, unit = duration.split()
    return float(number) * UNITS[unit.removesuffix("s")]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, which means: not given."""
    return {key: value for key, value in options.items() if value is not None}


def delay_after(attempt: int, backoff: Any) -> tuple[float, float]:
    """Return the shortest and the longest time that a job waits after a failed attempt."""
    rule = {
        list: lambda: {"delays": backoff},
        str: lambda: {"strategy": backoff},
        dict: lambda: given(backoff),
        type(None): dict,
    }[type(backoff)]()
    if "delays" in rule:
        delays = rule["delays"]
        rule |= {"strategy": "fixed", "base": delays[min(attempt, len(delays)) - 1]}
    strategy = rule.get("strategy", "exponential")
    base = seconds(rule["base"]) if "base" in rule else 1 if strategy == "exp" else 15
    wait = {
        "exponential": base + 2 ** min(attempt, 60),
        "exp": base * 2 ** min(attempt, 60),
        "linear": base * attempt,
        "fixed": base,
        "none": 0,
    }[strategy]
    cap = {"exponential": DAY, "exp": 3600}.get(strategy, math.inf)
    if "cap" in rule:
        cap = seconds(rule["cap"])
    jitter = rule.get("jitter", 0.1 if strategy == "exponential" else 0)
    return min(wait, cap), min(wait * (1 + jitter), cap)


class Settings:
    """Queues and handlers, and what a job is made of."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.handlers: dict[str, Handler] = {}

    def queue(self, name: str) -> Queue:
        """Return the settings of a queue, which nobody need have declared."""
        return self.queues.get(name, Queue())

    def handler_name(self, name: str) -> str:
        """Return what a handler is called now that may be named by an alias."""
        return self.handlers.get(name, Handler()).alias_of or name

    def complete(self, document: dict[str, Any]) -> dict[str, Any]:
        """Fill in what a producer left out; each value is decided for itself."""
        own = given(document)
        handler = self.handler_name(own["handler"])
        known = self.handlers.get(handler, Handler())
        layers = [own, known.overrides, given(own.get("defaults", {})), known.declared]

        def choose(key: str, *last: Any) -> Any:
            values = [layer.get(key) for layer in layers] + list(last)
            return next((value for value in values if value is not None), None)

        queue = choose("queue", "default")
        settings = self.queue(queue)
        unique = choose("unique", False)
        return {
            "handler": handler,
            "queue": queue,
            "args": own.get("args", {}),
            "meta": choose("meta", {}),
            "tags": choose("tags", []),
            "priority": choose("priority", settings.priority, 0),
            "max_attempts": choose("max_attempts", settings.max_attempts, 20),
            "backoff": choose("backoff", settings.backoff),
            "timeout": choose("timeout"),
            "unique": {} if unique is True else unique,
            "delay": own.get("delay"),
            "scheduled_at": own.get("scheduled_at"),
        }

    # -- what administrators and workers say

    def eram_set_queue(self, queue: str, **settings: Any) -> None:
        """Change what is given; what takes a setting back is none of its values."""
        known = self.queues.setdefault(queue, Queue())
        for key, value in given(settings).items():
            if key == "max_age":
                known.max_age = given(
                    value if isinstance(value, dict) else dict.fromkeys(KEPT, value)
                )
            elif key in ("rescue_after", "global_limit"):
                setattr(known, key, value or None)
            elif key not in ("is_notifying", "is_announcing"):
                setattr(known, key, value)

    def eram_pause_queue(self, queue: str) -> bool:
        """Say whether it was not paused."""
        known = self.queues.setdefault(queue, Queue())
        was_paused, known.is_paused = known.is_paused, True
        return not was_paused

    def eram_resume_queue(self, queue: str) -> bool:
        """Say whether it was paused."""
        was_paused = self.queue(queue).is_paused
        if was_paused:
            self.queues[queue].is_paused = False
        return was_paused

    def eram_register_handler(
        self, handler: str, aliases: list[str] | None = None, **declared: Any
    ) -> None:
        """Replace what was declared; overrides survive, also those of its other names."""
        if "unique_by" in declared:
            declared["unique"] = declared.pop("unique_by")
        names = sorted(aliases or [])
        former = {*names, self.handler_name(handler)} - {handler}
        overrides: dict[str, Any] = {}
        for name in (*sorted(former), handler):
            overrides = overrides | self.handlers.get(name, Handler()).overrides
        self.handlers[handler] = Handler(given(declared), overrides)
        for known in self.handlers.values():
            if known.alias_of in names:
                known.alias_of = handler
        for name in names:
            self.handlers[name] = Handler(alias_of=handler)

    def eram_set_handler(self, handler: str, overrides: dict[str, Any]) -> None:
        """Replace an administrator's override; of an alias, that of its handler."""
        known = self.handlers.setdefault(self.handler_name(handler), Handler())
        known.overrides = given(overrides)

    def eram_delete_handler(self, handler: str) -> bool:
        """Forget a handler and its aliases."""
        names = [name for name, known in self.handlers.items() if handler in (name, known.alias_of)]
        for name in names:
            del self.handlers[name]
        return bool(names)
