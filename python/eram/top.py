"""`python -m eram top`: queues, throughput, workers and health, live in a terminal.

Where there is no terminal, or with `--once`, it prints what it sees once, as plain text.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

import psycopg

from eram._base.connection import Session
from eram._programs import command_line
from eram._runtime.config import check_dsn, check_seconds
from eram._server import installation
from eram._top.lists import SORTS
from eram._top.look import Looker
from eram._top.overview import Overview, document
from eram._top.picture import View, page
from eram._top.table import styled
from eram._top.text import Script
from eram._top.watcher import connect
from eram.errors import ConfigError

DEFAULT_INTERVAL = 2.0
INTERVAL_RANGE = (0.2, 3600.0)
# Terminals that can do no more than print.
DUMB = {"", "dumb", "unknown"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "top",
        "Show a database live in a terminal: its queues, the throughput of the last hour, workers"
        " and what they run, and what is not well. Without a terminal it prints that once."
        "\n\n"
        "A role needs to be granted read; for --allow-actions, admin. It changes nothing without"
        " that option.",
        examples=("--dsn postgresql:///shop", "--once", "--json", "--allow-actions --sort oldest"),
        exit_codes={
            command_line.FINE: "it was told to end, or has printed what it saw",
            command_line.FAILED: "the database could not be asked",
            command_line.MISUSED: "wrong options, or a database without eram",
        },
    )
    parser.add_dsn()
    parser.add_json()
    parser.add_argument("--once", action="store_true", help="print once what there is to see")
    parser.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        default=DEFAULT_INTERVAL,
        help="from one look to the next, at least (default: 2); ten times as long as a look takes",
    )
    parser.add_argument(
        "--sort", choices=tuple(SORTS), default="waiting", help="queues by this (default: waiting)"
    )
    parser.add_argument(
        "--allow-actions", action="store_true", help="let the key p pause and resume a queue"
    )
    chosen = parser.parse_args(argv)
    return command_line.run("top", lambda: _top(chosen))


def _top(chosen: argparse.Namespace) -> int:
    dsn = command_line.dsn_of(chosen)
    check_dsn(dsn)
    check_seconds("interval", chosen.interval, INTERVAL_RANGE)
    view = View(sort=chosen.sort, may_act=chosen.allow_actions)
    # What cannot be drawn on is printed to.
    is_dumb = os.environ.get("TERM", "") in DUMB
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb
    session = connect(dsn)
    try:
        installation.demand(session.conn)
        if chosen.json:
            command_line.answer(**document(Looker().look(session.conn)))
        elif chosen.once or not has_terminal:
            _print(Looker().look(session.conn), view)
        else:
            _show(dsn, session, view, chosen.interval)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        raise ConfigError(
            f"the eram of this database is another version: {command_line.describe(error)}\n"
            "hint: python -m eram upgrade"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        print(
            f"eram top: {command_line.describe(error)}\n"
            "hint: the owner of eram gives the right by: select eram_grant('ROLE', 'read')",
            file=sys.stderr,
        )
        return command_line.FAILED
    finally:
        session.conn.close()
    return command_line.FINE


def _show(dsn: str, session: Session, view: View, interval: float) -> None:
    try:
        from eram._top import live  # noqa: PLC0415 - not on every system
    except ImportError as error:
        raise ConfigError(
            f"this Python cannot draw on a terminal ({error}); --once and --json work"
        ) from error
    script, has_colours = Script(sys.stdout.encoding), not os.environ.get("NO_COLOR")
    live.run(dsn, session, interval=interval, view=view, script=script, has_colours=has_colours)


def _print(overview: Overview, view: View) -> None:
    is_terminal = sys.stdout.isatty()
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in DUMB
    script = Script(sys.stdout.encoding)
    width = shutil.get_terminal_size().columns if is_terminal else None
    for line in page(overview, script, width, view):
        print(styled(line, has_colours=is_terminal and not is_plain).rstrip())


if __name__ == "__main__":
    sys.exit(main())
