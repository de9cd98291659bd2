"""`python -m eram metrics`: print what is measured, as Prometheus reads it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

from eram._programs import command_line
from eram._runtime.config import check_dsn
from eram._server import exposition, installation

# What a collector of text files may read, whoever it runs as.
_FILE_MODE = 0o644


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "metrics",
        "Print what is measured, in the text format of Prometheus: the samples of eram_metrics."
        "\n\n"
        "It changes nothing. A role needs to be granted read.",
        examples=(
            "--dsn postgresql:///shop",
            "--output /var/lib/prometheus/node-exporter/eram.prom",
        ),
        exit_codes={
            command_line.FINE: "they were printed",
            command_line.FAILED: "the database could not be asked, or the file not be written",
            command_line.MISUSED: "wrong options, or a database without eram",
        },
    )
    parser.add_dsn()
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write them to this file instead, all at once, as collectors of text files want it",
    )
    chosen = parser.parse_args(argv)
    return command_line.run("metrics", lambda: _metrics(command_line.dsn_of(chosen), chosen.output))


def _metrics(dsn: str, output: Path | None) -> int:
    check_dsn(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        installation.demand(conn)
        with conn.cursor(row_factory=tuple_row) as cursor:
            try:
                cursor.execute(exposition.QUERY)
            except psycopg.errors.InsufficientPrivilege as error:
                print(
                    f"eram metrics: {command_line.describe(error)}\n"
                    "hint: the owner of eram gives the right by: select eram_grant('ROLE', 'read')",
                    file=sys.stderr,
                )
                return command_line.FAILED
            text = exposition.exposition(cursor)
    if output is None:
        # With its last newline: without it the whole text is no good.
        sys.stdout.write(text)
    else:
        _replace(output, text)
    return command_line.FINE


def _replace(path: Path, text: str) -> None:
    """Put a file in the place of another at once, so that nobody reads half of it."""
    handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(unfinished).chmod(_FILE_MODE)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
