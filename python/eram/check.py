"""`python -m eram check`: say whether all is well in a database.

It asks eram_check() for violated invariants, and looks for what else an operator would want to
know: another version, nobody who ticks, schedules that fail, queues that nobody serves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import extension, installation
from eram._server.installation import Installation

MAX_SHOWN_PROBLEMS = 50

# Each returns what is wrong, the job that it is about or null, and what there is to say of it.
_VIOLATIONS = "select violation, job_id, detail from eram_check()"

# Longer than a crontab's minute and what a tick may take.
_OVERDUE = """
with overdue as (
    select
        schedules.name,
        schedules.next_run_at,
        schedules.action in ('sql', 'top_level') as is_command
    from eram_schedules as schedules
    where schedules.next_run_at < statement_timestamp() - interval '5 minutes'
)
select
    case when bool_and(overdue.is_command) then 'nobody runs commands' else 'nobody ticks' end,
    null::bigint,
    format(
        '%s of the schedules are overdue, "%s" since %s; run %s',
        count(*),
        (array_agg(overdue.name order by overdue.next_run_at))[1],
        min(overdue.next_run_at)::timestamptz(0),
        case
            when bool_and(overdue.is_command) then 'a worker as the owner of eram'
            else 'a worker, or python -m eram tick'
        end)
from overdue
having count(*) > 0
"""

_FAILING_SCHEDULES = """
select
    'schedule failed',
    schedules.last_job_id,
    format(
        '"%s" at %s: %s',
        schedules.name,
        schedules.last_run_at::timestamptz(0),
        schedules.last_error)
from eram_schedules as schedules
where
    schedules.last_error is not null
    and not schedules.is_paused
order by schedules.name
"""

# As long as a worker of which others hear nothing, but who may be behind a pooler, takes at most.
_SILENT_WORKERS = """
select
    'worker is silent',
    null::bigint,
    format('worker %s, "%s", since %s', workers.id, workers.name,
        workers.heartbeat_at::timestamptz(0))
from eram_workers as workers
where
    workers.ended_at is null
    and workers.heartbeat_at < statement_timestamp() - interval '2 minutes'
order by workers.id
"""

_UNSERVED_QUEUES = """
select
    'nobody serves a queue',
    null::bigint,
    format(
        'queue "%s": %s jobs are due, the first for %s',
        stats.queue,
        stats.due_count,
        stats.oldest_due_age::interval(0))
from eram_queue_stats as stats
where
    stats.worker_count = 0
    and not stats.is_paused
    and stats.oldest_due_age > interval '1 minute'
order by stats.queue
"""

_WORKER_COUNT = "select count(*) from eram_workers where ended_at is null"
_HAS_MAINTENANCE = (
    "select exists (select from eram_schedules where action in ('prune', 'lifeline'))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong: what, with which job if with one, and what there is to say of it."""

    problem: str
    job_id: int | None
    detail: str

    def __str__(self) -> str:
        job = "" if self.job_id is None else f" (job {self.job_id})"
        return f"{self.problem}{job}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What there is to say of a database: no problem means that all is well."""

    version: str
    schema: str
    is_extension: bool
    worker_count: int
    problems: Sequence[Problem]
    notes: Sequence[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "check",
        "Say whether all is well in a database: violated invariants (which reads all jobs),"
        " another version than that of this package, schedules that are overdue or have failed,"
        " workers that have gone silent, and queues with due jobs that nobody serves."
        "\n\n"
        "It changes nothing. A role needs to be granted read.",
        examples=("--dsn postgresql:///shop", "--json"),
        exit_codes={
            command_line.FINE: "all is well",
            command_line.FAILED: "something is wrong, which is named; or the database could not"
            " be asked",
            command_line.MISUSED: "wrong options, or a database without eram",
        },
    )
    parser.add_dsn()
    parser.add_json()
    chosen = parser.parse_args(argv)
    return command_line.run(
        "check", lambda: _check(command_line.dsn_of(chosen), is_json=chosen.json)
    )


def check(conn: psycopg.Connection[Any]) -> Findings:
    """Look for what is wrong in the connection's database.

    Args:
        conn: A connection as a role that has been granted `read`.

    Raises:
        ConfigError: There is no eram, or not in the search_path.
    """
    found = installation.demand(conn)
    version = found.version(conn)
    problems = list(_version_problems(found, version))
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        for query in (
            _VIOLATIONS,
            _OVERDUE,
            _FAILING_SCHEDULES,
            _SILENT_WORKERS,
            _UNSERVED_QUEUES,
        ):
            for problem, job_id, detail in cursor.execute(query):
                problems.append(Problem(problem=problem, job_id=job_id, detail=detail))
        worker_count = (cursor.execute(_WORKER_COUNT).fetchone() or (0,))[0]
        has_maintenance = (cursor.execute(_HAS_MAINTENANCE).fetchone() or (False,))[0]
    notes = []
    if not has_maintenance:
        notes.append("nobody has ticked yet: run a worker, or python -m eram tick")
    return Findings(
        version=version,
        schema=found.schema,
        is_extension=found.extension_version is not None,
        worker_count=worker_count,
        problems=problems,
        notes=notes,
    )


def _version_problems(found: Installation, version: str) -> Sequence[Problem]:
    ours = extension.version()
    details = []
    if version != ours:
        details.append(
            f"the database has {version}, this package is {ours}; python -m eram upgrade"
        )
    if found.extension_version not in {None, version}:
        details.append(
            f"the extension is noted as {found.extension_version}, its functions are of {version}"
        )
    return [Problem(problem="another version", job_id=None, detail=each) for each in details]


def _check(dsn: str, *, is_json: bool) -> int:
    check_dsn(dsn)
    try:
        with psycopg.connect(dsn, autocommit=True) as conn:
            findings = check(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        print(
            f"eram check: {command_line.describe(error)}\n"
            "hint: the owner of eram gives the right by: select eram_grant('ROLE', 'read')",
            file=sys.stderr,
        )
        return command_line.FAILED
    is_healthy = not findings.problems
    if is_json:
        command_line.answer(
            is_healthy=is_healthy, package_version=extension.version(), **asdict(findings)
        )
    else:
        _print(findings)
    return command_line.FINE if is_healthy else command_line.FAILED


def _print(findings: Findings) -> None:
    where = f'eram {findings.version} in schema "{findings.schema}"'
    print(f"{where}; workers: {findings.worker_count}")
    for problem in findings.problems[:MAX_SHOWN_PROBLEMS]:
        print(f"problem: {problem}")
    if (rest := len(findings.problems) - MAX_SHOWN_PROBLEMS) > 0:
        print(f"... and {rest} more; --json has all of them")
    for note in findings.notes:
        print(f"note: {note}")
    count = len(findings.problems)
    print(f"problems: {count}" if count else "all is well")


if __name__ == "__main__":
    sys.exit(main())
