"""What can go wrong in a client of eram, apart from what PostgreSQL itself reports.

    EramError
    ├── ConfigError                a worker cannot start with these options
    ├── HandlerError
    │   ├── HandlerDefinitionError a function cannot be a handler
    │   └── HandlerNotFoundError   a job names a handler that this worker cannot or may not run
    ├── ArgumentsError             a job's arguments do not fit its handler
    ├── UnstorableValueError       a value cannot be stored as jsonb
    ├── HandlerTransactionError    a handler ended or broke the transaction that completes its job
    └── WaitError                  a connection cannot see the end of a job
        └── WaitTimeoutError       a job has not ended in time; also a TimeoutError

`Snooze`, `Cancel` and `Discard` are outcomes that a handler returns, not errors.
"""

from __future__ import annotations


class EramError(Exception):
    """The base of every error that eram raises itself."""


class ConfigError(EramError):
    """A worker cannot start with these options."""


class HandlerError(EramError):
    """Something is wrong with a handler."""


class HandlerDefinitionError(HandlerError):
    """A function cannot be a handler, or cannot be named by a path."""


class HandlerNotFoundError(HandlerError):
    """A job names a handler that this worker cannot or may not run."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'handler "{path}" {reason}')
        self.path = path
        self.reason = reason


class ArgumentsError(EramError, TypeError):
    """A job's arguments do not fit its handler."""


class UnstorableValueError(EramError, ValueError):
    """A value cannot be stored as jsonb."""


class HandlerTransactionError(EramError):
    """A handler ended or broke the transaction that completes its job."""


class WaitError(EramError):
    """A connection cannot see the end of a job."""


class WaitTimeoutError(WaitError, TimeoutError):
    """A job has not ended in time."""

    def __init__(self, job_id: int, state: str | None, timeout: float) -> None:
        where = f"it is {state}" if state else "nobody could say where it stands"
        super().__init__(f"job {job_id} has not ended within {timeout:g} s: {where}")
        self.job_id = job_id
        self.state = state
