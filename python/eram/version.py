"""`python -m eram version`: say which version of eram this is."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

import psycopg

from eram._programs import command_line
from eram._server import extension


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_line.CommandParser(
        "version",
        "Say which version of eram this is. Which one a database has: check, or"
        " select eram_version().",
        examples=("", "--json"),
        exit_codes={command_line.FINE: "always", command_line.MISUSED: "wrong options"},
    )
    parser.add_json()
    if parser.parse_args(argv).json:
        command_line.answer(
            version=extension.version(),
            python=platform.python_version(),
            psycopg=psycopg.__version__,
        )
    else:
        print(f"eram {extension.version()}")
    return command_line.FINE


if __name__ == "__main__":
    sys.exit(main())
