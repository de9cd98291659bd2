"""Who is to be told, in the process of the worker, how jobs ended."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from eram._jobs.enqueueing import Enqueueable
from eram._jobs.job import Job
from eram._jobs.watch import Outcome

Listener: TypeAlias = Callable[[Job, Outcome], object]


@dataclass(slots=True, eq=False)
class Subscription:
    """A listener, and what it listens to; `path` is None for the jobs of all handlers."""

    path: str | None
    listener: Listener
    is_active: bool = field(default=True)


_successes: list[Subscription] = []
_failures: list[Subscription] = []


def on_success(handler: str | Enqueueable | None, fn: Listener, /) -> Callable[[], None]:
    """Call `fn(job, outcome)` whenever a worker in this process has completed a job.

    The server has stored the result by then. A thread of the worker calls its listeners one after
    the other; what they raise is logged. An outcome is told at most once: a process that ends has
    told nobody else.

    Args:
        handler: whose jobs, as a decorated handler or its path; None for all.
        fn: takes the job and an `Outcome`, whose `result` is what the handler returned.

    Returns:
        A function that ends this; calling it again does nothing.
    """
    return _subscribe(_successes, handler, fn)


def on_failure(handler: str | Enqueueable | None, fn: Listener, /) -> Callable[[], None]:
    """Call `fn(job, outcome)` whenever a worker in this process has made a job discarded.

    That is a failure for good, by the last attempt or by `Discard`; not an attempt that is retried,
    nor a cancel. Otherwise like `on_success`, with the reason in the outcome's `error`.
    """
    return _subscribe(_failures, handler, fn)


def of_success(path: str) -> list[Subscription]:
    """Find who listens to the successes of a handler."""
    return _matching(_successes, path)


def of_failure(path: str) -> list[Subscription]:
    """Find who listens to the failures of a handler."""
    return _matching(_failures, path)


def _matching(subscriptions: list[Subscription], path: str) -> list[Subscription]:
    if not subscriptions:
        return []
    return [each for each in list(subscriptions) if each.path is None or each.path == path]


def _subscribe(
    subscriptions: list[Subscription], handler: Any, listener: Any
) -> Callable[[], None]:
    if handler is None or isinstance(handler, str):
        path = handler
    elif hasattr(handler, "job_options"):
        path = handler.path
    else:
        raise TypeError(
            f"handler must be None, a path or a handler made by @eram.job, got {handler!r}"
        )
    if not callable(listener) or inspect.iscoroutinefunction(listener):
        raise TypeError(f"a listener must be a function that is not async, got {listener!r}")
    subscription = Subscription(path, listener)
    subscriptions.append(subscription)

    def unsubscribe() -> None:
        subscription.is_active = False
        with contextlib.suppress(ValueError):
            subscriptions.remove(subscription)

    return unsubscribe
