"""Values for the fuzzer, as SQL: ordinary ones, those at a border, and hostile ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sql.test_document_fuzz import mutate, random_document

HOSTILE_TEXTS = (
    *("'", "''", "\\", "\\'", "';", "'; drop table canary; --", "\\'; drop table canary; --"),
    *('"', '"; drop table canary; --', "$$; drop table canary; $$", "$body$", "$1", "%s", "%I%L%"),
    *("%", "%%n", "a'||(select what from canary)||'", "') ; delete from canary; --", "/*", "--"),
    *("pg_temp.x", "eram_jobs; drop table canary", ":x", "{}", "{x", "[", "\x01", "\n", "\u2028"),
    *("ü", "🦀", "\u202e", "NULL", "null", "\x7f", "__proto__", "a:b", "%(x)s", "{0}", "<path>"),
)
BORDER_TEXTS = ("", " ", " x", "x" * 128, "x" * 129, "x" * 255, "x" * 256, "x" * 513, "ü" * 70_000)
INTERVALS = (
    *("0", "1 second", "1 minute", "-1 second", "1 mon -40 days", "100 years", "101 years"),
    *("178000000 years", "-178000000 years", "0.000001 s", "24 days", "25 days", "infinity"),
    *("-infinity", "2147483647 mons", "-2147483648 days", "9223372036854.775807 s", "soon", ""),
    *("1 year -1 mon", "P1Y2M", "@ 1 day ago", "00:00:00.0000001"),
)
DURATIONS = ("0", "0.01 s", "-1 second", "25 hours", "1 mon", "infinity")
TIMES = (
    *("now", "2030-01-31 08:00Z", "0001-01-01 00:00Z", "9999-12-31 23:59Z", "infinity"),
    *("-infinity", "4714-01-01 00:00Z BC", "294276-12-31 23:59Z", "294277-01-01 00:00Z", "x"),
    *("2030-02-30 00:00Z", "epoch", "1999-12-31 23:59:59.9999999Z", "2027-03-28 02:30 Europe/Rome"),
)
SCHEDULES = (
    *("* * * * *", "*/5 0-4 1,15 * mon-fri", "@daily", "@yearly", "1 minute", "30 seconds"),
    *("0.000001 seconds", "0", "-1 second", "1 microsecond", "infinity", "1 mon", "@reboot", ""),
    *("0 0 31 2 *", "0 0 30 2 *", "60 * * * *", "* * * * * *", "*/0 * * * *", "1-0 * * * *"),
    *("0-59/1,0-59/1 * * * *", "," * 10_000, "*" * 10_000, "1" * 10_000, "@", "P1D", "* * * * 8"),
    *("0 0 29 2 *", "0 0 1 1 0", "1e9 s", "99999999999999999999 0 * * *"),
)
ZONES = (
    *("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Nowhere/Land", "", "utc"),
    *("+05:30", "<x>-3", "../../etc/passwd", "posixrules", "EST5EDT", "Factory", "Europe/berlin"),
)
WORDS: dict[str, Sequence[str]] = {
    "schedule": SCHEDULES,
    "timezone": ZONES,
    "missed": ("skip", "once", "all", "none"),
    "task": ("prune", "lifeline", "recorder", "reindexer", "vacuum"),
    "what": ("enqueue", "work", "read", "admin", "all"),
    "command": ("select 1", "select 1/0", "select", "garbage", "commit", "select pg_sleep(0)"),
    "application": ("shop", "blog"),
}
# What most functions accept, by the name of the argument.
LIKELY: dict[str, Sequence[str]] = {
    "priority": ("0", "5", "9"),
    "max_attempts": ("1", "3", "20"),
    "attempt": ("1", "3", "1000000"),
    "delay": ("'0'", "'1 second'", "'100 years'"),
    "timeout": ("'1 minute'", "'24 days'"),
    "scheduled_at": ("now()", "'2030-01-31 08:00Z'"),
    "tags": ("'{}'", "'{one,two}'"),
    "meta": ("'{}'", """'{"x": [1, null]}'"""),
    "args": ("'{}'", """'{"a": 1}'""", """'{"a": {"b": "it''s"}}'"""),
    "backoff": ("'\"none\"'", "'[0, 1]'", """'{"strategy": "fixed", "base": 0}'"""),
    "unique_by": ("'true'", "'{}'", """'{"fields": ["handler"], "on_conflict": "replace"}'"""),
    "max_age": ("'0'", "'{}'", """'{"completed": 0, "discarded": "infinity"}'"""),
    "options": ("'{}'", """'{"queue": "mail", "unique": true}'""", """'{"overlap": false}'"""),
    "overrides": ("'{}'", """'{"queue": "mail", "unique": true, "tags": ["x"]}'"""),
    "filter": ("""'{"all": true}'""", """'{"queue": "default"}'""", """'{"args": {"a": 1}}'"""),
    "error": ("'no luck'", "repeat('e', 1000000)", "''"),
    "detail": ("""'{"type": "T", "traceback": "x"}'""", "'{}'"),
    "results": ("null", "'{}'"),
    "stalled_after": ("'0'", "'1 minute'"),
    "rescue_after": ("'0'", "'1 hour'"),
    "global_limit": ("0", "1", "100"),
    "max_count": ("1", "100", "0"),
    "max_commands": ("0", "1", "10"),
    "client_pid": ("pg_backend_pid()", "null"),
    "indexes": ("'{eram_job_specs_pkey}'", "'{}'"),
    "aliases": ("'{}'", "'{old:name}'"),
    "demand": ("0", "1", "10"),
    "mark": ("null", "pg_current_xact_id()"),
}
NUMBERS = (0, 1, 2, 3, 5, 9, 10, -1, 20, 100, 2**15, 2**31 - 1, -(2**31), 2**31)
BIG_NUMBERS = (*NUMBERS, 2**32, 2**62, 2**63 - 1, -(2**63), 2**63)
DOCUMENTS: tuple[Any, ...] = (
    *({}, [], None, True, 0, "x", [[]], {"": 1}, {"all": True}, {"state": "completed"}),
    *({"queue": "default"}, {"state": ["available", "executing"]}, {"ids": [1, 2, 3]}),
    *({"ids": [2**63]}, {"ids": [10**400]}, {"tags": ["one"]}, {"args": {"a": 1}}),
    *({"before": "2030-01-31T08:00:00Z"}, {"after": "2000-01-31T08:00:00Z"}, {"handler": "a:b"}),
    *({"after": "9999-12-31T23:59:59.999999-15:59"}, {"state": "x" * 100_000}),
    *("none", {"strategy": "fixed", "base": 1}, {"strategy": "exponential", "cap": "1 day"}),
    *({"strategy": "linear", "jitter": 1}, {"base": 1e300}, [1, "1 minute"], {"delays": [0]}),
    *({"completed": 0}, {"completed": "infinity"}, {"discarded": "1 day", "cancelled": 5}),
    *({"limit": 10}, {"limit": -1}, {"max_age": 0}, {"max_age": "178000000 years"}),
    *({"rescue_after": "1 minute"}, {"rescue_after": 0}, {"indexes": ["eram_job_specs_pkey"]}),
    *({"indexes": ["pg_class_oid_index"]}, {"timeout": 1}, {"queue": "mail", "overlap": False}),
    *({"period": 1}, {"fields": ["handler"]}, {"fields": ["args"], "keys": ["a"]}),
    *({"on_conflict": "replace"}, {"fields": [], "keys": []}, {"x": 10**400}, {"n": 1e-400}),
)


def literal(text: str) -> str:
    """Write a text as SQL, whatever it holds."""
    quoted = text.replace("'", "''")
    return f"e'{quoted}'".replace("\\", "\\\\") if "\\" in text else f"'{quoted}'"


@dataclass
class Known:
    """What is really there, so that calls get deeper than the first check."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    queues: Sequence[str] = ("default", "mail", "x", "ü", "it's")
    handlers: Sequence[str] = ("a:b", "app.jobs:email", "null", "🦀:x")


