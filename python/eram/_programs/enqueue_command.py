"""`python -m eram enqueue`: enqueue a job from a shell.

The module is not named like its command, because `eram.enqueue` is a function.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eram._base import json_text, statements
from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import installation
from eram.errors import ConfigError

_NUMBER = re.compile(r"\d+(\.\d+)?")
# Command line options that are keys of the job as they are; what is valid the database knows.
_PLAIN_OPTIONS = ("queue", "priority", "max_attempts", "scheduled_at", "tags")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = _parser().parse_intermixed_args(argv)
    return command_line.run("enqueue", lambda: _enqueue(chosen))


def _parser() -> command_line.CommandParser:
    parser = command_line.CommandParser(
        "enqueue",
        "Enqueue a job, and print its id. What is not said has the default of the handler, else"
        " of the queue, else eram's."
        "\n\n"
        "The arguments are one JSON object, or NAME=TEXT for texts and NAME:=JSON for all else.",
        examples=(
            "myapp.jobs:email to=ada@example.com --queue mail",
            "myapp.jobs:report month=2026-11 copies:=2 --delay '10 minutes'",
            'myapp.jobs:report \'{"month": "2026-11"}\' --unique --json',
        ),
        exit_codes={
            command_line.FINE: "the job is stored; or it is a duplicate, whose id is that of the"
            " job that was there before",
            command_line.FAILED: "it could not be stored",
            command_line.MISUSED: "wrong options or values, or a database without eram",
        },
    )
    add = parser.add_argument
    add("handler", metavar="HANDLER", help="the path of the handler, module:function")
    add("args", metavar="ARG", nargs="*", help="NAME=TEXT, NAME:=JSON, or one JSON object")
    parser.add_dsn()
    add("--queue", metavar="NAME", help="where it waits")
    add("--priority", type=int, metavar="N", help="0 goes first, 9 last")
    add("--max-attempts", type=int, metavar="N", help="1 is no retry")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--delay",
        metavar="DURATION",
        help="how long it waits at least: seconds, or an interval such as '10 minutes'",
    )
    when.add_argument(
        "--at",
        dest="scheduled_at",
        metavar="TIME",
        help="when it is due, with an offset: 2026-11-22T09:00:00+01:00",
    )
    add("--timeout", metavar="DURATION", help="how long an attempt may take")
    add("--tag", dest="tags", metavar="WORD", action="append", help="can be repeated")
    add("--meta", metavar="JSON", help="an object that is kept with the job")
    add("--backoff", metavar="NAME|JSON", help="a strategy such as linear, or delays: '[10, 60]'")
    unique = parser.add_mutually_exclusive_group()
    unique.add_argument(
        "--unique",
        action="store_true",
        help="only if no such job is there that has not ended",
    )
    unique.add_argument(
        "--unique-by",
        metavar="JSON",
        help='what makes it unique, and for how long: \'{"keys": ["month"], "period": 60}\'',
    )
    parser.add_json()
    return parser


def _enqueue(chosen: argparse.Namespace) -> int:
    dsn = command_line.dsn_of(chosen)
    check_dsn(dsn)
    document = json_text.encode([_document(chosen)], "the job")
    with psycopg.connect(dsn, autocommit=True) as conn:
        installation.demand(conn)
        with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
            row = cursor.execute(statements.ENQUEUE_JOBS, (document,)).fetchone()
    if row is None:
        raise psycopg.InternalError("eram_enqueue_jobs() returned nothing")
    job_id, is_duplicate = row
    if chosen.json:
        command_line.answer(id=job_id, is_duplicate=is_duplicate)
    else:
        print(job_id)
        if is_duplicate:
            print("eram enqueue: a duplicate, so this one was not stored", file=sys.stderr)
    return command_line.FINE


def _document(chosen: argparse.Namespace) -> dict[str, Any]:
    """Make what eram_enqueue_jobs() takes."""
    options: dict[str, Any] = {name: getattr(chosen, name) for name in _PLAIN_OPTIONS}
    options["delay"] = _duration(chosen.delay)
    options["timeout"] = _duration(chosen.timeout)
    options["meta"] = _read_json("--meta", chosen.meta)
    options["backoff"] = _read_backoff(chosen.backoff)
    options["unique"] = chosen.unique or _read_json("--unique-by", chosen.unique_by)
    given = {name: value for name, value in options.items() if value is not None}
    return {"handler": chosen.handler, "args": _read_args(chosen.args), **given}


def _read_args(texts: Sequence[str]) -> dict[str, Any]:
    if len(texts) == 1 and texts[0].lstrip().startswith("{"):
        found: dict[str, Any] = _read_json("the arguments", texts[0])
        return found
    args: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.rstrip(":") or name.lstrip().startswith("{"):
            raise ConfigError(
                f"{text!r} is no argument: say NAME=TEXT, NAME:=JSON, or one JSON object for all"
            )
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if name in args:
            raise ConfigError(f'the argument "{name}" is given twice')
        args[name] = _read_json(f'the argument "{name}"', value) if is_json else value
    return args


def _read_backoff(text: str | None) -> Any:
    """Take a bare word for the name of a strategy, all else for JSON."""
    return text if text is None or text.isidentifier() else _read_json("--backoff", text)


def _duration(text: str | None) -> float | str | None:
    """Take a number for seconds, all else for an interval, which the database reads."""
    return float(text) if text is not None and _NUMBER.fullmatch(text) else text


def _read_json(what: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} cannot be read as JSON: {error}, got {text!r}") from error


if __name__ == "__main__":
    sys.exit(main())
