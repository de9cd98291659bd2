"""Testing jobs on a real database, inside a transaction that the test rolls back.

`perform` runs one handler as a worker would. `assert_enqueued`, `refute_enqueued` and `enqueued`
look at the jobs of the test's transaction, `drain` runs them in it, `advance` lets time pass for
them, and `tick` enqueues the jobs of schedules. What others have committed is left alone.
"""

from eram.testing._drain import Drained, drain, drain_async
from eram.testing._look import (
    Criteria,
    FoundJob,
    assert_enqueued,
    enqueued,
    refute_enqueued,
)
from eram.testing._perform import perform
from eram.testing._run import Performed
from eram.testing._time import advance, declare_schedules, tick

__all__ = [
    "Criteria",
    "Drained",
    "FoundJob",
    "Performed",
    "advance",
    "assert_enqueued",
    "declare_schedules",
    "drain",
    "drain_async",
    "enqueued",
    "perform",
    "refute_enqueued",
    "tick",
]
