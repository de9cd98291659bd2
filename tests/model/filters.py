"""The model's filters: which jobs a bulk function is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import Job
    from .moments import Moment


def contains(whole: Any, part: Any) -> bool:
    """Say whether one JSON value contains another, as the operator of jsonb does."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(contains(entry, wanted) for entry in whole) for wanted in part)
    return whole == part


def one_or_more(value: Any) -> list[Any]:
    """Read what may be one value or a list of them."""
    return value if isinstance(value, list) else [value]


def matches(job: Job, filter: dict[str, Any], at: Moment) -> bool:  # noqa: A002
    """Say whether all that the filter says is true of the job."""
    since = job.ended or job.attempted or job.scheduled
    tests = {
        "all": lambda value: value is True,
        "ids": lambda value: job.id in value,
        "state": lambda value: job.state(at) in one_or_more(value),
        "queue": lambda value: job.queue in one_or_more(value),
        "handler": lambda value: job.handler in one_or_more(value),
        "tags": lambda value: set(value) <= set(job.tags),
        "args": lambda value: contains(job.args, value),
        "meta": lambda value: contains(job.meta, value),
        "before": lambda value: not value.has_come(since),
        "after": lambda value: value.has_come(since),
    }
    return all(tests[key](value) for key, value in filter.items())
