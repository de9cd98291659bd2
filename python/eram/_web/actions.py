"""What can be done from the page: each action is a function of eram's, and some repeat one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from eram._web.database import Database
from eram._web.http import HttpError, bad_request, not_found
from eram._web.jobs import narrow
from eram._web.parameters import MAX_IDS, check_names, id_of, optional_text_of, text_of

# So many jobs are changed in one transaction; what it locks is free again soon.
BATCH_SIZE = 1_000
# For so long one batch follows the other; then whoever asked is told how far it went.
BULK_SECONDS = 5.0
MAX_LIMIT = 2**31 - 1

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Args:
        function: which of eram's functions must be callable for it.
        keys: what its body may hold.
        act: does it, and returns what there is to say.
    """

    function: str
    keys: tuple[str, ...]
    act: Callable[[Database, Body], dict[str, Any]]


def _call(database: Database, query: LiteralString, *parameters: object) -> Any:
    with database.act() as transaction:
        return transaction.value(query, *parameters)


def _on_queue(query: LiteralString) -> Callable[[Database, Body], dict[str, Any]]:
    return lambda database, body: {"changed": _call(database, query, text_of(body, "queue"))}


def _on_job(query: LiteralString) -> Callable[[Database, Body], dict[str, Any]]:
    return lambda database, body: {"changed": _call(database, query, id_of(body, "id"))}


def _on_schedule(query: LiteralString) -> Callable[[Database, Body], dict[str, Any]]:
    return lambda database, body: {"changed": _call(database, query, text_of(body, "name"))}


def _cancel_job(database: Database, body: Body) -> dict[str, Any]:
    reason = optional_text_of(body, "reason")
    query: LiteralString = "select eram_cancel_job(%s::bigint, %s::text)"
    return {"changed": _call(database, query, id_of(body, "id"), reason)}


def _run_schedule(database: Database, body: Body) -> dict[str, Any]:
    query: LiteralString = "select eram_run_schedule(%s::text)"
    return {"job_id": _call(database, query, text_of(body, "name"))}


def _set_limit(database: Database, body: Body) -> dict[str, Any]:
    queue = text_of(body, "queue")
    limit = body.get("global_limit", "")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= MAX_LIMIT):
        raise bad_request(
            f"global_limit must be a whole number from 1 to {MAX_LIMIT}, or null",
            "null takes the limit away.",
        )
    query: LiteralString = "select eram_set_queue(%s::text, global_limit => %s::integer)"
    _call(database, query, queue, limit or 0)
    return {}


_FIND: LiteralString = """
select
    found.ids,
    found.next_before
from eram_find_jobs(%s::jsonb, %s::bigint, %s::integer) as found
"""


def _on_jobs(
    verb: str, query: LiteralString, *, with_reason: bool = False
) -> Callable[[Database, Body], dict[str, Any]]:
    """Make an action on all jobs of a filter, which are changed a batch at a time."""

    def act(database: Database, body: Body) -> dict[str, Any]:
        wanted = narrow(_filter_of(body), verb)
        reason = [optional_text_of(body, "reason")] if with_reason else []
        before = None if body.get("before") is None else id_of(body, "before")
        count = 0
        if wanted is None:
            return {"count": 0, "next": None}
        ends_at = time.monotonic() + BULK_SECONDS
        while True:
            try:
                with database.act() as transaction:
                    ids, before = transaction.row(_FIND, json.dumps(wanted), before, BATCH_SIZE)
                    if ids:
                        batch = json.dumps({**wanted, "ids": ids})
                        changed = transaction.value(query, batch, *reason)
                    else:
                        changed = 0
            except HttpError as error:
                # What was committed before stays.
                error.extra["count"] = count
                raise
            count += changed
            if before is None or time.monotonic() >= ends_at:
                return {"count": count, "next": before}

    return act


def _filter_of(body: Body) -> dict[str, Any]:
    wanted, ids = body.get("filter"), body.get("ids")
    if (wanted is None) == (ids is None):
        raise bad_request("one of filter and ids must be there", 'Such as {"ids": [1, 2]}.')
    if ids is not None:
        wanted = {"ids": ids}
    if not isinstance(wanted, dict):
        raise bad_request("filter must be an object", 'Such as {"state": "discarded"}.')
    ids = wanted.get("ids")
    if isinstance(ids, list) and len(ids) > MAX_IDS:
        raise bad_request(f"there are more than {MAX_IDS} ids", "Use a filter that says what.")
    if not wanted:
        raise bad_request("filter must not be empty", 'Say {"all": true} if you mean all jobs.')
    return wanted


_BULK = ("filter", "ids", "before")

ACTIONS: Mapping[str, Action] = {
    "pause_queue": Action(
        "eram_pause_queue", ("queue",), _on_queue("select eram_pause_queue(%s::text)")
    ),
    "resume_queue": Action(
        "eram_resume_queue", ("queue",), _on_queue("select eram_resume_queue(%s::text)")
    ),
    "set_limit": Action("eram_set_queue", ("queue", "global_limit"), _set_limit),
    "retry_job": Action("eram_retry_job", ("id",), _on_job("select eram_retry_job(%s::bigint)")),
    "cancel_job": Action("eram_cancel_job", ("id", "reason"), _cancel_job),
    "delete_job": Action("eram_delete_job", ("id",), _on_job("select eram_delete_job(%s::bigint)")),
    "retry_jobs": Action(
        "eram_retry_jobs", _BULK, _on_jobs("retry", "select eram_retry_jobs(%s::jsonb)")
    ),
    "cancel_jobs": Action(
        "eram_cancel_jobs",
        (*_BULK, "reason"),
        _on_jobs("cancel", "select eram_cancel_jobs(%s::jsonb, %s::text)", with_reason=True),
    ),
    "delete_jobs": Action(
        "eram_delete_jobs", _BULK, _on_jobs("delete", "select eram_delete_jobs(%s::jsonb)")
    ),
    "run_schedule": Action("eram_run_schedule", ("name",), _run_schedule),
    "pause_schedule": Action(
        "eram_pause_schedule",
        ("name",),
        _on_schedule("select eram_pause_schedule(%s::text)"),
    ),
    "resume_schedule": Action(
        "eram_resume_schedule",
        ("name",),
        _on_schedule("select eram_resume_schedule(%s::text)"),
    ),
}

# Which of these functions the role may call; by name, as none has two forms.
_CALLABLE: LiteralString = """
select coalesce(
    array_agg(distinct functions.proname::text)
        filter (where has_function_privilege(functions.oid, 'execute')),
    '{}')
from pg_catalog.pg_proc as functions
where
    functions.proname = any (%s::text[])
    and pg_function_is_visible(functions.oid)
"""


def allowed(database: Database) -> list[str]:
    """Say which actions the role of the connection may take."""
    functions = {name: each.function for name, each in ACTIONS.items()}
    with database.read() as look:
        callable_ones = look.value(_CALLABLE, sorted(set(functions.values())))
    return [name for name, function in functions.items() if function in callable_ones]


def act(database: Database, name: str, body: Body) -> dict[str, Any]:
    """Take an action, and return what there is to say of it.

    Raises:
        HttpError: there is no such action, it is refused, or it cannot be done.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise not_found(f'there is no action "{name[:100]}"')
    check_names(body, action.keys, "key")
    return {"ok": True, **action.act(database, body)}
