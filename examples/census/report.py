"""What the census shows, while it runs and at its end: all of it comes out of the database."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg

STATES = ("available", "scheduled", "executing", "retryable", "completed", "discarded", "cancelled")
FINAL_STATES = ("completed", "discarded", "cancelled")

BAR_WIDTH = 24
PIPE_SECONDS = 1.0  # between two lines of progress where no terminal shows them

COUNTS: LiteralString = "select state, count(*) from eram_jobs group by state"

TABLES: dict[str, LiteralString] = {
    "Jobs by queue and state": """
        select queue, state, count(*) as jobs, sum(attempt) as attempts
        from eram_jobs
        group by queue, state
        order by queue, state
    """,
    "Speed, and the time from enqueue to start (all were enqueued at once)": """
        select
            round(count(*) / extract(epoch from max(finalized_at) - min(attempted_at))) as "jobs/s",
            to_char(min(wait), 'MI:SS.MS') as "first start",
            to_char(percentile_cont(0.5) within group (order by wait), 'MI:SS.MS') as p50,
            to_char(percentile_cont(0.95) within group (order by wait), 'MI:SS.MS') as p95
        from eram_jobs
        cross join lateral (select attempted_at - inserted_at) as start (wait)
        where queue = 'files' and state = 'completed' and attempt = 1
    """,
    "The ten largest modules": """
        select module, lines, functions, classes, imports
        from census_modules
        order by lines desc, module
        limit 10
    """,
    "Files that do not parse: tried three times, then discarded": """
        select
            args ->> 'module' as module,
            attempt as attempts,
            left(errors -> -1 ->> 'error', 100) as reason
        from eram_jobs
        where state = 'discarded'
        order by id
        limit 25
    """,
    "In all, as the last job summed it up": """
        select modules, lines, functions, classes, imports
        from census_summary
    """,
}

TRY_NEXT: LiteralString = """
  select id, state, attempt, handler, result from eram_latest_jobs order by id desc limit 5;

  select jsonb_pretty(errors) from eram_jobs where state = 'discarded' limit 1;

  select split_part(module, '.', 1) as package, sum(lines) from census_modules
  group by package order by sum desc limit 10;
"""

# Each row is something that did not come out as it must.
FAULTS: LiteralString = """
    select format('eram_check(): %s, job %s: %s', violation, job_id, detail)
    from eram_check()
    union all
    select format('job %s is %s', id, state)
    from eram_jobs
    where state not in ('completed', 'discarded')
    union all
    select format('job %s, of a file in broken/, is %s after attempt %s', id, state, attempt)
    from eram_jobs
    where 'broken' = any (tags) and (state, attempt) <> ('discarded', 3)
    union all
    select format('job %s is completed, but its module is missing', id)
    from eram_jobs
    where
        queue = 'files'
        and state = 'completed'
        and id not in (select job_id from census_modules)
    union all
    select format('there are %s summaries, of %s modules', count(*), sum(modules))
    from census_summary
    having count(*) <> 1 or sum(modules) <> (select count(*) from census_modules)
    limit 10
"""


class Progress:
    """One line that says how far the jobs are; in a pipe, a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._shown_at = float("-inf")
        self._shown = ""

    def show(self, counts: dict[str, int], *, is_last: bool = False) -> None:
        """Show the counts by state."""
        now = time.monotonic()
        if not (self._is_terminal or is_last or now - self._shown_at >= PIPE_SECONDS):
            return
        self._shown_at = now
        ended = sum(counts.get(state, 0) for state in FINAL_STATES)
        total = max(1, sum(counts.values()))
        filled = BAR_WIDTH * ended // total
        states = " ".join(f"{state} {counts[state]}" for state in STATES if counts.get(state))
        line = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {ended}/{total}  {states}"
        if self._is_terminal:
            print(f"\r{line:{len(self._shown)}}", end="\n" if is_last else "", flush=True)
        elif line != self._shown:
            print(line, flush=True)
        self._shown = line


def counts(conn: psycopg.Connection) -> dict[str, int]:
    """Count the jobs by state."""
    return dict(conn.execute(COUNTS).fetchall())


def faults(conn: psycopg.Connection) -> list[str]:
    """Say what did not come out as it must."""
    return [row[0] for row in conn.execute(FAULTS)]


def show_tables(conn: psycopg.Connection) -> None:
    """Print the tables at the end."""
    for title, query in TABLES.items():
        cursor = conn.execute(query)
        names = [column.name for column in cursor.description or ()]
        print(f"\n{title}\n")
        for line in _table(names, cursor.fetchall()):
            print(f"  {line}")


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    is_number = [
        all(not isinstance(row[column], str) for row in rows) for column in range(len(names))
    ]
    lines = [list(names), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        cells = (
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(line, widths, is_number, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
