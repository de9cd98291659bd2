"""Calls that must be refused, whatever the state of the database."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

Call = tuple[str, dict[str, Any]]

HUGE = 9223372036854775807
JOB: dict[str, Any] = {"handler": "app:a"}


def a_job(known: dict[str, Any]) -> Any:
    """Stand for a job that there is."""
    return known["job"]


def a_worker(known: dict[str, Any]) -> Any:
    """Stand for a worker that there is."""
    return known["worker"]


def each(function: str, argument: str, /, *wrong: Any, **right: Any) -> list[Call]:
    """Pass each wrong value of an argument among right ones."""
    return [(function, right | {argument: value}) for value in wrong]


WRONG_VALUES: list[dict[str, Any]] = [
    {"handlr": 1},
    {"args": [1]},
    {"args": "text"},
    {"meta": 1},
    {"queue": ""},
    {"queue": " mail"},
    {"queue": 7},
    {"queue": "q" * 129},
    {"priority": -1},
    {"priority": 10},
    {"priority": "1"},
    {"priority": 1.5},
    {"priority": 10**20},
    {"max_attempts": 0},
    {"max_attempts": 2_000_000},
    {"delay": -1},
    {"delay": "-1 month 30 days"},
    {"delay": "soon"},
    {"delay": 1e300},
    {"delay": "1000 years"},
    {"delay": []},
    {"delay": 1, "scheduled_at": "2030-01-01T00:00:00Z"},
    {"scheduled_at": "2030-01-01T00:00:00"},
    {"scheduled_at": "2030-02-30T00:00:00Z"},
    {"scheduled_at": 5},
    {"tags": "one"},
    {"tags": [None]},
    {"tags": [1]},
    {"tags": [""]},
    {"backoff": "sometimes"},
    {"backoff": {"strategy": "fixed", "base": -1}},
    {"backoff": []},
    {"backoff": [1, -1]},
    {"backoff": 7},
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": "soon"},
    {"unique": 30},
    {"unique": {"perod": 30}},
    {"unique": {"period": 0}},
    {"unique": {"period": -1}},
    {"unique": {"fields": []}},
    {"unique": {"fields": ["args", "tags"]}},
    {"unique": {"keys": "n"}},
    {"unique": {"keys": ["n"], "fields": ["queue"]}},
    {"unique": {"on_conflict": "ignore"}},
    {"unique": {"on_conflict": 1}},
    {"defaults": 1},
    {"defaults": {"handler": "app:b"}},
    # What an administrator has overridden is not looked at; for this handler, nothing is.
    {"handler": "app:none", "defaults": {"priority": 77}},
]
DOCUMENTS: list[Any] = [
    None,
    1,
    "app:a",
    {},
    {"handler": None},
    {"handler": 5},
    {"handler": ""},
    {"handler": "a{b"},
    {"handler": "a" * 513},
    *(JOB | wrong for wrong in WRONG_VALUES),
]
FILTERS: list[Any] = [
    None,
    {},
    [],
    1,
    {"all": False},
    {"all": None},
    {"all": True, "queue": "mail"},
    {"state": "running"},
    {"state": []},
    {"state": None},
    {"state": ["available", None]},
    {"queue": ""},
    {"queue": []},
    {"queue": 1},
    {"handler": []},
    {"handler": {"a": 1}},
    {"tags": []},
    {"tags": "one"},
    {"args": {}},
    {"args": [1]},
    {"meta": None},
    {"before": None},
    {"before": "yesterday"},
    {"after": "2030-01-01"},
    {"ids": []},
    {"ids": 1},
    {"ids": [1.5]},
    {"ids": ["1"]},
    {"ids": [10**30]},
    {"id": [1]},
    {"queues": "mail"},
]
RUNS: list[dict[str, Any]] = [
    {"ids": None, "runs": [1]},
    {"ids": [1], "runs": None},
    {"ids": [1, 2], "runs": [1]},
    {"ids": [], "runs": [1]},
    {"ids": [None], "runs": [1]},
    {"ids": [a_job], "runs": [None]},
    {"ids": [[1], [2]], "runs": [[1], [2]]},
]
DELAYS = ("-1 second", "-1 month 30 days", "200 years")


def wrap(values: list[Any]) -> list[Any]:
    """Make JSON of each value; null stays null."""
    return [None if value is None else Jsonb(value) for value in values]


MISTAKES: list[Call] = [
    *each("eram_enqueue_job", "job", *wrap(DOCUMENTS)),
    *each("eram_enqueue_jobs", "jobs", None, Jsonb("x"), Jsonb(7)),
    *each("eram_enqueue_jobs", "jobs", *wrap([[JOB, wrong] for wrong in DOCUMENTS])),
    *each("eram_enqueue_job", "handler", None, "", " a", "a\nb", "{}", "{", '{"handler": "a"} x'),
    *each("eram_enqueue_job", "args", Jsonb([1]), Jsonb("x"), Jsonb(None), handler="app:a"),
    *each("eram_enqueue_job", "delay", *DELAYS, handler="app:a"),
    *each("eram_enqueue_job", "timeout", "0", "-1 second", handler="app:a"),
    *each("eram_enqueue_job", "scheduled_at", "infinity", "-infinity", handler="app:a"),
    *each("eram_enqueue_job", "unique_by", Jsonb(1), Jsonb({"period": "x"}), handler="app:a"),
    *each("eram_fetch", "queue", None, "", demand=1, worker=a_worker),
    *each("eram_fetch", "demand", None, -1, queue="default", worker=a_worker),
    *each("eram_fetch", "worker", None, -1, 4711, HUGE, queue="default", demand=1),
    *each("eram_start_worker", "queues", None, [], [""], [None], name="x"),
    *each("eram_start_worker", "name", None, "", "x\n", queues=["mail"]),
    *each("eram_start_worker", "stalled_after", "-1 hour", name="x", queues=["mail"]),
    *each("eram_stop_worker", "worker", None, -1, HUGE),
    *(("eram_complete_jobs", runs) for runs in RUNS),
    *(("eram_release_jobs", runs) for runs in RUNS),
    *(("eram_release_other_jobs", runs | {"worker": 1, "queue": "mail"}) for runs in RUNS),
    *each("eram_release_other_jobs", "queue", None, "", worker=1, ids=[], runs=[]),
    *each("eram_complete_jobs", "results", [], [None, None], ids=[1], runs=[1]),
    *each("eram_fail_job", "id", None, run=1, error="x"),
    *each("eram_fail_job", "run", None, id=a_job, error="x"),
    *each("eram_fail_job", "detail", Jsonb([1]), Jsonb("x"), id=a_job, run=1, error="x"),
    *each("eram_fail_job", "delay", *DELAYS, id=a_job, run=1, error="x"),
    *each("eram_snooze_job", "delay", None, *DELAYS, id=a_job, run=1),
    *each("eram_snooze_job", "run", None, id=a_job, delay="1 second"),
    *each("eram_discard_job", "id", None, run=1),
    *each("eram_cancel_job", "id", None, -1, 0, HUGE),
    *each("eram_retry_job", "id", None, -1, 0, HUGE),
    *each("eram_delete_job", "id", None, -1, 0, HUGE),
    *each("eram_outcome", "id", None, -1, 0, HUGE),
    *each("eram_why", "id", None),
    *each("eram_update_job", "id", None, -1, 0, HUGE, priority=1),
    *each("eram_update_job", "priority", -1, 10, id=a_job),
    *each("eram_update_job", "max_attempts", 0, -1, 2_000_000, id=a_job),
    *each("eram_update_job", "delay", *DELAYS, id=a_job),
    *each("eram_update_job", "scheduled_at", "infinity", id=a_job),
    *each("eram_update_job", "scheduled_at", "2030-01-01T00:00Z", id=a_job, delay="1 second"),
    *each("eram_update_job", "backoff", Jsonb("x"), Jsonb({"base": -1}), id=a_job),
    *each("eram_update_job", "timeout", "0", "-1 hour", id=a_job),
    *each("eram_update_job", "tags", [None], [""], id=a_job),
    *each("eram_update_job", "meta", Jsonb([1]), Jsonb("x"), id=a_job),
    *each("eram_update_job", "args", Jsonb([1]), Jsonb(None), id=a_job),
    *each("eram_cancel_jobs", "filter", *wrap(FILTERS)),
    *each("eram_retry_jobs", "filter", *wrap(FILTERS)),
    *each("eram_delete_jobs", "filter", *wrap(FILTERS)),
    *each("eram_move_jobs", "filter", *wrap(FILTERS), queue="mail"),
    *each("eram_move_jobs", "queue", None, "", " ", filter=Jsonb({"all": True})),
    *each("eram_pause_queue", "queue", None, "", "q" * 129),
    *each("eram_resume_queue", "queue", None, ""),
    *each("eram_set_queue", "queue", None, "", "\t", priority=1),
    *each("eram_set_queue", "priority", -1, 10, queue="mail"),
    *each("eram_set_queue", "max_attempts", 0, queue="mail"),
    *each("eram_set_queue", "global_limit", -1, queue="mail"),
    *each("eram_set_queue", "rescue_after", "-1 hour", queue="mail"),
    *each("eram_set_queue", "backoff", Jsonb("x"), queue="mail"),
    *each("eram_set_queue", "max_age", Jsonb({"done": 1}), Jsonb(-1), Jsonb([]), queue="mail"),
    *each("eram_register_handler", "handler", None, "", "a{b"),
    *each("eram_register_handler", "aliases", ["app:a"], [""], [None], handler="app:a"),
    *each("eram_register_handler", "queue", "", handler="app:a"),
    *each("eram_register_handler", "priority", -1, 10, handler="app:a"),
    *each("eram_register_handler", "max_attempts", 0, handler="app:a"),
    *each("eram_register_handler", "tags", [None], handler="app:a"),
    *each("eram_register_handler", "timeout", "0", handler="app:a"),
    *each("eram_register_handler", "meta", Jsonb([1]), handler="app:a"),
    *each("eram_register_handler", "backoff", Jsonb("x"), handler="app:a"),
    *each("eram_register_handler", "unique_by", Jsonb(3), handler="app:a"),
    *each("eram_set_handler", "handler", None, "", overrides=Jsonb({})),
    *each(
        "eram_set_handler",
        "overrides",
        *wrap([None, [], 1, {"priority": 10}, {"priorit": 1}, {"unique": 1}, {"queue": ""}]),
        handler="app:a",
    ),
    *each("eram_delete_handler", "handler", None, ""),
    *each("eram_prune_jobs", "max_age", *DELAYS),
    *each("eram_prune_jobs", "max_count", 0, -1),
    *each("eram_rescue_jobs", "rescue_after", *DELAYS),
]
