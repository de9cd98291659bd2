"""eram: background jobs as a PostgreSQL extension.

`@job` makes a function a handler, `enqueue` and its kin store jobs for it, and a worker runs them:
`python -m eram.worker --allow myapp.jobs`, or `Worker` in a process of your own.
"""

from eram._jobs.current import current_job
from eram._jobs.decorator import job
from eram._jobs.enqueueing import (
    Enqueued,
    NewJob,
    enqueue,
    enqueue_async,
    enqueue_many,
    enqueue_many_async,
)
from eram._jobs.handlers import ConfiguredHandler, Handler
from eram._jobs.job import Job
from eram._jobs.listeners import on_failure, on_success
from eram._jobs.options import HandlerOptions, JobOptions, UniqueOptions
from eram._jobs.outcome import Cancel, Discard, Retry, Snooze
from eram._jobs.wait import wait, wait_async
from eram._jobs.watch import Outcome
from eram._runtime.worker import Worker
from eram._transactions.driver import Driver
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
