"""The two handlers of the census: one counts a file, the other sums up when all are counted."""

from __future__ import annotations

import ast
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

import eram

# Where statements hold further statements; expressions are not looked into.
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")

_KINDS: dict[type[ast.AST], str] = {
    ast.FunctionDef: "functions",
    ast.AsyncFunctionDef: "functions",
    ast.ClassDef: "classes",
    ast.Import: "imports",
    ast.ImportFrom: "imports",
}

LOOK_AGAIN_SECONDS = 0.2

# A syntax tree is many objects and no cycle: looking for garbage while it grows is for nothing.
gc.set_threshold(100_000)


@eram.job(
    queue="files",
    transaction=True,
    max_attempts=3,
    backoff={"strategy": "fixed", "base": "1 second"},
)
def count(job: eram.Job, conn: psycopg.Connection, path: str, module: str) -> None:
    """Parse a file and store what is in it; a file that does not parse fails with the reason."""
    source = Path(path).read_bytes()
    kinds = Counter(_KINDS.get(type(node)) for node in _statements(ast.parse(source, path)))
    conn.execute(
        "insert into census_modules (job_id, module, path, lines, functions, classes, imports)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        (
            *(job.id, module, path, len(source.splitlines())),
            *(kinds["functions"], kinds["classes"], kinds["imports"]),
        ),
    )


@eram.job(queue="summary", transaction=True)
def sum_up(job: eram.Job, conn: psycopg.Connection) -> eram.Snooze | dict[str, int]:
    """Wait until every file is counted or given up, without holding a thread, then sum up."""
    with conn.cursor(row_factory=dict_row) as cursor:
        unfinished = cursor.execute(
            "select id from eram_jobs where queue = 'files' and"
            " state in ('available', 'scheduled', 'retryable', 'executing') limit 1"
        ).fetchone()
        if unfinished:
            return eram.Snooze(LOOK_AGAIN_SECONDS)
        totals = cursor.execute(
            "insert into census_summary"
            " select %s, count(*), coalesce(sum(lines), 0), coalesce(sum(functions), 0),"
            " coalesce(sum(classes), 0), coalesce(sum(imports), 0) from census_modules"
            " returning modules, lines, functions, classes, imports",
            (job.id,),
        ).fetchone()
    return totals or {}


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        for block in _BLOCKS:
            nodes.extend(getattr(node, block, ()))
