"""eram: background jobs as a PostgreSQL extension.

`@job` makes a function a handler, `enqueue` and its kin store jobs for it, and a worker runs them:
`python -m eram.worker --allow myapp.jobs`, or `Worker` in a process of your own.
"""

from eram._current import current_job
from eram._decorator import job
from eram._driver import Driver
from eram._enqueue import (
    Enqueued,
    NewJob,
    enqueue,
    enqueue_async,
    enqueue_many,
    enqueue_many_async,
)
from eram._handlers import ConfiguredHandler, Handler
from eram._job import Job
from eram._listeners import on_failure, on_success
from eram._options import HandlerOptions, JobOptions, UniqueOptions
from eram._outcome import Cancel, Discard, Retry, Snooze
from eram._wait import wait, wait_async
from eram._watch import Outcome
from eram._worker import Worker
from eram.engine import Engine
from eram.errors import (
    ArgumentsError,
    ConfigError,
    EramError,
    HandlerDefinitionError,
    HandlerError,
    HandlerNotFoundError,
    HandlerTransactionError,
    UnstorableValueError,
    WaitError,
    WaitTimeoutError,
)

__all__ = [
    "ArgumentsError",
    "Cancel",
    "ConfigError",
    "ConfiguredHandler",
    "Discard",
    "Driver",
    "Engine",
    "Enqueued",
    "EramError",
    "Handler",
    "HandlerDefinitionError",
    "HandlerError",
    "HandlerNotFoundError",
    "HandlerOptions",
    "HandlerTransactionError",
    "Job",
    "JobOptions",
    "NewJob",
    "Outcome",
    "Retry",
    "Snooze",
    "UniqueOptions",
    "UnstorableValueError",
    "WaitError",
    "WaitTimeoutError",
    "Worker",
    "current_job",
    "enqueue",
    "enqueue_async",
    "enqueue_many",
    "enqueue_many_async",
    "job",
    "on_failure",
    "on_success",
    "wait",
    "wait_async",
]
