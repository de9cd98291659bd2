"""The page as a program: `python -m eram.web`, or `python -m eram web`.

It shows what there is in a browser, and with `--allow-actions` lets people act on it, as far as the
role of its connection may. SIGTERM or SIGINT end it at once.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from eram import logs
from eram._programs.command_line import FAILED, FINE, MISUSED, CommandParser
from eram._programs.program import Signals, end_process, explain, open_streams
from eram._runtime.config import LOG_FORMATS, LOG_LEVELS
from eram._server import extension, installation
from eram._web.config import WebConfig, read_token
from eram._web.database import Database
from eram._web.server import Server
from eram.errors import ConfigError

# Not __name__, which is __main__ here.
logger = logging.getLogger("eram.web")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until a signal ends it; return the exit code."""
    open_streams()
    try:
        config = _read_config(arguments, os.environ)
        logs.configure(config.log_level, config.log_format)
        _serve(config)
    except OSError as error:
        print(f"eram.web: it cannot listen there: {error}", file=sys.stderr)
        return FAILED
    except (ConfigError, psycopg.Error) as error:
        code, text = explain(error, "page")
        print(f"eram.web: {text}", file=sys.stderr)
        return code
    return FINE


def _serve(config: WebConfig) -> None:
    signals = Signals()
    database = Database(config.dsn, config.statement_timeout)
    _check_database(database)
    server = Server(config, database)
    server.start()
    logger.info("the page is at %s%s", server.url, "" if config.allow_actions else ", to look only")
    signals.wait()
    server.stop()
    logger.info("stopped")
    end_process(0)


def _check_database(database: Database) -> None:
    """Say at once what would be wrong with every answer."""
    with database.connect() as conn:
        found = installation.demand(conn)
        version = found.version(conn)
    if version != extension.version():
        logger.warning(
            "the database has eram %s, this package is %s; python -m eram upgrade",
            version,
            extension.version(),
        )


def _read_config(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> WebConfig:
    # Only what is given appears in the result: the defaults are WebConfig's.
    parser = CommandParser(
        "web",
        "Show queues, jobs, schedules, workers and health on a page, for a browser."
        "\n\n"
        "It is for this machine alone, and only looks, unless told otherwise. What may be seen and"
        " done is decided by the rights of the role that it connects as: read, or admin.",
        examples=(
            "--dsn postgresql:///shop",
            "--allow-actions",
            "--host 0.0.0.0 --token /run/secrets/eram --allow-host jobs.example.com",
        ),
        exit_codes={
            FINE: "it was told to end, and has",
            FAILED: "it could not start, or a second signal ended it at once",
            MISUSED: "wrong options, or a database without eram",
        },
        argument_default=SUPPRESS,
    )
    parser.add_dsn()
    add = parser.add_argument
    add("--host", help="where to listen (default: 127.0.0.1); any other needs a token")
    add("--port", type=int, help="on which port (default: 8980; 0: any that is free)")
    add("--allow-actions", action="store_true", help="let people retry, cancel, pause and so on")
    add(
        "--token",
        metavar="FILE",
        help="where the token is that everybody must know (default: in ERAM_WEB_TOKEN)",
    )
    add("--base-path", metavar="PATH", help="below which path the page is, such as /eram")
    add(
        "--allow-host",
        dest="allow_hosts",
        action="append",
        metavar="NAME",
        help="a name by which browsers reach it; may be repeated",
    )
    add(
        "--secure-cookie",
        action="store_true",
        help="browsers shall send the cookie by HTTPS only: for behind a proxy that speaks it",
    )
    add(
        "--refresh",
        type=float,
        metavar="SECONDS",
        help="how often pages that are open are brought up to date (default: 2)",
    )
    add(
        "--statement-timeout",
        type=float,
        metavar="SECONDS",
        help="how long one look into the database may take (default: 5)",
    )
    add("--log-level", choices=LOG_LEVELS, help="default: info")
    add("--log-format", choices=LOG_FORMATS, help="json: one object a line (default: text)")
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    token = read_token(given.pop("token", None))
    allow_hosts = tuple(given.pop("allow_hosts", ()))
    return WebConfig(
        **{"dsn": environ.get("DATABASE_URL", ""), **given},
        token=token,
        allow_hosts=allow_hosts,
    )


if __name__ == "__main__":
    sys.exit(main())
