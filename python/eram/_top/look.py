"""What there is to see of a database: queues, throughput, workers, health.

Each part is one statement that a role with `read` may run. What costs more, or changes more slowly,
is asked for less often; and nothing for more than a tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, LiteralString

import psycopg

from eram._top.overview import Check, Minute, Overview, Queue, Run, Totals, Worker

# Of a database with more queues the busiest are shown, and all are counted.
MAX_QUEUES = 1000
MAX_WORKERS = 500
# Of so many running jobs at most it is said who runs them.
MAX_RUNNING = 5000
MINUTES = 60

# A look takes at most this share of the time.
SHARE = 10
SLOW_SECONDS = 10.0

LEVELS = ("critical", "warn", "unknown", "ok")

_QUEUES = """
select
    queue,
    is_paused,
    waiting_count,
    due_count,
    retryable_count,
    extract(epoch from oldest_due_age)::float8,
    running_count,
    global_limit,
    completed_per_minute::float8,
    failed_per_minute::float8,
    worker_count,
    is_estimate,
    count(*) over (),
    sum(waiting_count) over ()::bigint,
    sum(due_count) over ()::bigint,
    sum(retryable_count) over ()::bigint,
    sum(running_count) over ()::bigint,
    sum(completed_per_minute) over ()::float8,
    sum(failed_per_minute) over ()::float8,
    bool_or(is_estimate) over ()
from eram_queue_stats
order by
    waiting_count + running_count + completed_per_minute + failed_per_minute desc,
    queue
limit %(most)s
"""

_WORKERS = """
select
    workers.worker,
    workers.name,
    workers.queues,
    workers.condition,
    extract(epoch from clock_timestamp() - workers.started_at)::float8,
    extract(epoch from clock_timestamp() - workers.heartbeat_at)::float8,
    workers.is_direct,
    workers.running_count,
    extract(epoch from clock_timestamp() - workers.oldest_attempted_at)::float8,
    count(*) over ()
from eram_worker_stats as workers
order by workers.condition = 'alive', workers.running_count desc, workers.worker
limit %(most)s
"""

_RUNNING = """
select
    running.attempted_by,
    running.handler,
    count(*)
from (
    select
        jobs.attempted_by,
        jobs.handler
    from eram_jobs as jobs
    where jobs.state = 'executing'
    limit %(most)s
) as running
group by running.attempted_by, running.handler
order by count(*) desc, running.handler
"""

# Whole minutes: the one that runs would always look like a decline.
_THROUGHPUT = """
with counted as (
    select
        throughput.minute,
        sum(throughput.completed_count)::bigint as completed_count,
        sum(throughput.failed_count)::bigint as failed_count
    from eram_throughput as throughput
    group by throughput.minute
)
select
    minutes.minute,
    coalesce(counted.completed_count, 0),
    coalesce(counted.failed_count, 0)
from generate_series(
    date_trunc('minute', statement_timestamp()) - make_interval(mins => %(most)s),
    date_trunc('minute', statement_timestamp()) - interval '1 minute',
    interval '1 minute'
) as minutes (minute)
left join counted on counted.minute = minutes.minute
order by minutes.minute
"""

_HEALTH = "select name, level, finding, action from eram_health()"

_BASICS = "select statement_timestamp(), eram_version()"


class Pace:
    """How often something may be done that takes its time.

    Args:
        least_seconds: how long there is at least from one time to the next.
        clock: says what time it is.
    """

    def __init__(self, least_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._least = least_seconds
        self._clock = clock
        self._next_at = float("-inf")
        self.seconds = least_seconds

    def is_due(self) -> bool:
        """Say whether it is time."""
        return self._clock() >= self._next_at

    def remaining(self) -> float:
        """Say how long it is until then."""
        return max(0.0, self._next_at - self._clock())

    def took(self, seconds: float) -> None:
        """Note how long it took, and put off the next time by ten times that."""
        self.seconds = max(self._least, SHARE * seconds)
        self._next_at = self._clock() + self.seconds


class Looker:
    """Looks at a database, again and again.

    Args:
        clock: says what time it is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slow: dict[str, tuple[Pace, list[Any]]] = {}

    def look(self, conn: psycopg.Connection[Any]) -> Overview:
        """Look.

        Args:
            conn: a connection in autocommit whose rows are tuples.
        """
        at, version = conn.execute(_BASICS).fetchall()[0]
        queues = conn.execute(_QUEUES, {"most": MAX_QUEUES}).fetchall()
        workers = conn.execute(_WORKERS, {"most": MAX_WORKERS}).fetchall()
        info = conn.info
        # A folder of sockets says nothing to anybody.
        place = info.dbname if info.host.startswith(("/", "@")) else f"{info.dbname}@{info.host}"
        width = len(Queue._fields)
        checks = [Check(*row) for row in self._seldom(conn, _HEALTH, {})]
        return Overview(
            at=at,
            version=version,
            place=place,
            totals=Totals(*queues[0][width:]) if queues else Totals(),
            queues=[Queue(*row[:width]) for row in queues],
            worker_count=workers[0][-1] if workers else 0,
            workers=[Worker(*row[:-1]) for row in workers],
            runs=[Run(*row) for row in conn.execute(_RUNNING, {"most": MAX_RUNNING})],
            throughput=[Minute(*row) for row in self._seldom(conn, _THROUGHPUT, {"most": MINUTES})],
            checks=sorted(checks, key=lambda check: LEVELS.index(check.level)),
        )

    def _seldom(
        self, conn: psycopg.Connection[Any], query: LiteralString, values: Mapping[str, int]
    ) -> list[Any]:
        """Return the rows of a query, which may be those of some seconds ago."""
        pace, rows = self._slow.get(query) or (Pace(SLOW_SECONDS, self._clock), [])
        if pace.is_due():
            since = self._clock()
            rows = conn.execute(query, values).fetchall()
            pace.took(self._clock() - since)
            self._slow[query] = pace, rows
        return rows
