"""`python -m eram check`: say whether all is well in a database.

It asks eram_check() for violated invariants and eram_health() for what else an operator would want
to know, and compares the version with that of this package.
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

MAX_SHOWN_PROBLEMS = 50

_VIOLATIONS = "select violation, job_id, detail from eram_check()"
# An eram that is older than its package may have no such function.
_HAS_HEALTH = "select to_regprocedure('eram_health()') is not null"
_HEALTH = """
select name, level, concat_ws('; ', finding, action)
from eram_health()
where level <> 'ok'
"""
_WORKER_COUNT = "select count(*) from eram_workers where ended_at is null"


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
        " another version than that of this package, and what eram_health() finds, such as"
        " schedules that are overdue or have failed, workers that have gone silent, and queues"
        " with due jobs that nobody serves. What is critical there is a problem, what is a"
        " warning or cannot be seen is a note."
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
    problems = list(_version_problems(version))
    notes = []
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        for problem, job_id, detail in cursor.execute(_VIOLATIONS):
            problems.append(Problem(problem=problem, job_id=job_id, detail=detail))
        if (cursor.execute(_HAS_HEALTH).fetchone() or (False,))[0]:
            for name, level, detail in cursor.execute(_HEALTH):
                if level == "critical":
                    problems.append(Problem(problem=name, job_id=None, detail=detail))
                else:
                    notes.append(f"{name}: {detail}")
        worker_count = (cursor.execute(_WORKER_COUNT).fetchone() or (0,))[0]
    return Findings(
        version=version,
        schema=found.schema,
        is_extension=found.extension_version is not None,
        worker_count=worker_count,
        problems=problems,
        notes=notes,
    )


def _version_problems(version: str) -> Sequence[Problem]:
    ours = extension.version()
    if version == ours:
        return []
    detail = f"the database has {version}, this package is {ours}; python -m eram upgrade"
    return [Problem(problem="another version", job_id=None, detail=detail)]


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