class Values:
    """Makes arguments at random."""

    def __init__(self, rnd: random.Random, known: Known) -> None:
        self.rnd = rnd
        self.known = known
        self.tameness = 0.5  # how many of the arguments are such as are likely to be accepted
        self._by_type: dict[str, Callable[[], str]] = {
            "text": self._text,
            "jsonb": lambda: literal(self._json()),
            "integer": lambda: str(rnd.choice(NUMBERS)),
            "bigint": lambda: str(rnd.choice([*BIG_NUMBERS, *known.ids[-3:]])),
            "boolean": lambda: rnd.choice(["true", "false"]),
            "interval": lambda: literal(rnd.choice(INTERVALS)),
            "timestamp with time zone": lambda: literal(rnd.choice(TIMES)),
            "xid8": lambda: literal(str(rnd.choice([0, 3, 2**32, 2**64 - 1]))),
        }

    def make(self, function: str, name: str, kind: str) -> str:
        """Make an argument that this function may well accept, or any of this type."""
        if name == "duration":
            return f"{literal(self.rnd.choice(DURATIONS))}::{kind}"
        likely = self._likely(function, name) if self.rnd.random() < self.tameness else None
        if likely is None and self.rnd.random() < 0.08:
            likely = "null"
        return f"{likely or self._of_type(kind)}::{kind}"

    def _of_type(self, kind: str) -> str:
        if not kind.endswith("[]"):
            return self._by_type[kind]()
        element = kind.removesuffix("[]")
        items = [self._by_type[element]() for _ in range(self.rnd.choice([0, 1, 1, 2, 5]))]
        if self.rnd.random() < 0.1:
            items.append("null")
        cast = ", ".join(f"{item}::{element}" for item in items)
        return f"array[array[{cast}]]" if self.rnd.random() < 0.05 else f"array[{cast}]"

    def _text(self) -> str:
        return literal(self.rnd.choice([*HOSTILE_TEXTS, *BORDER_TEXTS]))

    def _likely(self, function: str, name: str) -> str | None:
        known, rnd = self.known, self.rnd
        if function in {"eram_enqueue_job", "eram_enqueue_jobs"} and name in {"job", "jobs"}:
            many = [mutate(random_document(rnd), rnd) for _ in range(rnd.choice([1, 1, 2, 5]))]
            return literal(json.dumps(many[0] if name == "job" else many))
        if function == "eram_register_schedules" and name == "schedules":
            return literal(json.dumps([self._declared() for _ in range(rnd.randint(0, 3))]))
        from_known: dict[str, Sequence[Any]] = {
            "id": known.ids,
            "worker": known.workers,
            "run_id": known.commands,
            "queue": known.queues,
            "handler": known.handlers,
        }
        if from_known.get(name):
            found = rnd.choice(from_known[name])
            return literal(found) if isinstance(found, str) else str(found)
        if name == "name" and known.names and function != "eram_start_worker":
            return literal(rnd.choice(known.names))
        if name == "role":
            return "current_setting('fuzz.victim')"
        if name == "queues":
            return f"array[{literal(rnd.choice(known.queues))}]"
        if name in LIKELY:
            return rnd.choice(LIKELY[name])
        return literal(rnd.choice(WORDS[name])) if name in WORDS else None

    def _declared(self) -> dict[str, Any]:
        schedule: dict[str, Any] = {"schedule": self.rnd.choice(SCHEDULES)}
        if self.rnd.random() < 0.3:
            return schedule | {"maintenance": self.rnd.choice(WORDS["task"]), "options": {}}
        return schedule | {"name": "fuzz", **mutate(random_document(self.rnd), self.rnd)}

    def _json(self) -> str:
        rnd = self.rnd
        kind = rnd.randrange(8)
        if kind == 0:
            depth = rnd.choice([10, 1000, 5000, 100_000])
            return "[" * depth + "]" * depth
        if kind == 1:
            depth = rnd.choice([10, 1000, 5000])
            return '{"a":' * depth + "1" + "}" * depth
        if kind == 2:
            return rnd.choice(['"\\u0000"', '"\\ud800"', '{"\\u0000": 1}', "{", "NaN", "1e999999"])
        if kind == 3:
            return json.dumps({rnd.choice(HOSTILE_TEXTS): rnd.choice(HOSTILE_TEXTS)})
        if kind == 4:
            return json.dumps(list(range(rnd.choice([10, 20_000]))))
        return json.dumps(rnd.choice(DOCUMENTS))
